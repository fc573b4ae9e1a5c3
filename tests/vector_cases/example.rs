//! The worked example of `docs/protocol.md`: from seeds to the bytes on the wire.

use std::fmt::Write as _;
use std::sync::Arc;

use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::names::Tag;
use trustmesh::proto::trust::TrustFiles;

use super::Allow;
use super::Book;
use super::json::hex as json_hex;
use super::json::words;
use super::play::Kind;
use super::play::Play;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const BEGIN: &str = "<!-- worked example: begin -->\n";
const END: &str = "<!-- worked example: end -->";

/// When the example plays.
const NOW: u64 = 1_800_000_000_000;
/// An hour in milliseconds.
const HOUR: u64 = 3_600_000;

/// The text with the example between its marks written anew.
pub fn filled(text: &str) -> String {
    let (before, rest) = text.split_once(BEGIN).expect("where the example begins");
    let (_, after) = rest.split_once(END).expect("where the example ends");
    format!("{before}{BEGIN}{}{END}{after}", Example::new().text)
}

/// The example is a vector as well.
pub fn write(book: &mut Book) {
    let example = Example::new();
    let about = "The files of the worked example of the protocol text";
    book.files_state("example", about, example.files.clone(), |_| {});
    book.case(
        "message",
        "The message of the worked example",
        Allow,
        || {
            let mut play = Play::new(Kind::Message, "example").bytes(&example.frame);
            play.me = party("carol", 0x0c);
            play.own = example.own;
            play.subject = "orders.eu.new".into();
            play.facts = vec![
                ("id", json_hex(example.id)),
                ("sender", words("bob")),
                ("payload", json_hex(b"hello")),
            ];
            play
        },
    );
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    data_encoding::HEXLOWER.encode(bytes.as_ref())
}

/// Somebody whose seed is one byte, 32 times.
fn party(name: &str, byte: u8) -> Party {
    let seed = [byte; 32];
    Party {
        name: name.into(),
        seed,
        key: Arc::new(SigningKey::from_seed(&seed).unwrap()),
    }
}

struct Example {
    text: String,
    files: TrustFiles,
    own: Vec<u8>,
    frame: Vec<u8>,
    id: [u8; 32],
}

/// Writes one object after the other.
#[derive(Default)]
struct Pen(String);

impl Pen {
    fn head(&mut self, title: &str, note: &str) {
        if !self.0.is_empty() {
            self.0.push_str("```\n\n");
        }
        write!(self.0, "**{title}.** {note}\n\n```text\n").unwrap();
    }

    fn line(&mut self, bytes: impl AsRef<[u8]>, what: &str) {
        writeln!(self.0, "{}  {what}", hex(bytes)).unwrap();
    }

    /// An array, element by element; returns its encoding.
    fn array(&mut self, what: &str, elements: &[(&str, Value)]) -> Vec<u8> {
        let whole = list(elements.iter().map(|(_, value)| value.clone())).encode();
        let header = if elements.len() > 15 { 3 } else { 1 };
        self.line(
            &whole[..header],
            &format!("{what}: an array of {}", elements.len()),
        );
        for (label, value) in elements {
            self.line(value.encode(), label);
        }
        whole
    }

    /// The id and signature of a body.
    fn sealed(&mut self, tag: Tag, body: &[u8], signer: &Party) -> [u8; 64] {
        let name = tag.name();
        self.line(tag.bytes(), &format!("the tag {name}"));
        self.line(tag.digest(body).0, "object id: SHA-256 of tag and body");
        let signature = signer.sign(tag, body);
        let by = format!("signature of tag and body by {}", signer.name);
        self.line(signature, &by);
        signature
    }

    fn wrapped(&mut self, bytes: &[u8]) {
        for row in bytes.chunks(48) {
            writeln!(self.0, "{}", hex(row)).unwrap();
        }
    }
}

