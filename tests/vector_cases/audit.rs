//! Audit batches, as a reader receives them.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::audit_lines::texts;
use super::codes::*;
use super::deny;
use super::json::Json;
use super::json::words;
use super::play::Kind;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::chain::REQ;
use crate::forge::letter::*;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::text;

/// One line of a run, after a line with this digest.
pub(super) fn line(emitter: &str, run: u8, seq: u64, prev: &str) -> String {
    format!(
        r#"{{"v":1,"emitter":"{emitter}","run":"{}","seq":{seq},"prev":"{prev}","time":{NOW},"kind":"gap","count":{seq}}}"#,
        format!("{run:02x}").repeat(8)
    )
}

pub(super) fn digest(line: &str) -> String {
    Tag::AuditRecord.digest(line.as_bytes()).to_string()
}

/// The first lines of a run.
pub(super) fn run_of(emitter: &str, run: u8, count: u64) -> Vec<String> {
    let mut prev = "0".repeat(64);
    (0..count)
        .map(|seq| {
            let line = line(emitter, run, seq, &prev);
            prev = digest(&line);
            line
        })
        .collect()
}

/// A batch with this payload, as its emitter signs it.
pub(super) fn batch(emitter: &str, payload: &[u8]) -> Letter {
    batch_in(&Mesh::new(), emitter, payload)
}

/// The same in any mesh.
pub(super) fn batch_in(mesh: &Mesh, emitter: &str, payload: &[u8]) -> Letter {
    let who = Party::named(emitter);
    let validity = match emitter {
        "kim" => window(NOW - 2 * HOUR, NOW - HOUR),
        "leo" => window(NOW + HOUR, NOW + 2 * HOUR),
        _ => window(NOW - HOUR, NOW + HOUR),
    };
    let certificate = mesh.certificate(&who, validity);
    // An array header, then the body under a one-byte length.
    let body = &certificate[3..3 + usize::from(certificate[2])];
    let subject = format!("trustmesh.audit.{}", emitter.replace('/', "~"));
    Letter::publish(&ChainSpec::down(mesh, &[emitter]), &subject)
        .set(LEAF, bin(Tag::Certificate.digest(body).0))
        .set(PAYLOAD_TYPE, text("trustmesh/audit"))
        .payload(payload)
        .edit(|l| l.chain = vec![0x90])
}

/// A batch, read; `found` is what is in it, a letter for each item.
pub(super) fn read(letter: &Letter, found: &str) -> Play {
    let message = Play::message(letter);
    let mut play = Play::new(Kind::Audit, "mesh").bytes(&message.bytes);
    (play.subject, play.reply) = (message.subject, message.reply);
    play.more = vec![("prefix", words("trustmesh"))];
    let items = found.chars().map(|letter| {
        words(match letter {
            'r' => "record",
            'd' => "duplicate",
            'm' => "missing",
            _ => "fork",
        })
    });
    play.facts = vec![("items", Json::List(items.collect()))];
    play
}

pub(super) fn lines(picked: &[String]) -> Vec<u8> {
    picked.join("\n").into_bytes()
}

pub fn write(book: &mut Book) {
    let about = "A run of records, in order";
    book.case("accepted", about, Allow, || {
        read(&batch("alice", &lines(&run_of("alice", 1, 3))), "rrr")
    });
    reading(book);
    runs(book);
    texts(book);
    envelope(book);
    emitters(book);
}

fn reading(book: &mut Book) {
    let rows: [(&str, &[usize], &str); 9] = [
        ("twice", &[0, 1, 1, 2], "rrdr"),
        ("two-exchanged", &[0, 2, 1, 3], "rmrdr"),
        ("one-missing", &[0, 1, 3, 4], "rrmrr"),
        ("many-missing", &[0, 5], "rmr"),
        ("again-from-the-start", &[0, 1, 2, 0, 1, 2, 3], "rrrdddr"),
        ("first-is-not-0", &[3, 4], "rr"),
        ("first-is-not-0-then-0", &[3, 0], "rd"),
        ("missing-twice", &[0, 2, 4], "rmrmr"),
        ("one", &[0], "r"),
    ];
    for (name, picked, found) in rows {
        let about = "What was read already is a duplicate, what is left out is missing, once";
        let pick = || -> Vec<String> {
            let all = run_of("alice", 1, 6);
            picked.iter().map(|at| all[*at].clone()).collect()
        };
        book.case(name, about, Allow, || {
            read(&batch("alice", &lines(&pick())), found)
        });
        if picked.len() < 2 {
            continue;
        }
        book.case(&format!("{name}-in-two-batches"), about, Allow, || {
            let first = read(&batch("alice", &lines(&pick()[..1])), &found[..1]);
            read(&batch("alice", &lines(&pick()[1..])), &found[1..]).after(first, Allow)
        });
    }
    let about = "A record that does not follow from the one before shows two histories";
    let forged = |seq: u64| line("alice", 1, seq, &"7".repeat(64));
    let rows: [(&str, Vec<String>, &str); 4] = [
        ("fork-at-the-start", vec![forged(0)], "fr"),
        (
            "fork-later",
            {
                let mut all = run_of("alice", 1, 2);
                all.push(forged(2));
                all
            },
            "rrfr",
        ),
        (
            "fork-after-a-gap",
            {
                let mut all = run_of("alice", 1, 1);
                all.push(forged(2));
                all
            },
            "rmr",
        ),
        ("fork-unknown-run", vec![forged(4)], "r"),
    ];
    for (name, picked, found) in rows {
        book.case(name, about, Allow, || {
            read(&batch("alice", &lines(&picked)), found)
        });
    }
    book.case("fork-edited-record", about, Allow, || {
        let mut all = run_of("alice", 1, 4);
        all[1] = all[1].replace("\"count\":1", "\"count\":9");
        read(&batch("alice", &lines(&all)), "rrfrr")
    });
    let about = "There is no replay check: a batch read again is full of duplicates";
    book.case("batch-twice", about, Allow, || {
        let letter = batch("alice", &lines(&run_of("alice", 1, 2)));
        read(&letter, "dd").after(read(&letter, "rr"), Allow)
    });
    let about = "A refused batch leaves nothing behind";
    book.case("after-a-refused-batch", about, Allow, || {
        let all = run_of("alice", 1, 2);
        let bad = [lines(&all), b"\n{}".to_vec()].concat();
        let first = read(&batch("alice", &bad), "");
        read(&batch("alice", &lines(&all)), "rr").after(first, deny(MALFORMED_WRONG_TYPE))
    });
}

