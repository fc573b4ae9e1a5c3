use std::collections::BTreeMap;

use super::*;
use crate::proto::identity::SigningKey;
use crate::proto::rejection::Class;
use crate::proto::root::FileKind;
use crate::proto::root::RootDraft;
use crate::proto::root::SignedFile;
use crate::proto::root::sign_file;
use crate::proto::time::Timestamp;

/// The key of this number.
fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32]).unwrap()
}

/// A root whose root keys are those of these numbers, all but one of which must sign.
fn draft(roots: &[u8]) -> RootDraft {
    let keys = roots.iter().map(|number| key(*number).public().bytes());
    let threshold = u8::try_from(roots.len().max(2) - 1).unwrap();
    let issuer = vec![key(100).public().bytes()];
    let at = Timestamp::from_millis;
    RootDraft {
        name: "shop".into(),
        roles: BTreeMap::from([
            (Role::Root, (threshold, keys.collect())),
            (Role::Issuer, (1, issuer)),
        ]),
        validity: Validity::new(at(0), at(86_400_000)).unwrap(),
        dev: false,
    }
}

/// The first root, whose root keys are 1, 2 and 3.
fn first() -> TrustRoot {
    let file = draft(&[1, 2, 3]).sign(&[(0, &key(1)), (2, &key(3))]);
    TrustRoot::parse(&file.unwrap()).unwrap()
}

/// The root after it, whose root keys are 4 and 5.
fn second() -> Bytes {
    let predecessors = [(0, &key(1)), (1, &key(2))];
    let file = draft(&[4, 5]).sign_after(&first(), &[(1, &key(5))], &predecessors);
    file.unwrap()
}

/// The file with one bit turned in the signature that stands `back` signatures from the end.
fn damaged(file: &Bytes, back: usize) -> Bytes {
    let mut bytes = file.to_vec();
    // An array of two, a position below or above 127, and a byte string of 64 with its head.
    let entries: usize = [69, 69, 68][..=back].iter().sum();
    let at = bytes.len() - entries + 60;
    bytes[at] ^= 1;
    bytes.into()
}

#[test]
fn a_later_root_describes_itself() {
    let (before, file) = (first(), second());
    let root = UnchainedRoot::parse(&file).unwrap();
    let chained = before.succeed(&file).unwrap();
    assert_eq!(root.id(), chained.id());
    assert_eq!(root.mesh(), before.mesh());
    assert_eq!(root.previous(), before.id());
    assert_eq!((root.version(), root.name()), (2, "shop"));
    assert_eq!(root.validity(), chained.validity());
    assert!(!root.is_dev());
    for role in Role::ALL {
        let keys = chained.keys(role).iter().map(PublicKey::bytes);
        assert!(root.keys(role).eq(keys));
        assert_eq!(root.threshold(role), chained.threshold(role));
    }
    assert!(root.signers().eq([1]));
    assert!(root.predecessors().eq([0, 1]));
}

#[test]
fn any_later_version_is_read_and_the_first_is_not() {
    let second = first().succeed(&second()).unwrap();
    let third = draft(&[6]).sign_after(&second, &[(0, &key(6))], &[(0, &key(4))]);
    let third = third.unwrap();
    assert_eq!(UnchainedRoot::parse(&third).unwrap().version(), 3);

    let first = draft(&[1]).sign(&[(0, &key(1))]).unwrap();
    let refused = UnchainedRoot::parse(&first).unwrap_err();
    let (place, found) = (Place::TrustFile, 1);
    assert_eq!(refused, Rejection::UnsupportedVersion { place, found });
}

#[test]
fn a_damaged_signature_of_its_own_refuses_it() {
    let refused = UnchainedRoot::parse(&damaged(&second(), 2)).unwrap_err();
    assert_eq!(refused.class(), Class::BadSignature);
}

/// What it cannot check it does not claim; the root before refuses the same file.
#[test]
fn a_damaged_signature_of_the_root_before_is_for_that_root_to_refuse() {
    for back in [0, 1] {
        let file = damaged(&second(), back);
        assert!(UnchainedRoot::parse(&file).is_ok());
        let refused = first().succeed(&file).unwrap_err();
        assert_eq!(refused.class(), Class::BadSignature);
    }
}

#[test]
fn too_few_signatures_of_its_own_refuse_it() {
    let next = draft(&[4, 5, 6]);
    let whole = next.sign_after(
        &first(),
        &[(0, &key(4)), (1, &key(5))],
        &[(0, &key(1)), (1, &key(2))],
    );
    let body = SignedFile::parse_signed_by(FileKind::Root, &whole.unwrap(), 4);
    let body = body.unwrap().body;
    let sign = |signers: &[(u8, &SigningKey)]| sign_file(FileKind::Root, &body, signers);
    let (own, before) = (key(4), key(1));
    let of_old = [(128, &before), (129, &key(2))];
    for signers in [&of_old[..], &[(0, &own), of_old[0], of_old[1]], &[]] {
        let refused = UnchainedRoot::parse(&sign(signers)).unwrap_err();
        let (place, reason) = (Place::TrustFile, UntrustedRoot::Threshold);
        assert_eq!(refused, Rejection::UntrustedRoot { place, reason });
    }
    // A position that none of its own keys has.
    let refused = UnchainedRoot::parse(&sign(&[(0, &own), (1, &key(5)), (9, &key(9))]));
    assert_eq!(refused.unwrap_err().class(), Class::UntrustedRoot);
}

#[test]
fn a_later_root_that_names_none_before_it_is_refused() {
    let body = draft(&[4]).body(2, None);
    let file = sign_file(FileKind::Root, &body, &[(0, &key(4))]);
    let refused = UnchainedRoot::parse(&file).unwrap_err();
    let (place, reason) = (Place::TrustFile, UntrustedRoot::Lineage);
    assert_eq!(refused, Rejection::UntrustedRoot { place, reason });
}
