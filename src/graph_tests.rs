use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::client::clock::Clock;
use crate::client::clock::ManualClock;
use crate::client::identity::Identity;
use crate::proto::audit::AuditSlot;
use crate::proto::audit::Decision;
use crate::proto::audit::RecordChain;
use crate::proto::chain::Credential;
use crate::proto::delegation::LinkDraft;
use crate::proto::envelope::EnvelopeDraft;
use crate::proto::policy::RateLimiter;
use crate::proto::replay::MessageId;
use crate::proto::replay::ReplayGuard;
use crate::proto::scope::Action;
use crate::proto::scope::Scope;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::time::Validity;
use crate::proto::verify::Arrival;
use crate::proto::verify::Route;
use crate::proto::verify::Scene;
use crate::proto::verify::Verifier;
use crate::proto::verify::accept_chain;
use crate::services::authority::Authority;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// SplitMix64: the same trees in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn bytes(&mut self) -> [u8; 16] {
        std::array::from_fn(|_| self.below(256) as u8)
    }
}

/// A mesh whose agents delegate to each other, with the books of what really happened.
struct World {
    dice: Dice,
    agents: Vec<Identity>,
    credentials: Vec<Credential>,
    receiver: Identity,
    own: Credential,
    verifier: Verifier,
    guard: ReplayGuard,
    records: RecordChain,
    truth: Truth,
}

#[derive(Default)]
struct Truth {
    grants: BTreeMap<String, (Option<String>, Node, Node, Vec<String>)>,
    paths: BTreeSet<Vec<String>>,
    uses: BTreeMap<Use, Outcomes>,
}

struct Slot<'a>(&'a Mutex<Option<Decision>>);

impl AuditSlot for Slot<'_> {
    fn fill(self, decision: Decision) {
        *self.0.lock().unwrap() = Some(decision);
    }
}

impl World {
    fn new(agents: Vec<Identity>, receiver: Identity, seed: u64) -> Self {
        let skew = ClockSkew::default();
        let trust = receiver.trust.current();
        let scene = Scene {
            now: NOW,
            trust: &trust,
            sessions: &(),
        };
        let own = accept_chain(receiver.grant.clone(), &receiver.key, &scene, skew);
        Self {
            own: own.unwrap(),
            dice: Dice(seed),
            credentials: Vec::new(),
            verifier: Verifier::new(receiver.key(), skew),
            guard: ReplayGuard::new(skew, None),
            records: RecordChain::new(receiver.id.clone(), [1; 8]),
            truth: Truth::default(),
            agents,
            receiver,
        }
    }

    /// Root grants for a few agents, then random delegations, each narrower than its parent.
    fn grow(&mut self) {
        let trust = self.receiver.trust.current();
        let scene = Scene {
            now: NOW,
            trust: &trust,
            sessions: &(),
        };
        for agent in &self.agents[..1 + self.dice.below(3)] {
            let own = accept_chain(
                agent.grant.clone(),
                &agent.key,
                &scene,
                ClockSkew::default(),
            );
            self.credentials.push(own.unwrap());
        }
        for step in 0..self.dice.below(12) {
            let parent = &self.credentials[self.dice.below(self.credentials.len())];
            let heir = &self.agents[self.dice.below(self.agents.len())];
            let above = parent.chain().leaf();
            let pattern = above.scope().capabilities()[0].pattern().as_str();
            let narrower = pattern.replace('>', &format!("s{step}.>"));
            let draft = LinkDraft {
                holder: heir.key(),
                validity: Validity::new(NOW, NOW.plus(60_000)).unwrap(),
                remaining: above.remaining().saturating_sub(1),
                scope: Scope::parse([format!("pub+delegate:{narrower}")]).unwrap(),
                nonce: self.dice.bytes(),
            };
            // Nobody can be in a chain twice, and not every holder may delegate.
            if let Ok(chain) = parent.delegate(&draft) {
                let held = accept_chain(chain, &heir.key, &scene, ClockSkew::default());
                self.credentials.push(held.unwrap());
            }
        }
    }

