//! The lines of a batch.

use super::Allow;
use super::Book;
use super::audit::batch;
use super::audit::lines;
use super::audit::read;
use super::audit::run_of;
use super::codes::*;
use super::deny;

pub(super) fn texts(book: &mut Book) {
    let honest = || run_of("alice", 1, 2);
    let mut case = |name: &str, about: &str, payload: Vec<u8>, found: &str| {
        book.case(name, about, Allow, || {
            read(&batch("alice", &payload), found)
        });
    };
    let about = "Each line ends with LF; only the last may lack it, and an empty payload has none";
    let ended = [lines(&honest()), b"\n".to_vec()].concat();
    case("ends-with-lf", about, ended, "rr");
    case("payload-empty", about, Vec::new(), "");
    let one = || honest().remove(0);
    let says = |event: &str| one().replace(r#""kind":"gap","count":0"#, event);
    let about = "Each kind of event, in its one encoding";
    for event in [
        DECISION,
        ALLOWED,
        r#""kind":"withdrawn","object":"00","class":"Expired","code":1101"#,
        r#""kind":"aggregate","class":"Malformed","count":7"#,
        r#""kind":"session","peer":"bob","role":"initiator","until":null,"class":null,"code":null"#,
        r#""kind":"session","peer":"bob","role":"responder","until":9,"class":"Expired","code":1101"#,
        r#""kind":"notice","topic":"dev","text":""}"#,
    ] {
        let event = event.trim_end_matches('}');
        let mut name: String = event.split('"').nth(3).unwrap().into();
        if event == ALLOWED || event.contains("responder") {
            name.push_str("-full");
        }
        case(
            &format!("event-{name}"),
            about,
            says(event).into_bytes(),
            "r",
        );
    }
    let mut bad = |name: &str, about: &str, code: u16, line: String| {
        book.case(&format!("line-{name}"), about, deny(code), || {
            let all = [honest().remove(0), line, honest().remove(1)];
            read(&batch("alice", &lines(&all)), "")
        });
    };
    let wrong = MALFORMED_WRONG_TYPE;
    let about = "A record has one encoding, byte for byte";
    bad(
        "blank-after-a-colon",
        about,
        wrong,
        one().replacen(':', ": ", 1),
    );
    bad("blank-at-the-end", about, wrong, one() + " ");
    bad("cr-before-lf", about, wrong, one() + "\r");
    bad(
        "further-member",
        about,
        wrong,
        one().replace('}', r#","more":1}"#),
    );
    let turned = one().replace(r#""v":1,"#, "").replace('}', r#","v":1}"#);
    bad("other-order", about, wrong, turned);
    for (name, from, to) in [
        ("letter-escaped", "alice", "\\u0061lice"),
        ("leading-zero", r#""seq":0"#, r#""seq":00"#),
        ("exponent", r#""time":1800000000000"#, r#""time":18e11"#),
        ("kind-by-number", r#""kind":"gap""#, r#""kind":3"#),
    ] {
        bad(name, about, wrong, one().replace(from, to));
    }
    for (name, event) in [
        (
            "solidus-escaped",
            r#""kind":"notice","topic":"x","text":"\/""#,
        ),
        (
            "escape-upper-case",
            r#""kind":"notice","topic":"x","text":"\u001B""#,
        ),
        (
            "escape-long",
            r#""kind":"notice","topic":"x","text":"\u000a""#,
        ),
        (
            "delete-escaped",
            r#""kind":"notice","topic":"x","text":"\u007f""#,
        ),
        (
            "absent-left-out",
            r#""kind":"session","peer":"bob","role":"initiator""#,
        ),
        (
            "role-unknown",
            r#""kind":"session","peer":"b","role":"x","until":1,"class":null,"code":null"#,
        ),
    ] {
        bad(name, about, wrong, says(event));
    }
    bad(
        "hops-left-out",
        about,
        wrong,
        says(&DECISION.replace(r#""hops":0,"#, "")),
    );
    bad(
        "absent-as-null",
        about,
        wrong,
        says(&DECISION.replace(r#""subject""#, r#""hop":null,"subject""#)),
    );
    bad(
        "chain-empty",
        about,
        wrong,
        says(&DECISION.replace(r#""hops""#, r#""chain":[],"hops""#)),
    );
    let about = "One line that is no record refuses the batch";
    bad("empty", about, wrong, String::new());
    for (name, text) in [
        ("null", "null"),
        ("array", "[]"),
        ("object", "{}"),
        ("open", "{\"v\":1"),
        ("text", "hello"),
        ("two-objects", "{} {}"),
    ] {
        bad(name, about, wrong, text.into());
    }
    let about = "A member has the type and the range it has, and stands once";
    for (name, from, to) in [
        ("v-as-float", r#""v":1"#, r#""v":1.0"#),
        ("v-negative", r#""v":1"#, r#""v":-1"#),
        ("v-as-text", r#""v":1"#, r#""v":"1""#),
        ("v-256", r#""v":1"#, r#""v":256"#),
        ("seq-as-float", r#""seq":0"#, r#""seq":0e0"#),
        ("seq-over", r#""seq":0"#, r#""seq":18446744073709551616"#),
        ("run-as-number", r#""run":"0101010101010101""#, r#""run":1"#),
        ("kind-unknown", r#""kind":"gap""#, r#""kind":"hole""#),
        ("kind-upper-case", r#""kind":"gap""#, r#""kind":"Gap""#),
        ("count-missing", r#","count":0"#, ""),
        ("time-missing", r#""time":1800000000000,"#, ""),
        ("seq-twice", r#""seq":0"#, r#""seq":0,"seq":0"#),
    ] {
        bad(name, about, wrong, one().replace(from, to));
    }
    let about = "A record has version 1 and names the emitter of its batch";
    let owner = MALFORMED_FIELD_COMBINATION;
    bad("v-0", about, owner, one().replace(r#""v":1"#, r#""v":0"#));
    bad("v-2", about, owner, one().replace(r#""v":1"#, r#""v":2"#));
    bad("of-another", about, owner, one().replace("alice", "carol"));
    let about = "A payload is UTF-8";
    book.case("payload-latin-1", about, deny(MALFORMED_NOT_TEXT), || {
        read(&batch("alice", b"\xe9"), "")
    });
    let about = "Hostile text stays in its line; controls are escaped, and nothing else is";
    book.case("hostile-text", about, Allow, || {
        let text = r#"a\n{\"v\":1}\r\t\b\f\\/\u0000\u001b[2J"#;
        let event =
            format!("\"kind\":\"notice\",\"topic\":\"x\",\"text\":\"{text}\u{7f}\u{202e}\u{e4}\"");
        read(&batch("alice", says(&event).as_bytes()), "r")
    });
    let about = "An LF at the very end begins no further line, and a second one does";
    book.case(
        "ends-with-two-lf",
        about,
        deny(MALFORMED_WRONG_TYPE),
        || {
            let payload = [lines(&honest()), b"\n\n".to_vec()].concat();
            read(&batch("alice", &payload), "")
        },
    );
}

/// The members of a decision that refuses, and of one that allows with all it can say.
pub(super) const DECISION: &str = r#""kind":"decision","verdict":"deny","class":"Malformed","code":101,"reason":"cut","subject":"a","claimed":true,"hops":0,"len":3,"digest":"00","registry":1,"revocations":1,"policy":1"#;
pub(super) const ALLOWED: &str = r#""kind":"decision","verdict":"allow","subject":"a","action":"serve","sender":"bob","sender_key":"00","claimed":false,"mid":"00","object":"00","in_reply_to":"00","issuer":"00","chain":[{"link":"00","holder":"bob","key":"00","scope":["serve:>"],"until":9,"remaining":0}],"trace":"00","hops":2,"len":3,"registry":1,"revocations":1,"policy":1,"cost_ns":5"#;
