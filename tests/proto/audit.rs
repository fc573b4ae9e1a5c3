//! AU: the audit, read by somebody who trusts nobody.

use bytes::Bytes;

use trustmesh::proto::audit::AuditEvent;
use trustmesh::proto::audit::AuditItem;
use trustmesh::proto::audit::AuditReader;
use trustmesh::proto::audit::AuditRecord;
use trustmesh::proto::audit::RecordChain;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::envelope::UnverifiedEnvelope;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;

use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::chain::SERVE;
use crate::forge::letter::ACTION;
use crate::forge::letter::ISSUED;
use crate::forge::letter::LEAF;
use crate::forge::letter::MESH;
use crate::forge::letter::PAYLOAD_TYPE;
use crate::forge::letter::SUBJECT;
use crate::forge::value::bin;
use crate::forge::value::text;

/// A batch of lines as `emitter` would sign it.
pub fn batch(mesh: &Mesh, emitter: &str, lines: &[String]) -> Letter {
    let who = Party::named(emitter);
    let subject = format!("trustmesh.audit.{}", who.id().token());
    Letter::publish(&crate::forge::ChainSpec::down(mesh, &[emitter]), &subject)
        .set(LEAF, bin(mesh.certificate_id(&who).0))
        .set(PAYLOAD_TYPE, text("trustmesh/audit"))
        .payload(lines.join("\n"))
        .edit(|l| l.chain = vec![0x90])
}

/// `count` records of a run.
fn records(emitter: &str, count: usize) -> Vec<String> {
    let mut chain = RecordChain::new(AgentId::parse(emitter).unwrap(), [1; 8]);
    (0..count)
        .map(|n| {
            let event = AuditEvent::Aggregate {
                class: "Malformed".into(),
                count: n as u64,
            };
            chain.append(Timestamp::from_millis(NOW), event).1
        })
        .collect()
}

struct Reading {
    stage: Stage,
    reader: AuditReader,
}

impl Reading {
    fn new() -> Self {
        Self {
            stage: Stage::default(),
            reader: AuditReader::new("trustmesh", ClockSkew::default()),
        }
    }

    fn read(&mut self, frame: &Bytes, delivered: &str) -> Result<Vec<AuditItem>, Rejection> {
        let (trust, now) = (&self.stage.trust, self.stage.now);
        self.reader.read(frame, delivered, trust, now)
    }

    /// Reads a batch of alice's and says what is in it, a letter for each item.
    fn alice(&mut self, lines: &[String]) -> String {
        let frame = batch(&self.stage.mesh, "alice", lines).frame();
        let items = self.read(&frame, "trustmesh.audit.alice").unwrap();
        items.iter().map(letter).collect()
    }

    #[track_caller]
    fn refuses(&mut self, letter: &Letter, class: Class) {
        let (subject, _) = crate::forge::stage::addresses(&letter.frame());
        let refusal = self.read(&letter.frame(), &subject).unwrap_err();
        assert_eq!(refusal.class(), class, "{refusal}");
    }
}

fn letter(item: &AuditItem) -> char {
    match item {
        AuditItem::Record(_) => 'r',
        AuditItem::Missing { .. } => 'm',
        AuditItem::Duplicate { .. } => 'd',
        AuditItem::Fork { .. } => 'f',
        other => panic!("{other:?}"),
    }
}

/// What an emitter signed arrives as it was.
#[test]
fn an_honest_run_is_read_in_order() {
    let mut reading = Reading::new();
    let lines = records("alice", 7);
    assert_eq!(reading.alice(&lines[..3]), "rrr");
    assert_eq!(reading.alice(&lines[3..]), "rrrr");
}

