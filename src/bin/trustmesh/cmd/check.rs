//! `check`: is everything in place, and if not, what to do.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt as _;
use serde::Serialize;
use trustmesh::bus::Bus;
use trustmesh::bus::Outgoing;
use trustmesh::bus::nats::NatsBus;
use trustmesh::bus::nats::SERVER_FLOOR;
use trustmesh::client::home::Home;
use trustmesh::keyfile;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::limits::RESERVE;
use trustmesh::proto::names::INBOX;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Purpose;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::permissions::bucket;

use super::OK;
use super::Outcome;
use super::wait_for;
use crate::cli::Global;
use crate::failure::CONFIG;
use crate::failure::Failure;
use crate::failure::Report;
use crate::failure::UNREACHABLE;
use crate::failure::class_code;
use crate::failure::exit_code;
use crate::output::BAD;
use crate::output::DIM;
use crate::output::GOOD;
use crate::output::Output;
use crate::output::WARN;
use crate::output::styled;
use crate::setting::Setting;
use crate::setting::is_served;
use crate::setting::now;
use crate::setting::without_credentials;
use crate::text;

/// Older servers work, and lack fixes.
const SERVER_RECOMMENDED: (u32, u32) = (2, 12);
/// When the end of the trust root is worth a word.
const SOON: Duration = Duration::from_secs(30 * 24 * 3_600);
/// JetStream's code for a stream that does not exist.
const NO_STREAM: u64 = 10_059;
/// How long JetStream may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Check mesh directory, keys, agent, clock and server; say what to do about each problem.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit code 0 when nothing failed; warnings are no failures.

Examples:
  trustmesh check --agent planner
  trustmesh check --json --offline"
)]
pub struct Check {
    /// Leave the server out.
    #[arg(long)]
    offline: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Result {
    Pass,
    Warn,
    Fail,
}

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    result: Result,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    code: u8,
}

impl Finding {
    fn pass(check: &'static str, text: impl Into<String>) -> Self {
        Self {
            check,
            result: Result::Pass,
            text: text.into(),
            hint: None,
            code: OK,
        }
    }

    fn warn(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            result: Result::Warn,
            hint: Some(hint.into()),
            ..Self::pass(check, text)
        }
    }

    fn fail(check: &'static str, text: String, hint: Option<String>, code: u8) -> Self {
        Self {
            result: Result::Fail,
            hint,
            code,
            ..Self::pass(check, text)
        }
    }

    fn error(check: &'static str, error: &anyhow::Error) -> Self {
        let report = Report::of(error);
        Self::fail(check, report.error, report.next, exit_code(error))
    }
}

pub fn run(args: &Check, global: &Global, output: &Output) -> Outcome {
    let mut findings = Vec::new();
    let setting = match Setting::of(global) {
        Ok(setting) => {
            let path = setting.path().display();
            findings.push(Finding::pass("config", format!("mesh directory {path}")));
            setting
        }
        Err(error) => {
            findings.push(Finding::error("config", &error));
            return conclude(&findings, output);
        }
    };
    match setting.trust() {
        Ok(trust) => findings.extend(check_trust(&trust)?),
        Err(error) => findings.push(Finding::error("trust", &error)),
    }
    findings.push(check_keys(setting.path()));
    findings.push(check_agent(&setting)?);
    if !args.offline {
        findings.extend(wait_for_server(&setting)?);
    }
    conclude(&findings, output)
}

fn conclude(findings: &[Finding], output: &Output) -> Outcome {
    for finding in findings {
        let (style, word) = match finding.result {
            Result::Pass => (GOOD, "pass"),
            Result::Warn => (WARN, "warn"),
            Result::Fail => (BAD, "fail"),
        };
        let word = styled(style, word);
        output.line(format_args!(
            "{word}  {:<9} {}",
            finding.check, finding.text
        ))?;
        if let Some(hint) = &finding.hint {
            output.line(styled(DIM, format!("                {hint}")))?;
        }
        output.object(finding)?;
    }
    let failed = findings.iter().find(|f| f.result == Result::Fail);
    Ok(failed.map_or(OK, |finding| finding.code))
}

