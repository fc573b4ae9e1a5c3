//! What a verifier service changes while the swarm works: a score falls, an agent is revoked,
//! another gets a new key, and a new policy asks for approvals.
//!
//! Each turn happens while documents are being researched, and each is shown by a message that was
//! accepted before it, or would have been, and is refused after it. Those messages are sealed with
//! the agents' own keys and put on the bus past their clients, which would not send them.

use bytes::Bytes;
use trustmesh::audit::AuditRecord;
use trustmesh::audit::DecisionEvent;
use trustmesh::audit::Word;
use trustmesh::bus::Bus;
use trustmesh::bus::Outgoing;
use trustmesh::client::clock::Clock as _;
use trustmesh::client::clock::SystemClock;
use trustmesh::graph::AuthorizationGraph;
use trustmesh::graph::Certification;
use trustmesh::graph::Node;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::scope::Action;
use trustmesh::proto::score::Ledger as Scores;
use trustmesh::proto::score::Parameters;
use trustmesh::proto::score::Sponsor;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::verifier::evidence::Docket;

use crate::Fault;
use crate::cast::ACCOMPLICE;
use crate::cast::AUDITOR;
use crate::cast::CONTRACTOR;
use crate::cast::Cast;
use crate::cast::RESEARCHERS;
use crate::cast::ask;
use crate::documents::token;
use crate::ledger;
use crate::ledger::Ledger;
use crate::plane;
use crate::plane::Plane;
use crate::planner::Planner;
use crate::stage;
use crate::stage::say;
use crate::stage::success;
use crate::team;
use crate::team::Team;
use crate::text::Finding;

/// The file that contractor and accomplice may ask for. There is none; they are heard all the same.
const PRICE_LIST: &str = "store.read.price-list";

/// The agent that gets a new key.
const ROTATED: &str = RESEARCHERS[1];

/// Everybody and everything of the scene.
pub struct Play<'a> {
    pub cast: &'a mut Cast,
    pub plane: Plane,
    pub ledger: &'a Ledger,
    pub planner: &'a Planner,
    pub team: &'a mut Team,
}

/// What the scene came to.
pub struct Done {
    pub findings: Vec<Finding>,
    pub turns: Turns,
}

/// What happened, as the audit has to show it.
#[derive(Default)]
pub struct Turns {
    refusals: Vec<Refusal>,
    new_key: Option<KeyBytes>,
    policy_epoch: u64,
}

/// A message that was refused, and would not have been before.
struct Refusal {
    by: &'static str,
    sender: &'static str,
    class: Class,
    mid: String,
}

