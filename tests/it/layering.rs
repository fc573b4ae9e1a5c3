//! Keeps the picture of the rings true: who may name whom, and what only one file may do.
//!
//! The rules look at the text of `src`, without comments and test modules. They are about what a
//! file names, so they catch slips, not tricks.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Something that only some files may name.
struct Rule {
    /// The files it is about, by the beginning of their paths below `src`.
    within: &'static [&'static str],
    /// Those among them that may, by the beginning of their paths, each with its reason.
    except: &'static [(&'static str, &'static str)],
    /// What the others never name: whole words of code.
    names: &'static [&'static str],
}

const RULES: &[Rule] = &[
    // The protocol is pure, synchronous and deterministic, and knows nobody around it.
    Rule {
        within: &["proto/"],
        except: &[],
        names: &[
            "crate::audit",
            "crate::bus",
            "crate::client",
            "crate::error",
            "crate::files",
            "crate::graph",
            "crate::keyfile",
            "crate::services",
            "async",
            "async_nats",
            "tokio",
            "futures_util",
            "std::env",
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
            "Instant",
            "SystemTime",
        ],
    },
    // A bus moves bytes: it knows neither who sends them nor what they say.
    Rule {
        within: &["bus/"],
        except: &[],
        names: &[
            "crate::audit",
            "crate::client",
            "crate::error",
            "crate::files",
            "crate::graph",
            "crate::keyfile",
            "crate::proto",
            "crate::services",
        ],
    },
    Rule {
        within: &["client/"],
        except: &[],
        names: &["crate::services"],
    },
    Rule {
        within: &[""],
        except: &[(
            "client/clock.rs",
            "it is the one place that reads the wall clock",
        )],
        names: &["SystemTime", "UNIX_EPOCH"],
    },
    Rule {
        within: &[""],
        except: &[
            (
                "client/task.rs",
                "it is the one place of the outer rings that spawns",
            ),
            (
                "bus/nats/supervision.rs",
                "a re-dial outlives the call that notices the death, and no ring further out",
            ),
            (
                "bus/memory.rs",
                "an injected delay outlives the publish it happens to",
            ),
        ],
        names: &[
            "tokio::spawn",
            "tokio::task::spawn",
            "task::spawn_blocking",
            "task::spawn_local",
            "thread::spawn",
            "JoinSet",
            "runtime::Handle",
            "runtime::Runtime",
        ],
    },
    // Every inbound message goes through one function.
    Rule {
        within: &["audit.rs", "client/", "services/"],
        except: &[(
            "client/inbound.rs",
            "it is the one place that calls the verifier",
        )],
        names: &["verifier.", "examine", "conclude"],
    },
    Rule {
        within: &[""],
        except: &[
            ("bus/nats.rs", "it talks to async_nats"),
            ("bus/nats/", "it talks to async_nats"),
            ("bus/mod.rs", "it re-exports the types users already have"),
        ],
        names: &["async_nats"],
    },
    // What bus/mod.rs re-exports are types: connections stay with bus/nats.
    Rule {
        within: &["bus/mod.rs"],
        except: &[],
        names: &["Client", "Subscriber", "Message", "connect_with_options"],
    },
];

#[test]
fn every_file_keeps_to_its_ring() {
    let sources = sources();
    assert!(sources.len() > 30, "the sources are found");
    let broken: Vec<String> = sources
        .iter()
        .flat_map(|(path, code)| {
            RULES
                .iter()
                .flat_map(move |rule| rule.broken_by(path, code))
        })
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_exception_is_needed() {
    let sources = sources();
    for rule in RULES {
        for (file, reason) in rule.except {
            let strict = Rule {
                within: rule.within,
                except: &[],
                names: rule.names,
            };
            let mut matching = sources.iter().filter(|(path, _)| path.starts_with(file));
            let used = matching.any(|(path, code)| !strict.broken_by(path, code).is_empty());
            assert!(used, "{file} no longer needs its exception: {reason}");
        }
    }
}

#[test]
fn a_rule_notices_what_it_forbids_and_nothing_else() {
    let rule = Rule {
        within: &["proto/"],
        except: &[("proto/time.rs", "for the test")],
        names: &["Instant", "std::fs"],
    };
    let code = strip("use std::time::Instant;\nlet x = std::fs::read(path);\n");
    assert_eq!(rule.broken_by("proto/scope.rs", &code).len(), 2);
    assert!(rule.broken_by("proto/time.rs", &code).is_empty());
    assert!(rule.broken_by("client/mod.rs", &code).is_empty());
    let code =
        strip("// Instant\nlet instant = Instants; // Instant\n#[cfg(test)]\nuse Instant;\n");
    assert!(rule.broken_by("proto/scope.rs", &code).is_empty());
}

impl Rule {
    /// What of this file breaks the rule, a line each.
    fn broken_by(&self, path: &str, code: &str) -> Vec<String> {
        let about = self.within.iter().any(|start| path.starts_with(start));
        let may = self.except.iter().any(|(start, _)| path.starts_with(start));
        if !about || may {
            return Vec::new();
        }
        let found = self.names.iter().filter(|name| has_word(code, name));
        found
            .map(|name| format!("src/{path} names {name}"))
            .collect()
    }
}

/// Whether `code` has `name` with no letter, digit or underscore on either side.
fn has_word(code: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        !before.is_some_and(part) && (name.ends_with('.') || !after.is_some_and(part))
    })
}

/// Every source file that is not a test: its path below `src`, and its code.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).expect("it lies below");
        let name = name
            .to_str()
            .expect("file names are text")
            .replace('\\', "/");
        let text = fs::read_to_string(&path).expect("a source file is text");
        (name, strip(&text))
    };
    let tests = |name: &str| name.ends_with("_tests.rs") || name.ends_with("/tests.rs");
    let sources = files.into_iter().map(read);
    sources.filter(|(name, _)| !tests(name)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The code of a file: without comments, and without the tests, which stand at the foot.
fn strip(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(|line| match line.find("//") {
        // In a string it is an address, not a comment.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}