impl Example {
    fn new() -> Self {
        let mut pen = Pen::default();
        let roles: Vec<Party> = [
            ("root", 0x01),
            ("issuer", 0x02),
            ("registrar", 0x03),
            ("revoker", 0x04),
            ("policy", 0x05),
        ]
        .map(|(name, byte)| party(name, byte))
        .to_vec();
        let (alice, bob, carol) = (
            party("alice", 0x0a),
            party("bob", 0x0b),
            party("carol", 0x0c),
        );
        let note = "Each seed is one byte, 32 times; behind it stands the public key.";
        pen.head("Seeds and keys", note);
        for who in roles.iter().chain([&alice, &bob, &carol]) {
            let (seed, key) = (hex(who.seed), hex(who.bytes().0));
            writeln!(pen.0, "{:<9} seed {seed}\n{:<9} key  {key}", who.name, "").unwrap();
        }
        let root = write_root(&mut pen, &roles);
        let mesh = Tag::TrustRoot.digest(&root.0).0[..16].to_vec();
        pen.line(&mesh, "the mesh: the first 16 bytes of the object id");
        let (registrar, issuer) = (&roles[2], &roles[1]);
        let bobs = write_certificate(&mut pen, &mesh, &bob, registrar);
        let mut quiet = Pen::default();
        let others =
            [&alice, &carol].map(|who| write_certificate(&mut quiet, &mesh, who, registrar));
        let grant = write_grant(&mut pen, &mesh, issuer, &alice);
        let delegation = write_delegation(&mut pen, &grant, &alice, &bob);
        let chain = list([grant.1, delegation.1.clone()]).encode();
        let leaf = Tag::Delegation.digest(&delegation.0).0;
        let (frame, id) = write_frame(&mut pen, &mesh, &leaf, &bob, &chain);
        pen.0.push_str("```\n");
        let own = write_own(&mesh, issuer, &carol);
        Self {
            text: pen.0,
            files: files(&mesh, &roles, &root, [&others[0], &bobs, &others[1]]),
            own,
            frame,
            id,
        }
    }
}

/// The body of the root, and its file.
fn write_root(pen: &mut Pen, roles: &[Party]) -> (Vec<u8>, Vec<u8>) {
    let note = "One key for each role that signs; valid for thirty days from an hour before now, \
                which is 1800000000000.";
    pen.head("Trust root", note);
    let listed = list(roles.iter().enumerate().map(|(index, who)| {
        // Root, issuer, registrar, revoker and policy are the roles 1 to 5.
        let number = Value::Uint(index as u64 + 1);
        list([number, Value::Uint(1), list([bin(who.bytes().0)])])
    }));
    let body = pen.array(
        "body",
        &[
            ("v", Value::Uint(1)),
            ("version", Value::Uint(1)),
            ("name \"example\"", text("example")),
            (
                "roles: [role, threshold, [key]] for root, issuer, registrar, revoker, policy",
                listed,
            ),
            ("nbf 1799996400000", Value::Uint(NOW - HOUR)),
            ("exp 1802588400000", Value::Uint(NOW - HOUR + 720 * HOUR)),
            ("ext: none", list([])),
        ],
    );
    let signature = pen.sealed(Tag::TrustRoot, &body, &roles[0]);
    let file = list([
        Value::Uint(1),
        Value::Uint(1),
        bin(&body),
        list([list([Value::Uint(0), bin(signature)])]),
    ]);
    (body, [b"TMTS", &file.encode()[..]].concat())
}

fn write_certificate(pen: &mut Pen, mesh: &[u8], who: &Party, registrar: &Party) -> Vec<u8> {
    pen.head(
        &format!("Certificate of {}", who.name),
        "Alice and carol have theirs in the same way.",
    );
    let agent = format!("agent \"{}\"", who.name);
    let body = pen.array(
        "body",
        &[
            ("v", Value::Uint(1)),
            ("mesh", bin(mesh)),
            ("serial", bin([who.seed[0]; 16])),
            (&agent, text(&who.name)),
            ("key", bin(who.bytes().0)),
            ("nbf 1799996400000", Value::Uint(NOW - HOUR)),
            ("exp 1800086400000", Value::Uint(NOW + 24 * HOUR)),
            ("prev: none", Value::Nil),
            ("key_epoch", Value::Uint(0)),
            ("ext: none", list([])),
        ],
    );
    let signature = pen.sealed(Tag::Certificate, &body, registrar);
    let id = Tag::Certificate.digest(&body).0;
    let possession = who.sign(Tag::Possession, &id);
    let by = format!(
        "possession: signature of the tag cert-pop and the object id by {}",
        who.name
    );
    pen.line(possession, &by);
    list([bin(body), Value::Uint(0), bin(signature), bin(possession)]).encode()
}

