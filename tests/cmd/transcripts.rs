//! Transcripts that `trycmd` runs: every help, and every command that needs no server.

use std::env;
use std::process::Command;

use crate::place::Place;
use crate::place::text;

/// What would lead a command to somebody's own mesh.
const FOREIGN: [&str; 15] = [
    "CLICOLOR_FORCE",
    "NATS_CA",
    "NATS_CERT",
    "NATS_KEY",
    "NATS_PASSWORD",
    "NATS_URL",
    "NATS_USER",
    "RUST_LOG",
    "TRUSTMESH_AGENT",
    "TRUSTMESH_CONTEXT",
    "TRUSTMESH_DEV",
    "TRUSTMESH_HOME",
    "TRUSTMESH_LOG",
    "TRUSTMESH_ROOT",
    "XDG_CONFIG_HOME",
];

/// Every command says what it is for, and ends with two examples.
#[test]
fn help() {
    in_a_clean_environment("transcripts::help", || {
        cases().case("tests/cmd/help/*.trycmd");
    });
}

/// What is printed without a server, by people's mistakes too.
#[test]
fn offline() {
    in_a_clean_environment("transcripts::offline", || {
        cases().case("tests/cmd/offline/*.trycmd");
    });
}

fn cases() -> trycmd::TestCases {
    let cases = trycmd::TestCases::new();
    // Every transcript runs in a directory of its own, and so keeps its contexts to itself.
    cases
        .env("HOME", ".")
        .env("TRUSTMESH_CONFIG", "config")
        .env("COLUMNS", "100");
    for tool in ["cat", "chmod", "cp", "ls", "mkdir", "mv", "rm", "sh"] {
        if let Some(path) = find(tool) {
            cases.register_bin(tool, path);
        }
    }
    cases
}

fn find(tool: &str) -> Option<std::path::PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders)
        .map(|folder| folder.join(tool))
        .find(|path| path.is_file())
}

/// Transcripts inherit the environment, and cannot take anything out of it: where there is
/// something to take out, a process without it runs the test.
fn in_a_clean_environment(test: &str, run: impl FnOnce()) {
    if FOREIGN.iter().all(|name| env::var_os(name).is_none()) {
        return run();
    }
    let mut again = Command::new(env::current_exe().expect("this program has a path"));
    again.args([test, "--exact", "--nocapture"]);
    for name in FOREIGN {
        again.env_remove(name);
    }
    let status = again.status().expect("this program runs again");
    assert!(status.success(), "{test} fails: see above");
}

/// Whoever adds a command adds its help; no help lacks its two examples.
#[test]
fn every_command_has_its_help_here() {
    let mut waiting = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = waiting.pop() {
        let place = Place::new();
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let (help, _) = place.expect(0, &arguments);
        let name = if command.is_empty() {
            "trustmesh".to_owned()
        } else {
            command.join("-")
        };
        let file = format!(
            "{}/tests/cmd/help/{name}.trycmd",
            env!("CARGO_MANIFEST_DIR")
        );
        assert!(
            std::path::Path::new(&file).is_file(),
            "write {file}: three backticks, $ trustmesh {} --help, three backticks; \
             then run with TRYCMD=overwrite",
            command.join(" ")
        );
        let (_, examples) = help
            .split_once("\nExamples:\n")
            .expect("there are examples");
        assert_eq!(examples.lines().count(), 2, "{name}: {examples}");
        for subcommand in subcommands(&help) {
            let mut longer = command.clone();
            longer.push(subcommand);
            waiting.push(longer);
        }
        seen += 1;
    }
    assert!(seen > 20, "only {seen} commands were found");
}

/// A variable that is set to nothing says nothing.
#[test]
fn empty_variables_are_no_variables() {
    let place = Place::with_dev_mesh();
    let mut list = place.trustmesh(&["agent", "list"]);
    for name in FOREIGN {
        list.env(name, "");
    }
    let output = list.output().expect("trustmesh runs");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.contains("alice"),
        "{out}{err}"
    );
}

/// The names below `Commands:`; what they are for is indented further when it is broken.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.split_once("\nCommands:\n").map(|(_, list)| list);
    let lines = list.unwrap_or_default().lines();
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}
