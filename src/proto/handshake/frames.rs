//! The four frames of a handshake, as they are on the wire, and who signed one.

use std::sync::Arc;

use bytes::Bytes;

use super::Instance;
use super::PLACE;
use super::Party;
use crate::proto::certificate::CERTIFICATE_MAX;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain;
use crate::proto::chain::Chain;
use crate::proto::chain::VerifiedChain;
use crate::proto::chain::read_bytes;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::Signature;
use crate::proto::identity::SigningKey;
use crate::proto::limits::HANDSHAKE_MAX;
use crate::proto::limits::NEWEST_MAX;
use crate::proto::names::EXT_NEWEST;
use crate::proto::names::FRAME_VERSION;
use crate::proto::names::MAGIC_HANDSHAKE;
use crate::proto::names::OBJECT_VERSION;
use crate::proto::names::Tag;
use crate::proto::rejection::HandshakeFailed;
use crate::proto::rejection::KeyMismatch;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Rejection;
use crate::proto::revocation::read_agent;
use crate::proto::signing;
use crate::proto::signing::Authentic;
use crate::proto::signing::Budget;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::trust::Purpose;
use crate::proto::trust::TrustState;
use crate::proto::verify::Holders;
use crate::proto::verify::Scene;
use crate::proto::wire;
use crate::proto::wire::Reader;
use crate::proto::wire::bin;

pub(super) struct Hello {
    pub(super) mesh: MeshId,
    pub(super) id_i: AgentId,
    pub(super) key_i: KeyBytes,
    pub(super) id_r: AgentId,
    pub(super) key_r: KeyBytes,
    pub(super) nonce: [u8; 32],
    pub(super) modes: u8,
}

impl Hello {
    pub(super) fn parse(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        read_version(&mut r, 9)?;
        let hello = Self {
            mesh: MeshId(r.bin_of()?),
            id_i: read_agent(&mut r)?,
            key_i: r.key()?,
            id_r: read_agent(&mut r)?,
            key_r: r.key()?,
            nonce: read_nonce(&mut r)?,
            modes: r.number_of()?,
        };
        finish(r)?;
        Ok(hello)
    }
}

pub(super) struct Challenge {
    pub(super) hello: ObjectId,
    pub(super) nonce: [u8; 32],
    pub(super) time: Timestamp,
    pub(super) instance: Instance,
    pub(super) cookie: [u8; 32],
}

impl Challenge {
    pub(super) fn parse(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        read_version(&mut r, 7)?;
        let challenge = Self {
            hello: r.object_id()?,
            nonce: read_nonce(&mut r)?,
            time: Timestamp::from_millis(r.uint()?),
            instance: r.bin_of()?,
            cookie: r.bin_of()?,
        };
        finish(r)?;
        Ok(challenge)
    }
}

pub(super) struct Proof {
    pub(super) hello: Bytes,
    pub(super) challenge: Bytes,
    pub(super) certificate: ObjectId,
    pub(super) leaf: ObjectId,
    pub(super) newest: Option<Bytes>,
}

impl Proof {
    pub(super) fn parse(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        read_version(&mut r, 6)?;
        let (hello, challenge) = (r.bin(HANDSHAKE_MAX)?, r.bin(HANDSHAKE_MAX)?);
        let (certificate, leaf) = (r.object_id()?, r.object_id()?);
        Ok(Self {
            hello,
            challenge,
            certificate,
            leaf,
            newest: finish_carrying(r)?,
        })
    }
}

/// A signed handshake frame, cut into parts.
pub(super) struct Signed {
    pub(super) body: Bytes,
    pub(super) signature: Signature,
    pub(super) certificate: Bytes,
    pub(super) chain: Bytes,
}

impl Signed {
    pub(super) fn parse(expected: u64, frame: &Bytes) -> Result<Self, Rejection> {
        let mut r = open_frame(frame, 6, expected)?;
        let signed = Self {
            body: r.bin(HANDSHAKE_MAX)?,
            signature: Signature(r.bin_of()?),
            certificate: r.bin(CERTIFICATE_MAX)?,
            chain: read_bytes(&mut r)?,
        };
        r.finish()?;
        Ok(signed)
    }

    /// Checks that the peer is in good standing by our own trust state, that certificate and
    /// chain are its own and those the body names, and that its key signed the body.
    pub(super) fn check_peer(
        &self,
        tag: Tag,
        (peer, key): (&AgentId, &KeyBytes),
        (certificate, leaf): (ObjectId, ObjectId),
        scene: &Scene<'_>,
        skew: ClockSkew,
    ) -> Result<VerifiedChain, Rejection> {
        let (trust, now): (&Arc<TrustState>, _) = (scene.trust, scene.now);
        let mismatch = |reason| Rejection::KeyMismatch {
            place: PLACE,
            reason,
        };
        trust.check_fresh(now, skew, Purpose::Request)?;
        let registered = trust.check_standing(key, now, skew, PLACE)?;
        if registered.agent() != peer {
            return Err(mismatch(KeyMismatch::OtherAgent));
        }
        let presented = UnverifiedCertificate::parse(&self.certificate)?.id();
        if presented != registered.id() || certificate != registered.id() {
            return Err(mismatch(KeyMismatch::OtherCertificate));
        }
        trust.revocations().check_agent(registered, now, PLACE)?;
        let chain = Chain::parse(Bytes::copy_from_slice(&self.chain))?;
        if chain.leaf().id() != leaf {
            return Err(chain::LEAF_MISMATCH);
        }
        if chain.leaf().holder() != *key {
            return Err(mismatch(KeyMismatch::OtherAgent));
        }
        Holders::look_up(&chain, trust, now, skew)?;
        chain.check_validity(now, skew)?;
        Authentic::check(
            tag,
            &self.body,
            (),
            registered.key(),
            &self.signature,
            PLACE,
        )?;
        let chain = chain.verify(&**trust, &mut Budget::message())?;
        let holders = Holders::look_up(&chain, trust, now, skew)?;
        trust
            .revocations()
            .check_chain(&chain, holders.iter(), now)?;
        Ok(chain)
    }
}