/// The body of a link, and its pair of body and signature.
type Link = (Vec<u8>, Value);

fn write_grant(pen: &mut Pen, mesh: &[u8], issuer: &Party, alice: &Party) -> Link {
    let note = "The issuer lets alice publish and delegate on `orders.>`, for an hour.";
    pen.head("Root grant", note);
    let scope = list([list([Value::Uint(33), text("orders.>"), list([])])]);
    let body = pen.array(
        "body",
        &[
            ("v", Value::Uint(1)),
            ("mesh", bin(mesh)),
            ("issuer", bin(issuer.bytes().0)),
            ("holder: alice", bin(alice.bytes().0)),
            ("nbf 1800000000000", Value::Uint(NOW)),
            ("exp 1800003600000", Value::Uint(NOW + HOUR)),
            ("remaining", Value::Uint(1)),
            ("scope: [[1 + 32, \"orders.>\", no constraints]]", scope),
            ("nonce", bin([0xa0; 16])),
            ("ext: none", list([])),
        ],
    );
    let signature = pen.sealed(Tag::RootGrant, &body, issuer);
    (body.clone(), list([bin(body), bin(signature)]))
}

fn write_delegation(pen: &mut Pen, grant: &Link, alice: &Party, bob: &Party) -> Link {
    let note = "Alice lets bob publish on `orders.eu.*`, for half an hour.";
    pen.head("Delegation", note);
    let scope = list([list([Value::Uint(1), text("orders.eu.*"), list([])])]);
    let body = pen.array(
        "body",
        &[
            ("v", Value::Uint(1)),
            (
                "parent: the object id of the root grant",
                bin(Tag::RootGrant.digest(&grant.0).0),
            ),
            ("holder: bob", bin(bob.bytes().0)),
            ("nbf 1800000000000", Value::Uint(NOW)),
            ("exp 1800001800000", Value::Uint(NOW + HOUR / 2)),
            ("remaining", Value::Uint(0)),
            ("scope: [[1, \"orders.eu.*\", no constraints]]", scope),
            ("nonce", bin([0xb0; 16])),
            ("ext: none", list([])),
        ],
    );
    let signature = pen.sealed(Tag::Delegation, &body, alice);
    (body.clone(), list([bin(body), bin(signature)]))
}

