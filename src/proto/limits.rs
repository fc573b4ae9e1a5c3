//! The numbers of the protocol (§3), each with its reason. Sizes are in bytes, times in
//! milliseconds. Checked before allocation and cryptography.
//!
//! Three stand with the type they bound:
//! [`AGENT_ID_MAX`](super::identity::AGENT_ID_MAX),
//! [`CERTIFICATE_MAX`](super::certificate::CERTIFICATE_MAX) and
//! [`ROOT_LIFETIME_MAX_MS`](super::root::ROOT_LIFETIME_MAX_MS).

/// Largest envelope header, 2 KiB (§12.1). A header is about 200 bytes; the rest is room for two
/// subjects of [`SUBJECT_MAX`] and the extensions, and keeps the signed bytes on the stack.
pub const HEADER_MAX: usize = 2 * 1024;

/// Most envelopes under one signature: a path of eight hashes, and an index of one byte.
pub const BATCH_MAX: usize = 256;

/// Most hashes in a path: the height of a tree of [`BATCH_MAX`] leaves.
pub const BATCH_PATH_MAX: usize = 8;

/// Largest body of a batch, in bytes: it has six fields of fixed size, 92 bytes at the most.
pub const BATCH_BODY_MAX: usize = 128;

/// Batches whose signature is remembered by a receiver, with their trees: at most 17 KiB each. One
/// that is evicted costs one signature more.
pub const BATCH_CACHE: usize = 2_048;

/// Of those, the ones of one sender, at most 1.1 MB: the messages of a batch arrive together.
pub const BATCH_SHARE: usize = 64;

/// Largest encoded chain, 8 KiB (§7.2): [`LINKS_MAX`] links of [`LINK_MAX`] bytes with their
/// signatures and framing.
pub const CHAIN_MAX: usize = 8 * 1024;

/// Most links in a chain: one root grant and [`REMAINING_MAX`] delegations. Work per message is
/// linear in it, and an authorization nobody can read in one look protects nobody.
pub const LINKS_MAX: usize = 9;

/// Largest link body in bytes (§7.2). 16 capabilities of ordinary length fit.
pub const LINK_MAX: usize = 768;

/// Most capabilities in a link (§6.2): attenuation compares child and parent pairwise, 256 at most.
pub const CAPABILITIES_MAX: usize = 16;

/// Most delegations below a root grant, and the most `remaining` a link may say (§7.1).
pub const REMAINING_MAX: u8 = 8;

/// Most values of one constraint (§6.2): queue groups or recipient keys of a capability.
pub const CONSTRAINT_VALUES_MAX: usize = 16;

/// Longest subject in bytes: what fits a one-byte length, and far below nats-server's
/// `max_control_line` of 4,096.
pub const SUBJECT_MAX: usize = 255;

/// Most tokens in a subject or pattern (§5.1); matching is linear in it.
pub const SUBJECT_TOKENS_MAX: usize = 16;

/// Longest queue group name in a constraint, in bytes (§6.2).
pub const QUEUE_GROUP_MAX: usize = 96;

/// Longest payload type in bytes, enough for any registered media type with a parameter.
pub const PAYLOAD_TYPE_MAX: usize = 96;

/// Most extensions in an envelope header (§12.4).
pub const EXTENSIONS_MAX: usize = 8;

/// Largest total of the extension values of one header, in bytes (§12.4).
pub const EXTENSIONS_BYTES_MAX: usize = 512;

/// Most application headers of a message (§12.3). Generous beside what NATS users send, small
/// beside `max_payload`.
pub const APP_HEADERS_MAX: usize = 64;

/// Largest total of application header names and values, 16 KiB (§12.3).
pub const APP_HEADERS_BYTES_MAX: usize = 16 * 1024;

/// Most chains handed over with one message (§12.3): one per member of a small queue group.
pub const GRANTS_MAX: usize = 8;

/// Largest total of the chains handed over with one message, 16 KiB (§12.3).
pub const GRANTS_BYTES_MAX: usize = 16 * 1024;

/// Default lifetime of an envelope in milliseconds, 10 s. Replay memory is proportional to it.
pub const TTL_DEFAULT_MS: u32 = 10_000;

/// Longest lifetime of an envelope in milliseconds, two minutes (§12.2). The shortest is 1 ms.
pub const TTL_MAX_MS: u32 = 120_000;

