//! Chains, hop by hop, and certificates.

use bytes::Bytes;
use trustmesh::proto::certificate::UnverifiedCertificate;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::delegation::Link;
use trustmesh::proto::delegation::Parent;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::root::Role;
use trustmesh::proto::verify::verify_chain;

use super::lens::Lens;
use super::lens::NO_TRUST;
use super::lens::scene;
use super::sheet::Cell;
use super::sheet::Sheet;

/// A chain: issuer, then each link.
pub fn chain(bytes: &Bytes, lens: &Lens) -> Sheet {
    let parsed = match Chain::parse(bytes.clone()) {
        Ok(parsed) => parsed,
        Err(why) => {
            let links = Chain::readable_links(bytes);
            let links = links.iter().enumerate().map(|(i, l)| link(i, l, lens));
            return Sheet::unreadable("chain", bytes.len(), why).list("links", links.collect());
        }
    };
    let links = parsed.links().iter().enumerate();
    let sheet = Sheet::new("chain")
        .row("issuer", lens.key(parsed.issuer()))
        .text("mesh", parsed.mesh())
        .text("digest", parsed.digest())
        .row("depth", Cell::Number(parsed.depth().into()))
        .list("links", links.map(|(i, l)| link(i, l, lens)).collect())
        .checked("encoding")
        .checked("structure")
        .checked("attenuation at every link");
    match &lens.trust {
        None => sheet.not_checked("signatures").not_checked(NO_TRUST),
        Some(trust) => {
            let verified = verify_chain(parsed, &scene(trust, lens.at), lens.skew());
            match verified {
                Ok(_) => sheet.checked("signatures, registry, windows, lifetimes, revocation"),
                Err(why) => sheet
                    .against(Some(why))
                    .not_checked("what comes after the refusal"),
            }
        }
    }
}

/// One hop.
fn link(index: usize, link: &Link, lens: &Lens) -> Sheet {
    let sheet = Sheet::new("link")
        .titled(format!("→ link {index}  {}", lens.who(&link.holder())))
        .row("index", Cell::Number(index as u64))
        .row("holder", lens.key(link.holder()))
        .row("scope", Cell::List(link.scope().to_strings()))
        .row("window", Cell::Window(link.validity(), lens.at))
        .row("depth left", Cell::Number(link.remaining().into()))
        .text("id", link.id());
    let sheet = match link.parent() {
        Parent::Issuer { key, .. } => sheet.row("parent", lens.key(key)),
        Parent::Link(id) => sheet.text("parent", id),
    };
    let Some(trust) = &lens.trust else {
        return sheet;
    };
    let place = Place::Holder(u8::try_from(index).unwrap_or(u8::MAX));
    let standing = trust
        .check_standing(&link.holder(), lens.at, lens.skew(), place)
        .and_then(|certificate| trust.revocations().check_agent(certificate, lens.at, place));
    let revoked = trust.revocations().links().contains(&link.id());
    let standing = match standing {
        _ if revoked => "this link is revoked".to_owned(),
        Ok(()) => "in good standing".to_owned(),
        Err(why) => why.to_string(),
    };
    sheet.text("standing", standing)
}

/// A certificate by itself.
pub fn certificate(bytes: &Bytes, lens: &Lens) -> Sheet {
    match UnverifiedCertificate::parse(bytes) {
        Ok(parsed) => parsed_certificate(parsed, lens),
        Err(why) => Sheet::unreadable("certificate", bytes.len(), why),
    }
}

/// A decoded certificate, checked as far as the trust root at hand tells.
fn parsed_certificate(parsed: UnverifiedCertificate, lens: &Lens) -> Sheet {
    let sheet = certificate_rows(&parsed, lens).checked("encoding");
    let Some(trust) = &lens.trust else {
        return sheet.not_checked("signatures").not_checked(NO_TRUST);
    };
    let key = parsed.claims().key;
    let verified = parsed
        .verify(trust.mesh(), trust.root().keys(Role::Registrar))
        .and_then(|_| trust.check_standing(&key, lens.at, lens.skew(), Place::Certificate))
        .and_then(|known| {
            trust
                .revocations()
                .check_agent(known, lens.at, Place::Certificate)
        });
    match verified {
        Ok(()) => sheet.checked("registrar, possession, registry, window, revocation"),
        Err(why) => sheet.against(Some(why)),
    }
}

/// What a certificate says.
pub fn certificate_rows(parsed: &UnverifiedCertificate, lens: &Lens) -> Sheet {
    let claims = parsed.claims();
    Sheet::new("certificate")
        .titled(format!("certificate  {}", claims.agent))
        .text("agent", &claims.agent)
        .row("key", Cell::Key(claims.key, None))
        .row("window", Cell::Window(claims.validity, lens.at))
        .text("id", parsed.id())
        .text("mesh", claims.mesh)
        .row("key epoch", Cell::Number(claims.key_epoch.into()))
        .maybe(
            "previous",
            claims.previous.map(|id| Cell::Text(id.to_string())),
        )
}