/// Runs and emitters side by side.
fn runs(book: &mut Book) {
    let about = "Runs of one emitter are kept apart";
    book.case("two-runs", about, Allow, || {
        let (one, two) = (run_of("alice", 1, 3), run_of("alice", 2, 3));
        let mixed: Vec<String> = one
            .into_iter()
            .zip(two)
            .flat_map(|(one, two)| [one, two])
            .collect();
        read(&batch("alice", &lines(&mixed)), "rrrrrr")
    });
    let about = "Emitters are kept apart, even with runs of one name";
    book.case("two-emitters", about, Allow, || {
        let first = read(&batch("carol", &lines(&run_of("carol", 1, 2))), "rr");
        read(&batch("alice", &lines(&run_of("alice", 1, 2))), "rr").after(first, Allow)
    });
    let about =
        "A reader keeps its place in 64 runs of an emitter, and forgets the one read longest ago";
    let many = |count: u8, then: u8| {
        let firsts = (1..=count).map(|run| line("alice", run, 0, &"0".repeat(64)));
        let again = line("alice", then, 1, &"7".repeat(64));
        firsts.chain([again]).collect::<Vec<_>>()
    };
    book.case("runs-64", about, Allow, || {
        let found = "r".repeat(64) + "fr";
        read(&batch("alice", &lines(&many(64, 1))), &found)
    });
    book.case("runs-65", about, Allow, || {
        let found = "r".repeat(65) + "r";
        read(&batch("alice", &lines(&many(65, 1))), &found)
    });
    book.case("runs-65-second", about, Allow, || {
        let found = "r".repeat(65) + "fr";
        read(&batch("alice", &lines(&many(65, 2))), &found)
    });
}

