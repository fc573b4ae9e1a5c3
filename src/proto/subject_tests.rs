//! Claims about subjects, each against an independent description of the same thing.

use std::hash::BuildHasher;
use std::hash::RandomState;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const LITERALS: [&str; 4] = ["a", "b", "$s", "_i"];

fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

fn pattern(text: &str) -> SubjectPattern {
    SubjectPattern::parse(text).unwrap()
}

/// The definition of matching, written recursively over token lists and sharing no code with the
/// crate: NATS's rule and the reserved first tokens.
fn naive_match(pattern: &[&str], subject: &[&str]) -> bool {
    fn nats(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, subject @ ..]) => nats(pattern, subject),
            ([p, pattern @ ..], [s, subject @ ..]) => p == s && nats(pattern, subject),
            _ => false,
        }
    }
    let wild = pattern[0] == "*" || pattern[0] == ">";
    let reserved = subject[0].starts_with('$') || subject[0].starts_with('_');
    !(wild && reserved) && nats(pattern, subject)
}

fn naive_match_text(pattern: &str, subject: &str) -> bool {
    let pattern: Vec<_> = pattern.split('.').collect();
    let subject: Vec<_> = subject.split('.').collect();
    naive_match(&pattern, &subject)
}

/// All texts of one to `depth` tokens from `tokens`, shortest first.
fn texts(tokens: &[&str], depth: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..depth {
        last = last
            .iter()
            .flat_map(|head| tokens.iter().map(move |token| format!("{head}.{token}")))
            .collect();
        all.extend(last.iter().map(|text| text[1..].to_owned()));
    }
    all
}

/// All patterns of one to `depth` tokens.
fn patterns(depth: usize) -> Vec<String> {
    let wild: Vec<&str> = LITERALS.iter().copied().chain(["*"]).collect();
    let mut all = texts(&wild, depth);
    all.extend(
        texts(&wild, depth - 1)
            .iter()
            .map(|head| format!("{head}.>")),
    );
    all.push(">".to_owned());
    all
}

/// 936 patterns of up to four tokens against 1,364 subjects of up to five: one token more than the
/// patterns have, so that every `>` also stands for two.
#[test]
fn matching_containment_and_overlap_are_exact_over_every_small_pattern() {
    let subjects = texts(&LITERALS, 5);
    let parsed: Vec<_> = subjects.iter().map(|text| subject(text)).collect();
    let patterns = patterns(4);
    assert_eq!((patterns.len(), subjects.len()), (936, 1_364));

    let mut sets = Vec::new();
    for text in &patterns {
        let checked = pattern(text);
        let mut members = vec![0u64; subjects.len().div_ceil(64)];
        for (i, subject) in subjects.iter().enumerate() {
            let member = naive_match_text(text, subject);
            assert_eq!(
                checked.matches(&parsed[i]),
                member,
                "{text} matches {subject}"
            );
            members[i / 64] |= u64::from(member) << (i % 64);
        }
        sets.push((checked, members));
    }
    for (outer, outer_set) in &sets {
        for (inner, inner_set) in &sets {
            let pairs = || outer_set.iter().zip(inner_set);
            let contained = pairs().all(|(o, i)| i & !o == 0);
            assert_eq!(outer.contains(inner), contained, "{outer} contains {inner}");
            let common = pairs().any(|(o, i)| o & i != 0);
            assert_eq!(outer.overlaps(inner), common, "{outer} overlaps {inner}");
        }
    }
}

