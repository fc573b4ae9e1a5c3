//! What policy says about conduct: how scores are computed, and when a peer is quarantined.
//!
//! ```text
//! [scores, quarantine]
//! scores       [start, floor, alarm, [scope_exceeded, depth_exceeded, malformed_content],
//!               [reward, quiet_ms, earned_max, endorsement, endorsed_max], lapse_s]
//! quarantine   [window_ms, bad_least, bad_percent,
//!               [quarantine_ms, quarantine_max_ms, probation_ms], probation_bad]
//! ```

use bytes::Bytes;
use serde::Deserialize;

use crate::proto::breaker;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::score;
use crate::proto::wire::Reader;

/// The parameters that decide what conduct is worth. As JSON it has the members `scores` and
/// `quarantine`; what is absent has its default.
///
/// ```
/// use trustmesh::proto::policy::Scoring;
///
/// let scoring: Scoring = serde_json::from_str(
///     r#"{ "scores": { "start": 400 }, "quarantine": { "bad_least": 10 } }"#,
/// )?;
/// assert_eq!(Scoring::from_bytes(&scoring.to_bytes())?, scoring);
/// assert!(serde_json::from_str::<Scoring>(r#"{ "scores": { "lapse_s": 0 } }"#).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Scoring {
    /// How scores are computed.
    pub scores: score::Parameters,
    /// When a key is quarantined.
    pub quarantine: breaker::Parameters,
}

impl Scoring {
    /// The value of the policy extension that holds it.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = vec![0x92];
        self.scores.write(&mut out);
        self.quarantine.write(&mut out);
        out.into()
    }

    /// Reads the value of the policy extension that holds it.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`] when it is not in its one encoding, or a value is out of range.
    pub fn from_bytes(value: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(value, Place::TrustFile);
        r.array_of(2)?;
        let scoring = Self {
            scores: score::Parameters::read(&mut r)?,
            quarantine: breaker::Parameters::read(&mut r)?,
        };
        r.finish()?;
        Ok(scoring)
    }
}
