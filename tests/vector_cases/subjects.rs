//! Tables of subjects and patterns: what is one, what matches, contains and overlaps.

use super::Allow;
use super::Book;
use super::json::Json;
use super::json::words;
use super::play::Kind;
use super::play::Play;

/// A table of pairs and what is claimed of them.
fn pairs(name: &'static str, rows: &[(&str, &str, bool)]) -> Play {
    let row = |(left, right, holds): &(&str, &str, bool)| {
        Json::List(vec![words(*left), words(*right), Json::Bool(*holds)])
    };
    table(name, rows.iter().map(row).collect())
}

fn table(name: &'static str, rows: Vec<Json>) -> Play {
    let mut play = Play::new(Kind::Subjects, "");
    play.more = vec![(name, Json::Table(rows))];
    play
}

pub fn write(book: &mut Book) {
    let about = "Which texts are subjects, and which are patterns";
    book.case("grammar", about, Allow, grammar);
    book.case(
        "grammar-bytes",
        "Every ASCII character, alone and inside a token",
        Allow,
        characters,
    );
    book.case(
        "grammar-limits",
        "16 tokens and 255 bytes, and one more",
        Allow,
        limits,
    );
    book.case("matches", "Which subjects a pattern matches", Allow, || {
        pairs("matches", MATCHES)
    });
    let about = "Which subjects begin with a reserved token, and what covers them";
    book.case("matches-reserved", about, Allow, || {
        pairs("matches", RESERVED)
    });
    book.case("contains", "Which patterns contain which", Allow, || {
        pairs("contains", CONTAINS)
    });
    let about = "Every pattern of up to three tokens of a small alphabet, against each";
    book.case("contains-grid", about, Allow, || grid("contains"));
    book.case("overlaps", "Which patterns overlap", Allow, || {
        pairs("overlaps", OVERLAPS)
    });
    book.case("overlaps-grid", about, Allow, || grid("overlaps"));
}

fn grammar() -> Play {
    let rows: &[(&str, bool, bool)] = &[
        ("orders", true, true),
        ("orders.eu", true, true),
        ("Orders.EU", true, true),
        ("a.b.c.d", true, true),
        ("$SYS.x", true, true),
        ("_INBOX.x", true, true),
        ("a-b_c~d", true, true),
        ("*", false, true),
        (">", false, true),
        ("*.*", false, true),
        ("orders.*", false, true),
        ("orders.>", false, true),
        ("*.eu", false, true),
        ("*.>", false, true),
        ("orders.*.eu.>", false, true),
        ("orders.>.eu", false, false),
        (">.eu", false, false),
        (">.>", false, false),
        ("orders.e*", false, false),
        ("orders.*e", false, false),
        ("orders.**", false, false),
        ("orders.>>", false, false),
        ("orders.e>", false, false),
        ("orders.*>", false, false),
        ("", false, false),
        (".", false, false),
        ("..", false, false),
        (".orders", false, false),
        ("orders.", false, false),
        ("orders..eu", false, false),
        ("orders.*.", false, false),
        (".>", false, false),
        ("orders eu", false, false),
        (" orders", false, false),
        ("orders\t", false, false),
        ("orders\r\nPUB x", false, false),
        ("orders\0", false, false),
        ("orders.\u{7f}", false, false),
        ("orders.\u{e4}", false, false),
        ("orders.\u{2028}", false, false),
        ("\u{ff0a}", false, false),
    ];
    let row = |(text, subject, pattern): &(&str, bool, bool)| {
        Json::List(vec![
            words(*text),
            Json::Bool(*subject),
            Json::Bool(*pattern),
        ])
    };
    table("grammar", rows.iter().map(row).collect())
}

fn characters() -> Play {
    let mut rows = Vec::new();
    for byte in 0..=0x7f_u8 {
        let c = char::from(byte);
        let printable = ('!'..='~').contains(&c);
        let literal = printable && !matches!(c, '*' | '>' | '.');
        let alone = literal || matches!(c, '*' | '>');
        let row = |text: String, subject: bool, pattern: bool| {
            Json::List(vec![words(text), Json::Bool(subject), Json::Bool(pattern)])
        };
        rows.push(row(format!("a.{c}"), literal, alone));
        // Between letters, a dot makes two tokens of one.
        let inside = literal || c == '.';
        rows.push(row(format!("a{c}b"), inside, inside));
    }
    table("grammar", rows)
}

