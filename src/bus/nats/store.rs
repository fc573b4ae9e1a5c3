//! Buckets in JetStream, as its key-value clients lay them out: `$KV.<bucket>.<key>` in the stream
//! `KV_<bucket>`.
//!
//! It speaks the JSON of JetStream's API rather than use a client's key-value layer, for what that
//! would do with what anybody may have stored:
//!
//! - Entries are read with `STREAM.MSG.GET`, whose answers are JSON. Watches and direct reads
//!   deliver stored headers as headers, and one with a bare carriage return ends the connection.
//!   It is also the stream's leader that answers, so a read sees what was written before it.
//! - Nothing is sent with a `Nats-Msg-Id`: whoever used the id first would have the server swallow
//!   the write and acknowledge a duplicate. An acknowledged duplicate is an error.
//! - Roll-ups, by which one message empties a bucket, and deletions that leave a marker are not
//!   allowed in the stream; keys are purged.
//! - Older servers accept options they do not know and drop them, so the configuration that comes
//!   back is compared with what was asked, and nothing in it may be set that was not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::supervision::Phase;
use super::supervision::Shared;
use crate::bus::BusFuture;
use crate::bus::HeaderMap;
use crate::bus::HeaderValue;
use crate::bus::Request;
use crate::bus::RequestErrorKind;
use crate::bus::State;
use crate::bus::StatusCode;
use crate::bus::store::BucketConfig;
use crate::bus::store::Entry;
use crate::bus::store::Expect;
use crate::bus::store::Store;
use crate::bus::store::StoreError;
use crate::bus::store::check_key;
use crate::bus::store::check_prefix;
use crate::bus::store::printable;

/// By which a write says what it expects to replace: the number of the subject's last message.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// What a stored message may need beside its value; JetStream's limit counts headers.
const HEADER_ROOM: usize = 1024;

/// The shortest memory for `Nats-Msg-Id` that JetStream has; nothing here uses it.
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);

/// JetStream's error codes that have a meaning here.
mod code {
    pub(super) const NO_MESSAGE: u64 = 10_037;
    pub(super) const NAME_IN_USE: u64 = 10_058;
    pub(super) const NO_STREAM: u64 = 10_059;
    pub(super) const WRONG_LAST: u64 = 10_071;
    pub(super) const WRONG_LAST_CONSTANT: u64 = 10_164;
}

/// What of a stream is the operator's business, and changes nothing that a bucket promises.
const OPERATORS: &[&str] = &[
    "cluster",
    "compression",
    "description",
    "first_seq",
    "metadata",
    "num_replicas",
    "placement",
];

/// A bucket as one connection sees it.
pub(super) struct NatsStore {
    shared: Arc<Shared>,
    config: BucketConfig,
}

impl NatsStore {
    /// Opens the bucket, once the server shows that it is as asked.
    pub(super) async fn open(
        shared: Arc<Shared>,
        config: BucketConfig,
    ) -> Result<Arc<dyn Store>, StoreError> {
        config.check()?;
        let store = Self { shared, config };
        let asked = store.stream_config();
        let found = async {
            match store.describe().await? {
                Some(has) => Ok(has),
                None if store.config.create => store.create(&asked).await,
                None => Err(StoreError::refused("no such bucket")),
            }
        };
        compare(&asked, &store.within(found).await?)?;
        Ok(Arc::new(store))
    }

    fn stream_config(&self) -> Map<String, Value> {
        let BucketConfig {
            max_age,
            max_value_bytes,
            max_bytes,
            ..
        } = self.config;
        let window = max_age.map_or(SHORTEST_WINDOW, |age| age.min(SHORTEST_WINDOW));
        let config = json!({
            "name": self.stream(),
            "subjects": [self.subject(">")],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "num_replicas": 1,
            "max_age": nanoseconds(max_age.unwrap_or_default()),
            "max_bytes": max_bytes,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_msg_size": max_value_bytes.saturating_add(HEADER_ROOM),
            "max_msgs_per_subject": 1,
            "duplicate_window": nanoseconds(window),
            "allow_direct": false,
            "allow_rollup_hdrs": false,
            "deny_delete": true,
            "deny_purge": false,
        });
        match config {
            Value::Object(config) => config,
            _ => Map::new(),
        }
    }

