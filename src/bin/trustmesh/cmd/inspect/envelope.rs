//! Envelopes: what the header says, the chain hop by hop, the content by its sizes.

use bytes::Bytes;
use trustmesh::proto::approval::UnverifiedApproval;
use trustmesh::proto::audit::AuditReader;
use trustmesh::proto::batch::BatchProof;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::envelope::Claims;
use trustmesh::proto::envelope::UnverifiedEnvelope;
use trustmesh::proto::names::PAYLOAD_AUDIT;
use trustmesh::proto::scope::Action;
use trustmesh::proto::time::Validity;
use trustmesh::proto::verify::Judge;
use trustmesh::proto::verify::Judgement;
use trustmesh::proto::verify::Testimony;

use super::chain::chain;
use super::lens::Lens;
use super::lens::NO_TRUST;
use super::records;
use super::sheet::Cell;
use super::sheet::Sheet;

/// The chain of an audit batch: none, an empty array.
const NO_CHAIN: [u8; 1] = [0x90];

/// An envelope.
pub fn envelope(frame: &Bytes, lens: &Lens) -> Sheet {
    let parsed = match UnverifiedEnvelope::parse(frame) {
        Ok(parsed) => parsed,
        Err(why) => return Sheet::unreadable("envelope", frame.len(), why),
    };
    let sheet = content(header(&parsed, lens), &parsed, lens);
    let sheet = match parsed.batch() {
        Some(proof) => sheet.part("batch", batch(proof, lens)),
        None => sheet,
    };
    if is_audit(&parsed) {
        return audit(sheet, frame, &parsed, lens);
    }
    let sheet = sheet.part("chain", chain(parsed.chain(), lens));
    let Some(trust) = &lens.trust else {
        return sheet
            .checked("encoding")
            .not_checked("signature")
            .not_checked(NO_TRUST);
    };
    let judge = Judge::new(lens.skew());
    let judged = judge.judge(frame, &Testimony::default(), trust, lens.at);
    if parsed.claims().action == Action::Serve {
        // Without its request an answer is refused before anything else is looked at.
        return sheet
            .checked("encoding")
            .not_checked("signature and authority: trustmesh verify ANSWER --request FILE");
    }
    judgement(sheet, &judged)
}

/// Which checks an envelope has passed.
fn judgement(sheet: Sheet, judged: &Judgement) -> Sheet {
    let sheet = sheet
        .checked("encoding")
        .against(judged.rejection)
        .row("authentic", Cell::Flag(judged.authentic));
    if judged.holds() {
        let left = judged.not_checked.names().collect::<Vec<_>>().join(", ");
        return sheet
            .checked("signature, registry, revocation, scope at every link, policy, time")
            .not_checked(format!("what only the receiver knows: {left}"));
    }
    let sheet = if judged.chain.is_some() {
        sheet.checked("signatures of the chain")
    } else {
        sheet
    };
    sheet.not_checked("what comes after the refusal")
}

fn header(parsed: &UnverifiedEnvelope, lens: &Lens) -> Sheet {
    let claims = parsed.claims();
    let extensions = &claims.extensions;
    let text = |bytes: &Bytes| Cell::Text(String::from_utf8_lossy(bytes).into_owned());
    let id = |id: &dyn ToString| Cell::Text(id.to_string());
    let under = Chain::parse(parsed.chain().clone()).ok();
    let sender = under.map(|chain| chain.leaf().holder());
    let payload_type = Some(&claims.payload_type).filter(|kind| !kind.is_empty());
    Sheet::new("envelope")
        .titled(format!(
            "envelope  {} {}",
            claims.action.name(),
            claims.subject
        ))
        .text("id", parsed.id())
        .maybe("sender", sender.map(|key| lens.key(key)))
        .text("action", claims.action.name())
        .text("subject", &claims.subject)
        .maybe("reply", claims.reply.as_ref().map(|reply| id(reply)))
        .maybe("audience", claims.audience.map(|key| lens.key(key)))
        .maybe("in reply to", claims.in_reply_to.as_ref().map(|o| id(o)))
        .row("issued", Cell::Time(claims.issued))
        .maybe("window", window(claims).map(|w| Cell::Window(w, lens.at)))
        .text("mesh", claims.mesh)
        .text("mid", claims.mid)
        .text("leaf", claims.leaf)
        .maybe("payload type", payload_type.map(text))
        .maybe("trace", extensions.traceparent.as_ref().map(text))
        .maybe(
            "epochs",
            extensions.epochs.map(|e| Cell::Text(format!("{e:?}"))),
        )
        .maybe("approval", extensions.approval.as_ref().map(approval))
        .row("forwarded", Cell::Number(extensions.hops.into()))
        .row("mode", Cell::Number(claims.mode.into()))
}