/// The envelope around a batch.
fn envelope(book: &mut Book) {
    let honest = || batch("alice", &lines(&run_of("alice", 1, 1)));
    let mut case = |name: &str, about: &str, claim: Claim, letter: &dyn Fn() -> Play| {
        book.case(name, about, claim, letter);
    };
    let not = deny(UNEXPECTED_REPLY_NOT_A_REPLY);
    let about = "A batch is a publication with the payload type of the audit";
    case("other-payload-type", about, not, &|| {
        read(&honest().set(PAYLOAD_TYPE, text("")), "")
    });
    case("payload-type-case", about, not, &|| {
        read(&honest().set(PAYLOAD_TYPE, text("Trustmesh/audit")), "")
    });
    case("request", about, not, &|| {
        let letter = honest()
            .set(ACTION, Value::Uint(REQ))
            .set(REPLY, text("a.b"));
        read(&letter, "")
    });
    let about = "A batch is of this mesh, and delivered where it was sent";
    case(
        "other-mesh",
        about,
        deny(UNTRUSTED_ROOT_OTHER_MESH),
        &|| read(&honest().set(MESH, bin([1; 16])), ""),
    );
    case("moved", about, deny(SUBJECT_MISMATCH_DELIVERED), &|| {
        read(&honest(), "").edit(|play| play.subject = "trustmesh.audit.carol".into())
    });
    let about = "A chain has no say in the audit";
    let chained = deny(CHAIN_BROKEN_NOT_OURS);
    case("with-a-chain", about, chained, &|| {
        let chain = ChainSpec::down(&Mesh::new(), &["alice"]).encode();
        read(&honest().edit(|l| l.chain = chain), "")
    });
    case("without-a-chain", about, chained, &|| {
        read(&honest().edit(|l| l.chain = vec![]), "")
    });
    case("chain-longer", about, chained, &|| {
        read(&honest().edit(|l| l.chain = vec![0xdc, 0, 0]), "")
    });
    let about = "An ordinary event is no batch, even under its own chain and on the subject";
    case("under-a-leaf", about, chained, &|| {
        let chain = ChainSpec::down(&Mesh::new(), &["alice"]);
        let letter = Letter::publish(&chain, "trustmesh.audit.alice");
        read(&letter.set(PAYLOAD_TYPE, text("trustmesh/audit")), "")
    });
    let about = "A batch holds for its time, widened by the tolerance";
    for (name, issued, claim) in [
        ("first-instant", NOW + 5_000, Allow),
        ("early", NOW + 5_001, deny(NOT_YET_VALID)),
        ("last-instant", NOW - 15_000, Allow),
        ("late", NOW - 15_001, deny(EXPIRED)),
    ] {
        case(name, about, claim, &|| {
            read(&honest().set(ISSUED, Value::Uint(issued)), "r")
        });
    }
    let about = "A batch is refused while a trust file does not hold";
    case("stale", about, deny(STALE_STATE_REGISTRY), &|| {
        let now = NOW + 2 * HOUR;
        read(&honest().set(ISSUED, Value::Uint(now)), "").at(now)
    });
    let about = "A batch is signed by the certified key, and its content is what was signed";
    let bad = deny(BAD_SIGNATURE);
    case("signed-by-another", about, bad, &|| {
        read(&honest().edit(|l| l.signer = Party::named("carol")), "")
    });
    case("signed-under-audit-rec", about, bad, &|| {
        read(&honest().edit(|l| l.tag = Tag::AuditRecord), "")
    });
    case("other-content", about, bad, &|| {
        let letter = honest();
        let header = letter.header_encoded();
        let other = lines(&run_of("alice", 2, 1));
        read(
            &letter
                .payload(other)
                .edit(|l| l.header_bytes = Some(header)),
            "",
        )
    });
    case(
        "magic",
        "A batch is an envelope",
        deny(MALFORMED_BAD_MAGIC),
        &|| read(&honest().edit(|l| l.magic = b"TMHS".to_vec()), ""),
    );
    let about = "Neither audience nor reply subject is looked at";
    case("with-audience", about, Allow, &|| {
        read(&honest().set(AUDIENCE, bin([1; 32])), "r")
    });
    case("with-reply", about, Allow, &|| {
        read(&honest(), "r").edit(|play| play.reply = Some("a.b".into()))
    });
}

fn emitters(book: &mut Book) {
    let about = "The emitter is whoever the certificate names, and speaks on its own subject";
    let by_carol = |change: &dyn Fn(Letter) -> Letter| {
        let letter = batch("carol", &lines(&run_of("carol", 1, 1)));
        read(&change(letter), "")
    };
    let control = deny(SUBJECT_MISMATCH_CONTROL);
    for (name, subject) in [
        ("on-anothers-subject", "trustmesh.audit.alice"),
        ("under-another-prefix", "other.audit.carol"),
        ("without-id", "trustmesh.audit"),
        ("below-its-subject", "trustmesh.audit.carol.x"),
        ("elsewhere", "orders.eu.new"),
    ] {
        book.case(&format!("emitter-{name}"), about, control, || {
            by_carol(&|letter| letter.set(SUBJECT, text(subject)))
        });
    }
    let about = "The leaf is the object id of a registered certificate";
    for (name, id) in [("zero", [0; 32]), ("nobody", [9; 32])] {
        book.case(
            &format!("certificate-{name}"),
            about,
            deny(UNKNOWN_AGENT),
            || by_carol(&|letter| letter.set(LEAF, bin(id))),
        );
    }
    book.case("certificate-is-a-link", about, deny(UNKNOWN_AGENT), || {
        let leaf = ChainSpec::down(&Mesh::new(), &["carol"]).leaf().0;
        by_carol(&|letter| letter.set(LEAF, bin(leaf)))
    });
    for (name, who, code) in [
        ("expired", "kim", EXPIRED),
        ("not-yet-valid", "leo", NOT_YET_VALID),
        ("key-revoked", "mia", REVOKED_KEY),
        ("agent-revoked", "nick", REVOKED_AGENT),
        ("key-blocked", "olga", BLOCKED_KEY),
        ("agent-blocked", "pete", BLOCKED_AGENT),
    ] {
        let about = "An emitter in bad standing is not heard; the fault lies in no link";
        book.case(&format!("emitter-{name}"), about, deny(code), || {
            read(&batch(who, &lines(&run_of(who, 1, 1))), "").state("troubled")
        });
    }
    let mesh = Mesh::with(&["team/scribe", "bob"]);
    book.state("scribe", "An agent whose id has two segments", &mesh);
    let about = "In a subject, / of an id is written ~";
    book.case("emitter-with-segments", about, Allow, || {
        let lines = lines(&run_of("team/scribe", 1, 2));
        read(&batch("team/scribe", &lines), "rr").state("scribe")
    });
}
