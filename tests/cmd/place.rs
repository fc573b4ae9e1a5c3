//! A place to run commands in: a directory, an environment of its own, and nothing of the user's.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// Where the binary lies.
pub const TRUSTMESH: &str = env!("CARGO_BIN_EXE_trustmesh");

/// A directory that goes away, and the variables commands see in it.
pub struct Place {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Place {
    /// An empty one, without a server.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory to work in");
        Self {
            directory,
            variables: Vec::new(),
        }
    }

    /// With a development mesh in it, as `trustmesh init --dev` makes it.
    pub fn with_dev_mesh() -> Self {
        let place = Self::new();
        place.expect(0, &["init", "--dev"]);
        place
    }

    /// The same place, with one more variable set.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path in it.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path().join(path)
    }

    /// A file in it, as text.
    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.join(path);
        fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
    }

    /// A program in this place. Of the user's environment it sees how to find programs, no more.
    pub fn program(&self, program: &str) -> Command {
        let ours = Path::new(TRUSTMESH).parent().expect("it lies in a folder");
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = [ours.to_owned()].into_iter().chain(env::split_paths(&path));
        let path = env::join_paths(folders).expect("they came from such a list");
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path())
            .env("TRUSTMESH_CONFIG", self.join(".config"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        // The directory may have been named through a link; what is printed goes by this name.
        command.env("PWD", self.path());
        // Where coverage is measured, commands are measured too.
        if let Some(value) = env::var_os("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", value);
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// `trustmesh` with these arguments.
    pub fn trustmesh(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(TRUSTMESH);
        command.args(arguments);
        command
    }

    /// Runs `trustmesh` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.trustmesh(arguments).output();
        output.expect("trustmesh runs")
    }

    /// Runs `trustmesh`, which has to end with this code; what it printed, and said.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "trustmesh {arguments:?}\n{out}{err}"
        );
        (out, err)
    }
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
