//! `can-i`: what an agent may do, and what decides it.

use clap::Args;
use serde::Serialize;
use trustmesh::Identity;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::limits::TTL_DEFAULT_MS;
use trustmesh::proto::policy::Effect;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify;
use trustmesh::proto::verify::Scene;

use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::failure::Failure;
use crate::failure::class_code;
use crate::failure::verdict;
use crate::output::BAD;
use crate::output::GOOD;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::setting::Setting;
use crate::setting::now;

/// Say whether an agent may do something, and which link and rule decide it.
#[derive(Args, Debug)]
#[command(
    after_help = "The answer is that of every receiver in the same trust state, before rates, sessions and approvals.

Examples:
  trustmesh can-i pub orders.eu.new --agent planner
  trustmesh can-i --list --agent planner"
)]
pub struct CanI {
    /// pub, sub, req or serve.
    #[arg(required_unless_present = "list")]
    action: Option<String>,
    /// A subject; for sub, a pattern.
    #[arg(required_unless_present = "list")]
    subject: Option<String>,
    /// As a member of this queue group.
    #[arg(long, value_name = "GROUP")]
    queue: Option<String>,
    /// List what the agent holds instead, link by link.
    #[arg(long, conflicts_with_all = ["action", "subject", "queue"])]
    list: bool,
}

pub fn run(args: &CanI, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    let identity = setting.identity()?;
    let (Some(action), Some(subject)) = (&args.action, &args.subject) else {
        return list(&identity, output);
    };
    let action = action_named(action)?;
    args.queue.as_deref().map_or(Ok(()), group)?;
    ask(&identity, action, subject, args.queue.as_deref(), output)
}

/// An action a person may ask about.
pub fn action_named(name: &str) -> anyhow::Result<Action> {
    Action::from_name(name)
        .filter(|action| *action != Action::Delegate)
        .ok_or_else(|| {
            Failure::usage(format!("no action {name:?}"))
                .next("the actions are pub, sub, req and serve")
                .into()
        })
}

/// The name of a queue group.
pub fn group(text: &str) -> anyhow::Result<()> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if text.is_empty() || text.contains(odd) {
        let text = format!("{text:?} is no name of a queue group: it is one word");
        return Err(Failure::usage(text).next("write it like workers").into());
    }
    Ok(())
}

#[derive(Serialize)]
struct Answer<'a> {
    verdict: &'static str,
    action: &'static str,
    subject: &'a str,
    agent: &'a str,
    class: Option<&'static str>,
    code: Option<u16>,
    hop: Option<u8>,
    reason: Option<String>,
    rules: Vec<&'a str>,
    /// What makes the message need an approval of the chain besides.
    approval: Option<String>,
}

fn ask(
    identity: &Identity,
    action: Action,
    subject: &str,
    queue: Option<&str>,
    output: &Output,
) -> Outcome {
    let (now, trust) = (now()?, identity.trust().current());
    let credential = identity.credential(identity.grant().clone(), now)?;
    let scene = Scene {
        now,
        trust: &trust,
        sessions: &(),
    };
    let pattern = pattern(subject)?;
    let skew = ClockSkew::default();
    let decided = if action == Action::Subscribe {
        verify::check_subscribe(&credential, &pattern, queue, &scene, skew)
    } else {
        let subject = concrete(subject)?;
        verify::check_send(
            &credential,
            action,
            &subject,
            None,
            TTL_DEFAULT_MS,
            &scene,
            skew,
        )
    };
    let rules = rules_about(trust.policy(), action, &pattern);
    let rejection = decided.err();
    let approval = match Subject::parse(subject) {
        Ok(subject) => trust.policy().asks_for_approval(action, &subject),
        Err(_) => None,
    };
    let answer = Answer {
        verdict: if rejection.is_none() { "allow" } else { "deny" },
        action: action.name(),
        subject,
        agent: identity.id().as_str(),
        class: rejection.map(|r| r.class().name()),
        code: rejection.map(|r| r.code()),
        hop: rejection.and_then(|r| r.hop()),
        reason: rejection.map(|r| r.to_string()),
        rules: rules.iter().map(|(name, _)| *name).collect(),
        approval: approval.map(ToString::to_string),
    };
    output.object(&answer)?;
    tell(&answer, rejection, &credential, &trust, &rules, output)?;
    Ok(rejection.map_or(OK, |r| class_code(r.class())))
}

