//! The four steps of the handshake, each read by the side it is for.

use hmac::Hmac;
use hmac::KeyInit as _;
use hmac::Mac as _;
use sha2::Sha256;

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::json::Json;
use super::json::hex;
use super::json::words;
use super::play::Kind;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const NONCE_I: [u8; 32] = [0x11; 32];
const NONCE_R: [u8; 32] = [0x22; 32];
const SECRET: [u8; 32] = [0x33; 32];
const INSTANCE: [u8; 8] = [0x44; 8];
const SESSION: [u8; 16] = [0x55; 16];
/// A quarter of an hour in milliseconds.
const QUARTER: u64 = HOUR / 4;

/// One side.
#[derive(Clone)]
struct Side {
    who: Party,
    chain: ChainSpec,
    certificate: Vec<u8>,
}

impl Side {
    fn of(name: &str) -> Self {
        let (mesh, who) = (Mesh::new(), Party::named(name));
        let validity = match name {
            "kim" => window(NOW - 2 * HOUR, NOW - HOUR),
            "leo" => window(NOW + HOUR, NOW + 2 * HOUR),
            _ => window(NOW - HOUR, NOW + HOUR),
        };
        Self {
            certificate: mesh.certificate(&who, validity).to_vec(),
            chain: ChainSpec::down(&mesh, &[name]),
            who,
        }
    }

    fn json(&self) -> Json {
        Json::Map(vec![
            ("id", words(&self.who.name)),
            ("seed", hex(self.who.seed)),
            ("certificate", hex(&self.certificate)),
            ("chain", hex(self.chain.encode())),
        ])
    }

    /// The object id of the certificate: of the body, the first of its four values.
    fn certificate_id(&self) -> [u8; 32] {
        // An array header and a byte string with a one-byte length.
        let body = &self.certificate[3..3 + usize::from(self.certificate[2])];
        Tag::Certificate.digest(body).0
    }
}

/// Both sides and everything they say; what a step says of the one before is filled in from it.
#[derive(Clone)]
struct Shake {
    i: Side,
    r: Side,
    time: u64,
    hello: Value,
    /// Replaces the cookie that the responder would have made.
    cookie: Option<Value>,
    challenge: Edit,
    proof: Edit,
    confirm: Edit,
}

/// Changes to a body: what stands at a path instead.
type Edit = Vec<(Vec<usize>, Value)>;

fn apply(edit: &[(Vec<usize>, Value)], body: Value) -> Value {
    edit.iter()
        .fold(body, |body, (path, value)| body.with(path, value.clone()))
}

impl Shake {
    fn new() -> Self {
        Self::between("alice", "bob")
    }

    fn between(i: &str, r: &str) -> Self {
        let (i, r) = (Side::of(i), Side::of(r));
        let hello = list([
            Value::Uint(1),
            bin(Mesh::new().id().0),
            text(&i.who.name),
            bin(i.who.bytes().0),
            text(&r.who.name),
            bin(r.who.bytes().0),
            bin(NONCE_I),
            Value::Uint(1),
            list([]),
        ]);
        Self {
            i,
            r,
            time: NOW,
            hello,
            cookie: None,
            challenge: Vec::new(),
            proof: Vec::new(),
            confirm: Vec::new(),
        }
    }

    fn hello_id(&self) -> [u8; 32] {
        Tag::Hello.digest(&self.hello.encode()).0
    }

    fn challenge(&self) -> Value {
        let mut mac = Hmac::<Sha256>::new_from_slice(&SECRET).unwrap();
        mac.update(&Tag::Challenge.bytes());
        mac.update(&self.hello_id());
        mac.update(&NONCE_R);
        mac.update(&self.time.to_be_bytes());
        mac.update(&INSTANCE);
        let made = bin(mac.finalize().into_bytes());
        let body = list([
            Value::Uint(1),
            bin(self.hello_id()),
            bin(NONCE_R),
            Value::Uint(self.time),
            bin(INSTANCE),
            self.cookie.clone().unwrap_or(made),
            list([]),
        ]);
        apply(&self.challenge, body)
    }