fn write_frame(
    pen: &mut Pen,
    mesh: &[u8],
    leaf: &[u8; 32],
    bob: &Party,
    chain: &[u8],
) -> (Vec<u8>, [u8; 32]) {
    pen.head(
        "Content",
        "No application headers, no granted chains, the payload `hello`.",
    );
    let content = pen.array(
        "content",
        &[
            ("application headers: none", list([])),
            ("granted chains: none", list([])),
            ("payload \"hello\"", bin(b"hello")),
        ],
    );
    pen.line(Tag::Content.bytes(), "the tag content");
    let digest = Tag::Content.digest(&content).0;
    pen.line(digest, "digest: SHA-256 of tag and content");
    pen.head("Header", "Bob publishes on `orders.eu.new`.");
    let length = format!("content_len {}", content.len());
    let header = pen.array(
        "header",
        &[
            ("v", Value::Uint(1)),
            ("mode", Value::Uint(1)),
            ("mesh", bin(mesh)),
            ("mid", bin([0xc0; 16])),
            ("iat 1800000000000", Value::Uint(NOW)),
            ("ttl 10000", Value::Uint(10_000)),
            ("action: publish", Value::Uint(1)),
            ("subject \"orders.eu.new\"", text("orders.eu.new")),
            ("reply: none", Value::Nil),
            ("audience: none", Value::Nil),
            ("in_reply_to: none", Value::Nil),
            ("leaf: the object id of the delegation", bin(leaf)),
            ("payload_type: empty", text("")),
            ("content_hash: the digest of the content", bin(digest)),
            (&length, Value::Uint(content.len() as u64)),
            ("ext: none", list([])),
        ],
    );
    let signature = pen.sealed(Tag::Envelope, &header, bob);
    let parts = [
        ("header", bin(&header)),
        ("signature", bin(signature)),
        (
            "chain: an array of the two links, each [body, signature]",
            bin(chain),
        ),
        ("content", bin(&content)),
    ];
    let tree = list(
        [Value::Uint(1), Value::Uint(1)]
            .into_iter()
            .chain(parts.clone().map(|p| p.1)),
    );
    let frame = [b"TMSH", &tree.encode()[..]].concat();
    pen.head(
        "Frame",
        "Its parts, each with what stands before it; then the whole.",
    );
    pen.line(b"TMSH", "\"TMSH\"");
    pen.line([0x96], "an array of 6");
    pen.line([1], "fv");
    pen.line([1], "mode");
    for (label, value) in parts {
        let Value::Bin(bytes) = &value else {
            panic!("a part is bytes")
        };
        let whole = value.encode();
        let about = format!("and the {} bytes above: {label}", bytes.len());
        pen.line(&whole[..whole.len() - bytes.len()], &about);
    }
    pen.0.push('\n');
    pen.wrapped(&frame);
    (frame, Tag::Envelope.digest(&header).0)
}

/// The chain under which carol subscribed.
fn write_own(mesh: &[u8], issuer: &Party, carol: &Party) -> Vec<u8> {
    let body = list([
        Value::Uint(1),
        bin(mesh),
        bin(issuer.bytes().0),
        bin(carol.bytes().0),
        Value::Uint(NOW),
        Value::Uint(NOW + HOUR),
        Value::Uint(0),
        list([list([Value::Uint(2), text("orders.>"), list([])])]),
        bin([0xd0; 16]),
        list([]),
    ])
    .encode();
    let signature = issuer.sign(Tag::RootGrant, &body);
    list([list([bin(body), bin(signature)])]).encode()
}

/// The other files: the three certificates, a policy that permits orders, nothing revoked.
fn files(
    mesh: &[u8],
    roles: &[Party],
    root: &(Vec<u8>, Vec<u8>),
    certificates: [&Vec<u8>; 3],
) -> TrustFiles {
    let file = |kind: u64, tag: Tag, signer: &Party, content: Vec<Value>| {
        let window = [Value::Uint(NOW - HOUR), Value::Uint(NOW + 24 * HOUR)];
        let head = [Value::Uint(1), bin(mesh), Value::Uint(1)]
            .into_iter()
            .chain(window);
        let body = list(head.chain(content).chain([list([])])).encode();
        let signature = list([Value::Uint(0), bin(signer.sign(tag, &body))]);
        let tree = list([
            Value::Uint(1),
            Value::Uint(kind),
            bin(&body),
            list([signature]),
        ]);
        [b"TMTS", &tree.encode()[..]].concat().into()
    };
    let rule = list([
        text("orders"),
        Value::Uint(1),
        Value::Uint(3),
        text("orders.>"),
        Value::Nil,
        Value::Nil,
        Value::Nil,
        Value::Nil,
        Value::Bool(false),
        Value::Uint(7),
    ]);
    let ceilings = list([120_000, 24 * HOUR, HOUR].map(Value::Uint));
    let none = || list([]);
    let policy = vec![ceilings, list([none(), none()]), Value::Nil, list([rule])];
    let registry = vec![list(certificates.map(bin))];
    TrustFiles {
        root: root.1.clone().into(),
        registry: file(2, Tag::Registry, &roles[2], registry),
        policy: file(3, Tag::Policy, &roles[4], policy),
        revocations: file(4, Tag::Revocations, &roles[3], vec![none(), none(), none()]),
        scores: None,
    }
}