    /// One message, sometimes outside the sender's scope; its record as it travels.
    fn message(&mut self) -> AuditRecord {
        let sender = self.credentials[self.dice.below(self.credentials.len())].clone();
        let within = sender.chain().leaf().scope().capabilities()[0]
            .pattern()
            .as_str();
        let kind = self.dice.below(4);
        let text = match kind {
            0 => format!("elsewhere.s{}", self.dice.below(3)),
            _ => within.replace('>', &format!("job{}", self.dice.below(3))),
        };
        let subject = Subject::parse(&text).unwrap();
        let mid = MessageId(self.dice.bytes());
        let envelope = EnvelopeDraft::new(mid, NOW, Action::Publish, subject).sign(&sender);
        let mut frame = envelope.unwrap().into_bytes().to_vec();
        if kind == 1 {
            // Somewhere in the header's signature or behind it.
            let last = frame.len() - 1;
            frame[last] ^= 1;
        }
        let decision = self.decide(&frame.into(), &text);
        let accepted = decision.rejection.is_none();
        assert_eq!(accepted, kind > 1, "{:?}", decision.rejection);
        self.book(&sender, text, &decision);
        let (_, line) = self.records.append(NOW, decision.event());
        serde_json::from_str(&line).unwrap()
    }

    fn decide(&mut self, frame: &bytes::Bytes, subject: &str) -> Decision {
        let trust = self.receiver.trust.current();
        let scene = Scene {
            now: NOW,
            trust: &trust,
            sessions: &(),
        };
        let pattern = SubjectPattern::parse(">").unwrap();
        let route = Route::Subscription {
            pattern: &pattern,
            own: self.own.chain(),
        };
        let arrival = Arrival {
            subject,
            reply: None,
            route,
        };
        let (guard, mut rates) = (&mut self.guard, RateLimiter::default());
        let verdict = self
            .verifier
            .verify(frame, &arrival, &scene, guard, &mut rates);
        let slot = Mutex::new(None);
        let _ = verdict.record(Slot(&slot));
        slot.into_inner().unwrap().unwrap()
    }

    /// Writes down what the world, not the audit, knows about the message.
    fn book(&mut self, sender: &Credential, subject: String, decision: &Decision) {
        let name = |key| {
            let agent = self.agents.iter().find(|agent| agent.key() == key).unwrap();
            Node::Agent(agent.id.to_string())
        };
        let links = sender.chain().links();
        let key = Use {
            from: name(links[links.len() - 1].holder()),
            to: Node::Agent(self.receiver.id.to_string()),
            action: "pub".to_owned(),
            subject,
        };
        let outcomes = self.truth.uses.entry(key).or_default();
        if let Some(rejection) = decision.rejection {
            let class = rejection.class().name().to_owned();
            *outcomes.refused.entry(class).or_default() += 1;
            return;
        }
        outcomes.allowed += 1;
        let mut from = Node::Issuer(sender.chain().issuer().to_string());
        let mut above = None;
        for link in links {
            let to = name(link.holder());
            let scope = link.scope().capabilities().iter().map(ToString::to_string);
            let entry = (above, from, to.clone(), scope.collect());
            self.truth.grants.insert(link.id().to_string(), entry);
            (above, from) = (Some(link.id().to_string()), to);
        }
        let path = links.iter().map(|link| link.id().to_string()).collect();
        self.truth.paths.insert(path);
    }
}

fn mesh() -> (Vec<Identity>, Identity) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let mut mesh = Authority::dev_with_clock("trees", clock).unwrap();
    let mut agents = Vec::new();
    for number in 0..8 {
        let mut agent = mesh.agent(&format!("agent-{number}"), ["pub:t.>"]).unwrap();
        let scope = Scope::parse(["pub+delegate:t.>"]).unwrap();
        let ttl = Duration::from_secs(3600);
        agent.grant = mesh.grant(&agent.key(), scope, 5, ttl).unwrap();
        agents.push(agent);
    }
    let receiver = mesh.agent("receiver", ["sub:>"]).unwrap();
    (agents, receiver)
}

/// AU-13: the graph rebuilt from events is what really happened, and every acceptance has its path.
#[test]
fn graphs_of_random_delegation_trees_are_the_trees() {
    let (agents, receiver) = mesh();
    let (mut deepest, mut refused) = (0, 0);
    for seed in 0..1000 {
        let mut world = World::new(agents.clone(), receiver.clone(), seed);
        world.grow();
        let mut graph = AuthorizationGraph::new();
        for _ in 0..8 {
            graph.add(&world.message());
        }
        let shown: BTreeMap<_, _> = graph
            .grants()
            .cloned()
            .map(|g| (g.link, (g.above, g.from, g.to, g.scope)))
            .collect();
        assert_eq!(shown, world.truth.grants, "seed {seed}");
        assert_eq!(graph.uses, world.truth.uses, "seed {seed}");
        let ids = |path: Vec<&Grant>| path.iter().map(|g| g.link.clone()).collect::<Vec<_>>();
        let paths: BTreeSet<_> = graph.paths().map(ids).collect();
        assert_eq!(paths, world.truth.paths, "seed {seed}");
        assert_eq!((graph.unfounded(), graph.contradictions()), (0, 0));
        deepest = deepest.max(paths.iter().map(Vec::len).max().unwrap_or(0));
        refused += graph.uses().map(|(_, o)| o.refused.len()).sum::<usize>();
    }
    // The trees were worth comparing.
    assert!(deepest >= 4 && refused > 1000, "{deepest} {refused}");
}