    fn proof(&self) -> Value {
        let body = list([
            Value::Uint(1),
            bin(self.hello.encode()),
            bin(self.challenge().encode()),
            bin(self.i.certificate_id()),
            bin(self.i.chain.leaf().0),
            list([]),
        ]);
        apply(&self.proof, body)
    }

    fn confirm(&self, until: u64) -> Value {
        let body = list([
            Value::Uint(1),
            bin(Tag::Proof.digest(&self.proof().encode()).0),
            bin(self.r.certificate_id()),
            bin(self.r.chain.leaf().0),
            bin(SESSION),
            Value::Uint(until),
            list([]),
        ]);
        apply(&self.confirm, body)
    }

    /// The values of the frame of a step.
    fn tree(&self, step: u64) -> Value {
        let signed = |side: &Side, tag: Tag, body: Value| {
            let body = body.encode();
            let signature = side.who.sign(tag, &body);
            let (certificate, chain) = (bin(&side.certificate), bin(side.chain.encode()));
            list([
                Value::Uint(1),
                Value::Uint(step),
                bin(body),
                bin(signature),
                certificate,
                chain,
            ])
        };
        match step {
            1 => list([Value::Uint(1), Value::Uint(1), bin(self.hello.encode())]),
            2 => list([
                Value::Uint(1),
                Value::Uint(2),
                bin(self.challenge().encode()),
            ]),
            3 => signed(&self.i, Tag::Proof, self.proof()),
            _ => signed(&self.r, Tag::Confirm, self.confirm(NOW + QUARTER)),
        }
    }

    fn frame(&self, step: u64) -> Vec<u8> {
        framed(&self.tree(step))
    }

    /// The frame of a step, given to the side it is for. What an allowed one answers is that of an
    /// honest handshake.
    fn read(&self, step: u64, bytes: Vec<u8>) -> Play {
        let mut play = Play::new(Kind::Handshake, "mesh").bytes(bytes);
        play.more.push(("step", Json::Number(step)));
        let me = if step % 2 == 1 { &self.r } else { &self.i };
        play.more.push(("self", me.json()));
        if step % 2 == 1 {
            play.more.push(("instance", hex(INSTANCE)));
            play.more.push(("secret", hex(SECRET)));
        } else {
            let peer = vec![
                ("id", words(&self.r.who.name)),
                ("key", hex(self.r.who.bytes().0)),
            ];
            play.more.push(("peer", Json::Map(peer)));
        }
        match step {
            1 => play.more.push(("nonce", hex(NONCE_R))),
            3 => play.more.push(("session", hex(SESSION))),
            _ => play.more.push(("nonce", hex(NONCE_I))),
        }
        if step == 4 {
            play.more.push(("challenge", hex(self.frame(2))));
        }
        if step < 4 {
            play.facts.push(("answer", hex(self.frame(step + 1))));
        }
        if step > 2 {
            let peer = if step == 3 { &self.i.who } else { &self.r.who };
            play.facts.push(("session", session(peer, NOW + QUARTER)));
        }
        play
    }

    /// An honest frame of a step, given to the side it is for.
    fn play(&self, step: u64) -> Play {
        self.read(step, self.frame(step))
    }

