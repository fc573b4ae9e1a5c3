//! The line of a decision, written without its event (protocol §17.3, §17.4).
//!
//! A busy receiver records one decision a message, and making an event first, field by field, costs
//! more than all the rest of the audit. What is written here is byte for byte what the event would
//! give; a test holds the two against each other.

use std::collections::HashMap;
use std::sync::Arc;

use data_encoding::HEXLOWER;

use super::Decision;
use crate::proto::chain::VerifiedChain;
use crate::proto::identity::KeyBytes;
use crate::proto::rejection::Rejection;
use crate::proto::signing::ObjectId;
use crate::proto::trust::TrustState;

/// Chains whose text is kept. Most receivers hear a handful of senders at a time.
const TEXTS: usize = 1_024;

/// The text of chains, as of one trust state: names come from its registry.
#[derive(Debug, Default)]
pub(super) struct ChainTexts {
    trust: Option<Arc<TrustState>>,
    /// By the id of the last link, which commits to all above it.
    texts: HashMap<ObjectId, ChainText>,
}

/// What every decision about one chain says of it.
#[derive(Debug)]
struct ChainText {
    /// Sender and key.
    sender: String,
    /// Issuer and links.
    chain: String,
}

impl ChainText {
    fn of(decision: &Decision, sender: Option<KeyBytes>) -> Self {
        let mut text = Self {
            sender: String::new(),
            chain: String::new(),
        };
        if let Some(key) = sender {
            push_sender(&mut text.sender, decision, key);
        }
        if let Some(chain) = &decision.chain {
            push_chain(&mut text.chain, decision, chain);
        }
        text
    }
}

impl ChainTexts {
    /// The text for a decision about a chain whose last holder is the sender.
    fn of(&mut self, decision: &Decision, chain: &VerifiedChain) -> &ChainText {
        let is_current = self
            .trust
            .as_ref()
            .is_some_and(|trust| Arc::ptr_eq(trust, &decision.trust));
        if !is_current || self.texts.len() >= TEXTS {
            self.trust = Some(decision.trust.clone());
            self.texts.clear();
        }
        let leaf = chain.leaf();
        self.texts
            .entry(leaf.id())
            .or_insert_with(|| ChainText::of(decision, Some(leaf.holder())))
    }

    /// Appends the event of a decision, as the members of a JSON object that follow others.
    pub(super) fn push_decision(&mut self, out: &mut String, decision: &Decision) {
        let header = decision.header.as_ref();
        let sender = header.and_then(|header| header.sender);
        let made;
        let text = match &decision.chain {
            Some(chain) if sender == Some(chain.leaf().holder()) => self.of(decision, chain),
            _ => {
                made = ChainText::of(decision, sender);
                &made
            }
        };
        out.push_str(r#","kind":"decision""#);
        match &decision.rejection {
            None => out.push_str(r#","verdict":"allow""#),
            Some(rejection) => push_rejection(out, rejection),
        }
        push_text(out, ",\"subject\":", &decision.delivered);
        if let Some(header) = header {
            push_text(out, ",\"action\":", header.action.name());
        }
        out.push_str(&text.sender);
        out.push_str(match decision.authentic {
            true => r#","claimed":false"#,
            false => r#","claimed":true"#,
        });
        if let Some(header) = header {
            push_hex(out, ",\"mid\":", &header.mid.0);
            push_hex(out, ",\"object\":", &header.object.0);
            if let Some(id) = &header.in_reply_to {
                push_hex(out, ",\"in_reply_to\":", &id.0);
            }
        }
        out.push_str(&text.chain);
        if let Some(trace) = header.and_then(|header| header.traceparent.as_ref()) {
            push_text(out, ",\"trace\":", trace);
        }
        push_number(out, ",\"hops\":", header.map_or(0, |h| u64::from(h.hops)));
        push_number(out, ",\"len\":", decision.len as u64);
        if let Some(digest) = &decision.digest {
            push_hex(out, ",\"digest\":", digest);
        }
        let epochs = decision.trust.epochs();
        push_number(out, ",\"registry\":", epochs.registry);
        push_number(out, ",\"revocations\":", epochs.revocations);
        push_number(out, ",\"policy\":", epochs.policy);
        if let Some(cost) = decision.cost_ns {
            push_number(out, ",\"cost_ns\":", cost);
        }
    }
}

fn push_rejection(out: &mut String, rejection: &Rejection) {
    out.push_str(r#","verdict":"deny""#);
    push_text(out, ",\"class\":", rejection.class().name());
    push_number(out, ",\"code\":", u64::from(rejection.code()));
    push_text(out, ",\"reason\":", &rejection.to_string());
    if let Some(hop) = rejection.hop() {
        push_number(out, ",\"hop\":", u64::from(hop));
    }
}

fn push_sender(out: &mut String, decision: &Decision, key: KeyBytes) {
    if let Some(certificate) = decision.trust.certificate(&key) {
        push_text(out, ",\"sender\":", certificate.agent().as_str());
    }
    push_hex(out, ",\"sender_key\":", &key.0);
}

fn push_chain(out: &mut String, decision: &Decision, chain: &VerifiedChain) {
    push_hex(out, ",\"issuer\":", &chain.issuer().0);
    if chain.links().is_empty() {
        return;
    }
    out.push_str(",\"chain\":");
    push_json(out, &decision.hops(chain));
}

pub(super) fn push_hex(out: &mut String, name: &str, bytes: &[u8]) {
    out.push_str(name);
    out.push('"');
    HEXLOWER.encode_append(bytes, out);
    out.push('"');
}

pub(super) fn push_number(out: &mut String, name: &str, number: u64) {
    out.push_str(name);
    push_json(out, &number);
}

pub(super) fn push_text(out: &mut String, name: &str, text: &str) {
    out.push_str(name);
    push_json(out, text);
}

/// Appends a value in JSON.
fn push_json<T: serde::Serialize + ?Sized>(out: &mut String, value: &T) {
    /// Takes what `serde_json` writes, which is always text.
    struct Text<'a>(&'a mut String);

    impl std::io::Write for Text<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.write_all(bytes).map(|()| bytes.len())
        }

        fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
            let text = std::str::from_utf8(bytes).map_err(std::io::Error::other)?;
            self.0.push_str(text);
            Ok(())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    serde_json::to_writer(Text(out), value)
        // Text and numbers can always be expressed, and memory takes them.
        .expect("text and numbers are expressible in JSON");
}
