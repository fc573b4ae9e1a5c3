//! A nats-server of our own, and what processes spend.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use super::Error;
use super::PATIENCE;

/// Ticks a second in `/proc/PID/stat`: `USER_HZ`, 100 on every architecture Rust has.
const TICKS: f64 = 100.0;

/// A nats-server on a loopback port, ended with this value.
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    pub fn start() -> Result<Self, Error> {
        let binary = find_binary().ok_or(
            "no nats-server: name one in NATS_SERVER_BIN, put one on the PATH, or run \
             scripts/test, which puts one into .tools/",
        )?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new(&binary)
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", binary.display()))?;
        let server = Self { child, port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not answer", binary.display()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The processor time the server has spent so far.
    pub fn spent(&self) -> Option<Duration> {
        spent(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time this process has spent so far.
pub fn own_spent() -> Option<Duration> {
    spent("self")
}

/// Fields 14 and 15 of `/proc/PID/stat`, `utime` and `stime` (proc(5)); nothing on other systems.
fn spent(process: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field, a name, may hold anything; the third follows its last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some(Duration::from_secs_f64((ticks()? + ticks()?) / TICKS))
}

fn find_binary() -> Option<PathBuf> {
    if let Some(named) = env::var_os("NATS_SERVER_BIN") {
        return Some(named.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools");
    let mut folders = env::split_paths(&path).chain([tools]);
    folders.find_map(|folder| Some(folder.join("nats-server")).filter(|file| file.is_file()))
}