impl Play<'_> {
    /// Has `rest` researched, and changes four things meanwhile.
    pub async fn run(
        &mut self,
        evidence: &Bytes,
        first: &str,
        rest: &[String],
    ) -> Result<Done, Fault> {
        for id in self.cast.ids().into_iter().filter(|id| *id != AUDITOR) {
            let said = format!("{id} joined under ");
            self.ledger.noticed("enrol", &said).await?;
        }
        let mut turns = Turns::default();
        let mut findings = Vec::new();
        let planner = self.planner;
        let mut parts = rest.chunks(rest.len().div_ceil(4).max(1));
        let mut work = || planner.research_all(parts.next().unwrap_or_default());
        let (found, ()) = tokio::try_join!(work(), self.score(evidence, &mut turns))?;
        findings.extend(found);
        let (found, ()) = tokio::try_join!(work(), self.revoke(&mut turns))?;
        findings.extend(found);
        let (found, ()) = tokio::try_join!(work(), self.rotate(first, &mut turns))?;
        findings.extend(found);
        let (found, ()) = tokio::try_join!(work(), self.push_policy(&mut turns))?;
        findings.extend(found);
        Ok(Done { findings, turns })
    }

    /// One of the five messages proves something against the contractor, which had behaved until
    /// then: it signed a delegation of more than it had. The store, which refused it, has reported
    /// it; that the verifier found what anybody finds is computed here once more.
    async fn score(&mut self, evidence: &Bytes, turns: &mut Turns) -> Result<(), Fault> {
        let contractor = self.cast.connect(CONTRACTOR).await?.credential();
        let now = SystemClock::new().now()?;
        let mut scores = Scores::new(Parameters::default());
        let mut docket = Docket::new(ClockSkew::default(), None);
        let (id, reporter) = (AgentId::parse(CONTRACTOR)?, AgentId::parse("store")?);
        scores.register(&id, Sponsor::Operator, now)?;
        let trust = self.planner.client().trust();
        let (fault, change) = docket.hear((evidence, &reporter), &trust, &mut scores, now)?;
        if fault.culprit != id {
            return Err(format!("the evidence is against {}", fault.culprit).into());
        }
        let (what, before, after) = (fault.misbehaviour, change.before, change.after);
        self.ledger
            .noticed("finding", &format!("{id}: {what} by "))
            .await?;
        let told =
            format!("{what} by {id}, as its own signature proves: score {before} to {after}");
        say("verifier", &told);
        self.cast
            .all_know("the score", |trust| trust.score(&id) == Some(after))
            .await?;
        let mid = self.seal(&contractor, PRICE_LIST).await?;
        self.refused(turns, "store", CONTRACTOR, Class::TrustTooLow, mid)
            .await
    }

    async fn revoke(&mut self, turns: &mut Turns) -> Result<(), Fault> {
        let accomplice = introduce(self.cast, self.ledger, ACCOMPLICE).await?;
        self.cast.leave(ACCOMPLICE, self.ledger).await?;
        self.plane
            .change(|mesh| mesh.revoke_agent(ACCOMPLICE))
            .await??;
        let id = AgentId::parse(ACCOMPLICE)?;
        let known = |trust: &TrustState| trust.revocations().has_agent(&id);
        self.cast.all_know("the revocation", known).await?;
        say("operator", "revoked accomplice, and everybody knows");
        let mid = self.seal(&accomplice, PRICE_LIST).await?;
        self.refused(turns, "store", ACCOMPLICE, Class::Revoked, mid)
            .await
    }

    /// A researcher goes on under another key, and the old one ends, with what was lent to it.
    async fn rotate(&mut self, first: &str, turns: &mut Turns) -> Result<(), Fault> {
        let subject = format!("tools.summarise.{}", token(first));
        let old = self.acting(first).await?;
        let old_key = old.key().public().bytes();
        // Whatever is under way under the old key is finished under it.
        self.team.lay_down(ROTATED).await?;
        let new_key = self.cast.rotate(ROTATED, self.ledger).await?;
        let said = format!("{ROTATED} under {new_key}: ");
        self.ledger.noticed("rotate", &said).await?;
        say(ROTATED, "rotated its key");
        self.cast
            .connect(ROTATED)
            .await?
            .handshake(&AgentId::parse("tools/summarise")?)
            .await?;
        self.planner
            .client()
            .handshake(&AgentId::parse(ROTATED)?)
            .await?;
        self.team.take_up(self.cast, ROTATED).await?;
        let new = self.acting(first).await?;
        let acting = self.cast.connect(ROTATED).await?.with(new);
        let finding = team::have_summarised(&acting, ROTATED, first.to_owned()).await?;
        let told = format!("under its new key: {first}: {} words", finding.words);
        say(ROTATED, &told);
        turns.new_key = Some(new_key);

        let over = |trust: &TrustState| trust.revocations().has_key(&old_key);
        self.cast.all_know("the end of a key", over).await?;
        let mid = self.seal(&old, &subject).await?;
        self.refused(turns, "tools/summarise", ROTATED, Class::Revoked, mid)
            .await
    }

    /// From now on what is written takes an approval. The planner's own grant is still as good as
    /// it was, and no longer enough.
    async fn push_policy(&mut self, turns: &mut Turns) -> Result<(), Fault> {
        let policy = plane::stricter_policy()?;
        self.plane
            .change(move |mesh| mesh.set_policy(policy))
            .await??;
        let known = |trust: &TrustState| !trust.policy().approval().is_empty();
        self.cast.all_know("the policy", known).await?;
        let client = self.planner.client();
        turns.policy_epoch = client.trust().epochs().policy;
        say("operator", "pushed a policy: writing takes an approval");
        let subject = format!("store.write.{}", token("report.md"));
        let mid = self.seal(&client.credential(), &subject).await?;
        self.refused(turns, "store", "planner", Class::PolicyDenied, mid)
            .await
    }

    /// What the researcher acts under when it works on this document.
    async fn acting(&self, name: &str) -> Result<Credential, Fault> {
        let chain = self.planner.lend(ROTATED, name)?;
        let now = SystemClock::new().now()?;
        let identity = self.cast.identity(ROTATED)?;
        Ok(identity.credential(chain, now)?)
    }

    /// Puts a request on the bus that its sender's client would not send. Returns its id.
    async fn seal(&self, by: &Credential, subject: &str) -> Result<String, Fault> {
        let mut mid = [0; 16];
        getrandom::fill(&mut mid)?;
        let (mid, now) = (MessageId(mid), SystemClock::new().now()?);
        let to = Subject::parse(subject)?;
        let mut draft = EnvelopeDraft::new(mid, now, Action::Request, to);
        let reply = format!("{}.late", inbox_prefix(&by.key().public().bytes()));
        draft.reply = Some(Subject::parse(&reply)?);
        let envelope = draft.sign(by)?;
        let outgoing = Outgoing::new(subject, envelope.into_bytes()).with_reply(reply);
        let bus: Box<dyn Bus> = self.cast.raw_bus().await?;
        bus.publish(outgoing).await?;
        bus.flush().await?;
        Ok(mid.to_string())
    }

    async fn refused(
        &self,
        turns: &mut Turns,
        by: &'static str,
        sender: &'static str,
        class: Class,
        mid: String,
    ) -> Result<(), Fault> {
        let decision = self.ledger.refused(by, &mid, class.name()).await?;
        let (code, reason) = (
            decision.code.unwrap_or_default(),
            decision.reason.unwrap_or_default(),
        );
        let who = if sender == ROTATED {
            "the old key"
        } else {
            sender
        };
        stage::refused(who, &format!("{} ({code}), {reason}", class.name()));
        turns.refusals.push(Refusal {
            by,
            sender,
            class,
            mid,
        });
        Ok(())
    }
}

