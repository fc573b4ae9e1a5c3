//! What agents ask the verifier service, and what it answers: payloads of control envelopes
//! (protocol §22.5).
//!
//! ```text
//! request  [v, verb, fields, ext]
//!   1 renew    []                                       a certificate for the same key
//!   2 rotate   [key bin32]                              one for another key
//!   3 claim    [body bin, time, cookie bin32, possession bin64]   what renew or rotate were offered
//!   4 regrant  [chain bin]                              a root grant like this one
//!   5 revoke   [0], one's own key, or [1, body bin, signature bin64, parent nil|bin], a link
//!   6 approve  [chain bin]
//!   7 report   [[evidence bin…]]
//! answer   [v, kind, fields, ext]
//!   0 refused  [reason]        1 offer   [body bin, time, cookie bin32]
//!   2 certified [certificate bin, grant nil|bin]        3 granted [chain bin]
//!   4 done     [epoch]         5 data    [approval bin]
//! ```

use bytes::Bytes;

use super::certificate::CERTIFICATE_MAX;
use super::chain::read_bytes;
use super::delegation::Link;
use super::delegation::Parent;
use super::enrol::EnrolRefused;
use super::enrol::Offer;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::Signature;
use super::limits::CHAIN_MAX;
use super::limits::CONTROL_MAX;
use super::limits::LINK_MAX;
use super::names::OBJECT_VERSION;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::signing::Authentic;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

const PLACE: Place = Place::Control;

/// Most pieces of evidence in one report: a batch as large as the audit's own.
pub const EVIDENCE_MAX: usize = 64;

/// What is asked, as the last token of the subject (protocol §22.5).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Verb {
    /// Certificates and grants are renewed.
    Renew,
    /// A key is replaced.
    Rotate,
    /// Something is taken back.
    Revoke,
    /// A chain is presented for approval.
    Approve,
    /// Evidence for scores is handed in.
    Report,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 5] = [
        Self::Renew,
        Self::Rotate,
        Self::Revoke,
        Self::Approve,
        Self::Report,
    ];

    /// The token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Approve => "approve",
            Self::Report => "report",
        }
    }

    /// The verb of a token.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

/// The subject of a request, `<prefix>.verifier.<verb>`.
pub fn control_subject(prefix: &str, verb: Verb) -> String {
    format!("{prefix}.verifier.{}", verb.name())
}

/// The subject of enrolment frames, `<prefix>.verifier.enrol`.
pub fn enrol_subject(prefix: &str) -> String {
    format!("{prefix}.verifier.enrol")
}

/// Where an agent is asked to re-mint what it delegated, `<prefix>.agent.<id>.renew`.
pub fn remint_subject(prefix: &str, agent: &AgentId) -> String {
    format!("{prefix}.agent.{}.renew", agent.token())
}

/// A request to the verifier service (protocol §22.5).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ControlRequest {
    /// A certificate for the same key, for another term.
    Renew,
    /// A certificate for another key of the same agent.
    Rotate {
        /// The new key.
        key: KeyBytes,
    },
    /// The certificate that was offered in answer to one of these.
    Claim {
        /// The offer, as it came.
        offer: Offer,
        /// The certified key's signature over the certificate's id.
        possession: Signature,
    },
    /// A root grant like one that is held and still valid.
    Regrant {
        /// The grant, encoded.
        chain: Bytes,
    },
    /// Something shall be revoked.
    Revoke(Target),
    /// A chain is presented for approval.
    Approve {
        /// The chain, encoded.
        chain: Bytes,
    },
    /// Evidence about somebody's behaviour.
    Report {
        /// Frames, one each, at most [`EVIDENCE_MAX`].
        evidence: Vec<Bytes>,
    },
}

/// What shall be revoked (protocol §22.6).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Target {
    /// The asker's own key, for good.
    OwnKey,
    /// A link that the asker signed.
    Link {
        /// The link's body.
        body: Bytes,
        /// The signature beside it.
        signature: Signature,
        /// The body of the link above; `None` for a root grant.
        parent: Option<Bytes>,
    },
}