    fn edit(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn session(peer: &Party, until: u64) -> Json {
    Json::Map(vec![
        ("id", hex(SESSION)),
        ("peer", words(&peer.name)),
        ("key", hex(peer.bytes().0)),
        ("until", Json::Number(until)),
    ])
}

fn framed(tree: &Value) -> Vec<u8> {
    [b"TMHS", &tree.encode()[..]].concat()
}

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

fn hello(book: &mut Book) {
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
    let about = "The initiator reads envelope mode 1, and may read more";
    let version = deny(HANDSHAKE_FAILED_VERSION);
    for (modes, claim) in [
        (0, version),
        (2, version),
        (254, version),
        (3, Allow),
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

fn challenge(book: &mut Book) {
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
            .edit(|s| s.hello = s.hello.with(&[7], Value::Uint(3)));
        shake.read(2, changed.frame(2))
    });
}

fn proof(book: &mut Book) {
    let transcript = deny(HANDSHAKE_FAILED_TRANSCRIPT);
    let about = "The challenge in a proof answers the hello in it, and is of this process";
    book.case("proof-changed-hello", about, transcript, || {
        let shake = Shake::new();
        let challenge = shake.challenge().encode();
        shake
            .edit(|s| {
                s.hello = s.hello.with(&[7], Value::Uint(3));
                s.proof.push((vec![2], bin(challenge)));
            })
            .play(3)
    });
    book.case("proof-other-instance", about, transcript, || {
        Shake::new()
            .edit(|s| s.challenge.push((vec![4], bin([9; 8]))))
            .play(3)
    });
    let about = "The hello in a proof is held to what a hello is held to";
    for (name, index, value, code) in [
        ("other-mesh", 1, bin([1; 16]), UNTRUSTED_ROOT_OTHER_MESH),
        ("for-another", 4, text("carol"), HANDSHAKE_FAILED_NOT_FOR_ME),
        ("modes-2", 7, Value::Uint(2), HANDSHAKE_FAILED_VERSION),
        ("nonce-zero", 6, bin([0; 32]), HANDSHAKE_FAILED_NONCE),
        (
            "nonce-of-the-challenge",
            6,
            bin(NONCE_R),
            HANDSHAKE_FAILED_NONCE,
        ),
    ] {
        book.case(&format!("proof-hello-{name}"), about, deny(code), || {
            Shake::new()
                .edit(|s| s.hello = s.hello.with(&[index], value))
                .play(3)
        });
    }
    let about = "Certificate and chain are those the body names, and the peer's own";
    let other = deny(KEY_MISMATCH_OTHER_CERTIFICATE);
    book.case("proof-certificate-not-named", about, other, || {
        Shake::new()
            .edit(|s| s.proof.push((vec![3], bin([9; 32]))))
            .play(3)
    });
    book.case("proof-certificate-of-another", about, other, || {
        let carol = Side::of("carol").certificate;
        let shake = Shake::new();
        let tree = shake.tree(3).with(&[4], bin(carol));
        shake.read(3, framed(&tree))
    });
    book.case("proof-certificate-not-registered", about, other, || {
        Shake::new()
            .edit(|s| {
                let window = window(NOW - HOUR, NOW + 2 * HOUR);
                s.i.certificate = Mesh::new().certificate(&s.i.who, window).to_vec();
            })
            .play(3)
    });
    book.case(
        "proof-leaf-not-named",
        about,
        deny(CHAIN_BROKEN_LEAF_MISMATCH),
        || {
            Shake::new()
                .edit(|s| s.proof.push((vec![4], bin([9; 32]))))
                .play(3)
        },
    );
    book.case(
        "proof-chain-of-another",
        about,
        deny(KEY_MISMATCH_OTHER_AGENT),
        || {
            Shake::new()
                .edit(|s| s.i.chain = Side::of("carol").chain)
                .play(3)
        },
    );
    book.case("proof-chain-empty", about, deny(CHAIN_BROKEN_EMPTY), || {
        let shake = Shake::new();
        let tree = shake.tree(3).with(&[5], bin([0x90]));
        shake.read(3, framed(&tree))
    });
    book.case("proof-chain-of-8193-bytes", about, deny(TOO_LARGE), || {
        let shake = Shake::new();
        let tree = shake.tree(3).with(&[5], bin([0; 8_193]));
        shake.read(3, framed(&tree))
    });
    book.case(
        "proof-certificate-of-513-bytes",
        about,
        deny(TOO_LARGE),
        || {
            let shake = Shake::new();
            let tree = shake.tree(3).with(&[4], bin([0; 513]));
            shake.read(3, framed(&tree))
        },
    );
    book.case(
        "proof-certificate-empty",
        about,
        deny(MALFORMED_TRUNCATED),
        || {
            let shake = Shake::new();
            let tree = shake.tree(3).with(&[4], bin([]));
            shake.read(3, framed(&tree))
        },
    );
    let about = "The proof is signed by the initiator's key under its own tag";
    let bad = deny(BAD_SIGNATURE);
    for tag in [Tag::Confirm, Tag::Envelope, Tag::Hello, Tag::Possession] {
        book.case(
            &format!("proof-signed-under-{}", tag.name()),
            about,
            bad,
            || {
                let shake = Shake::new();
                let signature = shake.i.who.sign(tag, &shake.proof().encode());
                let tree = shake.tree(3).with(&[3], bin(signature));
                shake.read(3, framed(&tree))
            },
        );
    }
    book.case("proof-signed-by-another", about, bad, || {
        let shake = Shake::new();
        let signature = Party::named("carol").sign(Tag::Proof, &shake.proof().encode());
        let tree = shake.tree(3).with(&[3], bin(signature));
        shake.read(3, framed(&tree))
    });
    book.case(
        "proof-signature-of-63-bytes",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        || {
            let shake = Shake::new();
            let tree = shake.tree(3).with(&[3], bin([7; 63]));
            shake.read(3, framed(&tree))
        },
    );
}

fn cookies(book: &mut Book) {
    let cookie = deny(HANDSHAKE_FAILED_COOKIE);
    let about = "A challenge may be answered for 10 seconds by the responder's clock, without skew";
    for (name, now, claim) in [
        ("at-once", NOW, Allow),
        ("last-instant", NOW + 10_000, Allow),
        ("too-late", NOW + 10_001, cookie),
        ("before-it-was-made", NOW - 1, cookie),
    ] {
        book.case(&format!("cookie-{name}"), about, claim, || {
            let shake = Shake::new();
            let mut play = shake.play(3).at(now);
            // The end of the session follows the clock, and so does the answer.
            let until = now + QUARTER;
            let body = shake.confirm(until).encode();
            let signature = shake.r.who.sign(Tag::Confirm, &body);
            let tree = shake
                .tree(4)
                .with(&[2], bin(&body))
                .with(&[3], bin(signature));
            play.facts = vec![
                ("answer", hex(framed(&tree))),
                ("session", session(&shake.i.who, until)),
            ];
            play
        });
    }
    let about = "A cookie is the responder's own, over exactly this challenge";
    book.case("cookie-of-another-process", about, cookie, || {
        Shake::new().edit(|s| s.cookie = Some(bin([9; 32]))).play(3)
    });
    book.case("cookie-other-time", about, cookie, || {
        Shake::new()
            .edit(|s| s.challenge.push((vec![3], Value::Uint(NOW - 1))))
            .play(3)
    });
    book.case("cookie-other-nonce", about, cookie, || {
        Shake::new()
            .edit(|s| s.challenge.push((vec![2], bin([9; 32]))))
            .play(3)
    });
    book.case("cookie-of-another-hello", about, cookie, || {
        let shake = Shake::new();
        let Value::Bin(old) = shake.challenge().at(&[5]).clone() else {
            panic!("a cookie is bytes")
        };
        shake
            .edit(|s| {
                s.hello = s.hello.with(&[7], Value::Uint(3));
                s.cookie = Some(bin(old));
            })
            .play(3)
    });
    let about = "A challenge is used once";
    book.case("cookie-twice", about, cookie, || {
        let shake = Shake::new();
        shake.play(3).after(shake.play(3), Allow)
    });
    book.case("cookie-twice-other-proof", about, cookie, || {
        let shake = Shake::new();
        let again = shake
            .clone()
            .edit(|s| s.i.chain = ChainSpec::down(&Mesh::new(), &["alice"]));
        again.play(3).after(shake.play(3), Allow)
    });
    let about = "A proof that is refused leaves its challenge usable";
    book.case("cookie-after-a-forgery", about, Allow, || {
        let shake = Shake::new();
        let tree = shake.tree(3).with(&[3], bin([7; 64]));
        shake
            .play(3)
            .after(shake.read(3, framed(&tree)), deny(BAD_SIGNATURE))
    });
}

/// The peer's standing, by the reader's own trust state.
fn peers(book: &mut Book) {
    for (name, who, code) in [
        ("unknown", "mallory", UNKNOWN_AGENT),
        ("expired", "kim", EXPIRED),
        ("not-yet-valid", "leo", NOT_YET_VALID),
        ("key-revoked", "mia", REVOKED_KEY),
        ("agent-revoked", "nick", REVOKED_AGENT),
        ("key-blocked", "olga", BLOCKED_KEY),
        ("agent-blocked", "pete", BLOCKED_AGENT),
    ] {
        let about = "An initiator in bad standing proves nothing; the fault lies in no link";
        book.case(&format!("initiator-{name}"), about, deny(code), || {
            Shake::between(who, "bob").play(3).state("troubled")
        });
        let about = "A responder in bad standing confirms nothing; the fault lies in no link";
        book.case(&format!("responder-{name}"), about, deny(code), || {
            Shake::between("alice", who).play(4).state("troubled")
        });
    }
    let about = "The certificate registered for the key is the peer's";
    book.case(
        "initiator-under-another-id",
        about,
        deny(KEY_MISMATCH_OTHER_AGENT),
        || {
            Shake::new()
                .edit(|s| s.hello = s.hello.with(&[2], text("carol")))
                .play(3)
        },
    );
    let about = "The chain is held to its standing, link by link";
    book.case(
        "initiator-chain-unknown-holder",
        about,
        deny_at(UNKNOWN_AGENT, 0),
        || {
            let chain = || ChainSpec::down(&Mesh::new(), &["mallory", "alice"]);
            Shake::new().edit(|s| s.i.chain = chain()).play(3)
        },
    );
    book.case(
        "initiator-chain-revoked-holder",
        about,
        deny_at(REVOKED_KEY, 0),
        || {
            let chain = || ChainSpec::down(&Mesh::new(), &["mia", "alice"]);
            Shake::new()
                .edit(|s| s.i.chain = chain())
                .play(3)
                .state("troubled")
        },
    );
    book.case(
        "initiator-chain-expired",
        about,
        deny_at(EXPIRED, 0),
        || {
            let end = |link: &mut crate::forge::chain::LinkSpec| {
                link.until = Value::Uint(NOW - HOUR / 4);
            };
            Shake::new()
                .edit(|s| s.i.chain = s.i.chain.clone().edit(0, end))
                .play(3)
        },
    );
    book.case(
        "initiator-chain-bad-signature",
        about,
        deny_at(BAD_SIGNATURE, 0),
        || {
            let forge = |link: &mut crate::forge::chain::LinkSpec| {
                link.signature = Some(bin([7; 64]));
            };
            Shake::new()
                .edit(|s| s.i.chain = s.i.chain.clone().edit(0, forge))
                .play(3)
        },
    );
    let about = "A session ends with the first link of either chain";
    book.case("initiator-chain-ends-soon", about, Allow, || {
        let soon = NOW + 60_000;
        let end = |link: &mut crate::forge::chain::LinkSpec| link.until = Value::Uint(soon);
        let shake = Shake::new().edit(|s| s.i.chain = s.i.chain.clone().edit(0, end));
        let body = shake.confirm(soon).encode();
        let signature = shake.r.who.sign(Tag::Confirm, &body);
        let tree = shake
            .tree(4)
            .with(&[2], bin(&body))
            .with(&[3], bin(signature));
        let mut play = shake.play(3);
        play.facts = vec![
            ("answer", hex(framed(&tree))),
            ("session", session(&shake.i.who, soon)),
        ];
        play
    });
    let about = "Nothing is confirmed while a trust file does not hold";
    book.case(
        "initiator-stale-state",
        about,
        deny(STALE_STATE_REGISTRY),
        || {
            let now = NOW + 2 * HOUR;
            Shake::new().edit(|s| s.time = now).play(3).at(now)
        },
    );
}

fn confirm(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, index: usize, value: Value| {
        book.case(&format!("confirm-{name}"), about, claim, || {
            Shake::new()
                .edit(|s| s.confirm.push((vec![index], value)))
                .play(4)
        });
    };
    let about = "A confirmation is of the proof that was sent";
    case(
        "of-another-proof",
        about,
        deny(HANDSHAKE_FAILED_TRANSCRIPT),
        1,
        bin([9; 32]),
    );
    let about = "Certificate and chain are those the body names";
    let other = deny(KEY_MISMATCH_OTHER_CERTIFICATE);
    case("certificate-not-named", about, other, 2, bin([9; 32]));
    case(
        "leaf-not-named",
        about,
        deny(CHAIN_BROKEN_LEAF_MISMATCH),
        3,
        bin([9; 32]),
    );
    let about = "A session that is over when it begins is none";
    let over = deny(HANDSHAKE_FAILED_COOKIE);
    case("until-now", about, over, 5, Value::Uint(NOW));
    case("until-the-past", about, over, 5, Value::Uint(1));
    let until = |name: &str, about: &str, said: u64, counts: u64, book: &mut Book| {
        book.case(&format!("confirm-{name}"), about, Allow, || {
            let said = Value::Uint(said);
            let shake = Shake::new().edit(|s| s.confirm.push((vec![5], said)));
            let mut play = shake.play(4);
            play.facts = vec![("session", session(&shake.r.who, counts))];
            play
        });
    };
    let about = "A session ends when either side finds it to end";
    until("until-1-ms-from-now", about, NOW + 1, NOW + 1, book);
    until(
        "until-a-minute-from-now",
        about,
        NOW + 60_000,
        NOW + 60_000,
        book,
    );
    until("until-too-far", about, NOW + HOUR, NOW + QUARTER, book);
    until(
        "until-the-end-of-time",
        about,
        u64::MAX,
        NOW + QUARTER,
        book,
    );
    let about = "The confirmation is signed by the key that is meant, under its own tag";
    let bad = deny(BAD_SIGNATURE);
    for tag in [Tag::Proof, Tag::Envelope, Tag::Challenge] {
        book.case(
            &format!("confirm-signed-under-{}", tag.name()),
            about,
            bad,
            || {
                let shake = Shake::new();
                let body = shake.confirm(NOW + QUARTER).encode();
                let tree = shake.tree(4).with(&[3], bin(shake.r.who.sign(tag, &body)));
                shake.read(4, framed(&tree))
            },
        );
    }
    book.case("confirm-signed-by-another", about, bad, || {
        let shake = Shake::new();
        let body = shake.confirm(NOW + QUARTER).encode();
        let signature = Party::named("carol").sign(Tag::Confirm, &body);
        shake.read(4, framed(&shake.tree(4).with(&[3], bin(signature))))
    });
    let about = "One's own proof, sent back, confirms nothing";
    book.case(
        "confirm-reflected-proof",
        about,
        deny(HANDSHAKE_FAILED_TRANSCRIPT),
        || {
            let shake = Shake::new();
            shake.read(4, shake.frame(3))
        },
    );
    let about = "Another peer cannot confirm in the place of the one that is meant";
    book.case("confirm-by-another-peer", about, other, || {
        let shake = Shake::new();
        let carol = shake.clone().edit(|s| s.r = Side::of("carol"));
        shake.read(4, carol.frame(4))
    });
}