fn limits() -> Play {
    let row = |text: String, subject: bool, pattern: bool| {
        Json::List(vec![words(text), Json::Bool(subject), Json::Bool(pattern)])
    };
    let tokens = |count: usize| vec!["t"; count].join(".");
    let starred = |count: usize| vec!["*"; count].join(".");
    table(
        "grammar",
        vec![
            row("s".repeat(255), true, true),
            row("s".repeat(256), false, false),
            row(tokens(16), true, true),
            row(tokens(17), false, false),
            row(tokens(15) + ".>", false, true),
            row(tokens(16) + ".>", false, false),
            row(starred(16), false, true),
            row(starred(17), false, false),
            row(tokens(15) + "." + &"s".repeat(225), true, true),
            row(tokens(15) + "." + &"s".repeat(226), false, false),
            row(tokens(100), false, false),
        ],
    )
}

/// The patterns of up to three tokens of `a`, `*` and `>`, and one that is reserved; their
/// relation is found by trying every subject of up to four tokens that could tell them apart.
fn grid(name: &'static str) -> Play {
    let mut patterns = vec![">".to_owned(), "$s".into(), "$s.>".into(), "$s.*".into()];
    let heads = ["a", "*"];
    for first in heads {
        patterns.push(first.into());
        for second in ["a", "*", ">"] {
            patterns.push(format!("{first}.{second}"));
        }
        for second in heads {
            for third in ["a", "*", ">"] {
                patterns.push(format!("{first}.{second}.{third}"));
            }
        }
    }
    let mut subjects = Vec::new();
    let letters = ["a", "b", "$s"];
    let mut longest: Vec<String> = letters.map(str::to_owned).to_vec();
    for _ in 0..4 {
        subjects.extend(longest.iter().cloned());
        longest = longest
            .iter()
            .flat_map(|head| letters.map(|letter| format!("{head}.{letter}")))
            .collect();
    }
    let mut rows = Vec::new();
    for left in &patterns {
        for right in &patterns {
            let both = |subject: &&String| (covered(left, subject), covered(right, subject));
            let holds = match name {
                "contains" => subjects
                    .iter()
                    .all(|s| matches!(both(&s), (true, _) | (_, false))),
                _ => subjects.iter().any(|s| both(&s) == (true, true)),
            };
            rows.push(Json::List(vec![
                words(left),
                words(right),
                Json::Bool(holds),
            ]));
        }
    }
    table(name, rows)
}

/// What a pattern means, token by token.
fn covered(pattern: &str, subject: &str) -> bool {
    let (pattern, subject): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), subject.split('.').collect());
    let reserved = |at: usize| at == 0 && subject[0].starts_with(['$', '_']);
    for (at, token) in pattern.iter().enumerate() {
        match *token {
            ">" => return at < subject.len() && !reserved(at),
            _ if at >= subject.len() => return false,
            "*" if reserved(at) => return false,
            "*" => {}
            literal if literal == subject[at] => {}
            _ => return false,
        }
    }
    pattern.len() == subject.len()
}

const MATCHES: &[(&str, &str, bool)] = &[
    ("a", "a", true),
    ("a", "b", false),
    ("a", "A", false),
    ("a", "a.b", false),
    ("a.b", "a", false),
    ("a.b", "a.b", true),
    ("*", "a", true),
    ("*", "a.b", false),
    ("*.*", "a", false),
    ("*.*", "a.b", true),
    ("*.*", "a.b.c", false),
    ("a.*", "a.b", true),
    ("a.*", "b.b", false),
    ("a.*", "a", false),
    ("*.b", "a.b", true),
    ("*.b", "a.c", false),
    ("a.*.c", "a.b.c", true),
    ("a.*.c", "a.b.b.c", false),
    (">", "a", true),
    (">", "a.b.c.d", true),
    ("a.>", "a", false),
    ("a.>", "a.b", true),
    ("a.>", "a.b.c", true),
    ("a.>", "ab.c", false),
    ("*.>", "a", false),
    ("*.>", "a.b", true),
    ("a.*.>", "a.b", false),
    ("a.*.>", "a.b.c", true),
    ("orders.eu", "orders.eux", false),
    ("orders.eu", "orders.e", false),
    ("a.b-c", "a.b-c", true),
    ("a.b-c", "a.b_c", false),
];

