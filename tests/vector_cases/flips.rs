//! One bit of a valid frame turned over: what is refused, region by region.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::letter::CONTENT_HASH;
use crate::forge::letter::LEAF;
use crate::forge::letter::MID;
use crate::forge::value::bin;

const SUBJECT: &str = "orders.eu.new";

fn honest() -> Letter {
    Letter::publish(&ChainSpec::down(&Mesh::new(), &["carol", "alice"]), SUBJECT)
}

/// Where in the frame `part` stands, which stands in it once or first there.
fn find(frame: &[u8], part: &[u8]) -> usize {
    frame
        .windows(part.len())
        .position(|window| window == part)
        .unwrap()
}

/// The places of one honest frame.
struct Places {
    header: usize,
    mesh: usize,
    mid: usize,
    issued: usize,
    ttl: usize,
    action: usize,
    subject: usize,
    leaf: usize,
    digest: usize,
    len: usize,
    signature: usize,
    chain: usize,
    root: usize,
    root_signature: usize,
    link: usize,
    link_signature: usize,
    content: usize,
}

impl Places {
    fn of(letter: &Letter) -> Self {
        let frame = letter.frame();
        let tree = letter.tree();
        let header_tree = letter.header_tree();
        let header = find(&frame, &letter.header_encoded());
        let within = |index: usize| {
            header + find(&letter.header_encoded(), &header_tree.at(&[index]).encode())
        };
        let chain = find(&frame, &letter.chain);
        let links = crate::forge::value::bin(&letter.chain);
        assert_eq!(tree.at(&[4]), &links);
        let mid = within(MID);
        // After mid (18 bytes): iat (9), ttl (3), action (1), subject (1 + 13).
        let (issued, ttl, action) = (mid + 18, mid + 27, mid + 30);
        // Array, pair, then a byte string with a one-byte length.
        let root = chain + 4;
        let root_len = usize::from(frame[root - 1]);
        // The signature's header, the signature, the next pair.
        let root_signature = root + root_len + 2;
        let link = root_signature + 64 + 3;
        let link_len = usize::from(frame[link - 1]);
        Self {
            header,
            mesh: within(2) + 2,
            mid: mid + 2,
            issued,
            ttl,
            action,
            subject: action + 2,
            leaf: within(LEAF) + 2,
            digest: within(CONTENT_HASH) + 2,
            len: within(CONTENT_HASH) + 34,
            signature: header + letter.header_encoded().len() + 2,
            chain,
            root,
            root_signature,
            link,
            link_signature: link + link_len + 2,
            content: frame.len() - letter.content.encode().len(),
        }
    }
}