/// AU-4: a batch for another emitter: on its subject, in its records, with its certificate, or
/// under a chain.
#[test]
fn nobody_speaks_for_another_emitter() {
    let mut reading = Reading::new();
    let lines = records("alice", 2);
    let honest = batch(&reading.stage.mesh, "alice", &lines);
    let carol = Party::named("carol");
    let forged = honest.clone().edit(|l| l.signer = carol.clone());
    reading.refuses(&forged, Class::BadSignature);
    // With carol's own certificate on alice's subject, or alice's records on carol's.
    let certificate = reading.stage.mesh.certificate_id(&carol);
    reading.refuses(
        &forged.set(LEAF, bin(certificate.0)),
        Class::SubjectMismatch,
    );
    let words = batch(&reading.stage.mesh, "carol", &lines);
    reading.refuses(&words, Class::Malformed);
    // A chain is no authority in the audit, whoever gave it.
    let chain = reading.stage.chain(&["carol", "alice"]);
    let chained = honest.clone().edit(|l| l.chain = chain.encode());
    reading.refuses(&chained, Class::ChainBroken);
    let led = chained.set(LEAF, bin(chain.leaf().0));
    reading.refuses(&led, Class::ChainBroken);
    let unknown = honest.clone().set(LEAF, bin([9; 32]));
    reading.refuses(&unknown, Class::UnknownAgent);
    for subject in [
        "trustmesh.audit.carol",
        "trustmesh.audit",
        "other.audit.alice",
    ] {
        reading.refuses(
            &honest.clone().set(SUBJECT, text(subject)),
            Class::SubjectMismatch,
        );
    }
    let frame = honest.frame();
    let moved = reading.read(&frame, "trustmesh.audit.carol").unwrap_err();
    assert_eq!(moved.class(), Class::SubjectMismatch);
    assert_eq!(reading.alice(&lines), "rr");
}