impl Target {
    /// What is revoked, once it is proved that `asker` signed it (protocol §22.6): the bodies hash
    /// to the ids they name, the holder of the link above is the asker, and the asker's signature
    /// verifies. A root grant is its issuer's to take back.
    ///
    /// # Errors
    ///
    /// [`EnrolRefused::Unproven`] when the bodies do not belong together or the signature does not
    /// verify, [`EnrolRefused::NotYours`] when somebody else signed it.
    pub fn prove(&self, mesh: MeshId, asker: &PublicKey) -> Result<Revoked, EnrolRefused> {
        let unproven = |_| EnrolRefused::Unproven;
        let Self::Link {
            body,
            signature,
            parent,
        } = self
        else {
            return Ok(Revoked::Key(asker.bytes()));
        };
        let index = u8::from(parent.is_some());
        let link = Link::parse(index, body.clone(), signature.0).map_err(unproven)?;
        let signer = match (link.parent(), parent) {
            (Parent::Issuer { mesh: of, key }, None) if of == mesh => key,
            (Parent::Link(above), Some(parent)) => {
                // How many values a body has tells a root grant from a delegation.
                let index = u8::from(parent.first() != Some(&0x9a));
                let parent = Link::parse(index, parent.clone(), [0; 64]).map_err(unproven)?;
                if parent.id() != above {
                    return Err(EnrolRefused::Unproven);
                }
                parent.holder()
            }
            _ => return Err(EnrolRefused::Unproven),
        };
        if signer != asker.bytes() {
            return Err(EnrolRefused::NotYours);
        }
        Authentic::check(link.tag(), body, (), asker, signature, PLACE).map_err(unproven)?;
        Ok(Revoked::Link(link.id()))
    }
}

/// What a [`Target`] was found to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// A key.
    Key(KeyBytes),
    /// A link.
    Link(ObjectId),
}

impl ControlRequest {
    /// On which subject it is asked.
    pub const fn verb(&self) -> Option<Verb> {
        match self {
            Self::Renew | Self::Regrant { .. } => Some(Verb::Renew),
            Self::Rotate { .. } => Some(Verb::Rotate),
            // A claim goes where the offer came from.
            Self::Claim { .. } => None,
            Self::Revoke(_) => Some(Verb::Revoke),
            Self::Approve { .. } => Some(Verb::Approve),
            Self::Report { .. } => Some(Verb::Report),
        }
    }

    /// The payload.
    pub fn encode(&self) -> Bytes {
        let ext: [(); 0] = [];
        let ext = &ext[..];
        let v = OBJECT_VERSION;
        let none: [(); 0] = [];
        let encoded = match self {
            Self::Renew => wire::encode(&(v, 1_u8, &none[..], ext)),
            Self::Rotate { key } => wire::encode(&(v, 2_u8, (bin(&key.0),), ext)),
            Self::Claim { offer, possession } => {
                let (time, cookie) = (offer.time.as_millis(), bin(&offer.cookie));
                let fields = (bin(&offer.body), time, cookie, bin(&possession.0));
                wire::encode(&(v, 3_u8, fields, ext))
            }
            Self::Regrant { chain } => wire::encode(&(v, 4_u8, (bin(chain),), ext)),
            Self::Revoke(Target::OwnKey) => wire::encode(&(v, 5_u8, (0_u8,), ext)),
            Self::Revoke(Target::Link {
                body,
                signature,
                parent,
            }) => {
                let parent = parent.as_ref().map(|bytes| bin(bytes));
                let fields = (1_u8, bin(body), bin(&signature.0), parent);
                wire::encode(&(v, 5_u8, fields, ext))
            }
            Self::Approve { chain } => wire::encode(&(v, 6_u8, (bin(chain),), ext)),
            Self::Report { evidence } => {
                let list: Vec<_> = evidence.iter().map(|bytes| bin(bytes)).collect();
                wire::encode(&(v, 7_u8, (list,), ext))
            }
        };
        encoded.into()
    }

    /// Decodes a payload of at most [`CONTROL_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooLarge`], [`Rejection::Malformed`] or [`Rejection::UnsupportedVersion`].
    pub fn parse(payload: &Bytes) -> Result<Self, Rejection> {
        let (mut r, kind, len) = open(payload)?;
        let r = &mut r;
        let request = match (kind, len) {
            (1, 0) => Self::Renew,
            (2, 1) => Self::Rotate { key: r.key()? },
            (3, 4) => Self::Claim {
                offer: Offer::read(r)?,
                possession: Signature(r.bin_of()?),
            },
            (4, 1) => Self::Regrant {
                chain: read_bytes(r)?,
            },
            (5, 1) if r.uint()? == 0 => Self::Revoke(Target::OwnKey),
            (5, 4) if r.uint()? == 1 => Self::Revoke(Target::Link {
                body: r.bin(LINK_MAX)?,
                signature: Signature(r.bin_of()?),
                parent: r.optional(|r| r.bin(LINK_MAX))?,
            }),
            (6, 1) => Self::Approve {
                chain: read_bytes(r)?,
            },
            (7, 1) => {
                let len = r.array_up_to(EVIDENCE_MAX)?;
                let evidence: Result<Vec<_>, _> = (0..len).map(|_| r.bin(CONTROL_MAX)).collect();
                Self::Report {
                    evidence: evidence?,
                }
            }
            _ => return Err(r.fault(Malformed::WrongLength)),
        };
        close(r)?;
        Ok(request)
    }
}