pub fn write(book: &mut Book) {
    book.case(
        "none",
        "The frame whose bits are turned over",
        Allow,
        || Play::message(&honest()),
    );
    let mut flip = |name: &str, at: fn(&Places) -> usize, bit: u8, claim: Claim| {
        let about = "One bit of a valid frame is turned over";
        book.case(&format!("{name}-bit-{bit}"), about, claim, || {
            let letter = honest();
            let at = at(&Places::of(&letter));
            let mut frame = letter.frame().to_vec();
            frame[at] ^= 1 << bit;
            Play::message(&letter).bytes(frame)
        });
    };
    let magic = deny(MALFORMED_BAD_MAGIC);
    flip("magic-first", |_| 0, 7, magic);
    flip("magic-last", |_| 3, 0, magic);
    flip("frame-array", |_| 4, 0, deny(MALFORMED_WRONG_LENGTH));
    flip("frame-array", |_| 4, 4, deny(MALFORMED_WRONG_TYPE));
    flip("frame-version", |_| 5, 0, deny(UNSUPPORTED_VERSION));
    flip("frame-version", |_| 5, 7, deny(MALFORMED_WRONG_TYPE));
    flip("frame-mode", |_| 6, 1, deny(MALFORMED_MODE_MISMATCH));
    flip("header-marker", |_| 7, 0, deny(MALFORMED_TRUNCATED));
    flip("header-marker", |_| 7, 3, deny(MALFORMED_WRONG_TYPE));
    flip("header-length", |_| 8, 0, deny(MALFORMED_WRONG_TYPE));
    flip(
        "header-array",
        |p| p.header + 2,
        0,
        deny(MALFORMED_WRONG_LENGTH),
    );
    flip(
        "header-version",
        |p| p.header + 3,
        1,
        deny(UNSUPPORTED_VERSION),
    );
    flip(
        "header-mode",
        |p| p.header + 4,
        0,
        deny(MALFORMED_MODE_MISMATCH),
    );
    flip("mesh-first", |p| p.mesh, 0, deny(UNTRUSTED_ROOT_OTHER_MESH));
    flip(
        "mesh-last",
        |p| p.mesh + 15,
        7,
        deny(UNTRUSTED_ROOT_OTHER_MESH),
    );
    let signature = deny(BAD_SIGNATURE);
    flip("mid-first", |p| p.mid, 0, signature);
    flip("mid-last", |p| p.mid + 15, 7, signature);
    flip("iat-lowest", |p| p.issued + 8, 0, signature);
    flip("iat-highest", |p| p.issued + 1, 7, deny(NOT_YET_VALID));
    flip("iat-high", |p| p.issued + 3, 0, deny(EXPIRED));
    flip("ttl-lowest", |p| p.ttl + 2, 0, signature);
    flip(
        "action-lowest",
        |p| p.action,
        0,
        deny(MALFORMED_OUT_OF_RANGE),
    );
    flip(
        "action-request",
        |p| p.action,
        2,
        deny(MALFORMED_OUT_OF_RANGE),
    );
    let moved = deny(SUBJECT_MISMATCH_DELIVERED);
    flip("subject-first", |p| p.subject, 0, moved);
    flip("subject-case", |p| p.subject, 5, moved);
    flip(
        "subject-not-ascii",
        |p| p.subject,
        7,
        deny(MALFORMED_NOT_TEXT),
    );
    let leaf = deny(CHAIN_BROKEN_LEAF_MISMATCH);
    flip("leaf-first", |p| p.leaf, 0, leaf);
    flip("leaf-last", |p| p.leaf + 31, 7, leaf);
    flip("digest-first", |p| p.digest, 0, signature);
    flip("digest-last", |p| p.digest + 31, 7, signature);
    flip("content-len", |p| p.len, 0, deny(MALFORMED_CONTENT_LENGTH));
    flip("signature-r-first", |p| p.signature, 0, signature);
    flip("signature-r-last", |p| p.signature + 31, 7, signature);
    flip("signature-s-first", |p| p.signature + 32, 0, signature);
    flip("signature-s-high", |p| p.signature + 63, 4, signature);
    flip("signature-s-above-l", |p| p.signature + 63, 7, signature);
    flip("chain-array", |p| p.chain, 0, deny(MALFORMED_TRUNCATED));
    flip("chain-array", |p| p.chain, 1, deny(CHAIN_BROKEN_EMPTY));
    flip(
        "root-version",
        |p| p.root + 1,
        0,
        deny_at(UNSUPPORTED_VERSION, 0),
    );
    let parent = deny_at(CHAIN_BROKEN_PARENT_MISMATCH, 1);
    flip("root-mesh", |p| p.root + 4, 0, parent);
    flip("root-issuer", |p| p.root + 22, 0, parent);
    flip("root-holder", |p| p.root + 56, 7, parent);
    flip(
        "root-signature-first",
        |p| p.root_signature,
        0,
        deny_at(BAD_SIGNATURE, 0),
    );
    flip(
        "root-signature-last",
        |p| p.root_signature + 63,
        3,
        deny_at(BAD_SIGNATURE, 0),
    );
    flip("delegation-parent", |p| p.link + 4, 0, parent);
    flip("delegation-holder", |p| p.link + 38, 0, leaf);
    flip(
        "delegation-signature-first",
        |p| p.link_signature,
        0,
        deny_at(BAD_SIGNATURE, 1),
    );
    flip(
        "delegation-signature-last",
        |p| p.link_signature + 63,
        3,
        deny_at(BAD_SIGNATURE, 1),
    );
    flip(
        "content-marker",
        |p| p.content - 2,
        0,
        deny(MALFORMED_TRUNCATED),
    );
    flip(
        "content-length",
        |p| p.content - 1,
        0,
        deny(MALFORMED_TRUNCATED),
    );
    flip("content-array", |p| p.content, 0, signature);
    flip("content-payload", |p| p.content + 6, 5, signature);
    assert_eq!(
        bin([0; 3]).encode().len(),
        5,
        "the places above count two bytes for a short bin"
    );
}