fn check_trust(trust: &TrustState) -> anyhow::Result<Vec<Finding>> {
    let now = now()?;
    let name = trust.root().name();
    let epochs = trust.epochs();
    let mut findings = Vec::new();
    if trust.root().is_dev() {
        findings.push(Finding::warn(
            "trust",
            format!("{name} is a development mesh"),
            "its keys lie together on one machine: trustmesh init makes one for production",
        ));
    }
    let clock = clock(trust, now);
    let behind = clock.result == Result::Fail;
    findings.push(clock);
    if behind {
        // What such a clock says of windows says nothing about the files.
        return Ok(findings);
    }
    if trust.root().is_served() {
        // Which state is the newest, the server tells.
        let text = format!(
            "{name} is a served mesh, root version {}",
            trust.root().version()
        );
        findings.push(Finding::pass("trust", text));
        findings.extend(root_end(trust, now));
        return Ok(findings);
    }
    match trust.check_fresh(now, ClockSkew::default(), Purpose::Request) {
        Ok(()) => {
            let text = format!(
                "registry {}, policy {}, revocations {}: signed, and in force",
                epochs.registry, epochs.policy, epochs.revocations
            );
            findings.push(Finding::pass("trust", text));
        }
        Err(rejection) => findings.push(Finding::error(
            "trust",
            &Failure::refused(rejection)
                .next("sign the files again (trustmesh policy push), or set the clock right")
                .into(),
        )),
    }
    findings.push(Finding::warn(
        "freshness",
        "static mesh: agents learn of a revocation when they read the files again",
        "copy trust/ to every agent after each revoke and policy push",
    ));
    findings.extend(root_end(trust, now));
    Ok(findings)
}

/// A root that ends soon is worth a word; once it has ended, nothing is decided by it.
fn root_end(trust: &TrustState, now: Timestamp) -> Option<Finding> {
    let end = trust.root().validity().until();
    let soon = end.since(now) < u64::try_from(SOON.as_millis()).unwrap_or(u64::MAX);
    let hint = match trust.root().is_served() {
        true => "where the role keys are, another root lets the mesh go on: trustmesh root succeed",
        false => "make a new mesh, and move its agents",
    };
    match (now < end, soon) {
        (false, _) => {
            let text = format!("the trust root ended at {}", text::utc(end));
            let code = class_code(Class::StaleState);
            Some(Finding::fail("trust", text, Some(hint.to_owned()), code))
        }
        (true, true) => {
            let text = format!("the trust root ends at {}", text::utc(end));
            Some(Finding::warn("trust", text, hint))
        }
        (true, false) => None,
    }
}

/// A clock that is far behind shows in files from its future.
fn clock(trust: &TrustState, now: Timestamp) -> Finding {
    let from = trust.root().validity().from();
    if now < from {
        let (now, from) = (text::utc(now), text::utc(from));
        let text = format!("this machine says {now}, and the mesh began at {from}");
        let hint = "set the clock right: chronyc tracking, or timedatectl".to_owned();
        return Finding::fail("clock", text, Some(hint), CONFIG);
    }
    Finding::pass("clock", text::utc(now))
}

/// Every key file that lies here, whoever may use it.
fn check_keys(home: &Path) -> Finding {
    let mut paths = Vec::new();
    let folders = [home.join("authority")];
    let agents = std::fs::read_dir(home.join("agents")).into_iter().flatten();
    let agents = agents.flatten().map(|entry| entry.path());
    for folder in folders.into_iter().chain(agents) {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = files.map(|entry| entry.path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|e| e == "pem")));
    }
    paths.sort();
    for path in &paths {
        if let Err(error) = keyfile::load(path) {
            return Finding::error("keys", &error.into());
        }
    }
    match paths.len() {
        0 => Finding::warn(
            "keys",
            "no key lies here",
            "an agent needs its own directory below agents/",
        ),
        n => Finding::pass(
            "keys",
            format!("{n} key files, readable by their owner alone"),
        ),
    }
}

fn check_agent(setting: &Setting) -> anyhow::Result<Finding> {
    let Some(agent) = setting.agent() else {
        let hint = "give --agent ID, or trustmesh context use NAME --agent ID";
        return Ok(Finding::warn("agent", "none is named", hint));
    };
    Ok(match setting.identity() {
        Ok(identity) => {
            let until = identity.grant().leaf().validity().until();
            let left = text::span(until.since(now()?));
            Finding::pass(
                "agent",
                format!("{agent}: key, certificate, grant for {left}"),
            )
        }
        Err(error) => Finding::error("agent", &error),
    })
}

fn wait_for_server(setting: &Setting) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    wait_for(async {
        match setting.any_bus().await {
            Ok(bus) => findings.extend(check_server(&bus, setting).await),
            Err(error) => findings.push(Finding::error("nats", &error)),
        }
        Ok(OK)
    })?;
    Ok(findings)
}