fn hop(link: &str, holder: &str) -> serde_json::Value {
    serde_json::json!({ "link": link, "holder": holder, "key": holder, "scope": ["pub:>"],
        "until": 1, "remaining": 1 })
}

fn record(fields: serde_json::Value) -> AuditRecord {
    let mut record = serde_json::json!({ "v": 1, "emitter": "reader", "run": "00", "seq": 0,
        "prev": "00", "time": 0, "kind": "decision", "verdict": "allow", "subject": "read",
        "action": "pub", "sender": "planner", "sender_key": "planner", "claimed": false, "len": 1,
        "registry": 1, "revocations": 1, "policy": 1 });
    let (Some(record_map), Some(fields)) = (record.as_object_mut(), fields.as_object()) else {
        panic!("not objects");
    };
    record_map.extend(fields.clone());
    serde_json::from_value(record).unwrap()
}

#[test]
fn an_acceptance_without_a_path_is_noticed() {
    let chain = [hop("a", "boss"), hop("b", "planner")];
    let sound = serde_json::json!({ "issuer": "key", "chain": chain });
    let mut graph = AuthorizationGraph::new();
    graph.add(&record(sound));
    assert_eq!(graph.unfounded(), 0);
    assert_eq!(graph.path("b").map(|path| path.len()), Some(2));

    let circle = [hop("b", "boss"), hop("c", "x"), hop("b", "planner")];
    for unsound in [
        serde_json::json!({}),
        serde_json::json!({ "chain": chain }),
        serde_json::json!({ "issuer": "key", "chain": [hop("a", "boss")] }),
        serde_json::json!({ "issuer": "key", "chain": [hop("z", "x"), hop("b", "planner")] }),
        serde_json::json!({ "issuer": "key", "chain": circle }),
    ] {
        let mut graph = graph.clone();
        graph.add(&record(unsound.clone()));
        assert_eq!(graph.unfounded(), 1, "{unsound}");
    }
}

#[test]
fn unauthenticated_refusals_are_not_drawn_from_the_agent_they_name() {
    let refusal = serde_json::json!({ "verdict": "deny", "class": "Replay", "claimed": true });
    let mut graph = AuthorizationGraph::new();
    graph.add(&record(refusal));
    assert!(graph.nodes().contains(&Node::Claimed("planner".to_owned())));
    assert!(!graph.nodes().contains(&Node::Agent("planner".to_owned())));
    assert_eq!(graph.grants().count(), 0);
}

#[test]
fn a_flood_of_refusals_is_counted_and_stays_small() {
    let mut graph = AuthorizationGraph::new();
    for number in 0..5000 {
        let subject = format!("made.up.{number}");
        let refusal = serde_json::json!({ "verdict": "deny", "class": "Malformed",
            "claimed": true, "subject": subject });
        graph.add(&record(refusal));
    }
    graph.add(&record(
        serde_json::json!({ "kind": "aggregate", "class": "Malformed", "count": 7 }),
    ));
    let refused = graph
        .uses()
        .map(|(_, outcomes)| outcomes.refused["Malformed"]);
    assert_eq!(refused.sum::<u64>(), 5007);
    assert!(graph.uses().count() <= REFUSED_USES_MAX + 1);
}

