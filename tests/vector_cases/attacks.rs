//! Which vectors show which attack: the cases on identities, envelopes, chains and freshness that
//! bytes, state and time can express. What they cannot is in the tests that cite the same ids.

/// The id of an attack, what it is, and the vectors that show it refused (and its harmless
/// neighbour accepted).
pub const ATTACKS: &[(&str, &str, &[&str])] = &[
    ("ID-1", "an unregistered key sends", &["chain/unknown-at-*"]),
    (
        "ID-2",
        "signed by a key that is not the leaf holder's",
        &[
            "chain/event-signed-by-*",
            "batch/key-of-*",
            "batch/message-of-another-signer",
            "batch/signed-by-*",
        ],
    ),
    (
        "ID-3",
        "the victim's name, the attacker's key",
        &["chain/event-signed-by-mallory"],
    ),
    (
        "ID-4",
        "one id, or one key, twice",
        &["certificate/registry-one-*"],
    ),
    (
        "ID-5",
        "no proof of possession",
        &[
            "certificate/possess*=deny",
            "certificate/without-possession",
        ],
    ),
    (
        "ID-6",
        "keys of the wrong length",
        &[
            "certificate/key-31-bytes",
            "certificate/key-33-bytes",
            "certificate/key-empty",
            "link/delegation-holder-of-*",
        ],
    ),
    ("ID-7", "ids outside the grammar", &["certificate/agent-*"]),
    (
        "ID-8",
        "a registry somebody else made",
        &["files/registry-signed-*", "files/registry-unsigned"],
    ),
    (
        "ID-9",
        "another mesh's chain or envelope",
        &[
            "chain/*other-mesh",
            "header/other-mesh",
            "files/registry-other-mesh",
        ],
    ),
    (
        "ID-11",
        "a blocked key under any id",
        &["standing/key-blocked-*"],
    ),
    (
        "ID-12",
        "no scope until approved",
        &["frame/chain-empty", "scope/covers-nothing"],
    ),
    ("EN-1", "one bit turned", &["flips/*"]),
    (
        "EN-2",
        "no signature, or one of another form",
        &[
            "frame/signature-*",
            "frame/without-signature",
            "batch/signature-of-*-bytes",
        ],
    ),
    (
        "EN-3",
        "S + L, and R that is not canonical",
        &["signature/s-*", "signature/r-*", "batch/signature-s-plus-l"],
    ),
    (
        "EN-4",
        "contents exchanged",
        &[
            "content/exchanged",
            "content/other-payload",
            "batch/content-*",
        ],
    ),
    (
        "EN-5",
        "published again on another subject",
        &["route/moved-*"],
    ),
    (
        "EN-6",
        "delivered to somebody else",
        &["route/audience-*", "route/request-audience-*"],
    ),
    (
        "EN-7",
        "another version or suite",
        &["frame/version-*", "header/*=301", "link/*=301"],
    ),
    (
        "EN-8",
        "a field given twice, or one more",
        &["frame/with-*-twice", "header/*twice", "extension/twice"],
    ),
    (
        "EN-9",
        "at a limit, and one above it",
        &[
            "header/of-20*",
            "chain/*of-819*",
            "content/headers-16*",
            "content/grant*-16*",
        ],
    ),
    (
        "EN-10",
        "a holder key without certificate",
        &["chain/unknown-at-*"],
    ),
    (
        "EN-11",
        "text that is none",
        &[
            "header/subject-*utf-8",
            "header/subject-nul",
            "content/header-value-*",
        ],
    ),
    (
        "EN-12",
        "another chain of the same agent",
        &["chain/leaf-of-another-chain", "chain/leaf-names-the-root"],
    ),
    (
        "EN-14",
        "two different modes",
        &["frame/mode-*", "batch/*=112", "batch/*-in-mode-*=103"],
    ),
    (
        "CH-1",
        "an action or subject is added",
        &[
            "scope/below-action-added",
            "scope/below-publish-to-request",
            "scope/below-sibling",
        ],
    ),
    (
        "CH-2",
        "a pattern is widened",
        &[
            "scope/below-star-to-arrow",
            "scope/below-literal-to-star",
            "scope/below-literal-to-arrow",
        ],
    ),
    ("CH-3", "a window is widened", &["chain/window-*"]),
    (
        "CH-4",
        "at the greatest depth, and one above",
        &["chain/links-9", "chain/links-10"],
    ),
    (
        "CH-5",
        "links dropped, exchanged or repeated",
        &[
            "chain/link-dropped",
            "chain/links-exchanged",
            "chain/link-repeated",
            "chain/root-*",
        ],
    ),
    (
        "CH-6",
        "a link signed by a stranger; a stolen chain",
        &["chain/stranger-signs-*", "chain/stolen-chain"],
    ),
    ("CH-7", "a root grant of one's own", &["chain/*issuer-is-*"]),
    (
        "CH-8",
        "issuer and holders not distinct",
        &["chain/holder-again-*", "chain/issuer-holds-*"],
    ),
    (
        "CH-9",
        "an empty scope, an empty pattern",
        &["scope/covers-nothing", "scope/pattern-empty"],
    ),
    ("CH-10", "no chain", &["frame/chain-empty", "chain/links-0"]),
    (
        "CH-11",
        "lifetimes that overflow, are nothing or too long",
        &[
            "header/ttl-*",
            "header/iat-*",
            "link/*window",
            "link/*-30-days*",
        ],
    ),
    (
        "CH-12",
        "constraints unknown, empty or given twice",
        &["scope/kind-*", "scope/groups-*", "scope/recipients-*"],
    ),
    (
        "CH-13",
        "subjects nats-server would or would not match",
        &["subjects/*"],
    ),
    (
        "CH-14",
        "the parent expired, the leaf did not",
        &["chain/expired-at-*"],
    ),
    ("CH-15", "a rate split over children", &["policy/rate-*"]),
    (
        "CH-16",
        "one bad signature in a long chain",
        &["chain/signature-zero-at-*"],
    ),
    (
        "FR-1",
        "the same bytes twice",
        &[
            "fresh/event-twice",
            "fresh/request-twice",
            "batch/twice",
            "batch/again-*",
        ],
    ),
    (
        "FR-2",
        "too late, too early",
        &["time/envelope-late-*", "time/envelope-early-*"],
    ),
    (
        "FR-3",
        "the last instant, and one after",
        &["time/envelope-*"],
    ),
    (
        "FR-4",
        "no end, or one years away",
        &["header/ttl-0", "header/ttl-4294967295", "link/*-30-days*"],
    ),
    (
        "FR-7",
        "an answer to something else, or to nothing",
        &[
            "reply/other-request",
            "reply/no-request",
            "reply/of-a-full-request",
        ],
    ),
    (
        "FR-9",
        "a short id; an id with other content",
        &["header/mid-of-*", "fresh/same-mid-*"],
    ),
];
