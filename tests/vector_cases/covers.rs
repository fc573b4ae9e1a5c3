//! Which vectors exercise which requirement of `docs/protocol.md`.
//!
//! A selector is `[kind:]glob[=expectation]`: the path of a vector with `*` for any text, kept to
//! a kind of case, and to those allowed (`allow`), refused (`deny`) or refused with one code. Each
//! requirement has those that are refused for it and, where there are any, the accepted ones just
//! on the other side.

use super::Case;

/// The requirements that a case exercises, in the order of the table.
pub fn of(case: &Case) -> Vec<&'static str> {
    let exercised = |(_, selectors): &&(&str, &[&str])| {
        selectors.iter().any(|selector| selects(selector, case))
    };
    COVERS.iter().filter(exercised).map(|(id, _)| *id).collect()
}

/// Whether a selector selects a case.
pub fn selects(selector: &str, case: &Case) -> bool {
    let (kind, rest) = match selector.split_once(':') {
        Some((kind, rest)) => (Some(kind), rest),
        None => (None, selector),
    };
    let (glob, expectation) = match rest.split_once('=') {
        Some((glob, expectation)) => (glob, Some(expectation)),
        None => (rest, None),
    };
    let expected = match expectation {
        None => true,
        Some("allow") => case.code.is_none(),
        Some("deny") => case.code.is_some(),
        Some(code) => case.code == Some(code.parse().expect("a code is a number")),
    };
    expected && kind.is_none_or(|kind| kind == case.kind) && fits(glob, &case.path())
}

