//! The service as NATS knows services: `$SRV.PING`, `INFO` and `STATS` (ADR-32).
//!
//! The answers are unsigned and say nothing that decides anything; they let `nats micro` find the
//! service.

use serde_json::Value;
use serde_json::json;

use crate::proto::time::Timestamp;

/// The name that `$SRV.PING.<name>` asks for.
pub(super) const NAME: &str = "trustmesh-verifier";

const DESCRIPTION: &str = "Enrols agents, renews and rotates their keys, and takes authority back";

/// One endpoint and what it has done.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) name: &'static str,
    pub(super) subject: String,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) last_error: String,
    pub(super) nanos: u64,
}

/// The service's face towards `$SRV`.
#[derive(Debug)]
pub(super) struct Micro {
    id: String,
    started: Timestamp,
    pub(super) endpoints: Vec<Endpoint>,
}

impl Micro {
    pub(super) fn new(
        id: String,
        started: Timestamp,
        endpoints: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let endpoint = |(name, subject)| Endpoint {
            name,
            subject,
            requests: 0,
            errors: 0,
            last_error: String::new(),
            nanos: 0,
        };
        Self {
            id,
            started,
            endpoints: endpoints.into_iter().map(endpoint).collect(),
        }
    }

    /// The subjects to listen on.
    pub(super) fn subjects(&self) -> Vec<String> {
        ["PING", "INFO", "STATS"]
            .iter()
            .flat_map(|verb| {
                [
                    format!("$SRV.{verb}"),
                    format!("$SRV.{verb}.{NAME}"),
                    format!("$SRV.{verb}.{NAME}.{}", self.id),
                ]
            })
            .collect()
    }

    /// Notes one request.
    pub(super) fn note(&mut self, subject: &str, error: Option<&str>, nanos: u64) {
        let mut endpoints = self.endpoints.iter_mut();
        if let Some(endpoint) = endpoints.find(|endpoint| endpoint.subject == subject) {
            endpoint.requests += 1;
            endpoint.nanos = endpoint.nanos.saturating_add(nanos);
            if let Some(error) = error {
                endpoint.errors += 1;
                error.clone_into(&mut endpoint.last_error);
            }
        }
    }

    /// The answer to what came on `subject`.
    pub(super) fn answer(&self, subject: &str) -> Option<Value> {
        let verb = subject.strip_prefix("$SRV.")?.split('.').next()?;
        let mut answer = json!({
            "name": NAME,
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": {},
        });
        let kind = match verb {
            "PING" => "ping",
            "INFO" => {
                answer["description"] = json!(DESCRIPTION);
                answer["endpoints"] = self.endpoints.iter().map(info).collect();
                "info"
            }
            "STATS" => {
                answer["started"] = json!(rfc3339(self.started));
                answer["endpoints"] = self.endpoints.iter().map(stats).collect();
                "stats"
            }
            _ => return None,
        };
        answer["type"] = json!(format!("io.nats.micro.v1.{kind}_response"));
        Some(answer)
    }
}

fn info(endpoint: &Endpoint) -> Value {
    json!({
        "name": endpoint.name,
        "subject": endpoint.subject,
        "queue_group": "",
        "metadata": {},
    })
}

fn stats(endpoint: &Endpoint) -> Value {
    json!({
        "name": endpoint.name,
        "subject": endpoint.subject,
        "queue_group": "",
        "num_requests": endpoint.requests,
        "num_errors": endpoint.errors,
        "last_error": endpoint.last_error,
        "processing_time": endpoint.nanos,
        "average_processing_time": endpoint.nanos.checked_div(endpoint.requests).unwrap_or(0),
    })
}

/// An instant as RFC 3339 has it, in UTC, by the calendar of H. Hinnant's `civil_from_days`.
fn rfc3339(at: Timestamp) -> String {
    let (millis, seconds) = (at.as_millis() % 1_000, at.as_millis() / 1_000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_the_calendar_has_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_800_000_000_123, "2027-01-15T08:00:00.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), text);
        }
    }

    #[test]
    fn what_was_asked_is_counted_where_it_was_asked() {
        let endpoints = [
            ("renew", "t.v.renew".to_owned()),
            ("enrol", "t.v.enrol".to_owned()),
        ];
        let mut micro = Micro::new("me".to_owned(), Timestamp::default(), endpoints);
        micro.note("t.v.renew", None, 10);
        micro.note("t.v.renew", Some("Quota"), 20);
        micro.note("elsewhere", None, 5);
        let stats = micro.answer("$SRV.STATS").unwrap();
        let renew = &stats["endpoints"][0];
        assert_eq!(renew["num_requests"], 2);
        assert_eq!(renew["num_errors"], 1);
        assert_eq!(renew["last_error"], "Quota");
        assert_eq!(renew["average_processing_time"], 15);
        assert_eq!(stats["endpoints"][1]["num_requests"], 0);
        assert!(micro.answer("$SRV.OTHER").is_none());
    }
}