impl Turns {
    /// The classes of the refusals.
    pub fn refused(&self) -> impl Iterator<Item = &'static str> {
        self.refusals.iter().map(|refusal| refusal.class.name())
    }

    /// Checks in the audit, and in the graph made of it, that all of it happened. The auditor
    /// itself had joined before it could listen.
    pub fn check(
        &self,
        records: &[AuditRecord],
        graph: &AuthorizationGraph,
        agents: &[&str],
    ) -> Result<(), Fault> {
        let count = |what: &str, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(Fault::from(format!("{found} {what}, not {expected}"))),
        };
        let drawn = |what: Certification, id: &str| {
            let node = Node::Agent(id.to_owned());
            graph
                .certifications()
                .any(|(agent, done, count)| (agent, done, count) == (&node, what, 1))
        };
        let joined = |id: &&&str| {
            ledger::notice(records, "enrol", &format!("{id} joined under "))
                && drawn(Certification::Joined, id)
        };
        let others = || agents.iter().filter(|id| **id != AUDITOR);
        let enrolled = others().filter(joined).count();
        count("agents seen to join", enrolled, others().count())?;

        let key = self.new_key.ok_or("no key was rotated")?.to_string();
        let said = format!("{ROTATED} under {key}: ");
        let rotated =
            ledger::notice(records, "rotate", &said) && drawn(Certification::Rotated, ROTATED);
        count("agents rotated", usize::from(rotated), 1)?;
        let under_new = |decision: &&DecisionEvent| {
            decision.verdict == Word::Allow && decision.sender_key.as_ref() == Some(&key)
        };
        let by_new = decisions(records, "tools/summarise").filter(under_new);
        count("researchers under a new key", by_new.take(1).count(), 1)?;

        let shown = |refusal: &&Refusal| {
            let made = |d: &&DecisionEvent| d.sender.as_deref() == Some(refusal.sender);
            let of = || decisions(records, refusal.by).filter(made);
            let accepted = of().any(|decision| decision.verdict == Word::Allow);
            let refused = of().filter(|decision| {
                decision.mid.as_ref() == Some(&refusal.mid)
                    && decision.class.as_deref() == Some(refusal.class.name())
                    // Who is revoked is refused before its signature is looked at.
                    && decision.claimed == (refusal.class == Class::Revoked)
            });
            accepted && refused.count() == 1
        };
        let shown = self.refusals.iter().filter(shown).count();
        count("changes shown by a refusal", shown, 4)?;

        let approved = |decision: &&DecisionEvent| {
            decision.verdict == Word::Allow
                && decision.subject.starts_with("store.write.")
                && decision.policy >= self.policy_epoch
        };
        let written = decisions(records, "store").filter(approved).count();
        count("files written with an approval", written, 2)?;
        let told = format!(
            "{enrolled} joined, 1 score fell, 1 revoked, 1 rotated, 1 policy pushed, \
             1 chain approved: all of it in the audit"
        );
        success("swarm", &told);
        Ok(())
    }
}

/// Lets one of the adversary's agents ask for what it may ask for, like anybody.
pub async fn introduce(
    cast: &Cast,
    ledger: &Ledger,
    id: &'static str,
) -> Result<Credential, Fault> {
    let client = cast.connect(id).await?;
    client.handshake(&AgentId::parse("store")?).await?;
    // The store knows no such file; that it says so shows that it listened.
    match ask(client.compose(PRICE_LIST)).await {
        Err(error) if error.to_string().starts_with("store answers: ") => {}
        other => return Err(format!("the store should have answered {id}: {other:?}").into()),
    }
    ledger.accepted("store", id).await?;
    say(id, "asks the store for the price list, and is heard");
    Ok(client.credential())
}

fn decisions<'a>(
    records: &'a [AuditRecord],
    by: &'a str,
) -> impl Iterator<Item = &'a DecisionEvent> {
    let own = records.iter().filter(move |record| record.emitter == by);
    own.filter_map(ledger::decided)
}