/// Whether a text fits a glob: its parts stand in the text in order, the first at the beginning
/// and the last at the end.
fn fits(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

/// Each requirement and its selectors.
pub const COVERS: &[(&str, &[&str])] = &[
    (
        "M-order-first-fault",
        &[
            "order/*",
            "files/*-bad-signature-and-body",
            "root/pin-before-development",
            "header/lifetime-before-combination",
            "fresh/*-before-signature",
            "approval/*-and-*",
            "policy/first-rule-first",
            "policy/within-a-rule-mode-first",
            "batch/order-*",
            "batch/replayed-before-*",
            "batch/audit-*-and-*",
            "served/*-bad-signature-and-body",
            "served/missing-and-faulty",
        ],
    ),
    (
        "M-order-no-partial",
        &[
            "fresh/after-*",
            "batch/after-*",
            "reply/after-a-forgery",
            "policy/rate-refused-*",
            "approval/after-*",
            "handshake/cookie-after-a-forgery",
            "audit/after-a-refused-batch",
            "follow/after-*",
            "succession/after-a-forgery",
        ],
    ),
    (
        "M-ed25519-key-encoding",
        &[
            "*/key-*-above-p",
            "*/key-neutral-with-sign",
            "*/key-no-point",
            "*/key-all-ones",
        ],
    ),
    (
        "M-ed25519-key-small-order",
        &["*/key-neutral", "*/key-order-*"],
    ),
    ("M-ed25519-key-torsion", &["*/key-mixed-order"]),
    (
        "M-ed25519-s-range",
        &["signature/s-*", "batch/signature-s-plus-l"],
    ),
    (
        "M-ed25519-r-encoding",
        &[
            "signature/r-*-above-p",
            "signature/r-neutral-with-sign",
            "signature/r-no-point",
            "signature/r-all-ones",
        ],
    ),
    (
        "M-ed25519-r-small-order",
        &["signature/r-neutral", "signature/r-order-*"],
    ),
    (
        "M-ed25519-equation",
        &[
            "signature/accepted",
            "signature/equation-*",
            "batch/signature-times-cofactor",
            "signature/r-and-s-exchanged",
            "flips/*signature*=401",
        ],
    ),
    (
        "M-tag-signature",
        &[
            "tags/*",
            "batch/as-*",
            "batch/signature-of-the-*",
            "root/signed-under-*",
            "files/*-signed-under-*",
            "approval/signed-under-*",
            "files/policy-relabelled",
            "certificate/*-under-*",
            "handshake/*-signed-under-*",
            "audit/signed-under-*",
            "served/*-signed-under-*",
        ],
    ),
    ("M-wire-truncated", &["*=101"]),
    (
        "M-wire-array-claim",
        &[
            "chain/claims-*",
            "frame/array-header-alone",
            "header/cut-after-2",
            "root/file-body-empty",
            "order/array-claim-and-count",
        ],
    ),
    ("M-wire-trailing", &["*=102"]),
    ("M-wire-type", &["*=103"]),
    ("M-wire-canonical", &["*=104"]),
    ("M-wire-bin-length", &["*-bytes=105", "files/*-none=105"]),
    (
        "M-wire-array-length",
        &[
            "scope/of-*",
            "header/no-values",
            "*with-*=105",
            "*without-*=105",
            "*-of-*=105",
            "*twice=105",
            "*/of-*-values=105",
            "flips/*-array-bit-*=105",
        ],
    ),
    ("M-wire-range", &["*=106"]),
    ("M-wire-text", &["*=107"]),
    ("M-wire-too-large", &["*=201"]),
    (
        "M-version-object",
        &[
            "header/v-*=301",
            "link/*-v-*=301",
            "certificate/v-*=301",
            "root/v-*=301",
            "files/*-v-*=301",
            "handshake/*-v-*=301",
            "flips/*=301",
            "batch/v-*=301",
            "order/header-version-and-mode",
            "batch/order-version-and-index",
            "served/*-v-2",
        ],
    ),
    (
        "M-version-frame",
        &[
            "frame/version-*=301",
            "root/frame-version-*",
            "handshake/*-frame-version-*",
            "order/version-and-mode",
            "served/*-frame-version-2",
        ],
    ),
    (
        "M-agent-id",
        &[
            "certificate/agent-*=110",
            "certificate/agent-*=allow",
            "certificate/agent-97-bytes",
            "*=110",
        ],
    ),
    (
        "M-subject-grammar",
        &[
            "subjects/grammar*",
            "header/subject-*=109",
            "header/subject-*=allow",
            "header/reply-*=109",
        ],
    ),
    (
        "M-subject-pattern-grammar",
        &[
            "subjects/grammar*",
            "scope/pattern-*=109",
            "scope/pattern-*=allow",
            "files/rule-pattern-*",
        ],
    ),
    (
        "M-subject-size",
        &[
            "subjects/grammar-limits",
            "header/subject-25*-bytes",
            "scope/pattern-25*-bytes",
            "files/rule-pattern-long",
        ],
    ),
    (
        "M-subject-matches",
        &[
            "subjects/matches*",
            "route/subscribed-*",
            "scope/covers-*",
            "scope/reserved-*",
        ],
    ),
    (
        "M-subject-contains",
        &["subjects/contains*", "scope/below-*"],
    ),
    (
        "M-subject-overlaps",
        &[
            "subjects/overlaps*",
            "standing/receiver-policy-denies-a-corner",
        ],
    ),
    ("M-scope-count", &["scope/capabilities-*"]),
    (
        "M-scope-actions",
        &["scope/actions-*=106", "scope/actions-*=allow"],
    ),
    ("M-scope-empty-pattern", &["*=1506"]),
    (
        "M-scope-constraint-order",
        &[
            "scope/groups-and-recipients",
            "scope/recipients-and-groups",
            "scope/groups-twice",
            "scope/recipients-twice",
            "scope/kind-0",
        ],
    ),
    ("M-scope-constraint-kind", &["scope/kind-*"]),
    (
        "M-scope-constraint-count",
        &["scope/groups-1*", "scope/recipients-1*"],
    ),
    (
        "M-scope-constraint-group",
        &["scope/group-*", "scope/groups"],
    ),
    (
        "M-scope-constraint-values",
        &[
            "scope/*-none",
            "scope/*-same",
            "scope/*-descending",
            "scope/recipients",
        ],
    ),
    (
        "M-scope-covers",
        &[
            "scope/covers-*",
            "scope/request-with-*",
            "scope/reserved-*",
            "*=1501",
        ],
    ),
    (
        "M-scope-recipient",
        &[
            "scope/recipient-*=1505",
            "scope/recipient-*=allow",
            "scope/recipient-somebody-else",
        ],
    ),
    (
        "M-scope-attenuation",
        &["scope/below-*", "scope/narrowed-*"],
    ),
    (
        "M-link-arity",
        &[
            "link/root-with*",
            "link/delegation-with*",
            "link/root-as-delegation",
            "link/delegation-as-root",
            "chain/root-*=105",
        ],
    ),
    (
        "M-link-lifetime",
        &[
            "link/*=111",
            "link/root-30-days*",
            "link/delegation-30-days",
            "link/root-1-ms",
        ],
    ),
    (
        "M-link-remaining",
        &[
            "link/*-remaining-9",
            "link/*-remaining-25*",
            "order/chain-and-leaf",
        ],
    ),
    ("M-link-ext", &["link/*=113"]),
    (
        "M-chain-size",
        &[
            "chain/*of-819*",
            "chain/longest",
            "handshake/proof-chain-of-8193-bytes",
        ],
    ),
    (
        "M-chain-empty",
        &[
            "chain/links-0",
            "chain/alone-links-0",
            "handshake/proof-chain-empty",
            "flips/chain-array-bit-1",
        ],
    ),
    ("M-chain-links", &["chain/*links-1*", "chain/*links-9"]),
    (
        "M-chain-link-size",
        &["chain/link-*-of-*-bytes", "chain/longest"],
    ),
    ("M-chain-distinct", &["*=1404", "chain/holders-distinct"]),
    ("M-chain-parent", &["*=1402", "chain/in-order"]),
    (
        "M-chain-remaining",
        &["chain/remaining-*", "order/remaining-and-window"],
    ),
    (
        "M-chain-window",
        &["chain/window-*", "order/window-and-scope"],
    ),
    (
        "M-chain-signature",
        &[
            "handshake/initiator-chain-bad-signature",
            "chain:*=allow",
            "chain/signature-zero-*",
            "chain/stranger-signs-*",
            "chain/holder-signs-*",
            "chain/links-*=allow",
            "tags/root-grant-*",
            "tags/delegation-*",
            "flips/*-signature-*",
        ],
    ),
    ("M-chain-warm", &["fresh/same-*"]),
    (
        "M-standing-mesh",
        &[
            "chain/*other-mesh",
            "order/chain-mesh-and-issuer",
            "order/mesh-and-freshness-alone",
        ],
    ),
    ("M-standing-issuer", &["*=1702"]),
    (
        "M-standing-unknown",
        &["chain:*=601", "message:*=601", "handshake:*=601"],
    ),
    (
        "M-standing-window",
        &[
            "time/certificate-*",
            "standing/expired-*",
            "standing/not-yet-valid-*",
            "standing/*-key*=1101",
            "standing/*-key*=1001",
            "standing/*-key=allow",
            "handshake/*-expired",
            "handshake/*-not-yet-valid",
            "audit/emitter-expired",
            "audit/emitter-not-yet-valid",
            "order/certificate-and-blocked-key",
        ],
    ),
    ("M-standing-blocked-key", &["*=1901"]),
    ("M-standing-blocked-agent", &["*=1902"]),
    ("M-standing-allowed", &["*=1903", "standing/allowed"]),
    (
        "M-standing-links",
        &[
            "time/link-*",
            "time/chain-link-*",
            "chain/expired-*",
            "chain/early-*",
            "handshake/initiator-chain-expired",
        ],
    ),
    (
        "M-chain-holder",
        &["chain/not-ours-*", "order/holder-last-alone"],
    ),
    (
        "M-cert-size",
        &[
            "certificate/of-*-bytes",
            "handshake/proof-certificate-of-513-bytes",
        ],
    ),
    (
        "M-cert-lifetime",
        &["certificate/window-*", "certificate/nbf-after-exp"],
    ),
    ("M-cert-ext", &["certificate/ext-*=113"]),
    (
        "M-cert-mesh",
        &[
            "certificate/other-mesh",
            "order/certificate-mesh-and-registrar",
        ],
    ),
    ("M-cert-registrar", &["certificate/registrar-*=1704"]),
    (
        "M-cert-signature",
        &[
            "certificate/accepted",
            "certificate/signed-*",
            "certificate/signature-all-zero",
        ],
    ),
    (
        "M-cert-possession",
        &[
            "certificate/accepted",
            "certificate/possess*=401",
            "certificate/registry-bad-*",
        ],
    ),
    (
        "M-file-magic",
        &[
            "root/magic-*",
            "root/file-empty",
            "order/file-magic-and-signatures",
            "served/*-magic",
            "succession/magic",
        ],
    ),
    (
        "M-file-kind",
        &[
            "root/kind-*",
            "files/*-for-*",
            "served/*-kind-2",
            "served/*-kind-exchanged",
            "served/part-*-other-kind",
            "succession/kind-2",
        ],
    ),
    (
        "M-file-signatures-count",
        &["root/signature-1*", "succession/signatures-3*"],
    ),
    (
        "M-file-signatures-order",
        &[
            "root/signed-descending",
            "root/signed-same-twice",
            "succession/descending",
            "succession/same-twice",
        ],
    ),
    (
        "M-file-index",
        &["root/signed-by-no-position", "root/signed-by-position-255"],
    ),
    (
        "M-file-signature",
        &["root/signed-*=401", "root/signature-*=401", "files/*=401"],
    ),
    (
        "M-file-threshold",
        &[
            "trust:*=allow",
            "root/signed-*=1704",
            "root/role*=1704",
            "files/*-unsigned",
        ],
    ),
    ("M-root-version", &["root/version-*=301"]),
    (
        "M-root-roles-count",
        &[
            "root/roles-8",
            "succession/without-scores",
            "succession/other-*=allow",
            "succession/same-keys",
        ],
    ),
    (
        "M-root-role-number",
        &["root/role-0", "root/role-8", "root/role-timestamp"],
    ),
    (
        "M-root-role-order",
        &["root/role-twice", "root/role-descending"],
    ),
    ("M-root-keys-count", &["root/keys-1*"]),
    (
        "M-root-key-twice",
        &["root/key-twice", "root/key-in-two-roles"],
    ),
    ("M-root-threshold", &["root/threshold-*"]),
    ("M-root-lifetime", &["root/window-*", "succession/window-*"]),
    ("M-root-ext", &["root/extension-*"]),
    (
        "M-file-mesh",
        &["files/*-other-mesh", "served/*-other-mesh"],
    ),
    (
        "M-file-lifetime",
        &[
            "files/*-no-time",
            "files/*-30-days*",
            "served/*-no-time",
            "served/snapshot-of-*",
        ],
    ),
    ("M-file-ext", &["files/*-ext=113", "served/part-*ext-*"]),
    (
        "M-scores-range",
        &["files/score-*=106", "files/score-0-and-1000"],
    ),
    ("M-scores-order", &["files/score-*=117"]),
    ("M-assemble-pin", &["root/pin-*"]),
    ("M-assemble-dev", &["root/dev-*", "root/no-dev-admitted"]),
    (
        "M-assemble-key-twice",
        &["certificate/registry-*=117", "certificate/registry-*=allow"],
    ),
    ("M-assemble-whole", &["trust:*=deny"]),
    ("M-replace-root", &["files/replacing-other-root"]),
    (
        "M-replace-epochs",
        &[
            "files/replacing-*-older",
            "files/replacing-*-newer",
            "files/replacing-older",
            "files/replacing-newer",
            "files/replacing-same",
        ],
    ),
    ("M-replace-scores", &["files/replacing-*scores*"]),
    (
        "M-replace-revocations",
        &[
            "files/replacing-link-*",
            "files/replacing-key-*",
            "files/replacing-agent-*",
        ],
    ),
    ("M-fresh-root", &["time/root-*"]),
    (
        "M-fresh-registry",
        &[
            "time/registry-*",
            "handshake/initiator-stale-state",
            "audit/stale",
        ],
    ),
    ("M-fresh-policy", &["time/policy-*"]),
    ("M-fresh-revocations", &["time/revocations-*"]),
    ("M-fresh-scores", &["time/scores-*"]),
    ("M-policy-ceilings", &["files/ceilings-*"]),
    ("M-policy-lists", &["files/blocked-*", "files/allowed-*"]),
    ("M-policy-rules-count", &["files/rules-25*"]),
    (
        "M-policy-rule-names",
        &["files/rules-two", "files/rules-same-name"],
    ),
    ("M-rule-effect", &["files/rule-effect-*"]),
    ("M-rule-actions", &["files/rule-actions-*"]),
    ("M-rule-name", &["files/rule-name-*"]),
    (
        "M-rule-deny-limits",
        &["files/rule-deny-*", "files/rule-effect-0"],
    ),
    (
        "M-rule-limits",
        &[
            "files/rule-score-*",
            "files/rule-rate*",
            "files/rule-modes-*",
        ],
    ),
    (
        "M-policy-lifetimes",
        &[
            "link/*-1-ms-over",
            "link/root-24-hours",
            "link/delegation-1-hour",
            "*=1507",
        ],
    ),
    (
        "M-permit-approval",
        &[
            "approval/*=2008",
            "approval/approved",
            "approval/nine-links",
            "approval/in-a-batch",
            "approval/answer-with",
            "approval/after-a-refusal",
        ],
    ),
    (
        "M-permit-approval-else",
        &["approval/*-with-garbage=allow", "approval/*-without=allow"],
    ),
    (
        "M-policy-ext-count",
        &["files/approval-ext-nine", "files/approval-ext-one"],
    ),
    (
        "M-policy-ext-size",
        &["files/approval-ext-value-32769-bytes"],
    ),
    (
        "M-policy-ext-order",
        &[
            "files/approval-ext-twice",
            "files/scoring-twice",
            "files/scoring-before-approval",
            "files/scoring-after-approval",
        ],
    ),
    (
        "M-policy-ext-known",
        &[
            "files/policy-ext",
            "files/approval-ext-not-critical",
            "files/approval-ext-id-*",
            "files/approval-ext-one",
            "files/scoring-not-critical",
        ],
    ),
    (
        "M-policy-ext-value",
        &[
            "files/approval-ext-value-*",
            "files/approval-needs-*=allow",
            "files/scoring-value-*",
        ],
    ),
    (
        "M-needs-count",
        &["files/approval-needs-none", "files/approval-needs-6*"],
    ),
    ("M-needs-actions", &["files/approval-needs-actions-*"]),
    (
        "M-needs-order",
        &[
            "files/approval-needs-pattern-twice",
            "files/approval-needs-*scending",
        ],
    ),
    (
        "M-approval-form",
        &[
            "approval/approved",
            "approval/empty",
            "approval/v-2",
            "approval/ext",
            "approval/epoch-*",
            "approval/mesh-15-bytes",
            "approval/body-*",
            "approval/*trailing",
            "approval/of-two-values",
            "approval/301-bytes",
        ],
    ),
    (
        "M-approval-lifetime",
        &["approval/an-hour*", "approval/no-time"],
    ),
    ("M-approval-mesh", &["approval/other-mesh"]),
    (
        "M-approval-registrar",
        &[
            "approval/registrar-1",
            "approval/signed-by-*",
            "approval/signed-under-*",
            "approval/signature-zero",
            "approval/bad-signature-after-a-good",
        ],
    ),
    (
        "M-approval-chain",
        &[
            "approval/other-leaf",
            "approval/other-bytes",
            "approval/of-*",
            "approval/twice*",
        ],
    ),
    (
        "M-approval-end",
        &["approval/1-ms-beyond-the-chain", "approval/an-hour"],
    ),
    (
        "M-approval-policy",
        &[
            "approval/policy-*",
            "approval/registry-*",
            "approval/revocations-*",
        ],
    ),
    (
        "M-approval-window",
        &["approval/begins-*", "approval/ends-*", "approval/ended-*"],
    ),
    (
        "M-approval-spares-nothing",
        &[
            "approval/bad-link",
            "approval/revoked",
            "approval/no-rule-*",
            "approval/denied-*",
            "approval/too-old-*",
        ],
    ),
    (
        "M-scoring-form",
        &[
            "files/scoring-one",
            "files/scoring-value-*",
            "files/scoring-*-too-long",
            "files/scoring-*-too-wide",
            "files/scoring-*-as-nil",
            "files/scoring-*-as-float",
            "files/scoring-start-65536*",
            "files/scoring-percent-256",
            "files/scoring-lapse-4-gib",
        ],
    ),
    (
        "M-scoring-scores",
        &[
            "files/scoring-scores-least",
            "files/scoring-scores-most",
            "files/scoring-start-*",
            "files/scoring-alarm-over",
            "files/scoring-cost-*",
            "files/scoring-reward-*=allow",
            "files/scoring-reward-*=106",
            "files/scoring-quiet-*",
            "files/scoring-sum-*",
            "files/scoring-endorsement-over",
            "files/scoring-lapse-*",
        ],
    ),
    (
        "M-scoring-quarantine",
        &[
            "files/scoring-quarantine-least",
            "files/scoring-quarantine-most",
            "files/scoring-window-*",
            "files/scoring-bad-*",
            "files/scoring-percent-*",
            "files/scoring-first-*",
            "files/scoring-longest-over",
            "files/scoring-probation-over",
            "files/scoring-relapse-*",
        ],
    ),
    ("M-scoring-default", &["files/scoring-defaults*"]),
    ("M-permit-ttl", &["policy/ttl-*", "order/ttl-and-deny-rule"]),
    (
        "M-permit-deny",
        &["policy/deny-*", "policy/reserved-denied-*"],
    ),
    (
        "M-permit-mode",
        &[
            "policy/modes-*",
            "batch/modes-*",
            "policy/within-a-rule-mode-first",
            "order/mode-and-age",
        ],
    ),
    ("M-permit-age", &["policy/age-*", "order/age-and-depth"]),
    (
        "M-permit-depth",
        &["policy/depth-*", "policy/*binds", "order/depth-and-score"],
    ),
    (
        "M-permit-score",
        &["policy/score*", "order/score-and-session"],
    ),
    (
        "M-permit-session",
        &["policy/session-*", "policy/first-rule-first"],
    ),
    (
        "M-permit-none",
        &[
            "policy/*=2001",
            "policy/allowed",
            "policy/exact-subject",
            "policy/reserved-by-*",
            "policy/other-does-not",
            "reply/policy*",
        ],
    ),
    ("M-rate-exceeded", &["policy/rate-*", "batch/rate-*"]),
    (
        "M-rate-links",
        &[
            "policy/rate-split-over-children",
            "policy/rate-one-of-each",
            "policy/rate-other-chain",
        ],
    ),
    ("M-rate-refused", &["policy/rate-refused-*"]),
    (
        "M-permit-sub-deny",
        &[
            "standing/receiver-policy-denies-a-corner",
            "order/subscription-denied-and-no-rule",
        ],
    ),
    (
        "M-permit-sub-none",
        &[
            "standing/receiver-policy-none",
            "standing/receiver-policy-allows",
        ],
    ),
    ("M-revocations-order", &["files/revoked-*"]),
    ("M-revoked-issuer", &["standing/issuer-revoked"]),
    (
        "M-revoked-link",
        &["standing/link-*", "standing/receiver-link-revoked"],
    ),
    (
        "M-revoked-key",
        &[
            "standing/*key-revoked-*",
            "order/revoked-and-signature",
            "handshake/*=1802",
            "order/revoked-key-and-agent",
        ],
    ),
    (
        "M-revoked-agent",
        &["standing/*agent-revoked-*", "handshake/*=1803"],
    ),
    (
        "M-frame-magic",
        &[
            "frame/magic-*",
            "frame/text-of-a-plain-message",
            "frame/empty",
            "flips/magic-*",
            "order/magic-and-all-else",
            "audit/magic",
        ],
    ),
    ("M-frame-header-size", &["header/of-20*-bytes"]),
    ("M-frame-content-length", &["*=116"]),
    ("M-header-mode-match", &["*=112"]),
    (
        "M-header-mode",
        &["frame/mode-*=301", "frame/accepted", "batch/of-1-at-0"],
    ),
    (
        "M-header-action",
        &["header/action-*=106", "flips/action-*"],
    ),
    (
        "M-header-payload-type",
        &["header/payload_type-9*", "header/payload_type-*=allow"],
    ),
    (
        "M-header-ttl",
        &["header/ttl-*=111", "header/ttl-*=106", "header/ttl-*=allow"],
    ),
    ("M-header-time-overflow", &["header/iat-*"]),
    (
        "M-header-combination",
        &[
            "*=115",
            "header/event-with-audience",
            "header/request-without-audience",
            "header/accepted-*",
        ],
    ),
    (
        "M-content-digest",
        &[
            "audit/other-content",
            "batch/content-*",
            "content/*=401",
            "content/digest-tagged",
            "flips/content-payload-*",
            "flips/digest-*",
        ],
    ),
    ("M-content-headers-count", &["content/headers-6*"]),
    ("M-content-headers-size", &["content/headers-1*"]),
    (
        "M-content-header-text",
        &["content/header*=107", "content/header*=allow"],
    ),
    (
        "M-content-grants-count",
        &["content/grants-8", "content/grants-9"],
    ),
    (
        "M-content-grants-size",
        &[
            "content/grant*-bytes",
            "content/grant",
            "content/grant-empty",
        ],
    ),
    ("M-ext-count", &["extension/*-of-them"]),
    (
        "M-ext-order",
        &[
            "extension/twice",
            "extension/unknown-twice",
            "extension/descending",
            "extension/all-three",
        ],
    ),
    ("M-ext-size", &["extension/51*"]),
    (
        "M-ext-critical-flag",
        &[
            "extension/epochs-critical",
            "extension/trace-critical",
            "extension/hops-not-critical",
            "extension/unknown-critical",
        ],
    ),
    ("M-ext-epochs", &["extension/epochs*"]),
    ("M-ext-traceparent", &["extension/trace*"]),
    ("M-ext-hops-form", &["extension/hops-*"]),
    ("M-ext-hops", &["extension/hops-1*", "extension/hops-255"]),
    ("M-ext-unknown-critical", &["extension/unknown-*critical"]),
    (
        "M-ext-approval",
        &[
            "extension/unknown",
            "extension/approval-*",
            "approval/*-with-garbage=allow",
        ],
    ),
    (
        "M-ext-unknown",
        &["extension/unknown-5", "extension/unknown-highest"],
    ),
    (
        "M-batch-body-size",
        &["batch/body-of-*", "batch/*-of-256-bytes=201"],
    ),
    (
        "M-batch-path-size",
        &[
            "batch/path-of-257-bytes",
            "batch/path-of-9-hashes",
            "batch/of-257-at-0",
            "batch/of-256-at-0",
            "batch/order-path-size-*",
        ],
    ),
    (
        "M-batch-count",
        &[
            "batch/n-*=106",
            "batch/of-1-at-0",
            "batch/of-256-at-*=allow",
            "batch/order-n-and-root",
        ],
    ),
    (
        "M-batch-ext",
        &["batch/ext-not-empty", "batch/order-extension-*"],
    ),
    (
        "M-batch-index",
        &[
            "batch/of-*-at-*=106",
            "batch/of-*-at-*=allow",
            "batch/order-index-and-path",
        ],
    ),
    (
        "M-batch-path-length",
        &[
            "batch/path-*=105",
            "batch/n-*=105",
            "batch/last-joined-with-itself",
            "batch/of-*-at-*=allow",
            "batch/order-path-and-chain-size",
            "batch/order-proof-and-header",
            "batch/order-trailing-and-proof",
        ],
    ),
    (
        "M-batch-mesh",
        &["batch/other-mesh", "batch/order-mesh-and-*"],
    ),
    (
        "M-batch-key",
        &["batch/*=701", "batch/order-*-and-key", "batch/order-key-*"],
    ),
    (
        "M-batch-path",
        &[
            "batch/of-*-at-*=allow",
            "batch/path-*=401",
            "batch/index-*",
            "batch/proof-of-another-index",
            "batch/neighbour-*",
            "batch/own-leaf-for-neighbour",
            "batch/other-root",
            "batch/leaf-for-root",
            "batch/n-*=401",
            "batch/n-*=allow",
            "batch/*-of-another-batch",
            "batch/header-changed",
            "batch/met-path",
            "batch/met-index",
            "batch/met-root",
            "batch/met-header-not-in-it",
            "batch/order-path-and-content-form",
        ],
    ),
    (
        "M-batch-signature",
        &[
            "batch/as-*",
            "batch/signed-by-*",
            "batch/signature-*=401",
            "batch/met-signature*",
            "batch/met-body",
            "batch/order-signature-*",
        ],
    ),
    (
        "M-batch-tree",
        &[
            "batch/leaf-*",
            "batch/node-*",
            "batch/last-joined-with-itself",
            "batch/of-*-at-*=allow",
        ],
    ),
    (
        "M-batch-form",
        &[
            "batch/signature-in-mode-2",
            "batch/proof-in-mode-*",
            "frame/mode-2-*=103",
        ],
    ),
    (
        "M-batch-alone",
        &[
            "batch/mixed-*",
            "batch/met-second",
            "batch/met-all",
            "batch/after-*",
            "batch/rate-of-each",
        ],
    ),
    ("M-batch-known", &["batch/met-*"]),
    (
        "M-batch-replay",
        &["batch/*=1201", "batch/met-second", "batch/met-all"],
    ),
    (
        "M-verify-mesh",
        &[
            "header/other-mesh",
            "header/mesh-zero",
            "flips/mesh-*",
            "order/mesh-and-subject",
        ],
    ),
    (
        "M-verify-subject",
        &["message:*=901", "answer:*=901", "route/accepted"],
    ),
    ("M-verify-reply", &["*=903"]),
    ("M-verify-not-asked", &["*=1304"]),
    ("M-verify-pattern", &["route/subscribed-*", "*=902"]),
    ("M-verify-no-request", &["*=1301"]),
    ("M-verify-not-a-reply", &["answer:*=1303"]),
    (
        "M-verify-other-request",
        &["*=1302", "reply/of-a-full-request"],
    ),
    ("M-verify-audience", &["route/*audience-*", "*=801"]),
    (
        "M-verify-time",
        &[
            "flips/iat-high*",
            "time/envelope-*",
            "time/clock-*",
            "reply/early",
            "reply/late",
            "reply/just-*",
        ],
    ),
    ("M-verify-leaf", &["message:*=1403"]),
    (
        "M-verify-responder",
        &["reply/responder-*", "order/responder-and-standing"],
    ),
    ("M-verify-own-inbox", &["route/inbox-*", "*=904"]),
    (
        "M-verify-signature",
        &[
            "message:*=allow",
            "answer:*=allow",
            "frame/signature-all-zero",
            "chain/event-signed-by-*",
            "chain/stolen-chain",
            "batch/*=401",
            "tags/envelope-*",
            "flips/*=401",
            "reply/signed-by-another",
            "fresh/same-chain-bad-signature",
            "signature/*",
        ],
    ),
    ("M-verify-duty", &["reply/serve-*", "reply/policy*"]),
    (
        "M-verify-hop",
        &[
            "chain/*-at-*",
            "standing/*-at-*",
            "chain/signature-zero-*",
            "standing/link-revoked-*",
            "scope/below-at-*",
        ],
    ),
    ("M-receiver-window", &["time/receiver-*"]),
    (
        "M-receiver-standing",
        &[
            "standing/receiver-unknown",
            "standing/receiver-blocked",
            "time/receiver-certificate*",
        ],
    ),
    (
        "M-receiver-revoked",
        &["standing/receiver-*-revoked", "standing/receiver-*revoked"],
    ),
    (
        "M-receiver-policy",
        &[
            "standing/receiver-policy-*",
            "order/subscription-denied-and-no-rule",
        ],
    ),
    ("M-window-from", &["time/*-begins-*", "time/*-before-*"]),
    ("M-window-until", &["time/*-last-*", "time/*-over-*"]),
    (
        "M-time-from",
        &[
            "time/envelope-first-*",
            "time/envelope-early-*",
            "audit/early",
            "audit/first-instant",
        ],
    ),
    (
        "M-time-until",
        &[
            "time/envelope-last-*",
            "time/envelope-late-*",
            "audit/late",
            "audit/last-instant",
        ],
    ),
    (
        "M-replay-floor",
        &[
            "fresh/floor-*",
            "order/floor-and-seen",
            "batch/before-the-floor",
        ],
    ),
    ("M-replay-seen", &["*=1201", "fresh/again-*"]),
    ("M-replay-sender", &["fresh/same-mid-other-sender"]),
    ("M-replay-refused", &["fresh/after-*", "batch/after-*"]),
    (
        "M-hs-size",
        &[
            "handshake/*-of-1228*-bytes",
            "order/handshake-size-and-magic",
        ],
    ),
    (
        "M-hs-magic",
        &["handshake/*-magic-*", "handshake/*-empty=108"],
    ),
    (
        "M-hs-step",
        &[
            "handshake/*-other-step",
            "handshake/*-step-0",
            "handshake/confirm-reflected-proof",
            "order/handshake-step-and-length",
        ],
    ),
    ("M-hs-nonce-length", &["handshake/step-*-nonce_*-bytes"]),
    ("M-hs-ext", &["handshake/*=113", "handshake/*-newest-*"]),
    (
        "M-hs-nonce",
        &["handshake/*-nonce-*", "handshake/step-1-accepted"],
    ),
    (
        "M-hs-mesh",
        &["handshake/*-other-mesh", "order/hello-mesh-and-not-for-me"],
    ),
    ("M-hs-not-for-me", &["*=2205", "handshake/hello-of-*"]),
    ("M-hs-modes", &["handshake/*-modes-*"]),
    (
        "M-hs-challenge-hello",
        &[
            "handshake/challenge-*",
            "handshake/step-2-accepted",
            "order/challenge-hello-and-nonce",
        ],
    ),
    ("M-hs-peer-agent", &["handshake/initiator-under-another-id"]),
    ("M-hs-peer-certificate", &["*=702"]),
    (
        "M-hs-peer-leaf",
        &["handshake/*=1403", "order/peer-leaf-and-holder"],
    ),
    ("M-hs-peer-holder", &["handshake/proof-chain-of-another"]),
    (
        "M-hs-signature",
        &[
            "handshake/step-3-accepted",
            "handshake/step-4-accepted",
            "handshake/*-signed-*",
            "order/peer-signature-and-session-over",
        ],
    ),
    (
        "M-hs-proof-transcript",
        &[
            "handshake/proof-changed-hello",
            "handshake/proof-other-instance",
        ],
    ),
    (
        "M-hs-cookie-age",
        &[
            "handshake/cookie-at-once",
            "handshake/cookie-last-instant",
            "handshake/cookie-too-late",
            "handshake/cookie-before-it-was-made",
        ],
    ),
    (
        "M-hs-cookie",
        &["handshake/cookie-of-*", "handshake/cookie-other-*"],
    ),
    ("M-hs-cookie-once", &["handshake/cookie-twice*"]),
    ("M-hs-cookie-burn", &["handshake/cookie-after-a-forgery"]),
    (
        "M-hs-confirm-transcript",
        &["handshake/confirm-of-another-proof"],
    ),
    (
        "M-hs-proof-until",
        &[
            "handshake/initiator-chain-ended-*",
            "handshake/initiator-chain-ends-*",
        ],
    ),
    (
        "M-hs-until",
        &[
            "handshake/confirm-until-*",
            "handshake/initiator-chain-ends-soon",
        ],
    ),
    ("M-audit-mesh", &["audit/other-mesh"]),
    ("M-audit-subject", &["audit/moved"]),
    (
        "M-audit-kind",
        &[
            "audit/*=1303",
            "order/audit-kind-and-chain",
            "batch/audit-kind-and-mode-2",
        ],
    ),
    ("M-audit-mode", &["batch/audit-*mode-*"]),
    (
        "M-audit-chain",
        &["audit/*=1405", "order/audit-chain-and-early"],
    ),
    ("M-audit-certificate", &["audit/*=601"]),
    (
        "M-audit-revoked",
        &["audit/emitter-*-revoked", "retired/audit-*"],
    ),
    (
        "M-audit-emitter",
        &[
            "audit/*=905",
            "audit/emitter-with-segments",
            "order/audit-emitter-and-signature",
        ],
    ),
    (
        "M-audit-signature",
        &[
            "audit/accepted",
            "audit/signed-*",
            "audit/with-audience",
            "audit/with-reply",
        ],
    ),
    ("M-audit-text", &["audit/payload-latin-1"]),
    (
        "M-audit-line",
        &[
            "audit/*=103",
            "audit/event-*",
            "audit/ends-*",
            "audit/payload-empty",
            "audit/hostile-text",
        ],
    ),
    ("M-audit-line-owner", &["audit/*=115"]),
    (
        "M-audit-whole",
        &["audit/line-*", "audit/after-a-refused-batch"],
    ),
    (
        "M-audit-record",
        &["audit/accepted", "audit/one", "audit/event-*"],
    ),
    (
        "M-audit-duplicate",
        &[
            "audit/twice*",
            "audit/again-*",
            "audit/batch-twice",
            "audit/*exchanged*",
        ],
    ),
    (
        "M-audit-missing",
        &[
            "audit/*missing*=allow",
            "audit/*exchanged*",
            "audit/fork-after-a-gap",
        ],
    ),
    ("M-audit-fork", &["audit/fork-*"]),
    (
        "M-audit-first-seen",
        &["audit/first-is-not-0*", "audit/fork-unknown-run"],
    ),
    ("M-audit-runs", &["audit/runs-*", "audit/two-*"]),
    ("M-file-whole", &["follow/whole-*"]),
    (
        "M-file-place",
        &[
            "served/shard-*",
            "served/whole-registry",
            "served/shards-*=allow",
        ],
    ),
    ("M-replace-retirements", &["follow/retirement-*"]),
    (
        "M-succession-version",
        &[
            "succession/version-*",
            "succession/three-without-two",
            "succession/two-again",
            "succession/first-again",
            "succession/two-then-three",
        ],
    ),
    (
        "M-succession-ext",
        &[
            "succession/extension*",
            "succession/lineage-*",
            "succession/dev-*",
            "succession/first-with-lineage",
        ],
    ),
    (
        "M-succession-lineage",
        &[
            "succession/no-lineage",
            "succession/other-mesh",
            "succession/other-before*",
            "succession/mesh-of-the-second",
            "succession/accepted",
        ],
    ),
    ("M-succession-dev", &["succession/becomes-development"]),
    (
        "M-succession-signatures",
        &[
            "succession/by-*",
            "succession/*-by-another",
            "succession/keys-exchanged",
            "succession/under-another-tag",
            "succession/threshold-and-a-forgery",
        ],
    ),
    (
        "M-succession-threshold",
        &[
            "succession/threshold-*",
            "succession/by-the-*-alone",
            "succession/unsigned",
            "succession/signatures-32",
        ],
    ),
    (
        "M-succession-mesh",
        &[
            "succession/two-then-three",
            "succession/mesh-of-the-second",
            "succession/heard-under-the-second",
        ],
    ),
    ("M-succession-keep", &["succession/after-a-forgery"]),
    (
        "M-timestamp-lifetime",
        &[
            "served/timestamp-of-*-s*",
            "served/timestamp-of-1-ms",
            "served/timestamp-of-30-days-and-1-ms",
            "served/timestamp-no-time",
            "served/timestamp-of-long-ago",
        ],
    ),
    (
        "M-timestamp-root",
        &[
            "served/timestamp-of-root-*",
            "served/timestamp-of-another-root",
            "served/other-root-and-no-snapshot",
            "succession/heard-*",
            "follow/time-older-of-another-root",
            "served/accepted",
        ],
    ),
    (
        "M-served-role",
        &[
            "served/timestamp-*signed*",
            "served/timestamp-flip-*",
            "served/snapshot-*signed*",
            "served/*by-*two",
            "served/timestamp-bad-signature-and-body",
            "served/snapshot-bad-signature-and-body",
        ],
    ),
    (
        "M-served-ext",
        &["served/timestamp-ext-*", "served/snapshot-ext-*"],
    ),
    (
        "M-snapshot-digest",
        &[
            "served/timestamp-other-digest",
            "served/snapshot-not-the-named",
            "served/snapshot-garbage",
            "served/snapshot-flip-*",
            "served/accepted",
        ],
    ),
    ("M-snapshot-kind", &["served/parts-kind-*"]),
    (
        "M-snapshot-order",
        &["served/parts-twice", "served/parts-descending"],
    ),
    ("M-snapshot-count", &["served/parts-102*"]),
    ("M-snapshot-epoch", &["served/timestamp-other-epoch"]),
    (
        "M-part-file",
        &[
            "served/part-registry-*",
            "served/part-policy-*",
            "served/part-revocations-*",
            "served/part-scores-*",
            "served/part-score-1001",
            "served/segment-descending",
            "served/part-ext-*",
            "served/certificate-*=deny",
        ],
    ),
    (
        "M-part-named",
        &[
            "served/part-named-*",
            "served/part-index-*",
            "served/part-unsigned-of-other-epoch",
        ],
    ),
    ("M-part-key-twice", &["served/key-twice"]),
    (
        "M-compose-missing",
        &[
            "served/missing-*",
            "served/part-flip-*",
            "served/fetched",
            "follow/new-policy-*",
            "follow/a-lack-made-good",
        ],
    ),
    (
        "M-compose-policy",
        &["served/policies-two", "served/part-policy-not-named"],
    ),
    (
        "M-compose-registry",
        &[
            "served/shards-*",
            "served/part-registry-not-named",
            "served/parts-none",
        ],
    ),
    (
        "M-compose-revocations",
        &["served/segments-*", "served/part-revocations-not-named"],
    ),
    ("M-compose-scores", &["served/scores*"]),
    ("M-compose-window", &["served/windows-*"]),
    ("M-served-books", &["served/books-*"]),
    (
        "M-served-certificate",
        &[
            "served/certificate-*=allow",
            "succession/certificates-by-the-old-registrar",
        ],
    ),
    ("M-served-static", &["age/files-*"]),
    (
        "M-age-bound",
        &[
            "age/authority-*",
            "age/request-last*",
            "age/request-brief-last",
            "age/request-over*",
            "age/request-made*",
            "age/publish-*",
            "age/*kept-fresh",
            "age/made-earlier",
            "age/windows-before-timestamp",
        ],
    ),
    ("M-age-ahead", &["age/*ahead*"]),
    (
        "M-age-purpose",
        &[
            "age/message-*",
            "age/request-message-*",
            "age/answer-*",
            "age/handshake-*",
            "age/audit-*",
            "age/chain-*",
        ],
    ),
    (
        "M-follow-same",
        &[
            "follow/time-same*",
            "succession/same-bulletin-after-succession",
        ],
    ),
    (
        "M-follow-time",
        &["follow/time-*", "follow/back-to-the-first"],
    ),
    (
        "M-follow-snapshot",
        &["follow/snapshot-*", "follow/two-branches"],
    ),
    (
        "M-follow-beat",
        &[
            "follow/time-newer-alone",
            "follow/time-newer-with-garbage",
            "age/kept-fresh",
        ],
    ),
    (
        "M-follow-reshard",
        &[
            "follow/reshard-*",
            "follow/scores-gone",
            "follow/scores-added",
        ],
    ),
    (
        "M-follow-parts",
        &[
            "follow/registry-*",
            "follow/policy-*",
            "follow/revocations-*",
            "follow/scores-*",
            "follow/segment-*",
            "follow/shard-*",
        ],
    ),
    ("M-follow-replace", &["follow/link-*"]),
    (
        "M-follow-floor",
        &["follow/after-*", "succession/after-a-forgery"],
    ),
    (
        "M-follow-root",
        &[
            "succession/registry-by-the-old-registrar",
            "succession/certificates-by-the-old-registrar",
            "succession/epochs-go-on-under-another-root",
            "succession/held-after-succession",
        ],
    ),
    (
        "M-bulletin-magic",
        &["served/bulletin-empty", "served/bulletin-magic-of-a-file"],
    ),
    (
        "M-bulletin-form",
        &[
            "served/bulletin-magic-alone",
            "served/bulletin-frame-version-2",
            "served/bulletin-of-three",
            "served/bulletin-of-five",
            "served/bulletin-*-as-*",
            "served/bulletin-trailing",
            "served/bulletin-cut",
            "served/bulletin-length-longer",
        ],
    ),
    ("M-bulletin-parts", &["served/bulletin-of-102*"]),
    (
        "M-bulletin-unsought",
        &[
            "served/bulletin-with-garbage",
            "served/bulletin-of-1024-parts",
        ],
    ),
    (
        "M-revoked-retired",
        &[
            "retired/sender-*",
            "retired/above-*",
            "retired/below-*",
            "retired/chain-*",
            "retired/key-before-retired",
            "retired/retired-before-agent",
            "retired/agent-while-not-retired",
            "retired/issuer-*",
            "retired/receiver-*",
            "retired/audit-*",
            "retired/handshake-*",
        ],
    ),
    (
        "M-retired-some",
        &[
            "retired/none",
            "retired/one",
            "retired/two",
            "retired/of-one-value",
        ],
    ),
    (
        "M-retired-order",
        &["retired/descending", "retired/key-twice*"],
    ),
    (
        "M-retired-from",
        &[
            "retired/*-before",
            "retired/*-from-then",
            "retired/claims-to-be-older",
            "retired/others-unaffected",
            "retired/of-no-point",
        ],
    ),
    ("M-reject-code", &["*=deny"]),
];