/// Default clock tolerance in milliseconds. NTP keeps hosts within tens of milliseconds; five
/// seconds covers a host that has just booted.
pub const CLOCK_SKEW_MS: u64 = 5_000;

/// Largest clock tolerance that can be configured, 10 s in milliseconds (§14.1).
pub const CLOCK_SKEW_MAX_MS: u64 = 10_000;

/// Longest lifetime of any link, certificate or trust file but the root: 30 days in milliseconds
/// (§7.1, §8, §9.4). What is valid for longer is a mistake (seconds taken for milliseconds), not a
/// decision.
pub const LIFETIME_MAX_MS: u64 = 30 * 24 * 3_600_000;

/// Default ceiling of a policy for root grants: 24 hours in milliseconds (§10.1). It is also how
/// long the grant of [`Authority::agent`](crate::services::authority::Authority::agent) lives.
pub const ROOT_GRANT_TTL_MS: u64 = 24 * 3_600_000;

/// Default ceiling of a policy for delegations: one hour in milliseconds (§10.1).
pub const DELEGATION_TTL_MS: u64 = 3_600_000;

/// Most times one piece of work may be forwarded, as the signed hop count says (§12.4); stops
/// loops.
pub const HOPS_MAX: u8 = 16;

/// Replay ids kept per sender and scope (§14.4). At the default lifetime and skew an id lives for
/// 20 s, so this admits 104,000 messages a second from one sender for as long as it likes: about what
/// a core verifies of a stream that is signed in batches.
pub const REPLAY_PER_SENDER: usize = 1 << 21;

/// How long a claim in the shared replay memory lives, in seconds (§14.6): the longest lifetime and
/// the largest skew of two receivers, 140 s, and 40 s for claims that were slow to arrive.
pub const SHARED_REPLAY_AGE_S: u64 = 180;

/// Claims that one receiver makes for one sender in the time a claim lives (§14.6): 364 messages a
/// second. One takes about 250 bytes, so sixteen senders at their limit fill a bucket.
pub const SHARED_REPLAY_PER_SENDER: u64 = 1 << 16;

/// Bytes that the shared replay memory of a mesh may hold (§14.6), about a million claims.
pub const SHARED_REPLAY_BYTES: u64 = 256 * 1024 * 1024;

/// Replay ids kept per scope over all senders (§14.4), about 300 MB at the worst.
pub const REPLAY_TOTAL: usize = 1 << 22;

/// Verified chains kept by one verifier (§7.3). At 2 KiB each about 8 MB; eviction costs
/// signatures, never safety.
pub const CHAIN_CACHE: usize = 4096;

/// Of those, the ones of one sender (§7.3): sixteen who send more, and nobody else, push out others.
pub const CHAIN_SHARE: usize = 256;

/// Senders whose shares of chains, and of batches, are counted at once: 10 MiB of ids when all have
/// theirs.
pub const CACHE_SENDERS: usize = 1024;

/// Rate-limiter buckets kept by one receiver (§10.5), one for each pair of rule and link.
pub const RATE_BUCKETS: usize = 1 << 16;

/// How long a handshake challenge may be answered: 10 s in milliseconds, without skew (§16.7).
pub const CHALLENGE_TTL_MS: u64 = 10_000;

/// How long a session lasts at the most: 15 minutes in milliseconds (§16.8).
pub const SESSION_TTL_MS: u64 = 15 * 60_000;

/// Hellos answered per second by one process, whoever sends them. An answer costs one HMAC, about
/// a microsecond; the budget keeps a flood below 2 % of a core.
pub const HELLOS_PER_SECOND: u32 = 20_000;

/// Proofs verified per second by one process. A proof costs four signatures at the least, so the
/// budget bounds handshakes to about a tenth of a core.
pub const PROOFS_PER_SECOND: u32 = 500;

/// Sessions kept by one process, as many pending ones, and as many used challenges (§3, §16.8).
pub const SESSIONS_MAX: usize = 1 << 16;

/// Largest handshake frame, 12 KiB (§16.2): certificate, chain and two bodies.
pub const HANDSHAKE_MAX: usize = 12 * 1024;

/// Largest timestamp that a handshake carries, 512 bytes (§16.9): one with two signatures fits.
pub const NEWEST_MAX: usize = 512;

/// Largest trust-state file, 64 MiB (§3).
pub const TRUST_FILE_MAX: usize = 64 * 1024 * 1024;