/// CH-13: 200,000 seeded pairs of up to [`SUBJECT_TOKENS_MAX`] tokens, the subject often derived from the
/// pattern so that both answers are common.
#[test]
fn random_pairs_match_as_the_naive_matcher_says() {
    const WORDS: [&str; 8] = ["a", "A", "b", "foo", "foo-bar", "$SYS", "_INBOX", "x~1"];
    let mut random = SplitMix(0x7275_7374_6d65_7368);
    let mut matched = 0;
    for _ in 0..200_000 {
        let length = 1 + random.below(SUBJECT_TOKENS_MAX);
        let mut wild: Vec<&str> = (0..length).map(|_| WORDS[random.below(8)]).collect();
        let mut concrete = wild.clone();
        for token in &mut wild {
            if random.below(3) == 0 {
                *token = "*";
            }
        }
        match random.below(4) {
            0 => *wild.last_mut().unwrap() = ">",
            1 => {
                wild.truncate(1 + random.below(length));
                *wild.last_mut().unwrap() = ">";
            }
            2 => concrete.truncate(1 + random.below(length)),
            _ => {}
        }
        if random.below(3) == 0 {
            let at = random.below(concrete.len());
            concrete[at] = WORDS[random.below(8)];
        }
        let expected = naive_match(&wild, &concrete);
        matched += usize::from(expected);
        let (wild, concrete) = (pattern(&wild.join(".")), subject(&concrete.join(".")));
        assert_eq!(
            wild.matches(&concrete),
            expected,
            "{wild} matches {concrete}"
        );
        let literal = SubjectPattern::from(&concrete);
        assert_eq!(
            wild.contains(&literal),
            expected,
            "{wild} contains {concrete}"
        );
        assert_eq!(
            wild.overlaps(&literal),
            expected,
            "{wild} overlaps {concrete}"
        );
        assert_eq!(
            literal.overlaps(&wild),
            expected,
            "{concrete} overlaps {wild}"
        );
    }
    assert!(
        (50_000..150_000).contains(&matched),
        "{matched} of 200,000 pairs match"
    );
}

/// CH-2: neither `orders.*` → `orders.>` nor `a.b.c` → `a.*.c` is an attenuation.
#[test]
fn a_wider_pattern_is_not_contained_in_a_narrower_one() {
    for (narrow, wide) in [("a.*", "a.>"), ("orders.*", "orders.>"), ("a.b.c", "a.*.c")] {
        assert!(
            !pattern(narrow).contains(&pattern(wide)),
            "{narrow} contains {wide}"
        );
        assert!(
            pattern(wide).contains(&pattern(narrow)),
            "{wide} contains {narrow}"
        );
    }
}

/// CH-13.
#[test]
fn a_tail_wildcard_needs_a_token_and_case_matters() {
    assert!(!pattern("foo.>").matches(&subject("foo")));
    assert!(!pattern("foo.>").overlaps(&pattern("foo")));
    assert!(!pattern("foo.bar").matches(&subject("foo.Bar")));
    assert!(!pattern("FOO.>").contains(&pattern("foo.bar")));
}

/// NA-2: `>` and a leading `*` stop before the bus's own subjects; naming them reaches them.
#[test]
fn reserved_subjects_are_covered_only_by_name() {
    for text in [
        "$SYS.REQ", "$JS.API", "$KV.b", "_INBOX.x", "_x.y", "$.y", "_.y",
    ] {
        let literal = pattern(text);
        for wild in [">", "*.>", "*.*"].map(pattern) {
            assert!(!wild.matches(&subject(text)), "{wild} matches {text}");
            assert!(!wild.contains(&literal), "{wild} contains {text}");
            assert!(!wild.overlaps(&literal), "{wild} overlaps {text}");
            assert!(!literal.overlaps(&wild), "{text} overlaps {wild}");
        }
        let named = pattern(&format!("{}.>", text.split('.').next().unwrap()));
        assert!(named.matches(&subject(text)), "{named} matches {text}");
        assert!(!pattern(">").contains(&named) && !pattern(">").overlaps(&named));
    }
    assert!(
        pattern("a.>").matches(&subject("a.$SYS")),
        "only the first token is reserved"
    );
    assert!(pattern(">").contains(&pattern(">")) && pattern(">").contains(&pattern("*")));
}

/// CH-13 (`a..b`, `.a`, `a.`), NA-1 (line breaks and blanks) and DO-7 (size).
#[test]
fn texts_outside_the_grammar_are_refused_by_both_types() {
    use InvalidSubject::*;

    let character = |byte, at| Character { byte, at };
    let cases = [
        ("", Empty),
        (".", EmptyToken),
        ("a..b", EmptyToken),
        (".a", EmptyToken),
        ("a.", EmptyToken),
        ("a b", character(b' ', 1)),
        ("a.\tb", character(b'\t', 2)),
        ("a\r\nPUB b 0", character(b'\r', 1)),
        ("a\n", character(b'\n', 1)),
        ("a.\0", character(0, 2)),
        ("\u{7f}", character(0x7f, 0)),
        ("a.é", character(0xc3, 2)),
        ("a*", Wildcard { at: 1 }),
        ("*a", Wildcard { at: 0 }),
        ("a.**", Wildcard { at: 2 }),
        ("a>b", Wildcard { at: 1 }),
        ("a.>>", Wildcard { at: 2 }),
        (">.a", Wildcard { at: 0 }),
        ("a.>.b", Wildcard { at: 2 }),
        (">.", Wildcard { at: 0 }),
    ];
    for (text, error) in cases {
        assert_eq!(Subject::parse(text), Err(error), "{text:?}");
        assert_eq!(SubjectPattern::parse(text), Err(error), "{text:?}");
    }
    assert_eq!(
        Subject::from_bytes(Bytes::from_static(b"a\xff")),
        Err(character(0xff, 1))
    );
    assert_eq!(Subject::parse("a. b").unwrap_err().to_string(), {
        "byte 0x20 at offset 2 may not stand in a subject"
    });
}

