//! Times, durations and texts from outside, as people write and read them.

use std::time::Duration;

use jiff::SignedDuration;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::PublicKey;
use trustmesh::proto::time::Timestamp;

/// Reads a duration such as `90s`, `5m`, `2h` or `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text
        .parse()
        .map_err(|_| format!("{text:?} is no duration: write 90s, 5m or 2h"))?;
    Duration::try_from(parsed)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{text:?} is not above zero"))
}

/// Reads a public key in any of its text forms.
pub fn public_key(text: &str) -> Result<PublicKey, String> {
    let text = text.trim();
    let parsed = if text.starts_with("did:key:") {
        PublicKey::from_did_key(text)
    } else if text.starts_with("-----BEGIN PUBLIC KEY-----") {
        PublicKey::from_spki_pem(text)
    } else {
        PublicKey::from_nkey(text).or_else(|why| match KeyBytes::from_hex(text) {
            Ok(bytes) => PublicKey::import(&bytes).map_err(Into::into),
            Err(_) => Err(why),
        })
    };
    parsed.map_err(|why| format!("{text:?} is no public key: {why}"))
}

/// Reads an instant: RFC 3339, or milliseconds since the epoch.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(millis) = text.parse() {
        return Ok(Timestamp::from_millis(millis));
    }
    let parsed: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is no time: write 2026-01-31T12:00:00Z, or milliseconds"))?;
    u64::try_from(parsed.as_millisecond())
        .map(Timestamp::from_millis)
        .map_err(|_| format!("{text:?} is before 1970"))
}

/// An instant in UTC, to the second; its number when no calendar reaches it.
pub fn utc(at: Timestamp) -> String {
    i64::try_from(at.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(
            || at.to_string(),
            |t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        )
}

/// The time of day in UTC, to the millisecond.
pub fn time_of_day(at: Timestamp) -> String {
    i64::try_from(at.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(
            || at.to_string(),
            |t| t.strftime("%H:%M:%S%.3f").to_string(),
        )
}

/// A span such as `23h 59m`, its two largest units.
pub fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes, rest) {
        (0, 0, 0, 0) => format!("{millis}ms"),
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, 0) => format!("{m}m"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, 0, _) => format!("{h}h"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, 0, _, _) => format!("{d}d"),
        (d, h, _, _) => format!("{d}d {h}h"),
    }
}

/// The first eight digits of an id, enough to tell it from its neighbours.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Text somebody else chose, with everything that could fool a terminal escaped.
pub fn visible(text: &str) -> String {
    trustmesh::graph::visible(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "5", "0s", "-5m", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants_are_rfc_3339_or_milliseconds() {
        let at = Timestamp::from_millis(1_800_000_000_000);
        assert_eq!(instant("1800000000000"), Ok(at));
        assert_eq!(instant("2027-01-15T08:00:00Z"), Ok(at));
        assert_eq!(utc(at), "2027-01-15T08:00:00Z");
        assert!(instant("yesterday").is_err());
        assert!(instant("1969-12-31T23:59:59Z").is_err());
    }

    #[test]
    fn spans_name_their_two_largest_units() {
        for (millis, text) in [
            (7, "7ms"),
            (59_999, "59s"),
            (60_000, "1m"),
            (86_399_999, "23h 59m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(span(millis), text);
        }
    }
}
