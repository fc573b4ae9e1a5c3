//! Keys, public and private. Of a private key only the public side is ever shown.

use trustmesh::proto::identity::PublicKey;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::keytext::InvalidKeyText;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::rejection::Rejection;

use super::lens::Lens;
use super::sheet::Cell;
use super::sheet::Sheet;
use crate::failure::Failure;
use crate::text;

/// The key a text stands for; `None` when it is no key in any form.
pub fn key(text: &str, lens: &Lens) -> Option<anyhow::Result<Sheet>> {
    let text = text.trim();
    let private = if text.starts_with("-----BEGIN PRIVATE KEY-----") {
        Some(SigningKey::from_pkcs8_pem(text))
    } else if is_seed(text) {
        Some(SigningKey::from_nkey_seed(text))
    } else {
        None
    };
    match private {
        Some(Ok(key)) => return Some(Ok(private_key(&key, lens))),
        Some(Err(why)) => return Some(Err(broken(why))),
        None => {}
    }
    if text.contains("PRIVATE KEY-----") {
        return Some(Err(broken(InvalidKeyText::OtherKind)));
    }
    let looks_public = text.starts_with("did:key:")
        || text.starts_with("-----BEGIN PUBLIC KEY-----")
        || (text.len() == 56 && text.starts_with('U'))
        || (text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    if !looks_public {
        return None;
    }
    Some(match text::public_key(text) {
        Ok(public) => Ok(public_key(Sheet::new("public key"), &public, lens)),
        Err(_) if text.len() == 64 => {
            let place = Place::Certificate;
            let why = Rejection::WeakKey { place };
            Ok(Sheet::unreadable("public key", 32, why))
        }
        Err(why) => Err(Failure::usage(why).into()),
    })
}

/// `SU…`, 58 characters of base 32.
fn is_seed(text: &str) -> bool {
    let base32 = |b: u8| b.is_ascii_uppercase() || matches!(b, b'2'..=b'7');
    text.len() == 58 && text.starts_with('S') && text.bytes().all(base32)
}

/// The reason repeats nothing of the text, which may be a secret.
fn broken(why: InvalidKeyText) -> anyhow::Error {
    Failure::usage(format!("a private key that cannot be used: {why}")).into()
}

fn private_key(key: &SigningKey, lens: &Lens) -> Sheet {
    let sheet = Sheet::new("private key")
        .titled("PRIVATE key; only its public side is shown")
        .row("private", Cell::Flag(true));
    public_key(sheet, &key.public(), lens)
}

fn public_key(sheet: Sheet, key: &PublicKey, lens: &Lens) -> Sheet {
    let sheet = sheet
        .text("hex", key.bytes())
        .text("nkey", key.to_nkey())
        .text("did", key.to_did_key())
        .text("pem", key.to_spki_pem().lines().nth(1).unwrap_or_default())
        .row("prime order", Cell::Flag(key.is_torsion_free()))
        .checked("form, point on the curve, not of small order");
    match (&lens.trust, lens.agent(&key.bytes())) {
        (_, Some(agent)) => sheet.text("agent", agent),
        (Some(_), None) => sheet.text("agent", "none: the registry does not know the key"),
        (None, None) => sheet.not_checked("whose it is (no trust state at hand: give --trust DIR)"),
    }
}