async fn check_server(bus: &NatsBus, setting: &Setting) -> Vec<Finding> {
    let info = bus.server_info();
    let place = without_credentials(setting.server());
    let version = version(&info.version);
    let text = format!("nats-server {} at {place}", info.version);
    let floor = format!("{}.{}", SERVER_FLOOR.0, SERVER_FLOOR.1);
    let mut findings = vec![match version {
        Some(found) if found < SERVER_FLOOR => {
            let hint = format!("install {floor} or later");
            Finding::fail("nats", text, Some(hint), UNREACHABLE)
        }
        Some(found) if found < SERVER_RECOMMENDED => {
            Finding::warn("nats", text, "2.12 or later is recommended")
        }
        Some(_) => Finding::pass("nats", text),
        None => Finding::warn(
            "nats",
            text,
            format!("cannot tell whether it is {floor} or later"),
        ),
    }];
    if setting.is_plain(&info) {
        findings.push(Finding::warn(
            "tls",
            "the connection leaves this machine in plain text",
            "payloads are signed, not encrypted: require TLS on the server",
        ));
    }
    if bus.max_payload() <= 2 * RESERVE {
        let text = format!("the server takes messages of {} bytes", bus.max_payload());
        let hint = format!("an envelope reserves {RESERVE} of them: raise max_payload");
        findings.push(Finding::warn("nats", text, hint));
    }
    let served = setting.open().ok().filter(|_| is_served(setting.path()));
    findings.push(check_jetstream(bus, setting, served.is_some()).await);
    if let Some(home) = served {
        findings.push(check_feed(&home, bus).await);
    }
    findings
}

/// Fetches the newest trust state, as every agent does.
async fn check_feed(home: &Home, bus: &NatsBus) -> Finding {
    let checked = async {
        home.catch_up(bus).await?;
        let trust = home.trust()?.current();
        let now = now()?;
        trust
            .check_fresh(now, ClockSkew::default(), Purpose::Authority)
            .map_err(|rejection| {
                Failure::refused(rejection)
                    .next("start it where the role keys are: trustmesh serve")
            })?;
        let age = trust.time().map_or(0, |time| now.since(time.issued()));
        Ok::<_, anyhow::Error>(format!(
            "the verifier's newest timestamp is {} old",
            text::span(age)
        ))
    };
    match checked.await {
        Ok(text) => Finding::pass("freshness", text),
        Err(error) => Finding::error("freshness", &error),
    }
}

/// Major and minor version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Asks for the bucket of the trust state, which every agent may, below an inbox that it may listen
/// to: without JetStream nobody answers, and what the server does not let through has no answer.
async fn check_jetstream(bus: &NatsBus, setting: &Setting, needed: bool) -> Finding {
    let asked = async {
        let mut id = [0; 16];
        getrandom::fill(&mut id).ok()?;
        let id = data_encoding::HEXLOWER.encode(&id);
        let key = setting.identity().ok().map(|identity| identity.key());
        let inbox = key.map_or_else(|| INBOX.to_owned(), |key| inbox_prefix(&key));
        let inbox = format!("{inbox}.{id}");
        let mut answers = bus.subscribe(inbox.clone().into(), None).await.ok()?;
        let about = match setting.trust() {
            Ok(trust) => format!("STREAM.INFO.KV_{}", bucket(trust.mesh())),
            Err(_) => "INFO".to_owned(),
        };
        let question = Outgoing::new(format!("$JS.API.{about}"), Bytes::new()).with_reply(inbox);
        bus.publish(question).await.ok()?;
        answers.next().await
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await;
    match answer.ok().flatten() {
        Some(answer) if answer.status.is_some() || is_disabled(&answer.payload) => {
            if needed {
                let hint = "start the server with it: nats-server -js".to_owned();
                let text = "not enabled; a served mesh lives from it".to_owned();
                return Finding::fail("jetstream", text, Some(hint), UNREACHABLE);
            }
            Finding::pass("jetstream", "not enabled; a static mesh needs none")
        }
        Some(_) => Finding::pass("jetstream", "enabled"),
        None => Finding::warn(
            "jetstream",
            "cannot tell: the server does not answer this user",
            "give --agent ID, as trustmesh nats config knows it",
        ),
    }
}

/// Whether JetStream answers that it is not there: not that a stream is missing.
fn is_disabled(payload: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(payload) else {
        return true;
    };
    let code = |error: &serde_json::Value| error["err_code"].as_u64();
    answer
        .get("error")
        .is_some_and(|error| code(error) != Some(NO_STREAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_stream_is_no_missing_jetstream() {
        assert!(!is_disabled(br#"{"config":{}}"#));
        assert!(!is_disabled(br#"{"error":{"err_code":10059}}"#));
        assert!(is_disabled(br#"{"error":{"err_code":10039}}"#));
        assert!(is_disabled(br#"{"error":{}}"#) && is_disabled(b"+OK"));
    }

    #[test]
    fn server_versions_are_compared_by_number() {
        assert_eq!(version("2.12.8"), Some((2, 12)));
        assert!(version("2.9.10") < Some(SERVER_FLOOR));
        assert_eq!(version("unknown"), None);
    }
}