    /// The stream's configuration; `None` when there is no such stream.
    async fn describe(&self) -> Result<Option<Map<String, Value>>, StoreError> {
        let asked = self.api::<Described>("STREAM.INFO", &json!({})).await?;
        match asked {
            Ok(described) => Ok(Some(described.config)),
            Err(error) if error.err_code == code::NO_STREAM => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(&self, asked: &Map<String, Value>) -> Result<Map<String, Value>, StoreError> {
        let asked = Value::Object(asked.clone());
        match self.api::<Described>("STREAM.CREATE", &asked).await? {
            Ok(described) => Ok(described.config),
            // Somebody else was faster; what it made is compared like any other.
            Err(error) if error.err_code == code::NAME_IN_USE => {
                let has = self.describe().await?;
                has.ok_or_else(|| StoreError::refused("the bucket comes and goes"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.config.name)
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.config.name)
    }

    /// Asks JetStream's API about this stream.
    async fn api<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &Value,
    ) -> Result<Result<T, ApiError>, StoreError> {
        let subject = format!("$JS.API.{verb}.{}", self.stream());
        let request = Request::new().payload(body.to_string().into());
        answer(&self.ask(subject, request).await?)
    }

    /// All of a call, within the time that it may take.
    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.config.timeout, call).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::Unreachable("no answer in time".to_owned())),
        }
    }

    /// One question and its answer. The caller limits the time.
    async fn ask(&self, subject: String, request: Request) -> Result<Bytes, StoreError> {
        let unreachable = |how: String| StoreError::Unreachable(printable(&how));
        let link = self.shared.link();
        // async_nats would keep the request and send it when nobody waits for it any more.
        if link.phase != Phase::Live
            || link.client.connection_state() != State::Connected
            || !self.shared.holds(&link)
        {
            return Err(unreachable("not connected".to_owned()));
        }
        let request = request.timeout(None);
        let message = match link.client.send_request(subject, request).await {
            Ok(message) => message,
            Err(error) => {
                let kind = error.kind();
                if matches!(kind, RequestErrorKind::Other) {
                    self.shared.lost(&link);
                }
                return Err(match kind {
                    RequestErrorKind::MaxPayloadExceeded => StoreError::refused(&error.to_string()),
                    _ => unreachable(error.to_string()),
                });
            }
        };
        match message.status {
            None | Some(StatusCode::OK) => Ok(message.payload),
            Some(status) => Err(unreachable(format!("status {status}"))),
        }
    }

    /// The last message at a key, with the number it has, deleted or not.
    async fn last(&self, key: &str) -> Result<Option<Last>, StoreError> {
        let subject = self.subject(key);
        let body = json!({ "last_by_subj": subject });
        let stored = match self.api::<Got>("STREAM.MSG.GET", &body).await? {
            Ok(got) => got.message,
            Err(error) if error.err_code == code::NO_MESSAGE => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if stored.subject != subject {
            return Err(StoreError::refused("an entry of another key"));
        }
        let decode = |text: &str| {
            let bytes = BASE64.decode(text.as_bytes());
            bytes.map_err(|_| StoreError::refused("an entry that is not base64"))
        };
        let deleted = marks_deletion(&decode(&stored.hdrs)?);
        let entry = Entry {
            value: decode(&stored.data)?.into(),
            revision: stored.seq,
        };
        Ok(Some(Last { entry, deleted }))
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        last: Option<u64>,
    ) -> Result<Result<u64, ApiError>, StoreError> {
        let mut request = Request::new().payload(value);
        if let Some(last) = last {
            let mut headers = HeaderMap::new();
            headers.insert(EXPECTED, HeaderValue::from(last));
            request = request.headers(headers);
        }
        let answered = self.ask(self.subject(key), request).await?;
        let ack = match answer::<Ack>(&answered)? {
            Ok(ack) => ack,
            Err(error) => return Ok(Err(error)),
        };
        if ack.duplicate || ack.stream != self.stream() || ack.seq == 0 {
            return Err(StoreError::refused("an acknowledgement of something else"));
        }
        Ok(Ok(ack.seq))
    }

    /// See [`Store::put`].
    async fn replace(&self, key: &str, value: Bytes, expect: Expect) -> Result<u64, StoreError> {
        let last = match expect {
            Expect::Any => None,
            Expect::Absent => Some(0),
            // No message has this number; to JetStream it would mean absent.
            Expect::Revision(0) => return Err(StoreError::Conflict),
            Expect::Revision(revision) => Some(revision),
        };
        match self.write(key, value.clone(), last).await? {
            Ok(revision) => return Ok(revision),
            Err(error) if !error.is_conflict() => return Err(error.into()),
            Err(_) if expect != Expect::Absent => return Err(StoreError::Conflict),
            Err(_) => {}
        }
        // Something is there; only a mark of deletion counts as nothing, and is replaced.
        let mark = match self.last(key).await? {
            Some(last) if last.deleted => last.entry.revision,
            _ => return Err(StoreError::Conflict),
        };
        match self.write(key, value, Some(mark)).await? {
            Ok(revision) => Ok(revision),
            Err(error) if error.is_conflict() => Err(StoreError::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    /// See [`Store::keys`].
    async fn list(&self, prefix: &str, most: usize) -> Result<Vec<String>, StoreError> {
        // Filters know whole tokens only.
        let tokens = prefix.rfind('.').map_or("", |dot| &prefix[..=dot]);
        let filter = self.subject(&format!("{tokens}>"));
        let root = self.subject("");
        let mut keys = Vec::new();
        let mut offset = 0;
        while keys.len() < most {
            let body = json!({ "subjects_filter": filter, "offset": offset });
            let page = self.api::<Listed>("STREAM.INFO", &body).await??;
            let subjects = page.state.subjects.unwrap_or_default();
            offset += subjects.len();
            let last = subjects.is_empty() || offset >= page.total;
            let page = subjects.keys().filter_map(|name| name.strip_prefix(&root));
            // Others may have written keys that these calls cannot name.
            let page = page.filter(|key| key.starts_with(prefix) && check_key(key).is_ok());
            keys.extend(page.map(str::to_owned));
            if last {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        keys.truncate(most);
        Ok(keys)
    }
}

impl Store for NatsStore {
    fn get<'a>(&'a self, key: &'a str) -> BusFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async move {
            check_key(key)?;
            let entry = match self.within(self.last(key)).await? {
                Some(last) if !last.deleted => last.entry,
                _ => return Ok(None),
            };
            self.config.fits(&entry.value)?;
            Ok(Some(entry))
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
    ) -> BusFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            check_key(key)?;
            self.config.fits(&value)?;
            self.within(self.replace(key, value, expect)).await
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BusFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            check_key(key)?;
            let body = json!({ "filter": self.subject(key) });
            let purged = self.api::<Purged>("STREAM.PURGE", &body);
            match self.within(purged).await? {
                Ok(Purged { success: true }) => Ok(()),
                Ok(_) => Err(StoreError::refused("the key is not purged")),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn keys<'a>(
        &'a self,
        prefix: &'a str,
        most: usize,
    ) -> BusFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            check_prefix(prefix)?;
            self.within(self.list(prefix, most)).await
        })
    }
}

impl fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsStore")
            .field("bucket", &self.config.name)
            .finish_non_exhaustive()
    }
}

