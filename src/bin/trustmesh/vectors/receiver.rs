//! The receiver of a case: what it holds, and what it remembers from one input to the next.

use std::sync::Arc;

use serde_json::Value as Json;
use trustmesh::proto::audit::AuditItem;
use trustmesh::proto::audit::AuditReader;
use trustmesh::proto::audit::AuditSlot;
use trustmesh::proto::audit::Decision;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::handshake;
use trustmesh::proto::handshake::Initiator;
use trustmesh::proto::handshake::Responder;
use trustmesh::proto::handshake::Session;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::RateLimiter;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::Follower;
use trustmesh::proto::trust::Progress;
use trustmesh::proto::trust::Purpose;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::trust::TrustTime;
use trustmesh::proto::trust::digest_of;
use trustmesh::proto::verify::Arrival;
use trustmesh::proto::verify::Pending;
use trustmesh::proto::verify::Route;
use trustmesh::proto::verify::Scene;
use trustmesh::proto::verify::Sessions;
use trustmesh::proto::verify::Verifier;
use trustmesh::proto::verify::verify_chain;

use super::Outcome;
use super::State;
use super::States;
use super::fields::Fields;
use super::fields::Unusable;
use super::fields::hex;

/// A receiver.
pub struct Receiver<'a> {
    kind: &'a str,
    case: &'a Fields<'a>,
    states: &'a States,
    state: State,
    skew: ClockSkew,
    guard: ReplayGuard,
    rates: RateLimiter,
    verifier: Option<Verifier>,
    responder: Option<Responder>,
    reader: Option<AuditReader>,
    follower: Option<Follower>,
}

/// The peers a case says there are sessions with.
struct Live(Vec<KeyBytes>);

impl Sessions for Live {
    fn has(&self, key: &KeyBytes, _: Timestamp) -> bool {
        self.0.contains(key)
    }
}

/// Nobody reads the audit of a case.
struct Nowhere;

impl AuditSlot for Nowhere {
    fn fill(self, _: Decision) {}
}

impl<'a> Receiver<'a> {
    pub fn new(kind: &'a str, case: &'a Fields<'a>, states: &'a States) -> Result<Self, Unusable> {
        let skew = ClockSkew::from_millis(case.number("skew")?)
            .ok_or_else(|| Unusable::new("its clock tolerance is above the largest"))?;
        let floor = case.optional_number("floor")?.map(Timestamp::from_millis);
        Ok(Self {
            kind,
            case,
            states,
            state: states.named(case.text("state")?)?,
            skew,
            guard: ReplayGuard::new(skew, floor),
            rates: RateLimiter::default(),
            verifier: None,
            responder: None,
            reader: None,
            follower: None,
        })
    }

    /// Decides one input.
    pub fn decide(&mut self, input: &Fields<'_>) -> Result<Outcome, Unusable> {
        if self.kind == "follow" {
            // Such a reader may begin with nothing.
            return self.follow(input);
        }
        let trust = match self.state.clone() {
            Ok(trust) => trust,
            Err(rejection) => return Ok(Err(rejection)),
        };
        match self.kind {
            "message" => self.message(input, &trust),
            "answer" => self.answer(input, &trust),
            "chain" => self.chain(input, &trust),
            "trust" => self.trust(input, &trust),
            "handshake" => self.handshake(input, &trust),
            "audit" => self.audit(input, &trust),
            other => Err(Unusable::new(format!("{other:?} is no kind of case"))),
        }
    }

    fn message(
        &mut self,
        input: &Fields<'_>,
        trust: &Arc<TrustState>,
    ) -> Result<Outcome, Unusable> {
        let receiver = self.case.object("receiver")?;
        let own = own_chain(&receiver, trust)?;
        let pattern = SubjectPattern::parse(receiver.text("pattern")?).map_err(Unusable::new)?;
        let route = Route::Subscription {
            pattern: &pattern,
            own: &own,
        };
        self.arrive(input, trust, route)
    }

    fn answer(&mut self, input: &Fields<'_>, trust: &Arc<TrustState>) -> Result<Outcome, Unusable> {
        let pending = match input.get("pending") {
            None => None,
            Some(pending) => {
                let pending = Fields::new(pending)?;
                Some(Pending {
                    request: pending.id("request")?,
                    subject: Subject::parse(pending.text("subject")?).map_err(Unusable::new)?,
                    audience: pending.optional_key("audience")?,
                })
            }
        };
        self.arrive(input, trust, Route::Reply(pending.as_ref()))
    }