const RESERVED: &[(&str, &str, bool)] = &[
    (">", "$SYS", false),
    (">", "$SYS.x", false),
    (">", "_INBOX.x", false),
    (">", "_", false),
    (">", "$", false),
    ("*", "$SYS", false),
    ("*.x", "$SYS.x", false),
    ("*.x", "_INBOX.x", false),
    ("*.>", "$SYS.x", false),
    ("$SYS", "$SYS", true),
    ("$SYS.>", "$SYS.x", true),
    ("$SYS.*", "$SYS.x", true),
    ("_INBOX.>", "_INBOX.x", true),
    ("_INBOX.*", "_INBOX.x.y", false),
    ("$SYS.>", "$sys.x", false),
    ("a.>", "a.$SYS", true),
    ("a.*", "a._x", true),
    (">", "a.$SYS", true),
    (">", "a$", true),
    (">", "a_", true),
    ("*", "x$SYS", true),
    (">", "-SYS", true),
    (">", "~x", true),
];

const CONTAINS: &[(&str, &str, bool)] = &[
    ("a", "a", true),
    ("a", "A", false),
    ("a", "b", false),
    ("a", "*", false),
    ("a", ">", false),
    ("*", "a", true),
    ("*", "*", true),
    ("*", ">", false),
    ("*", "a.b", false),
    ("*", "a.>", false),
    (">", "a", true),
    (">", "*", true),
    (">", ">", true),
    (">", "a.*.>", true),
    ("*.>", ">", false),
    ("*.>", "*", false),
    ("*.>", "*.*", true),
    ("*.>", "a.>", true),
    ("a.>", "a", false),
    ("a.>", "a.*", true),
    ("a.>", "a.>", true),
    ("a.>", "a.*.>", true),
    ("a.>", "b.>", false),
    ("a.*", "a.>", false),
    ("a.*", "a.*", true),
    ("a.*", "*.a", false),
    ("a.*.c", "a.b.c", true),
    ("a.*.c", "a.*.c", true),
    ("a.*.c", "a.*.*", false),
    ("a.b.c", "a.*.c", false),
    ("a.*.>", "a.>", false),
    ("a.*.>", "a.b.>", true),
    ("a.*.>", "a.b.c", true),
    (">", "$SYS", false),
    (">", "$SYS.>", false),
    (">", "_INBOX.>", false),
    ("*", "_INBOX", false),
    ("*.x", "$SYS.x", false),
    ("$SYS.>", "$SYS.*", true),
    ("$SYS.>", "$SYS", false),
    ("$SYS.*", "$SYS.>", false),
    ("a.>", "a.$x", true),
    ("a.*", "a._x", true),
];

const OVERLAPS: &[(&str, &str, bool)] = &[
    ("a", "a", true),
    ("a", "b", false),
    ("a", "A", false),
    ("a", "*", true),
    ("*", "a", true),
    ("a", ">", true),
    (">", "a", true),
    ("*", ">", true),
    ("*", "*", true),
    (">", ">", true),
    ("a", "a.>", false),
    ("a.>", "a", false),
    ("*", "*.>", false),
    ("a.*", "*.b", true),
    ("a.*", "b.*", false),
    ("a.>", "*.b", true),
    ("a.>", "b.>", false),
    ("a.*.c", "a.b.*", true),
    ("a.*.c", "a.b.d", false),
    ("a.*.c", "a.>", true),
    ("a.*", "a.b.c", false),
    ("a.>", "a.b.c.d", true),
    ("*.*", "*.>", true),
    ("*.*.*", "*.*", false),
    (">", "$SYS", false),
    ("$SYS", ">", false),
    ("*", "$SYS", false),
    ("_INBOX", "*", false),
    (">", "_INBOX.>", false),
    ("*.x", "$SYS.*", false),
    ("$SYS.>", "$SYS.*", true),
    ("$SYS.x", "$SYS.>", true),
    ("a.>", "a.$x", true),
    ("a.*", "a._x", true),
];
