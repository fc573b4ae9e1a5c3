//! Holds the real verifier to the vector files, as text and nothing else.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;

use trustmesh::proto::audit::AuditItem;
use trustmesh::proto::audit::AuditReader;
use trustmesh::proto::audit::AuditSlot;
use trustmesh::proto::audit::Decision;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::handshake;
use trustmesh::proto::handshake::Initiator;
use trustmesh::proto::handshake::Responder;
use trustmesh::proto::handshake::Session;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::RateLimiter;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::StaleState;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::Follower;
use trustmesh::proto::trust::Progress;
use trustmesh::proto::trust::Purpose;
use trustmesh::proto::trust::TrustFiles;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::trust::digest_of;
use trustmesh::proto::verify::Arrival;
use trustmesh::proto::verify::Pending;
use trustmesh::proto::verify::Route;
use trustmesh::proto::verify::Scene;
use trustmesh::proto::verify::Sessions;
use trustmesh::proto::verify::Verifier;
use trustmesh::proto::verify::accept_chain;

use crate::forge::Party;

/// What became of an input: what `expect` says besides the verdict, or the refusal.
type Outcome = Result<Vec<(&'static str, Json)>, Rejection>;

/// Runs every case among these files; says which do not hold.
pub fn all(files: &BTreeMap<String, String>) -> Vec<String> {
    let parsed: BTreeMap<&str, Json> = files
        .keys()
        .map(|path| {
            let file = super::folder::below("tests/vectors").join(path);
            let text = match std::fs::read_to_string(&file) {
                Ok(text) if !super::folder::blessing() => text,
                _ => files[path].clone(),
            };
            let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
            (path.as_str(), json)
        })
        .collect();
    let states = parsed
        .iter()
        .filter_map(|(path, json)| {
            let name = path.strip_prefix("states/")?.strip_suffix(".json")?;
            Some((name.to_owned(), assemble(json).map(Arc::new)))
        })
        .collect();
    let readers = parsed
        .iter()
        .filter_map(|(path, json)| {
            let name = path.strip_prefix("states/")?.strip_suffix(".json")?;
            json.get("later").map(|_| (name.to_owned(), json.clone()))
        })
        .collect();
    let world = World { states, readers };
    parsed
        .iter()
        .filter(|(path, _)| !path.starts_with("states/"))
        .filter_map(|(path, case)| world.check(case).map(|fault| format!("{path}: {fault}")))
        .collect()
}

/// The state of a file: assembled, or what a reader of a served mesh holds.
fn assemble(state: &Json) -> Result<TrustState, Rejection> {
    if state.get("later").is_some() {
        let held = follower(state)?.state().cloned();
        return held.map(|held| (*held).clone()).ok_or(NOTHING_HELD);
    }
    let files = TrustFiles {
        root: bytes(&state["root"]),
        registry: bytes(&state["registry"]),
        policy: bytes(&state["policy"]),
        revocations: bytes(&state["revocations"]),
        scores: optional(&state["scores"], bytes),
    };
    let admission = if state["dev"].as_bool().unwrap() {
        Admission::DangerDevelopment
    } else {
        Admission::Production
    };
    let pin = optional(&state["pin"], |pin| ObjectId(array(pin)));
    TrustState::assemble(&files, admission, pin)
}

/// What a state that holds nothing yet is for the kinds that need one.
const NOTHING_HELD: Rejection = Rejection::StaleState {
    reason: StaleState::Incomplete,
};

fn follower(state: &Json) -> Result<Follower, Rejection> {
    let admission = if state["dev"].as_bool().unwrap() {
        Admission::DangerDevelopment
    } else {
        Admission::Production
    };
    let pin = optional(&state["pin"], |pin| ObjectId(array(pin)));
    let mut follower = Follower::new(&bytes(&state["root"]), admission, pin)?;
    for root in state["later"].as_array().unwrap() {
        follower.succeed(&bytes(root))?;
    }
    if let Some(bulletin) = optional(&state["bulletin"], bytes) {
        let progress = follower.hear(&Bulletin::parse(&bulletin)?, |_| None)?;
        assert!(matches!(progress, Progress::Advanced(_)), "{progress:?}");
    }
    Ok(follower)
}

struct World {
    states: BTreeMap<String, Result<Arc<TrustState>, Rejection>>,
    readers: BTreeMap<String, Json>,
}

impl World {
    /// Why a case does not hold, if it does not.
    fn check(&self, case: &Json) -> Option<String> {
        let mut receiver = Receiver::new(case, self);
        let none = Vec::new();
        let earlier = case["preceded_by"].as_array().unwrap_or(&none);
        for input in earlier.iter().chain([case]) {
            let outcome = receiver.decide(input);
            if let Some(fault) = disagreement(&input["expect"], &outcome) {
                return Some(fault);
            }
        }
        None
    }

    fn state(&self, name: &Json) -> Result<Arc<TrustState>, Rejection> {
        self.states[name.as_str().unwrap()].clone()
    }
}

/// How an outcome differs from what was expected.
fn disagreement(expect: &Json, outcome: &Outcome) -> Option<String> {
    let allowed = match expect["verdict"].as_str() {
        Some("allow") => true,
        Some("deny") => false,
        other => return Some(format!("verdict {other:?}")),
    };
    match outcome {
        Ok(facts) if allowed => {
            for (name, found) in facts {
                if expect[*name] != *found {
                    return Some(format!("{name}: expected {}, found {found}", expect[*name]));
                }
            }
            let written: BTreeSet<&str> = expect
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            let known = facts
                .iter()
                .map(|(name, _)| *name)
                .chain(["verdict"])
                .collect();
            (written != known).then(|| format!("expects {written:?}, not {known:?}"))
        }
        Ok(_) => Some(format!("expected {expect}, was allowed")),
        Err(rejection) => {
            let found = serde_json::json!({
                "verdict": "deny",
                "class": rejection.class().name(),
                "code": rejection.code(),
                "hop": rejection.hop(),
            });
            (*expect != found).then(|| format!("expected {expect}, was {rejection} ({found})"))
        }
    }
}

/// A receiver, with whatever it remembers between inputs.
struct Receiver<'a> {
    case: &'a Json,
    world: &'a World,
    skew: ClockSkew,
    guard: ReplayGuard,
    rates: RateLimiter,
    verifier: Option<Verifier>,
    responder: Option<Responder>,
    reader: Option<AuditReader>,
    follower: Option<Follower>,
}

