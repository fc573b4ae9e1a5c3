//! `trust`: how current the trust state is, and how agents are rated.

mod show;

use clap::Args;
use clap::Subcommand;
use serde::Serialize;
use trustmesh::client::FeedError;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::StaleState;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Purpose;
use trustmesh::proto::trust::TrustState;

use super::OK;
use super::Outcome;
use super::agent::standing;
use super::join_token::agent_id;
use crate::cli::Global;
use crate::failure::class_code;
use crate::failure::exit_code;
use crate::output::BAD;
use crate::output::GOOD;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::output::table;
use crate::setting::Setting;
use crate::setting::now;
use crate::text;

/// See how current the trust state is, and how agents are rated.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh trust status --agent planner
  trustmesh trust list")]
pub enum Trust {
    Status(Status),
    List(List),
    Show(Show),
}

/// Say how old the newest trust state is, and what may be done by it.
#[derive(Args, Debug)]
#[command(
    after_help = "In a served mesh the newest state is fetched first, and kept. Exit code 19 when it is too old for something,
or when the bus has an older or another one than was seen before.

Examples:
  trustmesh trust status
  trustmesh trust status --offline --json      what this machine knows by itself"
)]
pub struct Status {
    /// Ask no server: judge what lies on disk.
    #[arg(long)]
    offline: bool,
}

/// List the agents with their trust scores, 0 to 1000.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh trust list
  trustmesh trust list --json")]
pub struct List {}

/// Show the trust score of one agent, and how it came about.
#[derive(Args, Debug)]
#[command(
    after_help = "The history is the verifier's: it is shown where its mesh directory is, from the service that runs on
it or from the books it left. Each step says when, from what to what, why, and by whom.

Examples:
  trustmesh trust show planner
  trustmesh trust show planner --json"
)]
pub struct Show {
    /// Its id.
    #[arg(value_parser = agent_id)]
    id: AgentId,
}

pub fn run(command: Trust, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    match command {
        Trust::Status(args) => super::wait_for(status(&args, &setting, output)),
        Trust::List(_) => list(&setting, output),
        Trust::Show(args) => show::run(&args.id, &setting, output),
    }
}

/// What is known, and how well.
#[derive(Serialize)]
struct Known {
    mesh: String,
    name: String,
    served: bool,
    root_version: u32,
    root: String,
    /// The id of the first root: what is pinned.
    pin: String,
    registry: u64,
    revocations: u64,
    policy: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    /// How old the newest timestamp is.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    /// Nothing below this is accepted, whatever the bus says.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Floor>,
    fresh: Vec<Freshness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<String>,
}

/// Where the last run was.
#[derive(Clone, Copy, Serialize)]
struct Floor {
    snapshot: u64,
    timestamp: u64,
}

#[derive(Serialize)]
struct Freshness {
    purpose: &'static str,
    fresh: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip)]
    within_ms: u64,
}

async fn status(args: &Status, setting: &Setting, output: &Output) -> Outcome {
    let home = setting.open()?;
    let floor = home
        .trust()
        .ok()
        .and_then(|trust| floor_of(&trust.current()));
    let alarm = match args.offline {
        true => None,
        false => match setting.bus().await {
            Ok(bus) => home.catch_up(&bus).await.err().map(anyhow::Error::from),
            Err(error) => Some(error),
        },
    };
    let trust = match (home.trust(), alarm) {
        (Ok(trust), alarm) => (trust.current(), alarm),
        // Without any state there is nothing to judge: why there is none says more.
        (Err(_), Some(alarm)) => return Err(alarm),
        (Err(error), None) => return Err(error.into()),
    };
    let (trust, alarm) = trust;
    let now = now()?;
    let known = Known::of(&trust, floor, alarm.as_ref(), now);
    known.tell(output)?;
    if known.fresh.iter().any(|one| !one.fresh) || alarm.as_ref().is_some_and(is_attack) {
        return Ok(class_code(Class::StaleState));
    }
    Ok(alarm.as_ref().map_or(OK, exit_code))
}

/// Whether the bus has something that an honest one has not.
fn is_attack(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref();
    matches!(refused, Some(FeedError::Refused(Rejection::StaleState { reason }))
        if matches!(reason, StaleState::Rollback | StaleState::Equivocation))
}

fn floor_of(trust: &TrustState) -> Option<Floor> {
    Some(Floor {
        snapshot: trust.snapshot()?.edition().epoch,
        timestamp: trust.time()?.epoch(),
    })
}