/// Refuses a stream that is not what was asked: every option asked for is as asked or at its zero
/// where zero was asked, and none is set besides, known here or not.
fn compare(asked: &Map<String, Value>, has: &Map<String, Value>) -> Result<(), StoreError> {
    let names = asked.keys().chain(has.keys());
    for name in names.filter(|name| !OPERATORS.contains(&name.as_str())) {
        let (want, got) = (asked.get(name), has.get(name));
        let same = want == got || (is_zero(want) && is_zero(got));
        if !same {
            let got = got.map_or_else(|| "nothing".to_owned(), Value::to_string);
            return Err(StoreError::Config(printable(&format!("{name} is {got}"))));
        }
    }
    Ok(())
}

/// Whether an option is unset, by being absent or by its value.
fn is_zero(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::Number(number)) => number.as_u64() == Some(0),
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Bool(true)) => false,
    }
}

/// Whether a stored message's header block says that its key was deleted.
fn marks_deletion(headers: &[u8]) -> bool {
    let mut lines = headers.split(|byte| matches!(byte, b'\r' | b'\n'));
    lines.any(|line| {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return false;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let deletes = value.eq_ignore_ascii_case(b"DEL") || value.eq_ignore_ascii_case(b"PURGE");
        (name.eq_ignore_ascii_case(b"KV-Operation") && deletes)
            || name.eq_ignore_ascii_case(b"Nats-Marker-Reason")
    })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads an answer: what was asked for, or JetStream's refusal.
fn answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<Result<T, ApiError>, StoreError> {
    let no_answer = |_| StoreError::refused("an answer that is none");
    let failed: Failed = serde_json::from_slice(bytes).map_err(no_answer)?;
    match failed.error {
        Some(error) => Ok(Err(error)),
        None => serde_json::from_slice(bytes).map(Ok).map_err(no_answer),
    }
}

struct Last {
    entry: Entry,
    deleted: bool,
}

#[derive(Deserialize)]
struct Failed {
    error: Option<ApiError>,
}

/// JetStream's refusal.
#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl ApiError {
    fn is_conflict(&self) -> bool {
        matches!(self.err_code, code::WRONG_LAST | code::WRONG_LAST_CONSTANT)
    }
}