    fn arrive(
        &mut self,
        input: &Fields<'_>,
        trust: &Arc<TrustState>,
        route: Route<'_>,
    ) -> Result<Outcome, Unusable> {
        let (me, skew) = (self.case.object("receiver")?.key("key")?, self.skew);
        let verifier = self.verifier.get_or_insert_with(|| Verifier::new(me, skew));
        let sessions = Live(keys(self.case.list("sessions")?)?);
        let scene = Scene {
            now: input.time("now")?,
            trust,
            sessions: &sessions,
        };
        let delivered = input.object("delivered")?;
        let arrival = Arrival {
            subject: delivered.text("subject")?,
            reply: delivered.optional_text("reply")?,
            route,
        };
        let frame = input.bytes("bytes")?;
        let (guard, rates) = (&mut self.guard, &mut self.rates);
        let verdict = verifier.verify(&frame, &arrival, &scene, guard, rates);
        Ok(verdict
            .record(Nowhere)
            .map_err(|refused| refused.rejection)
            .map(|envelope| {
                vec![
                    ("id", envelope.id().to_string().into()),
                    ("sender", envelope.sender().as_str().into()),
                    ("payload", written(envelope.payload())),
                ]
            }))
    }

    fn chain(&self, input: &Fields<'_>, trust: &Arc<TrustState>) -> Result<Outcome, Unusable> {
        let scene = Scene {
            now: input.time("now")?,
            trust,
            sessions: &(),
        };
        let (bytes, holder) = (input.bytes("bytes")?, input.key("holder")?);
        let verified = Chain::parse(bytes)
            .and_then(|chain| verify_chain(chain, &scene, self.skew))
            .and_then(|chain| chain.check_held_by(&holder));
        Ok(verified.map(|()| Vec::new()))
    }

    fn trust(&self, input: &Fields<'_>, trust: &Arc<TrustState>) -> Result<Outcome, Unusable> {
        let Some(older) = input.optional_text("replaces")? else {
            return Ok(Ok(Vec::new()));
        };
        let older = self.states.named(older)?;
        let older = older.map_err(|_| Unusable::new("the state it replaces is none"))?;
        Ok(trust.check_replaces(&older).map(|()| Vec::new()))
    }

    fn follow(&mut self, input: &Fields<'_>) -> Result<Outcome, Unusable> {
        let follower = match &mut self.follower {
            Some(follower) => follower,
            empty => {
                let beginning = self.states.beginning(self.case.text("state")?)?;
                let begun = beginning.follower().map_err(Unusable::new)?;
                empty.insert(begun)
            }
        };
        if let Some(root) = input.optional_bytes("root")? {
            let followed = follower.succeed(&root);
            let version = follower.root().version();
            return Ok(followed.map(|()| vec![("version", version.into())]));
        }
        if let Some(purpose) = input.optional_text("purpose")? {
            let purpose = match purpose {
                "authority" => Purpose::Authority,
                "request" => Purpose::Request,
                "publish" => Purpose::Publish,
                other => return Err(Unusable::new(format!("{other:?} is no purpose"))),
            };
            let held = follower.state();
            let held = held.ok_or_else(|| Unusable::new("its reader holds nothing yet"))?;
            let fresh = held.check_fresh(input.time("now")?, self.skew, purpose);
            return Ok(fresh.map(|()| Vec::new()));
        }
        let store = input.bytes_list("store")?;
        let find = |digest: &_| {
            store
                .iter()
                .find(|file| digest_of(file) == *digest)
                .cloned()
        };
        let heard = Bulletin::parse(&input.bytes("bulletin")?)
            .and_then(|bulletin| follower.hear(&bulletin, find));
        Ok(heard.map(|progress| progressed(&progress)))
    }