/// An answer of the verifier service (protocol §22.5).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ControlAnswer {
    /// It refuses.
    Refused(EnrolRefused),
    /// It offers a certificate.
    Offer(Offer),
    /// It gives a certificate, and with another key another grant.
    Certified {
        /// The certificate, encoded.
        certificate: Bytes,
        /// The root grant, encoded.
        grant: Option<Bytes>,
    },
    /// It gives a chain.
    Granted {
        /// The chain, encoded.
        chain: Bytes,
    },
    /// It is done, and published under this epoch.
    Done {
        /// The epoch.
        epoch: u64,
    },
    /// What the verb makes of it: an approval, encoded.
    Data(Bytes),
}

impl ControlAnswer {
    /// The payload.
    pub fn encode(&self) -> Bytes {
        let ext: [(); 0] = [];
        let ext = &ext[..];
        let v = OBJECT_VERSION;
        let encoded = match self {
            Self::Refused(reason) => wire::encode(&(v, 0_u8, (reason.code(),), ext)),
            Self::Offer(offer) => {
                let (time, cookie) = (offer.time.as_millis(), bin(&offer.cookie));
                wire::encode(&(v, 1_u8, (bin(&offer.body), time, cookie), ext))
            }
            Self::Certified { certificate, grant } => {
                let grant = grant.as_ref().map(|bytes| bin(bytes));
                wire::encode(&(v, 2_u8, (bin(certificate), grant), ext))
            }
            Self::Granted { chain } => wire::encode(&(v, 3_u8, (bin(chain),), ext)),
            Self::Done { epoch } => wire::encode(&(v, 4_u8, (*epoch,), ext)),
            Self::Data(data) => wire::encode(&(v, 5_u8, (bin(data),), ext)),
        };
        encoded.into()
    }

    /// Decodes a payload of at most [`CONTROL_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// As [`ControlRequest::parse`].
    pub fn parse(payload: &Bytes) -> Result<Self, Rejection> {
        let (mut r, kind, len) = open(payload)?;
        let r = &mut r;
        let answer = match (kind, len) {
            (0, 1) => Self::Refused(EnrolRefused::read(r)?),
            (1, 3) => Self::Offer(Offer::read(r)?),
            (2, 2) => Self::Certified {
                certificate: r.bin(CERTIFICATE_MAX)?,
                grant: r.optional(|r| r.bin(CHAIN_MAX))?,
            },
            (3, 1) => Self::Granted {
                chain: read_bytes(r)?,
            },
            (4, 1) => Self::Done { epoch: r.uint()? },
            (5, 1) => Self::Data(r.bin(CONTROL_MAX)?),
            _ => return Err(r.fault(Malformed::WrongLength)),
        };
        close(r)?;
        Ok(answer)
    }
}

/// Reads `v, kind` and the header of the fields: kind, and how many there are.
fn open(payload: &Bytes) -> Result<(Reader<'_>, u64, usize), Rejection> {
    if payload.len() > CONTROL_MAX {
        return Err(Rejection::TooLarge {
            place: PLACE,
            limit: CONTROL_MAX as u32,
        });
    }
    let mut r = Reader::new(payload, PLACE);
    r.array_of(4)?;
    let found = r.uint()?;
    if found != OBJECT_VERSION {
        return Err(Rejection::UnsupportedVersion {
            place: PLACE,
            found,
        });
    }
    let kind = r.uint()?;
    let len = r.array()?;
    Ok((r, kind, len))
}

/// Reads the (empty) extensions and the end.
fn close(r: &mut Reader<'_>) -> Result<(), Rejection> {
    if r.array()? != 0 {
        return Err(r.fault(Malformed::Extension));
    }
    r.end()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