/// Most keys of one role, and thus the most signatures on a trust file (§9.1, §9.2).
pub const ROLE_KEYS_MAX: usize = 16;

/// Most rules in a policy (§10.1). Each decision reads all of them.
pub const RULES_MAX: usize = 256;

/// Most extensions of a policy (§10.7).
pub const POLICY_EXTENSIONS_MAX: usize = 8;

/// Largest value of one extension of a policy, 32 KiB (§10.7): [`APPROVAL_NEEDS_MAX`] patterns of
/// [`SUBJECT_MAX`] bytes, and as much again.
pub const POLICY_EXTENSION_MAX: usize = 32 * 1024;

/// Most entries that say which messages need an approval (§10.7). Each decision reads all of them.
pub const APPROVAL_NEEDS_MAX: usize = 64;

/// Largest approval in bytes (§10.8): ids, epochs and one signature come to about 210. It shares the
/// [`EXTENSIONS_BYTES_MAX`] of a header with the other extensions.
pub const APPROVAL_MAX: usize = 300;

/// Longest lifetime of an approval, one hour in milliseconds (§10.8): as long as a delegation lives
/// by default. Whoever acts for longer asks again.
pub const APPROVAL_TTL_MAX_MS: u64 = 3_600_000;

/// Approvals whose signature is remembered by a receiver, about 200 bytes each. One that is evicted
/// costs one signature more.
pub const APPROVAL_CACHE: usize = 4_096;

/// Approvals that a sender keeps: one for each chain it acts under. Beyond it the one that ends
/// first is forgotten.
pub const APPROVALS_HELD: usize = 1_024;

/// Bytes reserved in every message for the envelope: frame, header, a full chain, and a signature
/// or the proof of a batch (§3). `max_payload` as reported to applications is the server's limit less this.
pub const RESERVE: usize = 11_264;

/// Bytes of a refused, unauthenticated message whose SHA-256 the audit keeps (§17.4).
pub const AUDIT_DIGEST_PREFIX: usize = 256;

/// Signed refusals sent to one requester per second (§15.3).
pub const REFUSALS_PER_SECOND: u32 = 10;

/// Longest join token as text, 4 KiB: what fits a line of a terminal's paste and any secret store.
pub const JOIN_TOKEN_MAX: usize = 4 * 1024;

/// Largest statement of a join token in bytes: a scope as large as a link's ([`LINK_MAX`]) with its
/// ids, signature and framing.
pub const JOIN_STATEMENT_MAX: usize = 1_280;

/// Largest enrolment frame, 12 KiB: certificate, statement and a chain of one link fit twice.
pub const ENROLMENT_MAX: usize = 12 * 1024;

/// How long an offered certificate may be claimed: 10 s in milliseconds, without skew (§22.4).
pub const OFFER_TTL_MS: u64 = 10_000;

/// Longest lifetime of a certificate that a verifier service gives: 24 hours in milliseconds. Who
/// is not renewed is gone within a day, whatever happens to revocation.
pub const SERVED_CERTIFICATE_MAX_MS: u64 = 24 * 3_600_000;

/// Default lifetime of a certificate that a verifier service gives: 12 hours in milliseconds. A
/// renewal after two thirds of it leaves four hours for a service that is down.
pub const SERVED_CERTIFICATE_MS: u64 = 12 * 3_600_000;

/// Used offers remembered by one process; beyond it no further one is taken up.
pub const OFFERS_USED_MAX: usize = 1 << 16;

/// Links that a client remembers having minted, to mint them again: what it handed on within an
/// hour, at one a second.
pub const MINTED_HELD: usize = 4_096;
/// Largest payload of a request to the verifier service and of its answer, 64 KiB. A chain of 8 KiB
/// and the evidence of a report fit.
pub const CONTROL_MAX: usize = 64 * 1024;
/// Agents whose standing is kept by one scorer. An entry is some 200 bytes, and at the most six
/// kilobytes when its history is full of findings that agents with long ids reported.
pub const SCORED_AGENTS_MAX: usize = 1 << 20;

/// Keys whose conduct is watched by one receiver (§14.7). Only registered keys that misbehaved are;
/// at the worst about 60 MB.
pub const BREAKER_KEYS: usize = 1 << 12;

/// Bad messages of one key that are told from their copies (§14.7). As many within the lifetime of a
/// message end in quarantine, whatever else came.
pub const BREAKER_SIGHTINGS: usize = 256;