    fn handshake(
        &mut self,
        input: &Fields<'_>,
        trust: &Arc<TrustState>,
    ) -> Result<Outcome, Unusable> {
        let (frame, me) = (
            input.bytes("bytes")?,
            party(&self.case.object("self")?, trust)?,
        );
        let (now, skew) = (input.time("now")?, self.skew);
        let scene = Scene {
            now,
            trust,
            sessions: &(),
        };
        let answer = |frame: &[u8]| ("answer", written(frame));
        let step = input.number("step")?;
        if matches!(step, 1 | 3) {
            let (instance, secret) = (self.case.array("instance")?, self.case.array("secret")?);
            let responder = self
                .responder
                .get_or_insert_with(|| Responder::new(me, instance, secret));
            if step == 1 {
                let sent = responder.challenge(&frame, input.array("nonce")?, now);
                return Ok(sent.map(|sent| vec![answer(&sent)]));
            }
            let confirmed = responder.confirm(&frame, input.array("session")?, &scene, skew);
            return Ok(confirmed.map(|(made, sent)| vec![answer(&sent), session(&made)]));
        }
        let peer = input.object("peer")?;
        let id = AgentId::parse(peer.text("id")?).map_err(Unusable::new)?;
        let (initiator, _) = Initiator::hello(me, id, peer.key("key")?, input.array("nonce")?);
        if step == 2 {
            let sent = initiator.answer(&frame);
            return Ok(sent.map(|(_, _, sent)| vec![answer(&sent)]));
        }
        let challenge = input.bytes("challenge")?;
        let (awaiting, _, _) = initiator.answer(&challenge).map_err(Unusable::new)?;
        let made = awaiting.confirm(&frame, &scene, skew);
        Ok(made.map(|made| vec![session(&made)]))
    }

    fn audit(&mut self, input: &Fields<'_>, trust: &Arc<TrustState>) -> Result<Outcome, Unusable> {
        let (prefix, skew) = (self.case.text("prefix")?, self.skew);
        let reader = self
            .reader
            .get_or_insert_with(|| AuditReader::new(prefix, skew));
        let delivered = input.object("delivered")?.text("subject")?;
        let read = reader.read(&input.bytes("bytes")?, delivered, trust, input.time("now")?);
        Ok(read.map(|items| vec![("items", items.iter().map(item).collect())]))
    }
}

/// What a case says of a reader that heard something.
fn progressed(progress: &Progress) -> Vec<(&'static str, Json)> {
    match progress {
        Progress::Unchanged => vec![("progress", "unchanged".into())],
        Progress::Missing(missing) => {
            let missing = missing.iter().map(|id| Json::from(id.to_string()));
            vec![
                ("progress", "missing".into()),
                ("missing", missing.collect()),
            ]
        }
        Progress::Advanced(state) => vec![
            ("progress", "advanced".into()),
            ("time", state.time().map(TrustTime::epoch).into()),
            (
                "snapshot",
                state.snapshot().map(|s| s.edition().epoch).into(),
            ),
            ("keys", state.certificates().count().into()),
            ("revoked", state.revocations().len().into()),
        ],
    }
}

fn item(item: &AuditItem) -> &'static str {
    match item {
        AuditItem::Record(_) => "record",
        AuditItem::Duplicate { .. } => "duplicate",
        AuditItem::Missing { .. } => "missing",
        AuditItem::Fork { .. } => "fork",
        // No vector expects what is newer than this table.
        _ => "unknown",
    }
}

fn party(fields: &Fields<'_>, trust: &TrustState) -> Result<handshake::Party, Unusable> {
    let seed: [u8; 32] = fields.array("seed")?;
    let key = Arc::new(SigningKey::from_seed(&seed).map_err(Unusable::new)?);
    Ok(handshake::Party {
        id: AgentId::parse(fields.text("id")?).map_err(Unusable::new)?,
        certificate: fields.bytes("certificate")?,
        credential: own_chain(fields, trust)?.hold(key).map_err(Unusable::new)?,
    })
}

/// One's own chain. Its signatures hold; whether it holds now is part of the case.
fn own_chain(fields: &Fields<'_>, trust: &TrustState) -> Result<VerifiedChain, Unusable> {
    Chain::parse(fields.bytes("chain")?)
        .and_then(|chain| chain.verify(trust, &mut Budget::message()))
        .map_err(|rejection| Unusable::new(format!("the receiver's chain: {rejection}")))
}

fn session(session: &Session) -> (&'static str, Json) {
    let fields = serde_json::json!({
        "id": written(&session.id),
        "peer": session.peer.as_str(),
        "key": session.key.to_string(),
        "until": session.until.as_millis(),
    });
    ("session", fields)
}

fn keys(list: &[Json]) -> Result<Vec<KeyBytes>, Unusable> {
    let key = |json: &Json| {
        let bytes = json.as_str().and_then(hex);
        let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(&bytes[..]).ok());
        key.map(KeyBytes)
            .ok_or_else(|| Unusable::new(format!("no key: {json}")))
    };
    list.iter().map(key).collect()
}

fn written(bytes: &[u8]) -> Json {
    data_encoding::HEXLOWER.encode(bytes).into()
}