struct Live(Vec<KeyBytes>);

impl Sessions for Live {
    fn has(&self, key: &KeyBytes, _: Timestamp) -> bool {
        self.0.contains(key)
    }
}

struct Nowhere;

impl AuditSlot for Nowhere {
    fn fill(self, _: Decision) {}
}

impl<'a> Receiver<'a> {
    fn new(case: &'a Json, world: &'a World) -> Self {
        let skew = ClockSkew::from_millis(number(&case["skew"])).unwrap();
        let floor = case["floor"].as_u64().map(Timestamp::from_millis);
        Self {
            case,
            world,
            skew,
            guard: ReplayGuard::new(skew, floor),
            rates: RateLimiter::default(),
            verifier: None,
            responder: None,
            reader: None,
            follower: None,
        }
    }

    fn decide(&mut self, input: &Json) -> Outcome {
        let now = Timestamp::from_millis(number(&input["now"]));
        match self.case["kind"].as_str().unwrap() {
            "message" => self.message(input, now),
            "answer" => self.answer(input, now),
            "chain" => self.chain(input, now),
            "trust" => self.trust(input),
            "follow" => self.follow(input, now),
            "handshake" => self.handshake(input, now),
            "audit" => self.audit(input, now),
            "subjects" => subjects(input),
            other => panic!("kind {other}"),
        }
    }

    fn message(&mut self, input: &Json, now: Timestamp) -> Outcome {
        let receiver = &self.case["receiver"];
        let trust = self.world.state(&self.case["state"])?;
        let own = verified(&receiver["chain"], &trust);
        let pattern = SubjectPattern::parse(receiver["pattern"].as_str().unwrap()).unwrap();
        let route = Route::Subscription {
            pattern: &pattern,
            own: &own,
        };
        self.arrive(input, now, &trust, route)
    }

    fn answer(&mut self, input: &Json, now: Timestamp) -> Outcome {
        let trust = self.world.state(&self.case["state"])?;
        let pending = optional(&input["pending"], |pending| Pending {
            request: ObjectId(array(&pending["request"])),
            subject: Subject::parse(pending["subject"].as_str().unwrap()).unwrap(),
            audience: optional(&pending["audience"], key),
        });
        self.arrive(input, now, &trust, Route::Reply(pending.as_ref()))
    }

