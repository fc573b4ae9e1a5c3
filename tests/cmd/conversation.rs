//! Conversations: transcripts of several terminals beside a real nats-server.
//!
//! A conversation is Markdown. Its `console` blocks are what happens in a terminal; the first line
//! of a block says in which, unless it is the one before:
//!
//! ````text
//! ```console
//! # terminal 2
//! $ trustmesh audit tail --agent auditor
//! reading the audit as auditor
//! ```
//! ````
//!
//! - `$` starts a command, in a shell. The command before it in the same terminal has to end.
//! - `? 3` below it says with which exit code it ends, and that the conversation waits for that.
//!   Commands without it end with 0.
//! - The other lines are what it prints next, complete and in order; the conversation goes on when
//!   they are there. A block without `$` is what a terminal prints meanwhile.
//! - `^C` interrupts the command, which ends. Those that run until they are told to end are
//!   interrupted at the end of the conversation too, and have nothing more to print.
//! - `[..]` stands for any text in a line, `...` for any number of lines. Times of day and ids are
//!   never compared, and neither is where the directory of the test lies: that is `/home/you`.
//! - Records of several emitters reach `audit tail` in any order.
//! - `nats-server`, or `nats-server -js`, is a server of the test's own; `NATS_URL` leads all others to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::sync::mpsc;
use std::time::Duration;

use futures::executor::block_on;
use snapbox::Assert;
use snapbox::IntoData as _;
use snapbox::assert::Action;

use crate::nats::NatsServer;
use crate::place::Place;

/// How long a line that does come may take: far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the directory of a test is called.
const HOME: &str = "/home/you";

/// Plays a conversation in a place.
pub fn play(name: &str, text: &str, place: Place) {
    let steps = parse(text);
    assert!(!steps.is_empty(), "{name} has no console blocks");
    let mut stage = Stage {
        name,
        place,
        server: None,
        terminals: BTreeMap::new(),
    };
    for step in &steps {
        stage.play(step);
    }
    for (_, running) in std::mem::take(&mut stage.terminals) {
        if running.listens() {
            running.interrupt();
        }
        running.end(0);
    }
}

/// Plays the conversation in this file below `tests/cmd/`.
pub fn play_file(file: &str, place: Place) {
    let path = format!("{}/tests/cmd/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"));
    play(file, &text, place);
}

/// The text of a Markdown section, from its heading to the next.
pub fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading}"));
    let section = &text[start + 1..];
    let end = section.find("\n## ").unwrap_or(section.len());
    &section[..end]
}

#[derive(Debug, Eq, PartialEq)]
enum What {
    Command(String),
    Interrupt,
    /// Whatever runs goes on.
    Meanwhile,
}

/// Something happens in a terminal, these lines follow, and perhaps an end.
#[derive(Debug, Eq, PartialEq)]
struct Step {
    terminal: u32,
    line: usize,
    what: What,
    output: String,
    code: Option<i32>,
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut terminal = 1;
    let mut inside = false;
    let mut fresh = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = !inside && line == "```console";
            fresh = inside;
            continue;
        }
        if !inside {
            continue;
        }
        let begin = |what| Step {
            terminal,
            line: number + 1,
            what,
            output: String::new(),
            code: None,
        };
        if let Some(number) = line.strip_prefix("# terminal ") {
            terminal = number.parse().expect("terminals have numbers");
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(begin(What::Command(command.to_owned())));
        } else if line == "^C" {
            steps.push(begin(What::Interrupt));
        } else {
            if fresh {
                steps.push(begin(What::Meanwhile));
            }
            let step = steps.last_mut().expect("output follows something");
            match line.strip_prefix("? ") {
                Some(code) => step.code = Some(code.parse().expect("exit codes are numbers")),
                None => writeln!(step.output, "{line}").expect("strings take text"),
            }
        }
        fresh = false;
    }
    steps
}

struct Stage<'a> {
    name: &'a str,
    place: Place,
    server: Option<NatsServer>,
    terminals: BTreeMap<u32, Running>,
}

impl Stage<'_> {
    fn play(&mut self, step: &Step) {
        if let What::Command(command) = &step.what {
            if let Some(before) = self.terminals.remove(&step.terminal) {
                before.end(0);
            }
            self.start(step, command);
        }
        let Some(mut running) = self.terminals.remove(&step.terminal) else {
            return;
        };
        running.step = format!("{}:{}", self.name, step.line);
        if step.what == What::Interrupt {
            running.interrupt();
        }
        running.expect(&step.output);
        if step.code.is_some() || step.what == What::Interrupt {
            running.end(step.code.unwrap_or(0));
        } else {
            self.terminals.insert(step.terminal, running);
        }
    }

    fn start(&mut self, step: &Step, command: &str) {
        if let "nats-server" | "nats-server -js" = command {
            let server = match command {
                "nats-server" => block_on(NatsServer::start()),
                _ => block_on(NatsServer::start_jetstream()),
            };
            let place = std::mem::replace(&mut self.place, Place::new());
            self.place = place.with("NATS_URL", server.url());
            self.server = Some(server);
            return;
        }
        let running = Running::start(command, &self.place, format!("{}:{}", self.name, step.line));
        self.terminals.insert(step.terminal, running);
    }
}

/// A command in a terminal.
struct Running {
    command: String,
    /// Where in which conversation.
    step: String,
    child: Option<Child>,
    lines: mpsc::Receiver<String>,
    home: String,
}

