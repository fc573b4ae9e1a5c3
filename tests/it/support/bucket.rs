//! The bucket of a served mesh in the hands of the bus's owner.

use bytes::Bytes;
use serde_json::json;

use super::plane::Wire;
use super::served::Served;

/// What the bus's owner can do to a bucket.
pub struct Bucket<'a>(pub &'a Served);

impl Bucket<'_> {
    pub async fn wipe(&self) {
        match &self.0.wire {
            Wire::Memory(bus) => bus.bucket(&self.0.bucket()).wipe(),
            Wire::Nats(url) => {
                let raw = async_nats::connect(url).await.unwrap();
                let purge = format!("$JS.API.STREAM.PURGE.KV_{}", self.0.bucket());
                raw.request(purge, json!({}).to_string().into())
                    .await
                    .unwrap();
            }
        }
    }

    pub async fn read(&self, key: &str) -> Option<Bytes> {
        let config = trustmesh::bus::store::BucketConfig::new(self.0.bucket())
            .with_max_value_bytes(trustmesh::proto::trust::BULLETIN_MAX)
            .with_max_bytes(512 * 1024 * 1024)
            .existing();
        let store = self.0.wire.raw().await.store(&config).await.unwrap();
        store.get(key).await.unwrap().map(|entry| entry.value)
    }

    pub async fn overwrite(&self, key: &str, value: Bytes) {
        match &self.0.wire {
            Wire::Memory(bus) => {
                bus.bucket(&self.0.bucket()).overwrite(key, value);
            }
            Wire::Nats(url) => {
                let raw = async_nats::connect(url).await.unwrap();
                let subject = format!("$KV.{}.{key}", self.0.bucket());
                raw.request(subject, value).await.unwrap();
            }
        }
    }

    /// Publishes what makes the server forget everything else in the stream. It refuses that of
    /// everybody, until its owner allows it.
    pub async fn roll_up(&self, value: Bytes) {
        match &self.0.wire {
            Wire::Memory(_) => {
                self.wipe().await;
                self.overwrite("head", value).await;
            }
            Wire::Nats(url) => {
                let raw = async_nats::connect(url).await.unwrap();
                assert!(self.try_roll_up(&raw, &value).await.contains("rollup"));
                self.allow_roll_up(&raw, true).await;
                assert!(!self.try_roll_up(&raw, &value).await.contains("\"error\""));
                // As it was: a bucket that is not as asked for is not opened at all.
                self.allow_roll_up(&raw, false).await;
            }
        }
    }

    async fn allow_roll_up(&self, raw: &async_nats::Client, is_allowed: bool) {
        let api = |verb| format!("$JS.API.STREAM.{verb}.KV_{}", self.0.bucket());
        let info = raw.request(api("INFO"), "".into()).await.unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
        let mut config = info["config"].clone();
        config["allow_rollup_hdrs"] = is_allowed.into();
        let update = config.to_string().into();
        let updated = raw.request(api("UPDATE"), update).await.unwrap();
        let updated = String::from_utf8_lossy(&updated.payload).into_owned();
        assert!(!updated.contains("\"error\""), "{updated}");
    }

    async fn try_roll_up(&self, raw: &async_nats::Client, value: &Bytes) -> String {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Rollup", "all");
        let subject = format!("$KV.{}.head", self.0.bucket());
        let inbox = raw.new_inbox();
        let mut answers = raw.subscribe(inbox.clone()).await.unwrap();
        raw.publish_with_reply_and_headers(subject, inbox, headers, value.clone())
            .await
            .unwrap();
        let answer = futures::StreamExt::next(&mut answers).await.unwrap();
        String::from_utf8_lossy(&answer.payload).into_owned()
    }
}
