//! The four steps of the handshake, each read by the side it is for.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::handshake_peers::confirm;
use super::handshake_peers::cookies;
use super::handshake_peers::peers;
use super::handshake_peers::proof;
use super::shake::NONCE_I;
use super::shake::NONCE_R;
use super::shake::QUARTER;
use super::shake::Shake;
use super::shake::framed;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

pub fn write(book: &mut Book) {
    for (step, about) in [
        (1, "A hello for the responder, who answers with a challenge"),
        (
            2,
            "A challenge to the initiator's own hello, who answers with a proof",
        ),
        (
            3,
            "A proof over the responder's own challenge, who answers with a confirmation",
        ),
        (4, "A confirmation of the initiator's own proof"),
    ] {
        book.case(&format!("step-{step}-accepted"), about, Allow, || {
            Shake::new().play(step)
        });
    }
    for step in 1..=4 {
        frames(book, step);
        bodies(book, step);
    }
    hello(book);
    challenge(book);
    proof(book);
    cookies(book);
    peers(book);
    confirm(book);
}

/// Magic, version, step and the values around the body.
fn frames(book: &mut Book, step: u64) {
    let mut case = |name: &str, about: &str, code: u16, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        book.case(&format!("step-{step}-{name}"), about, deny(code), || {
            let shake = Shake::new();
            shake.read(step, change(shake.frame(step)))
        });
    };
    let about = "A handshake frame begins with TMHS";
    case("magic-envelope", about, MALFORMED_BAD_MAGIC, &|f| {
        [b"TMSH", &f[4..]].concat()
    });
    case("empty", about, MALFORMED_BAD_MAGIC, &|_| Vec::new());
    case("magic-alone", about, MALFORMED_TRUNCATED, &|f| {
        f[..4].to_vec()
    });
    let about = "The only frame version is 1";
    case("frame-version-2", about, UNSUPPORTED_VERSION, &|mut f| {
        f[5] = 2;
        f
    });
    let about = "A frame of one step is none of another";
    case(
        "other-step",
        about,
        HANDSHAKE_FAILED_TRANSCRIPT,
        &|mut f| {
            f[6] = if step == 4 { 3 } else { step as u8 + 1 };
            f
        },
    );
    case("step-0", about, HANDSHAKE_FAILED_TRANSCRIPT, &|mut f| {
        f[6] = 0;
        f
    });
    let about = "Nothing follows a frame's last value, and nothing is missing";
    case("trailing", about, MALFORMED_TRAILING_BYTES, &|f| {
        [f, vec![0]].concat()
    });
    case("cut", about, MALFORMED_TRUNCATED, &|f| {
        f[..f.len() - 1].to_vec()
    });
    let about = "A frame has three values in steps 1 and 2, six in steps 3 and 4";
    case("with-one-more", about, MALFORMED_WRONG_LENGTH, &|mut f| {
        f[4] += 1;
        [f, vec![0xc0]].concat()
    });
    let about = "A handshake frame has at most 12288 bytes";
    case("of-12289-bytes", about, TOO_LARGE, &|mut f| {
        f.resize(12_289, 0);
        f
    });
    if step > 1 {
        return;
    }
    case(
        "of-12288-bytes",
        about,
        MALFORMED_TRAILING_BYTES,
        &|mut f| {
            f.resize(12_288, 0);
            f
        },
    );
}

/// The fields of the four bodies: left out, doubled, of another type.
fn bodies(book: &mut Book, step: u64) {
    let fields: &[&str] = match step {
        1 => &[
            "v", "mesh", "id_i", "key_i", "id_r", "key_r", "nonce_i", "modes", "ext",
        ],
        2 => &["v", "hello", "nonce_r", "time", "instance", "cookie", "ext"],
        3 => &["v", "hello", "challenge", "certificate", "leaf", "ext"],
        _ => &[
            "v",
            "proof",
            "certificate",
            "leaf",
            "session",
            "until",
            "ext",
        ],
    };
    let with_body = |change: &dyn Fn(Value) -> Value| {
        let shake = Shake::new();
        let body = match step {
            1 => shake.hello.clone(),
            2 => shake.challenge(),
            3 => shake.proof(),
            _ => shake.confirm(NOW + QUARTER),
        };
        let body = change(body).encode();
        let mut tree = shake.tree(step).with(&[2], bin(&body));
        if step > 2 {
            let (side, tag) = if step == 3 {
                (&shake.i, Tag::Proof)
            } else {
                (&shake.r, Tag::Confirm)
            };
            tree = tree.with(&[3], bin(side.who.sign(tag, &body)));
        }
        shake.read(step, framed(&tree))
    };
    let mut case = |name: &str, about: &str, code: u16, change: &dyn Fn(Value) -> Value| {
        book.case(&format!("step-{step}-{name}"), about, deny(code), || {
            with_body(change)
        });
    };
    for (index, field) in fields.iter().enumerate() {
        let about = "A body has all its fields, each once";
        if step == 1 || index == 1 || *field == "ext" {
            let name = format!("without-{field}");
            case(&name, about, MALFORMED_WRONG_LENGTH, &|mut body| {
                body.items().remove(index);
                body
            });
        }
        let about = "A field is written as the type it has";
        case(
            &format!("{field}-as-nil"),
            about,
            MALFORMED_WRONG_TYPE,
            &|body| body.with(&[index], Value::Nil),
        );
        let fixed = matches!(
            *field,
            "mesh"
                | "key_i"
                | "key_r"
                | "instance"
                | "cookie"
                | "certificate"
                | "leaf"
                | "session"
                | "proof"
        ) || (*field == "hello" && step == 2);
        if fixed {
            let about = "A field has the length it has";
            case(
                &format!("{field}-of-7-bytes"),
                about,
                MALFORMED_WRONG_LENGTH,
                &|body| body.with(&[index], bin([1; 7])),
            );
        }
        if field.starts_with("nonce") {
            for len in [0, 31, 33] {
                let about = "A nonce is 32 bytes";
                let code = HANDSHAKE_FAILED_NONCE;
                case(&format!("{field}-of-{len}-bytes"), about, code, &|body| {
                    body.with(&[index], bin(vec![1; len]))
                });
            }
        }
    }
    let last = fields.len() - 1;
    let about = "The only version of a body is 1";
    case("v-0", about, UNSUPPORTED_VERSION, &|body| {
        body.with(&[0], Value::Uint(0))
    });
    case("v-2", about, UNSUPPORTED_VERSION, &|body| {
        body.with(&[0], Value::Uint(2))
    });
    let about = "A body has no extensions, and nothing follows them";
    case("extension", about, MALFORMED_EXTENSION, &|body| {
        body.with(
            &[last],
            list([list([Value::Uint(1), Value::Bool(false), bin([])])]),
        )
    });
    case("body-trailing", about, MALFORMED_TRAILING_BYTES, &|body| {
        Value::Raw([body.encode(), vec![0]].concat())
    });
    case("v-longer", about, MALFORMED_NOT_CANONICAL, &|body| {
        body.with(&[0], Value::Raw(vec![0xcc, 1]))
    });
}