pub(super) const fn failed(reason: HandshakeFailed) -> Rejection {
    Rejection::HandshakeFailed { reason }
}

/// Which step a handshake frame says it is, 1 to 4 in an honest one. Nothing after that is read.
///
/// # Errors
///
/// [`Rejection::TooLarge`] over [`HANDSHAKE_MAX`] bytes, [`Rejection::Malformed`] when the frame is
/// no handshake frame, [`Rejection::UnsupportedVersion`].
pub fn step(frame: &Bytes) -> Result<u64, Rejection> {
    if frame.len() > HANDSHAKE_MAX {
        return Err(Rejection::TooLarge {
            place: PLACE,
            limit: HANDSHAKE_MAX as u32,
        });
    }
    if !frame.starts_with(&MAGIC_HANDSHAKE) {
        return Err(Rejection::Malformed {
            place: PLACE,
            reason: Malformed::BadMagic,
        });
    }
    let mut r = Reader::starting_at(frame, MAGIC_HANDSHAKE.len(), PLACE);
    r.array()?;
    let found = r.uint()?;
    if found != FRAME_VERSION {
        return Err(Rejection::UnsupportedVersion {
            place: PLACE,
            found,
        });
    }
    r.uint()
}

pub(super) fn open_frame(
    frame: &Bytes,
    arity: usize,
    expected: u64,
) -> Result<Reader<'_>, Rejection> {
    if step(frame)? != expected {
        return Err(failed(HandshakeFailed::Transcript));
    }
    let mut r = Reader::starting_at(frame, MAGIC_HANDSHAKE.len(), PLACE);
    r.array_of(arity)?;
    r.uint()?;
    r.uint()?;
    Ok(r)
}

pub(super) fn read_unsigned(expected: u64, frame: &Bytes) -> Result<Bytes, Rejection> {
    let mut r = open_frame(frame, 3, expected)?;
    let body = r.bin(HANDSHAKE_MAX)?;
    r.finish()?;
    Ok(body)
}

pub(super) fn unsigned_frame(step: u8, body: &[u8]) -> Bytes {
    let mut frame = MAGIC_HANDSHAKE.to_vec();
    wire::encode_into(&mut frame, &(FRAME_VERSION, step, bin(body)));
    frame.into()
}

pub(super) fn signed_frame(step: u8, tag: Tag, body: &[u8], party: &Party) -> Bytes {
    let key: &SigningKey = party.credential.key();
    let signature = signing::sign(tag, body, key);
    let chain = party.credential.chain().bytes();
    let mut frame = MAGIC_HANDSHAKE.to_vec();
    let parts = (
        FRAME_VERSION,
        step,
        bin(body),
        bin(&signature.0),
        bin(&party.certificate),
        bin(chain),
    );
    wire::encode_into(&mut frame, &parts);
    frame.into()
}

pub(super) fn read_version(r: &mut Reader<'_>, arity: usize) -> Result<(), Rejection> {
    r.array_of(arity)?;
    match r.uint()? {
        OBJECT_VERSION => Ok(()),
        found => Err(Rejection::UnsupportedVersion {
            place: PLACE,
            found,
        }),
    }
}

/// Reads the (empty) extensions and the end.
pub(super) fn finish(mut r: Reader<'_>) -> Result<(), Rejection> {
    if r.array()? != 0 {
        return Err(r.fault(Malformed::Extension));
    }
    r.finish()
}

/// The extensions of a proof or confirmation.
pub(super) fn extensions(newest: Option<&Bytes>) -> Vec<(u16, bool, &serde_bytes::Bytes)> {
    let newest = newest.filter(|file| file.len() <= NEWEST_MAX);
    newest
        .map(|file| (EXT_NEWEST, false, bin(file)))
        .into_iter()
        .collect()
}

/// Reads the extensions of a proof or confirmation, and the end: at most the newest timestamp.
pub(super) fn finish_carrying(mut r: Reader<'_>) -> Result<Option<Bytes>, Rejection> {
    let fault = r.fault(Malformed::Extension);
    let count = r.array()?;
    let mut read = || -> Result<Bytes, Rejection> {
        r.array_of(3)?;
        let known = r.uint()? == u64::from(EXT_NEWEST) && !r.boolean()?;
        let value = r.bin(NEWEST_MAX)?;
        if known && !value.is_empty() {
            Ok(value)
        } else {
            Err(fault)
        }
    };
    let newest = match count {
        0 => None,
        1 => Some(read().map_err(|_| fault)?),
        _ => return Err(fault),
    };
    r.finish()?;
    Ok(newest)
}

/// A nonce of the wrong length is a failed handshake like any other unusable nonce.
pub(super) fn read_nonce(r: &mut Reader<'_>) -> Result<[u8; 32], Rejection> {
    let nonce = r.bin(HANDSHAKE_MAX)?;
    <[u8; 32]>::try_from(&nonce[..]).map_err(|_| failed(HandshakeFailed::Nonce))
}

pub(super) fn check_nonce(theirs: &[u8; 32], ours: &[u8; 32]) -> Result<(), Rejection> {
    if theirs == ours || theirs.iter().all(|byte| *byte == 0) {
        return Err(failed(HandshakeFailed::Nonce));
    }
    Ok(())
}