/// DO-7: 255 bytes and 16 tokens are the most; a 200-token pattern is refused, not matched.
#[test]
fn size_is_bounded_exactly() {
    assert!(Subject::parse(&"a".repeat(SUBJECT_MAX)).is_ok());
    let long = "a".repeat(SUBJECT_MAX + 1);
    assert_eq!(
        Subject::parse(&long),
        Err(InvalidSubject::TooLong { len: 256 })
    );
    assert_eq!(
        SubjectPattern::parse(&long),
        Err(InvalidSubject::TooLong { len: 256 })
    );

    let stars = |count| vec!["*"; count].join(".");
    assert!(SubjectPattern::parse(&stars(SUBJECT_TOKENS_MAX)).is_ok());
    assert_eq!(
        SubjectPattern::parse(&stars(17)),
        Err(InvalidSubject::TooManyTokens)
    );
    assert_eq!(
        SubjectPattern::parse(&stars(200)),
        Err(InvalidSubject::TooLong { len: 399 })
    );
}

/// The server delivers a publish to the literal text `tasks.*`: no address may read as a pattern.
#[test]
fn wildcards_are_only_for_patterns() {
    for (text, at) in [
        ("*", 0),
        (">", 0),
        ("tasks.*", 6),
        ("tasks.>", 6),
        ("a.*.b", 2),
    ] {
        assert_eq!(
            Subject::parse(text),
            Err(InvalidSubject::Wildcard { at }),
            "{text}"
        );
        assert_eq!(pattern(text).as_str(), text);
        assert_eq!(pattern(text).literal(), None);
    }
    assert_eq!(pattern("tasks.a").literal(), Some(subject("tasks.a")));
}

#[test]
fn a_subject_shares_the_buffer_it_came_from() {
    let buffer = Bytes::from(b"MSG orders.new 1".to_vec());
    let sliced = Subject::from_bytes(buffer.slice(4..14)).unwrap();
    assert_eq!(sliced.as_bytes().as_ptr(), buffer[4..].as_ptr());
    assert_eq!(sliced.clone().as_bytes().as_ptr(), buffer[4..].as_ptr());

    let parsed = subject("orders.new");
    let hasher = RandomState::new();
    assert_eq!(sliced, parsed);
    assert_eq!(hasher.hash_one(&sliced), hasher.hash_one(&parsed));
    assert_eq!(sliced.tokens().collect::<Vec<_>>(), ["orders", "new"]);
    assert_eq!(format!("{sliced} {sliced:?}"), "orders.new orders.new");
}

proptest! {
    /// The grammar once more, by definition rather than by scanning.
    #[test]
    fn parsing_accepts_exactly_the_grammar(text in "[ab$_.*>\\r\\x7f é]{0,9}|\\PC{0,40}") {
        let literal = |token: &str| {
            !token.is_empty()
                && token.chars().all(|c| c.is_ascii_graphic() && c != '*' && c != '>')
        };
        let tokens: Vec<_> = text.split('.').collect();
        let sized = text.len() <= 255 && tokens.len() <= 16;
        prop_assert_eq!(
            Subject::parse(&text).is_ok(),
            sized && tokens.iter().all(|token| literal(token))
        );
        let (last, init) = tokens.split_last().unwrap();
        prop_assert_eq!(
            SubjectPattern::parse(&text).is_ok(),
            sized
                && init.iter().all(|token| *token == "*" || literal(token))
                && (*last == "*" || *last == ">" || literal(last))
        );
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