/// AU-4: a batch of another kind, mesh or time, or by an emitter that is no more.
#[test]
fn batches_are_held_to_what_they_are() {
    let mut reading = Reading::new();
    let lines = records("alice", 1);
    let honest = batch(&reading.stage.mesh, "alice", &lines);
    let odd = honest.clone().set(PAYLOAD_TYPE, text(""));
    reading.refuses(&odd, Class::UnexpectedReply);
    let answer = honest
        .clone()
        .set(ACTION, Value::Uint(SERVE))
        .set(crate::forge::letter::AUDIENCE, bin([1; 32]))
        .set(crate::forge::letter::IN_REPLY_TO, bin([1; 32]));
    reading.refuses(&answer, Class::UnexpectedReply);
    reading.refuses(
        &honest.clone().set(MESH, bin([1; 16])),
        Class::UntrustedRoot,
    );
    reading.refuses(
        &honest.clone().set(ISSUED, Value::Uint(NOW - HOUR)),
        Class::Expired,
    );
    reading.refuses(
        &honest.clone().set(ISSUED, Value::Uint(NOW + HOUR)),
        Class::NotYetValid,
    );
    let swapped = honest.header_tree();
    let swapped = batch(&reading.stage.mesh, "alice", &records("alice", 1))
        .payload("{}")
        .edit(|l| (l.header, l.keep_digest) = (swapped, true));
    let refused = reading.read(&swapped.frame(), "trustmesh.audit.alice");
    assert!(refused.is_err());
    let mut gone = reading.stage.mesh.clone();
    gone.revoked.revoke_key(Party::named("alice").bytes());
    reading.stage.trust = gone.trust();
    reading.refuses(&honest, Class::Revoked);
    let mut blocked = reading.stage.mesh.clone();
    blocked = blocked.policy(r#"{ "blocked": { "agents": ["alice"] }, "rules": [] }"#);
    reading.stage.trust = blocked.trust();
    reading.refuses(&honest, Class::Blocked);
}

/// AU-2: a byte changed in a signed batch, anywhere.
#[test]
fn an_edited_batch_is_refused() {
    let mut reading = Reading::new();
    let frame = batch(&reading.stage.mesh, "alice", &records("alice", 2)).frame();
    for at in 0..frame.len() {
        let mut edited = frame.to_vec();
        edited[at] ^= 0x01;
        let refused = reading.read(&edited.into(), "trustmesh.audit.alice");
        assert!(refused.is_err(), "byte {at}");
    }
    assert_eq!(
        reading.read(&frame, "trustmesh.audit.alice").unwrap().len(),
        2
    );
}

/// AU-2: an emitter that edits its own history, under valid signatures, shows in the next record.
#[test]
fn an_edited_record_shows_as_a_fork() {
    let mut reading = Reading::new();
    let mut lines = records("alice", 4);
    let mut record: AuditRecord = serde_json::from_str(&lines[1]).unwrap();
    record.event = AuditEvent::Gap { count: 1 };
    lines[1] = serde_json::to_string(&record).unwrap();
    assert_eq!(reading.alice(&lines), "rrfrr");
}

/// AU-3: deleted, reordered and repeated records.
#[test]
fn missing_and_repeated_records_are_reported() {
    let lines = records("alice", 6);
    let pick =
        |order: &[usize]| -> Vec<String> { order.iter().map(|i| lines[*i].clone()).collect() };
    for (order, found) in [
        (&[0, 1, 3, 4][..], "rrmrr"),
        (&[0, 1, 2, 2, 3], "rrrdr"),
        (&[0, 2, 1, 3], "rmrdr"),
        (&[0, 1, 2, 0, 1, 2, 3], "rrrdddr"),
        (&[0, 5], "rmr"),
    ] {
        assert_eq!(Reading::new().alice(&pick(order)), found, "{order:?}");
        // Split over two batches it is the same.
        let mut reading = Reading::new();
        let split = reading.alice(&pick(&order[..2])) + &reading.alice(&pick(&order[2..]));
        assert_eq!(split, found, "{order:?}");
    }
    let mut reading = Reading::new();
    let frame = batch(&reading.stage.mesh, "alice", &pick(&[0, 1, 4])).frame();
    let items = reading.read(&frame, "trustmesh.audit.alice").unwrap();
    let gap = AuditItem::Missing {
        emitter: AgentId::parse("alice").unwrap(),
        run: "0101010101010101".into(),
        from: 2,
        to: 4,
    };
    assert_eq!(items[2], gap);
}

/// Lines that are no records: nothing of their batch counts.
#[test]
fn a_batch_with_a_bad_line_is_refused_whole() {
    let mut reading = Reading::new();
    let good = records("alice", 2);
    let mut other: AuditRecord = serde_json::from_str(&good[1]).unwrap();
    other.v = 2;
    let version = serde_json::to_string(&other).unwrap();
    for bad in [
        "",
        "{}",
        "null",
        "[]",
        "{\"v\":1",
        &version,
        "\u{7f}",
        "{\"v\":-1}",
    ] {
        let lines = [good[0].clone(), bad.to_owned(), good[1].clone()];
        let frame = batch(&reading.stage.mesh, "alice", &lines).frame();
        let refusal = reading.read(&frame, "trustmesh.audit.alice").unwrap_err();
        assert_eq!(refusal.class(), Class::Malformed, "{bad:?}");
    }
    let latin = batch(&reading.stage.mesh, "alice", &[]).payload([0xe9]);
    reading.refuses(&latin, Class::Malformed);
    assert_eq!(reading.alice(&good), "rr");
}

/// A record has one encoding: what JSON lets one write in other ways is no record.
#[test]
fn another_spelling_of_a_record_is_none() {
    let mut reading = Reading::new();
    let good = records("alice", 2);
    let line = &good[1];
    let spellings = [
        line.replacen("\"v\":1", "\"v\": 1", 1),
        line.replacen("\"v\":1", "\"v\":1.0", 1),
        line.replacen("\"v\":1,", "", 1)
            .replacen('}', ",\"v\":1}", 1),
        line.replacen("\"v\":1", "\"v\":1,\"more\":0", 1),
        line.replacen("\"v\":1", "\"v\":1,\"v\":1", 1),
        line.replacen("alice", "\\u0061lice", 1),
        line.replacen("\"kind\":\"aggregate\"", "\"kind\":2", 1),
        format!("{line}\r"),
        format!(" {line}"),
    ];
    for spelling in spellings {
        assert_ne!(&spelling, line);
        let frame = batch(
            &reading.stage.mesh,
            "alice",
            std::slice::from_ref(&spelling),
        )
        .frame();
        let refusal = reading.read(&frame, "trustmesh.audit.alice").unwrap_err();
        assert_eq!(refusal.code(), 103, "{spelling}");
    }
    assert_eq!(reading.alice(&good), "rr");
}

/// AU-10: what a peer put into a subject or id is kept as it was and cannot end a line.
#[test]
fn hostile_text_stays_in_its_line() {
    let mut chain = RecordChain::new(AgentId::parse("alice").unwrap(), [2; 8]);
    let hostile = "a\n{\"v\":1}\r\u{1b}[2J\u{202e}\"\\\0";
    let event = AuditEvent::Notice {
        topic: hostile.into(),
        text: hostile.into(),
    };
    let (record, line) = chain.append(Timestamp::from_millis(NOW), event);
    assert_eq!(line.lines().count(), 1);
    assert!(!line.contains(|c: char| c.is_ascii_control()));
    let mut reading = Reading::new();
    let frame = batch(&reading.stage.mesh, "alice", &[line]).frame();
    let items = reading.read(&frame, "trustmesh.audit.alice").unwrap();
    assert_eq!(items, [AuditItem::Record(record)]);
}

/// AU-1, at this level: of mixed messages each makes one event, of the class it was refused for;
/// the events of a run are one unbroken chain.
#[test]
fn every_message_makes_one_event() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    let subject = "orders.eu.new";
    let once = Letter::publish(&chain, subject).frame();
    let mut run = RecordChain::new(AgentId::parse("bob").unwrap(), [3; 8]);
    let (mut lines, mut allowed, mut events) = (Vec::new(), 0, 0);
    for n in 0..200 {
        let letter = Letter::publish(&chain, subject);
        let frame = match n % 5 {
            0 => letter.frame(),
            1 => once.clone(),
            2 => letter.edit(|l| l.signer = Party::named("mallory")).frame(),
            3 => letter.set(ISSUED, Value::Uint(0)).frame(),
            _ => Bytes::from_static(b"garbage"),
        };
        let outcome = stage.decide(&frame, subject, None);
        allowed += usize::from(outcome.result.is_ok());
        let (record, line) = run.append(stage.now, outcome.decision.event());
        if let AuditEvent::Decision(event) = record.event {
            let class = outcome
                .result
                .err()
                .map(|r| r.rejection.class().name().to_owned());
            assert_eq!(event.class, class);
            events += 1;
        }
        lines.push(line);
    }
    assert_eq!((allowed, events, stage.guard.len()), (41, 200, 41));
    let mut reading = Reading::new();
    let frame = batch(&reading.stage.mesh, "bob", &lines).frame();
    let items = reading.read(&frame, "trustmesh.audit.bob").unwrap();
    assert!(items.iter().all(|item| letter(item) == 'r'));
    assert_eq!(items.len(), 200);
}