/// AU-10: whatever a stranger writes is shown escaped, inside its label.
#[test]
fn text_from_strangers_cannot_leave_its_label() {
    let nasty = [
        "quote\" | n0 --> n1",
        "back\\slash\" -> n1 [color=red]; //",
        "new\nline\r\n%%{init: {}}%%",
        "\u{1b}[2Jansi\u{7}",
        "bidi\u{202e}gnp.exe\u{2066}",
        "<script>alert(1)</script> #quot; &quot; `md`",
        "é\u{0}\u{301}\u{200b}",
    ];
    let mut graph = AuthorizationGraph::new();
    for text in nasty {
        let chain = serde_json::json!([{ "link": text, "holder": text, "key": "planner",
            "scope": [text], "until": 1, "remaining": 0 }]);
        let fields = serde_json::json!({ "emitter": text, "subject": text, "sender": text,
            "issuer": text, "chain": chain });
        graph.add(&record(fields));
        let refusal = serde_json::json!({ "verdict": "deny", "class": text, "subject": text });
        graph.add(&record(refusal));
    }
    for (text, lines_max) in [(graph.to_mermaid(), 200), (graph.to_dot(), 200)] {
        assert!(
            text.bytes()
                .all(|b| b == b'\n' || (b' '..=b'~').contains(&b))
        );
        assert!(text.lines().count() < lines_max);
    }
    for line in graph.to_mermaid().lines() {
        assert!(
            line.matches('"').count() % 2 == 0 && !line.contains("%%"),
            "{line}"
        );
        let inside: String = line.split('"').skip(1).step_by(2).collect();
        let inside = inside.replace("<br/>", "");
        assert!(!inside.contains(['<', '>', '|', '`', '&', '\\']), "{line}");
    }
    for line in graph.to_dot().lines() {
        let unescaped = line.replace("\\\\", "").replace("\\\"", "");
        assert!([0, 2].contains(&unescaped.matches('"').count()), "{line}");
    }
}

#[test]
fn visible_text_is_printable_and_unambiguous() {
    let texts = [
        "a",
        "\n",
        "\\n",
        "\\\\n",
        "\u{202e}",
        "\\u{202e}",
        "é",
        "e\u{301}",
    ];
    let shown: BTreeSet<_> = texts.iter().map(|text| visible(text)).collect();
    assert_eq!(shown.len(), texts.len());
    assert!(
        shown
            .iter()
            .all(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)))
    );
    assert_eq!(visible("tools.read.>"), "tools.read.>");
}

#[test]
fn drawings_do_not_depend_on_the_order_of_records() {
    let (agents, receiver) = mesh();
    let mut world = World::new(agents, receiver, 7);
    world.grow();
    let mut records: Vec<_> = (0..20).map(|_| world.message()).collect();
    let draw = |records: &[AuditRecord]| {
        let mut graph = AuthorizationGraph::new();
        records.iter().for_each(|record| graph.add(record));
        (graph.to_mermaid(), graph.to_dot())
    };
    let forwards = draw(&records);
    records.reverse();
    assert_eq!(draw(&records), forwards);
    assert!(forwards.0.contains("==>") && forwards.0.contains("-.->"));
}

fn said(emitter: &str, topic: &str, text: &str) -> AuditRecord {
    let line = serde_json::json!({
        "v": 1, "emitter": emitter, "run": "00", "seq": 0, "prev": "00", "time": 0,
        "kind": "notice", "topic": topic, "text": text,
    });
    serde_json::from_value(line).unwrap()
}

#[test]
fn the_service_alone_says_who_joined_and_whose_key_was_rotated() {
    let notices = [
        ("verifier", "enrol", "a/b joined under 00 by token 11"),
        ("verifier", "enrol", "key 00 was refused: TokenUsed (3)"),
        ("verifier", "rotate", "a/b under 22: certificate 33 until 4"),
        (
            "verifier",
            "rotate",
            "a/b under 22 was refused: KeyTaken (5)",
        ),
        ("verifier", "rotate", "a rotated key's time is over"),
        ("verifier", "operator", "c joined under 00 by token 11"),
        ("mallory", "enrol", "mallory joined under 00 by token 11"),
    ];
    let mut graph = AuthorizationGraph::new();
    for (emitter, topic, text) in notices {
        graph.add(&said(emitter, topic, text));
    }
    let agent = Node::Agent("a/b".to_owned());
    let expected = [
        (&agent, Certification::Joined, 1),
        (&agent, Certification::Rotated, 1),
    ];
    assert_eq!(graph.certifications().collect::<Vec<_>>(), expected);
    let service = Node::Agent("verifier".to_owned());
    assert_eq!(graph.nodes(), BTreeSet::from([&agent, &service]));
    let mermaid = graph.to_mermaid();
    assert!(
        mermaid.contains(r#"n1 --o|"joined<br/>rotated"| n0"#),
        "{mermaid}"
    );
    assert!(graph.to_dot().contains("style=dotted"));
}

#[test]
fn a_mesh_without_notices_has_no_service_in_its_graph() {
    assert!(AuthorizationGraph::new().nodes().is_empty());
}
