//! Signatures that a lenient verifier would accept: S too large, R odd, the equation times eight.

use sha2::Digest as _;
use sha2::Sha512;

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::frame::event;
use super::link::pair;
use super::play::Play;
use crate::forge::Letter;
use crate::forge::Party;
use crate::forge::value::bin;

/// A number of up to 512 bits, least significant bit first.
type Bits = Vec<bool>;

/// The order of the base point.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn bits(bytes: &[u8]) -> Bits {
    bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1))
        .collect()
}

/// `a + b`, carrying out of the 32 bytes being an error.
fn add(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    let (mut out, mut carry) = ([0; 32], 0);
    for at in 0..32 {
        let sum = u16::from(a[at]) + u16::from(b[at]) + carry;
        (out[at], carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0, "the sum fits");
    out
}

/// `a - b`, when it is not negative.
fn less(a: [u8; 32], b: [u8; 32]) -> Option<[u8; 32]> {
    let (mut out, mut borrow) = ([0; 32], 0);
    for at in 0..32 {
        let difference = i16::from(a[at]) - i16::from(b[at]) - borrow;
        (out[at], borrow) = (difference as u8, i16::from(difference < 0));
    }
    (borrow == 0).then_some(out)
}

/// `factor` times a number, modulo [`L`].
fn times(number: &Bits, factor: [u8; 32]) -> [u8; 32] {
    let reduce = |sum: [u8; 32]| less(sum, L).unwrap_or(sum);
    number.iter().rev().fold([0; 32], |sum, bit| {
        let doubled = reduce(add(sum, sum));
        if *bit {
            reduce(add(doubled, factor))
        } else {
            doubled
        }
    })
}

fn modulo(bytes: &[u8]) -> [u8; 32] {
    let mut one = [0; 32];
    one[0] = 1;
    times(&bits(bytes), one)
}

/// Signs by RFC 8032 §5.1.6, with `R` changed before the challenge is formed.
///
/// Where the changed `R` is of small order, the secret number behind it is taken to be 0, so that
/// the equation holds for whoever leaves that rule out.
pub(super) fn sign_with(
    who: &Party,
    message: &[u8],
    change: impl FnOnce([u8; 32]) -> [u8; 32],
) -> [u8; 64] {
    let secret = Sha512::digest(who.seed);
    let mut scalar = [0; 32];
    scalar.copy_from_slice(&secret[..32]);
    (scalar[0], scalar[31]) = (scalar[0] & 248, scalar[31] & 63 | 64);
    let r = modulo(&Sha512::digest([&secret[32..], message].concat()));
    let mut point = [0; 32];
    point.copy_from_slice(&who.sign_raw(message)[..32]);
    let point = change(point);
    let small = super::roles::weak_keys()
        .iter()
        .any(|(_, weak)| *weak == point);
    let r = if small { [0; 32] } else { r };
    let k = Sha512::digest([&point[..], &who.bytes().0, message].concat());
    let s = times(&bits(&k), modulo(&scalar));
    let s = add(s, r);
    let s = less(s, L).unwrap_or(s);
    let mut out = [0; 64];
    out[..32].copy_from_slice(&point);
    out[32..].copy_from_slice(&s);
    out
}

/// A point, and the point of order 2 added to it: both coordinates change their sign.
pub(super) fn turned(point: [u8; 32]) -> [u8; 32] {
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    let (mut y, sign) = (point, point[31] & 0x80);
    y[31] &= 0x7f;
    let mut y = less(p, y).unwrap();
    y[31] |= sign ^ 0x80;
    y
}

/// An event whose signature was made by [`sign_with`].
fn signed(change: impl FnOnce([u8; 32]) -> [u8; 32]) -> Letter {
    let letter = event();
    let message = [&Tag::Envelope.bytes()[..], &letter.header_encoded()].concat();
    let signature = sign_with(&letter.signer, &message, change);
    letter.edit(|l| l.signature = Some(bin(signature)))
}

/// The signature with [`L`] added to its second half.
pub(super) fn above(signature: [u8; 64]) -> [u8; 64] {
    let mut s = [0; 32];
    s.copy_from_slice(&signature[32..]);
    let mut out = signature;
    out[32..].copy_from_slice(&add(s, L));
    out
}

pub fn write(book: &mut Book) {
    let about = "A signature made step by step is the one that RFC 8032 makes";
    book.case("accepted", about, Allow, || {
        let letter = signed(|point| point);
        let honest = letter.signer.sign(Tag::Envelope, &letter.header_encoded());
        assert_eq!(letter.signature, Some(bin(honest)));
        Play::message(&letter)
    });
    let bad = deny(BAD_SIGNATURE);
    let about = "The equation holds, but only when both sides are taken eight times";
    book.case("equation-times-cofactor", about, bad, || {
        Play::message(&signed(turned))
    });
    let about = "S is less than L: there is one S for each R";
    book.case("s-plus-l", about, bad, || {
        let letter = event();
        let honest = letter.signer.sign(Tag::Envelope, &letter.header_encoded());
        Play::message(&letter.edit(|l| l.signature = Some(bin(above(honest)))))
    });
    book.case(
        "s-plus-l-in-a-link",
        about,
        deny_at(BAD_SIGNATURE, 1),
        || {
            let chain = pair();
            let honest = Party::named("alice").sign(Tag::Delegation, &chain.bodies()[1]);
            Play::chain(&chain.edit(1, |link| link.signature = Some(bin(above(honest)))))
        },
    );
    book.case("s-is-l", about, bad, || {
        let letter = event();
        let mut odd = letter.signer.sign(Tag::Envelope, &letter.header_encoded());
        odd[32..].copy_from_slice(&L);
        Play::message(&letter.edit(|l| l.signature = Some(bin(odd))))
    });
    for (name, point) in super::roles::weak_keys() {
        if name == "mixed-order" {
            continue;
        }
        let about = "R is the canonical encoding of a point that is not of small order";
        book.case(&format!("r-{name}"), about, bad, || {
            Play::message(&signed(|_| point))
        });
    }
    let about = "R and S have exchanged places";
    book.case("r-and-s-exchanged", about, bad, || {
        let letter = event();
        let honest = letter.signer.sign(Tag::Envelope, &letter.header_encoded());
        let turned = [&honest[32..], &honest[..32]].concat();
        Play::message(&letter.edit(|l| l.signature = Some(bin(turned))))
    });
}
