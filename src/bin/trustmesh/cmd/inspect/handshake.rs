//! Handshake frames, 1 to 4.

use bytes::Bytes;
use trustmesh::proto::handshake::UnverifiedFrame;

use super::chain::certificate;
use super::chain::chain;
use super::lens::Lens;
use super::sheet::Cell;
use super::sheet::Sheet;

/// Said of every frame: a handshake proves something only to the two who take part.
const LIVE: &str = "transcript, cookie and signature: only the two peers can";

/// A handshake frame.
pub fn frame(bytes: &Bytes, lens: &Lens) -> Sheet {
    let parsed = match UnverifiedFrame::parse(bytes) {
        Ok(parsed) => parsed,
        Err(why) => return Sheet::unreadable("handshake", bytes.len(), why),
    };
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let sheet = match parsed {
        UnverifiedFrame::Hello {
            id,
            mesh,
            initiator,
            responder,
            modes,
        } => step(1, "hello")
            .text("id", id)
            .text("mesh", mesh)
            .row(
                "initiator",
                Cell::Key(initiator.1, Some(initiator.0.to_string())),
            )
            .row(
                "responder",
                Cell::Key(responder.1, Some(responder.0.to_string())),
            )
            .row("modes", Cell::Number(modes.into())),
        UnverifiedFrame::Challenge {
            hello,
            time,
            instance,
        } => step(2, "challenge")
            .text("hello", hello)
            .row("time", Cell::Time(time))
            .text("instance", hex(&instance)),
        UnverifiedFrame::Proof {
            id,
            hello,
            certificate: presented,
            chain: under,
        } => step(3, "proof")
            .text("id", id)
            .text("hello", hello)
            .part("certificate", certificate(&presented, lens))
            .part("chain", chain(&under, lens)),
        UnverifiedFrame::Confirm {
            proof,
            session,
            until,
            certificate: presented,
            chain: under,
        } => step(4, "confirm")
            .text("proof", proof)
            .text("session", hex(&session))
            .row("until", Cell::Time(until))
            .part("certificate", certificate(&presented, lens))
            .part("chain", chain(&under, lens)),
        // A frame of a later version is shown by what it is.
        _ => Sheet::new("handshake"),
    };
    sheet.checked("encoding").not_checked(LIVE)
}

fn step(number: u64, name: &str) -> Sheet {
    Sheet::new("handshake")
        .titled(format!("handshake, step {number}: {name}"))
        .row("step", Cell::Number(number))
}
