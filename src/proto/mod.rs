//! The protocol: pure, synchronous, deterministic.
//!
//! Its normative text is [`manual::protocol`](crate::manual::protocol); § is a section of it.
//!
//! Nothing here does I/O, reads a clock or draws a random number: `now` and randomness are handed
//! in. The files build on each other in this order:
//!
//! ```text
//! time limits names rejection       words and numbers
//! identity keytext subject wire     keys, addresses, canonical bytes
//! signing scope                     labelled signatures, what may be done
//! delegation → chain                one hop, all hops
//! certificate revocation replay     who, not any more, not again
//! breaker score                     how somebody behaves, here and over time
//! policy root → trust               what the mesh says, as one snapshot
//! batch approval envelope audit     what is signed together, what travels, what is recorded
//! verify                            where all evidence meets
//! handshake                         two peers, face to face
//! ```
//!
//! # How a message becomes trusted
//!
//! Each arrow consumes its left side, and only the named function can make its right side.
//!
//! ```text
//! sending     EnvelopeDraft ──sign(&Credential)──▶ SignedEnvelope ──into_bytes──▶ bytes
//! receiving   bytes ──Verifier::verify──▶ Verdict ──record(AuditSlot)──▶ Result<VerifiedEnvelope, Refused>
//!   inside    parse → route and time → known holders → VerifiedChain → NotRevoked
//!             → Authentic<Claims> → content → Permitted → Fresh
//! evidence    bytes ──Judge::judge──▶ Judgement, which is no VerifiedEnvelope and becomes none
//! chains      bytes ──parse──▶ Chain ──verify(anchors, budget)──▶ VerifiedChain ──hold(key)──▶ Credential ──delegate──▶ Chain
//! handshake   Initiator ─hello─▶ AwaitingConfirm ─confirm─▶ Session     Responder (stateless) ─confirm─▶ Session
//! ```
//!
//! - A [`VerifiedEnvelope`](verify::VerifiedEnvelope) is built from every piece of evidence, by
//!   value. Forget a check and the crate does not build.
//! - A [`Verdict`](verify::Verdict) opens only by being recorded, so that every acceptance and
//!   every refusal reaches the audit. The audit slot is taken before verifying and never blocks.
//! - Cheap checks come first; what changes state comes last, so that refused traffic leaves no
//!   trace.

pub mod approval;
pub mod audit;
pub mod batch;
pub mod breaker;
pub mod certificate;
pub mod chain;
pub mod control;
pub mod delegation;
pub mod enrol;
pub mod envelope;
pub mod handshake;
pub mod identity;
pub mod join;
pub mod keytext;
pub mod limits;
pub mod names;
pub mod policy;
pub mod rejection;
pub mod replay;
pub mod request;
pub mod revocation;
pub mod root;
pub mod scope;
pub mod score;
pub mod signing;
pub mod subject;
pub mod time;
pub mod trust;
pub mod verify;
pub(crate) mod wire;