impl From<ApiError> for StoreError {
    fn from(error: ApiError) -> Self {
        Self::refused(&format!("{} ({})", error.description, error.err_code))
    }
}

#[derive(Deserialize)]
struct Described {
    config: Map<String, Value>,
}

#[derive(Deserialize)]
struct Got {
    message: Stored,
}

#[derive(Deserialize)]
struct Stored {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct Ack {
    stream: String,
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Deserialize)]
struct Purged {
    success: bool,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    total: usize,
    state: ListedState,
}

#[derive(Deserialize)]
struct ListedState {
    subjects: Option<BTreeMap<String, u64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_option_dropped_changed_or_added_by_the_server_is_noticed() {
        let asked = object(json!({"deny_delete": true, "max_age": 5, "allow_direct": false}));
        let same = object(json!({
            "deny_delete": true, "max_age": 5, "sealed": false, "consumer_limits": {},
            "num_replicas": 3, "metadata": {"_nats.ver": "2.12.8"}
        }));
        assert_eq!(compare(&asked, &same), Ok(()));
        let others = [
            json!({"max_age": 5}),
            json!({"deny_delete": true, "max_age": 6}),
            json!({"deny_delete": true, "max_age": 5, "allow_direct": true}),
            json!({"deny_delete": true, "max_age": 5, "mirror": {"name": "X"}}),
            json!({"deny_delete": true, "max_age": 5, "an_option_of_tomorrow": "on"}),
        ];
        for other in others {
            let error = compare(&asked, &object(other.clone())).unwrap_err();
            assert!(matches!(error, StoreError::Config(_)), "{other}");
        }
    }

    #[test]
    fn a_mark_of_deletion_is_read_from_any_header_block() {
        for block in [
            "NATS/1.0\r\nKV-Operation: DEL\r\n\r\n",
            "NATS/1.0\r\nX: y\r\nkv-operation:PURGE\r\n\r\n",
            "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n\r\n",
            "X: \rKV-Operation: DEL",
        ] {
            assert!(marks_deletion(block.as_bytes()), "{block:?}");
        }
        for block in [
            "",
            "NATS/1.0\r\nKV-Operation: PUT\r\n\r\n",
            "\r\r:::\n",
            "KV-Operation",
        ] {
            assert!(!marks_deletion(block.as_bytes()), "{block:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            "",
            "{}",
            "[]",
            "+OK",
            "{\"stream\":1}",
            "{\"stream\":\"a\",\"seq\":-1}",
        ] {
            assert!(matches!(
                answer::<Ack>(bytes.as_bytes()),
                Err(StoreError::Refused(_))
            ));
        }
        let refused = answer::<Ack>(b"{\"error\":{\"err_code\":10071},\"stream\":\"\",\"seq\":0}");
        assert!(refused.is_ok_and(|refused| refused.is_err_and(|error| error.is_conflict())));
    }
}
