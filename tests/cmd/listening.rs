//! Commands that run until they are told to end.

use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

/// How long anything may take that does happen: far more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A command that runs until it is told to end, and the lines it has printed.
pub struct Listening {
    /// Its process.
    pub child: Child,
    /// What it has printed and nobody has looked at.
    pub lines: mpsc::Receiver<String>,
    /// What was looked at.
    pub seen: Vec<String>,
}

impl Listening {
    /// Starts it; what it prints and says comes together.
    pub fn start(mut command: Command) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        drop(command);
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that holds this.
    pub fn until(&mut self, needle: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {needle:?} in {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(needle) {
                return line;
            }
        }
    }

    /// Interrupts it; its exit code, and everything it printed.
    pub fn end(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", "INT", &id]).status();
        assert!(kill.unwrap().success());
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        (self.child.wait().unwrap().code(), self.seen.join("\n"))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