impl Known {
    fn of(
        trust: &TrustState,
        floor: Option<Floor>,
        alarm: Option<&anyhow::Error>,
        now: Timestamp,
    ) -> Self {
        let (root, epochs) = (trust.root(), trust.epochs());
        let newest = floor_of(trust);
        let purposes = [
            ("delegation and keys", Purpose::Authority),
            ("requests and answers", Purpose::Request),
            ("other messages", Purpose::Publish),
        ];
        let fresh = purposes.map(|(name, purpose)| {
            let checked = trust.check_fresh(now, ClockSkew::default(), purpose);
            Freshness {
                purpose: name,
                fresh: checked.is_ok(),
                reason: checked.err().map(|why| crate::failure::verdict(&why)),
                within_ms: purpose.bound_ms(),
            }
        });
        Self {
            mesh: trust.mesh().to_string(),
            name: root.name().to_owned(),
            served: root.is_served(),
            root_version: root.version(),
            root: root.id().to_string(),
            pin: root.first().to_string(),
            registry: epochs.registry,
            revocations: epochs.revocations,
            policy: epochs.policy,
            snapshot: newest.map(|newest| newest.snapshot),
            timestamp: newest.map(|newest| newest.timestamp),
            age_ms: trust.time().map(|time| now.since(time.issued())),
            floor,
            fresh: fresh.into(),
            alarm: alarm.map(|error| crate::failure::Report::of(error).error),
        }
    }

    fn tell(&self, output: &Output) -> anyhow::Result<()> {
        let line = |name: &str, text: String| output.line(format_args!("{name:<21} {text}"));
        let kind = match self.served {
            true => "served",
            false => "static, from signed files",
        };
        line("mesh", format!("{}, {kind}", styled(NAME, &self.name)))?;
        line(
            "trust root",
            format!("version {}, {}", self.root_version, self.root),
        )?;
        if self.pin != self.root {
            line("pinned by its first", self.pin.clone())?;
        }
        line(
            "epochs",
            format!(
                "registry {}, revocations {}, policy {}",
                self.registry, self.revocations, self.policy
            ),
        )?;
        if let (Some(snapshot), Some(timestamp), Some(age)) =
            (self.snapshot, self.timestamp, self.age_ms)
        {
            let age = text::span(age);
            line(
                "newest",
                format!("snapshot {snapshot}, timestamp {timestamp}, {age} old"),
            )?;
        }
        match self.floor {
            Some(Floor {
                snapshot,
                timestamp,
            }) => {
                line(
                    "floor",
                    format!("snapshot {snapshot}, timestamp {timestamp}, on disk before"),
                )?;
            }
            None if self.served => line("floor", "none: this was the first look".to_owned())?,
            None => {}
        }
        for one in &self.fresh {
            let text = match (&one.reason, self.served) {
                (Some(reason), _) => styled(BAD, format!("refused: {reason}")),
                (None, true) => {
                    format!(
                        "{}, for up to {}",
                        styled(GOOD, "fresh"),
                        text::span(one.within_ms)
                    )
                }
                (None, false) => styled(GOOD, "in force"),
            };
            line(one.purpose, text)?;
        }
        if let Some(alarm) = &self.alarm {
            line("alarm", styled(BAD, text::visible(alarm)))?;
        }
        output.object(self)
    }
}

/// How an agent is rated.
#[derive(Serialize)]
struct Rated {
    id: String,
    /// None was published: policy's own default counts.
    score: Option<u16>,
    standing: String,
}

impl Rated {
    fn of(id: &AgentId, trust: &TrustState, now: Timestamp) -> Self {
        let certificates = trust.certificates_of(id);
        let standing = certificates
            .first()
            .map_or("not enrolled".to_owned(), |c| standing(c, trust, now));
        Self {
            id: id.to_string(),
            score: trust.score(id),
            standing,
        }
    }

    fn score(&self) -> String {
        self.score.map_or("-".to_owned(), |score| score.to_string())
    }
}

fn list(setting: &Setting, output: &Output) -> Outcome {
    let (trust, now) = (setting.trust()?, now()?);
    let enrolled = trust.certificates().map(|certificate| certificate.agent());
    let mut ids: Vec<&AgentId> = enrolled.chain(trust.scores().map(|(id, _)| id)).collect();
    ids.sort();
    ids.dedup();
    let mut rows = Vec::new();
    for id in ids {
        let rated = Rated::of(id, &trust, now);
        output.object(&rated)?;
        rows.push([rated.id.clone(), rated.score(), rated.standing]);
    }
    match rows.is_empty() {
        true => output.note("no agents yet"),
        false => output.line(table(["ID", "SCORE", "STANDING"], rows))?,
    }
    Ok(OK)
}