    fn arrive(
        &mut self,
        input: &Json,
        now: Timestamp,
        trust: &Arc<TrustState>,
        route: Route<'_>,
    ) -> Outcome {
        let (me, skew) = (key(&self.case["receiver"]["key"]), self.skew);
        let verifier = self.verifier.get_or_insert_with(|| Verifier::new(me, skew));
        let none = Vec::new();
        let sessions = self.case["sessions"].as_array().unwrap_or(&none);
        let sessions = Live(sessions.iter().map(key).collect());
        let scene = Scene {
            now,
            trust,
            sessions: &sessions,
        };
        let arrival = Arrival {
            subject: input["delivered"]["subject"].as_str().unwrap(),
            reply: input["delivered"]["reply"].as_str(),
            route,
        };
        let frame = bytes(&input["bytes"]);
        let verdict = verifier.verify(&frame, &arrival, &scene, &mut self.guard, &mut self.rates);
        let envelope = verdict
            .record(Nowhere)
            .map_err(|refused| refused.rejection)?;
        Ok(vec![
            ("id", envelope.id().to_string().into()),
            ("sender", envelope.sender().as_str().into()),
            ("payload", hex(envelope.payload())),
        ])
    }

    fn chain(&self, input: &Json, now: Timestamp) -> Outcome {
        let trust = self.world.state(&self.case["state"])?;
        let scene = Scene {
            now,
            trust: &trust,
            sessions: &(),
        };
        let holder = key(&input["holder"]);
        let chain = Chain::parse(bytes(&input["bytes"]))?;
        accept_chain(chain, &secret_of(&holder), &scene, self.skew)?;
        Ok(Vec::new())
    }

    fn trust(&self, input: &Json) -> Outcome {
        let state = self.world.state(&self.case["state"])?;
        if !input["replaces"].is_null() {
            state.check_replaces(&self.world.state(&input["replaces"]).unwrap())?;
        }
        Ok(Vec::new())
    }

    fn follow(&mut self, input: &Json, now: Timestamp) -> Outcome {
        let begin = || {
            let reader = &self.world.readers[self.case["state"].as_str().unwrap()];
            follower(reader).unwrap()
        };
        let follower = self.follower.get_or_insert_with(begin);
        if let Some(root) = input.get("root") {
            follower.succeed(&bytes(root))?;
            return Ok(vec![("version", follower.root().version().into())]);
        }
        if let Some(purpose) = input.get("purpose") {
            let purpose = match purpose.as_str().unwrap() {
                "authority" => Purpose::Authority,
                "request" => Purpose::Request,
                "publish" => Purpose::Publish,
                other => panic!("purpose {other}"),
            };
            let state = follower.state().ok_or(NOTHING_HELD)?;
            state.check_fresh(now, self.skew, purpose)?;
            return Ok(Vec::new());
        }
        let none = Vec::new();
        let store = input["store"].as_array().unwrap_or(&none).iter().map(bytes);
        let store: BTreeMap<_, _> = store.map(|file| (digest_of(&file).0, file)).collect();
        let bulletin = Bulletin::parse(&bytes(&input["bulletin"]))?;
        let progress = follower.hear(&bulletin, |digest| store.get(&digest.0).cloned())?;
        Ok(match progress {
            Progress::Unchanged => vec![("progress", "unchanged".into())],
            Progress::Missing(missing) => {
                let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
                vec![("progress", "missing".into()), ("missing", missing.into())]
            }
            Progress::Advanced(state) => vec![
                ("progress", "advanced".into()),
                ("time", state.time().unwrap().epoch().into()),
                ("snapshot", state.snapshot().unwrap().edition().epoch.into()),
                ("keys", state.certificates().count().into()),
                ("revoked", state.revocations().len().into()),
            ],
        })
    }

    fn handshake(&mut self, input: &Json, now: Timestamp) -> Outcome {
        let trust = self.world.state(&self.case["state"])?;
        let frame = bytes(&input["bytes"]);
        let me = handshake_party(&self.case["self"], &trust);
        let scene = Scene {
            now,
            trust: &trust,
            sessions: &(),
        };
        let step = number(&input["step"]);
        if step % 2 == 1 {
            let (instance, secret) = (&self.case["instance"], &self.case["secret"]);
            let responder = self
                .responder
                .get_or_insert_with(|| Responder::new(me, array(instance), array(secret)));
            if step == 1 {
                let answer = responder.challenge(&frame, array(&input["nonce"]), now)?;
                return Ok(vec![("answer", hex(&answer))]);
            }
            let id = array(&input["session"]);
            let (session, answer) = responder.confirm(&frame, id, &scene, self.skew)?;
            return Ok(vec![
                ("answer", hex(&answer)),
                ("session", written(&session)),
            ]);
        }
        let peer = AgentId::parse(input["peer"]["id"].as_str().unwrap()).unwrap();
        let (peer_key, nonce) = (key(&input["peer"]["key"]), array(&input["nonce"]));
        let (initiator, _) = Initiator::hello(me, peer, peer_key, nonce);
        if step == 2 {
            let (_, _, answer) = initiator.answer(&frame)?;
            return Ok(vec![("answer", hex(&answer))]);
        }
        let (awaiting, _, _) = initiator.answer(&bytes(&input["challenge"])).unwrap();
        let session = awaiting.confirm(&frame, &scene, self.skew)?;
        Ok(vec![("session", written(&session))])
    }