/// A subject one can send to.
pub fn concrete(subject: &str) -> anyhow::Result<Subject> {
    Subject::parse(subject).map_err(|why| {
        Failure::usage(format!("{subject:?} is no subject to send to: {why}"))
            .next("write it without wildcards, like orders.eu.new")
            .into()
    })
}

/// A pattern one can listen on.
pub fn pattern(text: &str) -> anyhow::Result<SubjectPattern> {
    SubjectPattern::parse(text).map_err(|why| {
        Failure::usage(format!("{text:?} is no subject pattern: {why}"))
            .next("write it like orders.new, orders.* or 'orders.>'")
            .into()
    })
}

/// The rules that have a say: by name, and as text.
fn rules_about<'a>(
    policy: &'a Policy,
    action: Action,
    pattern: &SubjectPattern,
) -> Vec<(&'a str, String)> {
    let about = |rule: &&trustmesh::proto::policy::Rule| match rule.effect() {
        Effect::Deny => rule.subjects().overlaps(pattern),
        Effect::Allow => rule.subjects().contains(pattern),
    };
    policy
        .rules()
        .iter()
        .filter(|rule| rule.actions().has(action))
        .filter(about)
        .map(|rule| (rule.name(), rule.to_string()))
        .collect()
}

fn tell(
    answer: &Answer<'_>,
    rejection: Option<Rejection>,
    credential: &Credential,
    trust: &TrustState,
    rules: &[(&str, String)],
    output: &Output,
) -> anyhow::Result<()> {
    let asked = format!("{} may {} {}", answer.agent, answer.action, answer.subject);
    match rejection {
        None => output.line(format_args!("{} {asked}", styled(GOOD, "yes:")))?,
        Some(rejection) => {
            output.line(format_args!(
                "{} {}",
                styled(BAD, "no:"),
                verdict(&rejection)
            ))?;
        }
    }
    for (index, text) in links(credential, trust).into_iter().enumerate() {
        let failed = answer.hop == u8::try_from(index).ok();
        let mark = if failed {
            styled(BAD, "✗")
        } else {
            " ".to_owned()
        };
        output.line(format_args!(" {mark} {text}"))?;
    }
    for (name, rule) in rules {
        output.line(format_args!("   rule {name}: {rule}"))?;
    }
    if let Some(need) = &answer.approval {
        output.line(format_args!("   and the chain needs approval: {need}"))?;
    }
    if rules.is_empty() {
        output.line("   no rule of the policy is about this")?;
    }
    if let Some(code) = answer.code {
        output.line(format_args!("   next: trustmesh why {code}"))?;
    }
    Ok(())
}

fn links(credential: &Credential, trust: &TrustState) -> Vec<String> {
    let line = |(index, link): (usize, &trustmesh::proto::delegation::Link)| {
        let holder = trust.name_of(&link.holder());
        let scope = link.scope().to_strings();
        format!("link {index}, {holder}: {}", scope.join(" "))
    };
    credential
        .chain()
        .links()
        .iter()
        .enumerate()
        .map(line)
        .collect()
}

fn list(identity: &Identity, output: &Output) -> Outcome {
    let trust = identity.trust().current();
    let credential = identity.credential(identity.grant().clone(), now()?)?;
    output.line(styled(NAME, identity.id()))?;
    for text in links(&credential, &trust) {
        output.line(format_args!("   {text}"))?;
    }
    for rule in trust.policy().rules() {
        output.line(format_args!("   rule {}: {rule}", rule.name()))?;
    }
    for (index, link) in credential.chain().links().iter().enumerate() {
        let scope = link.scope().to_strings();
        output.object(&serde_json::json!({
            "hop": index, "link": link.id().to_string(), "holder": link.holder().to_string(),
            "scope": scope, "until": link.validity().until().as_millis(),
            "remaining": link.remaining(),
        }))?;
    }
    Ok(OK)
}