/// What an approval claims; whether it counts is judged with the rest, where policy asks for one.
fn approval(bytes: &Bytes) -> Cell {
    let text = match UnverifiedApproval::parse(bytes) {
        Ok(approval) => {
            let claims = approval.claims();
            let (policy, until) = (claims.epochs.policy, claims.validity.until());
            let until = crate::text::utc(until);
            format!("of {} under policy {policy}, until {until}", claims.leaf)
        }
        Err(why) => format!("none: {why}"),
    };
    Cell::Text(text)
}

/// The batch that an envelope was signed in, and its place there.
fn batch(proof: &BatchProof, lens: &Lens) -> Sheet {
    let claims = proof.claims();
    Sheet::new("batch")
        .titled(format!("batch  {} of {}", proof.index() + 1, claims.size))
        .row("key", lens.key(claims.key))
        .row("size", Cell::Number(claims.size.into()))
        .row("index", Cell::Number(proof.index() as u64))
        .text("root", claims.root())
        .row("path hashes", Cell::Number(proof.path_len() as u64))
        .text("mesh", claims.mesh)
}

/// The last instant of an envelope still counts.
fn window(claims: &Claims) -> Option<Validity> {
    let until = claims.issued.plus(u64::from(claims.ttl_ms) + 1);
    Validity::new(claims.issued, until)
}

/// The content by its sizes: a payload is nobody's but the handler's.
fn content(sheet: Sheet, parsed: &UnverifiedEnvelope, lens: &Lens) -> Sheet {
    let sheet = sheet.row(
        "content bytes",
        Cell::Number(parsed.claims().content_len.into()),
    );
    match parsed.content() {
        Err(why) => sheet.part("content", Sheet::unreadable("content", 0, why)),
        Ok(content) => {
            let names = content.headers().map(|(name, _)| name.to_owned()).collect();
            let grants = content.grants().iter();
            sheet
                .row(
                    "payload bytes",
                    Cell::Number(content.payload().len() as u64),
                )
                .row("headers", Cell::List(names))
                .list("grants", grants.map(|grant| chain(grant, lens)).collect())
                .checked("content digest")
        }
    }
}

fn is_audit(parsed: &UnverifiedEnvelope) -> bool {
    parsed.chain()[..] == NO_CHAIN && parsed.claims().payload_type[..] == *PAYLOAD_AUDIT.as_bytes()
}

/// An audit batch: its certificate is its authority.
fn audit(sheet: Sheet, frame: &Bytes, parsed: &UnverifiedEnvelope, lens: &Lens) -> Sheet {
    let subject = parsed.claims().subject.as_str();
    let sheet = match parsed.content() {
        Ok(content) => sheet.part("records", records::lines(content.payload())),
        Err(_) => sheet,
    };
    let (Some(trust), Some((prefix, _))) = (&lens.trust, subject.split_once(".audit.")) else {
        return sheet
            .checked("encoding")
            .not_checked("signature")
            .not_checked(NO_TRUST);
    };
    let mut reader = AuditReader::new(prefix, lens.skew());
    match reader.read(frame, subject, trust, lens.at) {
        Ok(_) => sheet.checked("encoding, signature, certificate, window, hash chain within"),
        Err(why) => sheet.checked("encoding").against(Some(why)),
    }
}