    fn audit(&mut self, input: &Json, now: Timestamp) -> Outcome {
        let trust = self.world.state(&self.case["state"])?;
        let (prefix, skew) = (self.case["prefix"].as_str().unwrap(), self.skew);
        let reader = self
            .reader
            .get_or_insert_with(|| AuditReader::new(prefix, skew));
        let delivered = input["delivered"]["subject"].as_str().unwrap();
        let items = reader.read(&bytes(&input["bytes"]), delivered, &trust, now)?;
        let items = items.iter().map(|item| match item {
            AuditItem::Record(_) => "record",
            AuditItem::Duplicate { .. } => "duplicate",
            AuditItem::Missing { .. } => "missing",
            AuditItem::Fork { .. } => "fork",
            other => panic!("{other:?}"),
        });
        Ok(vec![("items", items.collect())])
    }
}

fn subjects(tables: &Json) -> Outcome {
    let rows = |name: &str| tables[name].as_array().cloned().unwrap_or_default();
    let text = |cell: &Json| cell.as_str().unwrap().to_owned();
    let subject = |cell: &Json| Subject::parse(&text(cell)).unwrap();
    let pattern = |cell: &Json| SubjectPattern::parse(&text(cell)).unwrap();
    let mut rows_read = 0;
    for row in rows("grammar") {
        let found = (
            Subject::parse(&text(&row[0])).is_ok(),
            SubjectPattern::parse(&text(&row[0])).is_ok(),
        );
        let claimed = (row[1].as_bool().unwrap(), row[2].as_bool().unwrap());
        assert_eq!(found, claimed, "grammar {row}");
        rows_read += 1;
    }
    for row in rows("matches") {
        let found = pattern(&row[0]).matches(&subject(&row[1]));
        assert_eq!(found, row[2].as_bool().unwrap(), "matches {row}");
        rows_read += 1;
    }
    for row in rows("contains") {
        let found = pattern(&row[0]).contains(&pattern(&row[1]));
        assert_eq!(found, row[2].as_bool().unwrap(), "contains {row}");
        rows_read += 1;
    }
    for row in rows("overlaps") {
        let found = pattern(&row[0]).overlaps(&pattern(&row[1]));
        assert_eq!(found, row[2].as_bool().unwrap(), "overlaps {row}");
        rows_read += 1;
    }
    assert!(rows_read > 0, "an empty table");
    Ok(Vec::new())
}

fn handshake_party(party: &Json, trust: &TrustState) -> handshake::Party {
    let seed: [u8; 32] = array(&party["seed"]);
    let key = Arc::new(SigningKey::from_seed(&seed).unwrap());
    let credential: Credential = verified(&party["chain"], trust).hold(key).unwrap();
    handshake::Party {
        id: AgentId::parse(party["id"].as_str().unwrap()).unwrap(),
        certificate: bytes(&party["certificate"]),
        credential,
    }
}

fn written(session: &Session) -> Json {
    serde_json::json!({
        "id": data_encoding::HEXLOWER.encode(&session.id),
        "peer": session.peer.as_str(),
        "key": session.key.to_string(),
        "until": session.until.as_millis(),
    })
}

fn verified(chain: &Json, trust: &TrustState) -> VerifiedChain {
    let chain = Chain::parse(bytes(chain)).unwrap();
    chain.verify(trust, &mut Budget::message()).unwrap()
}

/// The crate takes a chain into use with a key, the vector names its public half.
fn secret_of(holder: &KeyBytes) -> Arc<SigningKey> {
    let names = [
        "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy",
        "mallory", "kim", "leo", "mia", "nick", "olga", "pete",
    ];
    let found = names
        .map(Party::named)
        .into_iter()
        .find(|party| party.bytes() == *holder);
    found.expect("a holder with a known name").key.clone()
}

fn optional<T>(json: &Json, read: impl FnOnce(&Json) -> T) -> Option<T> {
    (!json.is_null()).then(|| read(json))
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap_or_else(|| panic!("no number: {json}"))
}

fn key(json: &Json) -> KeyBytes {
    KeyBytes(array(json))
}

fn array<const N: usize>(json: &Json) -> [u8; N] {
    bytes(json)[..].try_into().unwrap()
}

fn bytes(json: &Json) -> Bytes {
    let text = json.as_str().unwrap_or_else(|| panic!("no bytes: {json}"));
    data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .unwrap()
        .into()
}

fn hex(bytes: &[u8]) -> Json {
    data_encoding::HEXLOWER.encode(bytes).into()
}