impl Running {
    fn start(command: &str, place: &Place, step: String) -> Self {
        // One pipe for both, as a terminal has: so the order of lines is kept.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut shell = place.program("sh");
        // A single command takes the place of the shell, so that signals reach it.
        let exec = if command.contains('|') { "" } else { "exec " };
        shell.args(["-c", &format!("{exec}{command}")]);
        shell.stdout(writer.try_clone().expect("a second end"));
        shell.stderr(writer);
        let child = shell.spawn().expect("sh can be run");
        drop(shell);
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                let Ok(line) = line else { break };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            command: command.to_owned(),
            step,
            child: Some(child),
            lines,
            home: place.path().display().to_string(),
        }
    }

    /// Waits for exactly these lines.
    fn expect(&self, expected: &str) {
        let expected = steady(expected);
        let open = expected.lines().any(|line| line == "...");
        let count = expected.lines().count();
        let mut actual = String::new();
        let mut taken = 0;
        let mut ended = "";
        while !self.same(&actual, &expected) {
            if !open && taken >= count {
                ended = "";
                break;
            }
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    taken += 1;
                    let line = steady(&line.replace(&self.home, HOME));
                    writeln!(actual, "{line}").expect("strings take text");
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    ended = "nothing more was printed, and it runs";
                    break;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    ended = "nothing more was printed: it ended";
                    break;
                }
            }
        }
        if !self.same(&actual, &expected) {
            eprintln!("{}: $ {}\n{ended}", self.step, self.command);
            // Says where they differ.
            self.assert().eq(actual, self.data(&expected));
            unreachable!("they differ");
        }
    }

    fn same(&self, actual: &str, expected: &str) -> bool {
        let expected = self.data(expected);
        self.assert()
            .try_eq(None, actual.into_data(), expected)
            .is_ok()
    }

    fn data(&self, expected: &str) -> snapbox::Data {
        let data = expected.into_data();
        if self.command.starts_with("trustmesh audit tail") {
            data.unordered()
        } else {
            data
        }
    }

    fn assert(&self) -> Assert {
        Assert::new().action(Action::Verify).normalize_paths(false)
    }

    /// Whether it runs until it is told to end.
    fn listens(&self) -> bool {
        let listening = ["sub", "reply", "audit tail", "serve"];
        let command = self.command.strip_prefix("trustmesh ");
        command.is_some_and(|command| listening.iter().any(|verb| command.starts_with(verb)))
    }

    fn interrupt(&self) {
        if let Some(child) = &self.child {
            let mut kill = std::process::Command::new("kill");
            kill.args(["-s", "INT", &child.id().to_string()]);
            // It may have ended by itself.
            let _ = kill.stderr(std::process::Stdio::null()).status();
        }
    }

    /// Waits for the end. Nothing may be printed that was not expected.
    fn end(mut self, code: i32) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let mut rest = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => writeln!(rest, "{line}").expect("strings take text"),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    panic!("{}: $ {} does not end", self.step, self.command);
                }
            }
        }
        let status = child.wait().expect("it can be waited for");
        let (step, command) = (&self.step, &self.command);
        assert!(
            rest.is_empty(),
            "{step}: $ {command}\nprints more than expected:\n{rest}"
        );
        assert_eq!(status.code(), Some(code), "{step}: $ {command}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Text without what differs at each run: for a time or an id stands a word.
fn steady(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '-');
    let mut steady = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(word) {
        steady.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        // What ends a sentence is no part of a word.
        let end = rest[..end].trim_end_matches(['.', ':', '-']).len().max(1);
        steady.push_str(match &rest[..end] {
            found if is_time(found) => "TIME",
            found if is_id(found) => "ID",
            found => found,
        });
        rest = &rest[end..];
    }
    steady.push_str(rest);
    steady
}

/// `08:26:25.972` or `2026-11-25T08:26:27Z`.
fn is_time(word: &str) -> bool {
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let shape: String = word.chars().map(digits).collect();
    matches!(&*shape, "00:00:00.000" | "0000-00-00T00:00:00Z")
}

/// Eight hexadecimal digits or a whole id; a key as `U…` or `did:key:…`.
fn is_id(word: &str) -> bool {
    let hexadecimal = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let base32 = |b: u8| matches!(b, b'A'..=b'Z' | b'2'..=b'7');
    match word.len() {
        8 | 32 | 64 => word.bytes().all(hexadecimal),
        56 => word.starts_with('U') && word.bytes().all(base32),
        _ => word.starts_with("did:key:z"),
    }
}

#[test]
fn conversations_are_read_by_blocks_and_terminals() {
    let text = "\
Prose.

```console
# terminal 2
$ echo a
a
$ cat
```

```text
$ not this
```

```console
? 3
b
^C
```
";
    let step = |line, what, output: &str, code| Step {
        terminal: 2,
        line,
        what,
        output: output.to_owned(),
        code,
    };
    assert_eq!(
        parse(text),
        [
            step(5, What::Command("echo a".into()), "a\n", None),
            step(7, What::Command("cat".into()), "", None),
            step(15, What::Meanwhile, "b\n", Some(3)),
            step(17, What::Interrupt, "", None),
        ]
    );
}

#[test]
fn times_and_ids_are_not_compared() {
    assert_eq!(
        steady("08:26:25.972 bob #1, issuer b7069c37 ▶ alice"),
        "TIME bob #1, issuer ID ▶ alice"
    );
    assert_eq!(steady("until 2026-11-25T08:26:27Z"), "until TIME");
    assert_eq!(steady("key 12345, beef"), "key 12345, beef");
}
