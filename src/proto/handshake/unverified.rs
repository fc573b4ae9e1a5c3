//! Handshake frames by themselves: what they say, before anybody takes part.

use bytes::Bytes;

use super::Instance;
use super::PLACE;
use super::frames::Challenge;
use super::frames::Hello;
use super::frames::Proof;
use super::frames::Signed;
use super::frames::finish_carrying;
use super::frames::read_unsigned;
use super::frames::read_version;
use super::frames::step;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::names::Tag;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Rejection;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;
use crate::proto::wire::Reader;

/// A handshake frame that was decoded and not checked: what somebody claims.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum UnverifiedFrame {
    /// H1: somebody wants to meet somebody.
    Hello {
        /// Its object id.
        id: ObjectId,
        /// The mesh.
        mesh: MeshId,
        /// Who asks, and with which key.
        initiator: (AgentId, KeyBytes),
        /// Who is asked, and with which key.
        responder: (AgentId, KeyBytes),
        /// Bits of the envelope modes the initiator can read.
        modes: u8,
    },
    /// H2: prove it.
    Challenge {
        /// The hello it answers.
        hello: ObjectId,
        /// When it was made, by the responder's clock.
        time: Timestamp,
        /// The process that made it.
        instance: Instance,
    },
    /// H3: the initiator's proof.
    Proof {
        /// Its object id.
        id: ObjectId,
        /// The hello within.
        hello: ObjectId,
        /// The initiator's certificate, encoded.
        certificate: Bytes,
        /// The initiator's chain, encoded.
        chain: Bytes,
    },
    /// H4: the responder's confirmation.
    Confirm {
        /// The proof it confirms.
        proof: ObjectId,
        /// The session's id.
        session: [u8; 16],
        /// The first instant at which the session is over.
        until: Timestamp,
        /// The responder's certificate, encoded.
        certificate: Bytes,
        /// The responder's chain, encoded.
        chain: Bytes,
    },
}

impl UnverifiedFrame {
    /// Decodes a frame of any step.
    ///
    /// # Errors
    ///
    /// `Malformed`, `TooLarge`, `UnsupportedVersion`, or `HandshakeFailed` for an unusable nonce.
    pub fn parse(frame: &Bytes) -> Result<Self, Rejection> {
        match step(frame)? {
            1 => Self::hello(&read_unsigned(1, frame)?),
            2 => Self::challenge(&read_unsigned(2, frame)?),
            3 => Self::proof(Signed::parse(3, frame)?),
            4 => Self::confirm(Signed::parse(4, frame)?),
            _ => Err(Rejection::Malformed {
                place: PLACE,
                reason: Malformed::OutOfRange,
            }),
        }
    }

    fn hello(body: &Bytes) -> Result<Self, Rejection> {
        let hello = Hello::parse(body)?;
        Ok(Self::Hello {
            id: Tag::Hello.digest(body),
            mesh: hello.mesh,
            initiator: (hello.id_i, hello.key_i),
            responder: (hello.id_r, hello.key_r),
            modes: hello.modes,
        })
    }

    fn challenge(body: &Bytes) -> Result<Self, Rejection> {
        let challenge = Challenge::parse(body)?;
        Ok(Self::Challenge {
            hello: challenge.hello,
            time: challenge.time,
            instance: challenge.instance,
        })
    }

    fn proof(signed: Signed) -> Result<Self, Rejection> {
        let proof = Proof::parse(&signed.body)?;
        Ok(Self::Proof {
            id: Tag::Proof.digest(&signed.body),
            hello: Tag::Hello.digest(&proof.hello),
            certificate: signed.certificate,
            chain: signed.chain,
        })
    }

    fn confirm(signed: Signed) -> Result<Self, Rejection> {
        let mut r = Reader::new(&signed.body, PLACE);
        read_version(&mut r, 7)?;
        let proof = r.object_id()?;
        let (_certificate, _leaf) = (r.object_id()?, r.object_id()?);
        let session = r.bin_of()?;
        let until = Timestamp::from_millis(r.uint()?);
        finish_carrying(r)?;
        Ok(Self::Confirm {
            proof,
            session,
            until,
            certificate: signed.certificate,
            chain: signed.chain,
        })
    }
}