/// AU-11 and OB-1: no payload, application header, grant or key seed in any event, nor in what any
/// public type prints of itself.
#[test]
fn events_hold_no_payloads_and_no_secrets() {
    use crate::forge::value::list;

    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    let canary = "CANARY-5f2e";
    let headers = list([list([text(canary), text(canary)])]);
    let letter = Letter::publish(&chain, "orders.eu.new").edit(|l| {
        l.content = list([headers, list([bin(canary)]), bin(canary)]);
    });
    let bad = letter.clone().edit(|l| l.signer = Party::named("mallory"));
    let mut draft = EnvelopeDraft::new(
        MessageId([1; 16]),
        stage.now,
        Action::Publish,
        Subject::parse("orders.eu.new").unwrap(),
    );
    draft.headers = vec![(canary.into(), canary.into())];
    (draft.payload, draft.grants) = (canary.into(), vec![canary.into()]);
    let signed = draft.sign(&stage.mesh.grant(&Party::named("alice"), 0, &["pub:>"]));
    for text in [format!("{draft:?}"), format!("{:?}", signed.unwrap())] {
        assert!(!text.contains(canary), "{text}");
    }
    let seeds = ["alice", "bob", "carol", "mallory"]
        .map(|name| data_encoding::HEXLOWER.encode(&Party::named(name).seed));
    for frame in [letter.frame(), bad.frame()] {
        let outcome = stage.deliver(&frame);
        let event = serde_json::to_string(&outcome.decision.event()).unwrap();
        let parsed = UnverifiedEnvelope::parse(&frame).unwrap();
        let printed = [
            event,
            format!("{:?}", outcome.decision),
            format!("{:#?}", outcome.result.as_ref()),
            format!("{parsed:?}"),
            format!("{:?}{:?}", stage.verifier, stage.guard),
            format!("{:?}", stage.me.key),
            format!("{:?}", stage.mesh.grant(&stage.me, 0, &["sub:>"])),
        ];
        for text in printed {
            for secret in canaries(canary) {
                assert!(!text.contains(&secret), "{text}");
            }
            assert!(seeds.iter().all(|seed| !text.contains(seed.as_str())));
        }
    }
}

/// The ways a text may be printed: as it is, and as a list of bytes.
fn canaries(text: &str) -> [String; 2] {
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    [text.to_owned(), bytes.join(", ")]
}