pub(super) fn hello(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, index: usize, value: Value| {
        book.case(&format!("hello-{name}"), about, claim, || {
            Shake::new()
                .edit(|s| s.hello = s.hello.with(&[index], value))
                .play(1)
        });
    };
    let about = "A hello is for the mesh, the agent and the key that read it";
    case(
        "other-mesh",
        about,
        deny(UNTRUSTED_ROOT_OTHER_MESH),
        1,
        bin([1; 16]),
    );
    let not = deny(HANDSHAKE_FAILED_NOT_FOR_ME);
    case("for-another-agent", about, not, 4, text("carol"));
    case(
        "for-another-key",
        about,
        not,
        5,
        bin(Party::named("carol").bytes().0),
    );
    let about = "Ids are agent ids";
    case(
        "bad-initiator",
        about,
        deny(MALFORMED_BAD_AGENT_ID),
        2,
        text("Alice"),
    );
    case(
        "bad-responder",
        about,
        deny(MALFORMED_BAD_AGENT_ID),
        4,
        text("bob."),
    );
    let about = "A nonce is neither all zero nor the reader's own";
    let nonce = deny(HANDSHAKE_FAILED_NONCE);
    case("nonce-zero", about, nonce, 6, bin([0; 32]));
    case("nonce-of-the-responder", about, nonce, 6, bin(NONCE_R));
    let mut almost = [0; 32];
    almost[31] = 1;
    case("nonce-almost-zero", about, Allow, 6, bin(almost));
    let about = "The initiator reads envelope mode 1 or 2, and may read more";
    let version = deny(HANDSHAKE_FAILED_VERSION);
    for (modes, claim) in [
        (0, version),
        (4, version),
        (252, version),
        (1, Allow),
        (2, Allow),
        (3, Allow),
        (254, Allow),
        (255, Allow),
        (256, deny(MALFORMED_OUT_OF_RANGE)),
    ] {
        case(
            &format!("modes-{modes}"),
            about,
            claim,
            7,
            Value::Uint(modes),
        );
    }
    let about = "Trust state and clock are not asked: a hello from anybody is challenged";
    book.case("hello-of-a-stranger", about, Allow, || {
        Shake::between("mallory", "bob").play(1)
    });
    book.case("hello-of-a-revoked", about, Allow, || {
        Shake::between("mia", "bob").play(1).state("troubled")
    });
}

pub(super) fn challenge(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, index: usize, value: Value| {
        book.case(&format!("challenge-{name}"), about, claim, || {
            Shake::new()
                .edit(|s| s.challenge.push((vec![index], value)))
                .play(2)
        });
    };
    let about = "A challenge answers the hello that was sent";
    let transcript = deny(HANDSHAKE_FAILED_TRANSCRIPT);
    case("of-another-hello", about, transcript, 1, bin([9; 32]));
    let plain = Tag::Envelope.digest(&Shake::new().hello.encode()).0;
    case(
        "of-the-hello-under-another-tag",
        about,
        transcript,
        1,
        bin(plain),
    );
    let about = "A nonce is neither all zero nor the reader's own";
    let nonce = deny(HANDSHAKE_FAILED_NONCE);
    case("nonce-zero", about, nonce, 2, bin([0; 32]));
    case("nonce-of-the-initiator", about, nonce, 2, bin(NONCE_I));
    let about = "The initiator reads neither the time nor the cookie of a challenge";
    case("time-long-ago", about, Allow, 3, Value::Uint(1));
    case("cookie-of-nobody", about, Allow, 5, bin([9; 32]));
    case("other-instance", about, Allow, 4, bin([9; 8]));
    let about = "A hello stripped of its modes in transit is another hello";
    book.case("challenge-of-a-changed-hello", about, transcript, || {
        let shake = Shake::new();
        let changed = shake
            .clone()
            .edit(|s| s.hello = s.hello.with(&[7], Value::Uint(1)));
        shake.read(2, changed.frame(2))
    });
}
