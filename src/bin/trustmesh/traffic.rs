//! Messages and decisions, as people and programs read them.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::Denied;
use trustmesh::Identity;
use trustmesh::Message;
use trustmesh::Subscription;
use trustmesh::client::plane::PlaneError;
use trustmesh::proto::audit::AuditEvent;
use trustmesh::proto::audit::AuditRecord;
use trustmesh::proto::audit::DecisionEvent;
use trustmesh::proto::audit::Word;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::PolicyDenied;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Action;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;

use crate::failure::Failure;
use crate::output::BAD;
use crate::output::DIM;
use crate::output::GOOD;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::text;

/// The code of a request whose rule asks for a session.
const NO_SESSION: u16 = Rejection::PolicyDenied {
    reason: PolicyDenied::NoSession,
}
.code();

/// Prints a verified message: who, what, and on whose authority.
pub fn show_message(message: &Message, trust: &TrustState, output: &Output) -> anyhow::Result<()> {
    let verified = message.verified();
    let who = styled(NAME, message.sender());
    let payload = payload_text(&message.payload);
    // An answer comes in where only this request waits: the subject says nothing to a person.
    let what = match verified.claims().action {
        Action::Serve => "answer",
        _ => message.subject.as_str(),
    };
    let verb = styled(GOOD, "verified");
    output.line(format_args!("{verb} {what} from {who}: {payload}"))?;
    output.line(styled(
        DIM,
        format!("         {}", authority(verified.chain(), trust)),
    ))?;
    let headers: Vec<_> = verified.headers().collect();
    for (name, value) in &headers {
        let text = format!("         {}: {}", text::visible(name), text::visible(value));
        output.line(styled(DIM, text))?;
    }
    let granted = match verified.grants() {
        [] => None,
        _ => Some(message.granted()),
    };
    match &granted {
        None => {}
        Some(Ok(credential)) => {
            let chain = authority(credential.chain(), trust);
            output.line(format_args!("         hands over {chain}"))?;
        }
        Some(Err(Denied(why))) => {
            let why = crate::failure::verdict(why);
            output.line(format_args!(
                "         hands over what we cannot use: {why}"
            ))?;
        }
    }
    output.object(&serde_json::json!({
        "verdict": "allow",
        "subject": message.subject.as_str(),
        "sender": message.sender().as_str(),
        "object": verified.id().to_string(),
        "payload": String::from_utf8_lossy(&message.payload),
        "reply": message.reply.as_ref().map(|reply| reply.as_str()),
        "issuer": verified.chain().issuer().to_string(),
        "chain": hops(verified.chain(), trust),
        "headers": headers,
        "granted": granted.and_then(Result::ok).map(|c| hops(c.chain(), trust)),
    }))
}

/// A payload as text, when it is text a terminal can be trusted with.
pub fn payload_text(payload: &Bytes) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) => format!("\"{}\"", text::visible(text)),
        Err(_) => text::bytes(payload.len()),
    }
}

/// `issuer ▶ planner pub:tasks.> ▶ …`
fn authority(chain: &Chain, trust: &TrustState) -> String {
    let mut text = format!("issuer {}", text::short(&chain.issuer().to_string()));
    for link in chain.links() {
        let scope = link.scope().to_strings();
        text.push_str(&format!(
            " ▶ {} {}",
            trust.name_of(&link.holder()),
            scope.join(" ")
        ));
    }
    text
}

fn hops(chain: &Chain, trust: &TrustState) -> Vec<serde_json::Value> {
    let hop = |link: &trustmesh::proto::delegation::Link| {
        let scope = link.scope().to_strings();
        serde_json::json!({
            "link": link.id().to_string(), "holder": trust.name_of(&link.holder()), "scope": scope,
        })
    };
    chain.links().iter().map(hop).collect()
}

/// Prints a refusal of this process. Other records of its own audit are not shown.
pub fn show_refusal(record: &AuditRecord, output: &Output) -> anyhow::Result<()> {
    let AuditEvent::Decision(decision) = &record.event else {
        return Ok(());
    };
    if decision.verdict == Word::Allow {
        return Ok(());
    }
    output.line(refusal(decision))?;
    if decision.class.as_deref() == Some(Class::NotYetValid.name()) {
        let here = text::utc(Timestamp::from_millis(record.time));
        let text = format!("         here it is {here}: one of the two clocks is off");
        output.line(styled(DIM, text))?;
    }
    let next = match decision.code {
        // The sender's client does so by itself and sends once more.
        Some(NO_SESSION) => "the sender has to shake hands first".to_owned(),
        code => format!("trustmesh why {}", code.unwrap_or_default()),
    };
    output.line(styled(DIM, format!("         {next}")))?;
    output.object(decision)
}

fn refusal(decision: &DecisionEvent) -> String {
    let class = decision.class.as_deref().unwrap_or_default();
    let code = decision.code.unwrap_or_default();
    let reason = decision.reason.as_deref().unwrap_or_default();
    let reason = reason.split_once(": ").map_or(reason, |(_, reason)| reason);
    let reason = text::readable(reason);
    format!(
        "{} {} {}: {class} {code}, {}",
        styled(BAD, "REFUSED "),
        text::visible(&decision.subject),
        sender(decision),
        text::visible(&reason)
    )
}

/// Who sent it, as far as that is known.
fn sender(decision: &DecisionEvent) -> String {
    match (&decision.sender, decision.claimed) {
        (Some(sender), false) => format!("from {}", text::visible(sender)),
        (Some(sender), true) => format!("claiming to be {}", text::visible(sender)),
        (None, _) => "from nobody known".to_owned(),
    }
}

/// One line for a record of the audit.
pub fn audit_line(record: &AuditRecord) -> String {
    let time = text::time_of_day(Timestamp::from_millis(record.time));
    let head = format!(
        "{} {} #{}",
        styled(DIM, time),
        styled(NAME, text::visible(&record.emitter)),
        record.seq
    );
    format!("{head} {}", event_line(&record.event))
}

fn event_line(event: &AuditEvent) -> String {
    match event {
        AuditEvent::Decision(decision) if decision.verdict == Word::Deny => refusal(decision),
        AuditEvent::Decision(decision) => {
            let path: Vec<_> = decision
                .chain
                .iter()
                .map(|hop| hop.holder.as_str())
                .collect();
            format!(
                "{} {} {} {}, issuer ▶ {}",
                styled(GOOD, "allowed "),
                decision.action.as_deref().unwrap_or("?"),
                text::visible(&decision.subject),
                sender(decision),
                text::visible(&path.join(" > ")).replace(" > ", " ▶ ")
            )
        }
        AuditEvent::Withdrawn { class, code, .. } => {
            format!("{} {class} {code}", styled(BAD, "WITHDRAWN"))
        }
        AuditEvent::Aggregate { class, count } => {
            format!("{} {count} more of {class}", styled(BAD, "REFUSED "))
        }
        AuditEvent::Gap { count } => {
            format!(
                "{} {count} events were not recorded",
                styled(BAD, "GAP     ")
            )
        }
        AuditEvent::Session {
            peer, class: None, ..
        } => format!("session  with {}", text::visible(peer)),
        AuditEvent::Session {
            peer,
            class: Some(class),
            ..
        } => format!(
            "{} handshake with {}: {class}",
            styled(BAD, "REFUSED "),
            text::visible(peer)
        ),
        AuditEvent::Notice { topic, text } => {
            format!("notice   {}: {}", text::visible(topic), text::visible(text))
        }
        other => text::visible(&format!("{other:?}")),
    }
}

/// The subscription that the options of a command describe.
pub fn subscription(
    client: &Client,
    pattern: &str,
    queue: &Option<String>,
    shared_replay: bool,
) -> Subscription {
    let mut subscription = client.subscription(pattern.to_owned());
    if let Some(group) = queue {
        subscription = subscription.queue(group.clone());
    }
    match shared_replay {
        true => subscription.shared_replay(),
        false => subscription,
    }
}

/// Turns a refusal inside an error into one that says what was asked and what was held.
pub fn explain<E>(error: E, asked: String, identity: &Identity) -> anyhow::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    match refusal_in(&error) {
        Some(rejection) => Failure::refused(rejection)
            .fact("asked", asked)
            .holding(identity.grant(), &identity.trust().current())
            .into(),
        None => error.into(),
    }
}

/// Turns a refusal by the verifier service into one that says what to do.
pub fn explain_service(error: PlaneError) -> anyhow::Error {
    match error {
        PlaneError::Refused(reason) => Failure::enrolment(reason).into(),
        PlaneError::TimedOut => Failure::unreachable("no verifier service answers")
            .next("start it where the role keys are: trustmesh serve")
            .into(),
        other => other.into(),
    }
}

/// Goes on under a renewed certificate and grant, in a served mesh, as long as the client lives.
pub fn stay(client: &Client) {
    if client.trust().root().is_served() {
        client.keep_renewed();
    }
}

fn refusal_in(error: &(dyn std::error::Error + 'static)) -> Option<Rejection> {
    let mut cause = Some(error);
    while let Some(here) = cause {
        if let Some(Denied(rejection)) = here.downcast_ref() {
            return Some(*rejection);
        }
        cause = here.source();
    }
    None
}

/// Ends a client whose command failed, so that what it recorded is not lost. Why the command
/// failed says more than why its client could not end well.
pub async fn ended<T>(client: &Client, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    if outcome.is_err() {
        let _ = finish(client).await;
    }
    outcome
}

/// Ends a client so that nothing it sent or recorded is lost.
pub async fn finish(client: &Client) -> anyhow::Result<()> {
    client.flush().await?;
    client.flush_audit().await;
    client.drain().await?;
    Ok(())
}

/// Completes when the process is asked to end. From the call on, not only from the first poll,
/// being asked does not end it at once.
pub fn asked_to_end() -> impl Future<Output = ()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::SignalKind;
        use tokio::signal::unix::signal;
        let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        async move {
            let mut waits = Vec::new();
            for signal in signals.into_iter().flatten() {
                waits.push(Box::pin(async {
                    let mut signal = signal;
                    signal.recv().await
                }));
            }
            if waits.is_empty() {
                // Without a way to be asked, only the other conditions end it.
                std::future::pending::<()>().await;
            }
            futures_util::future::select_all(waits).await;
        }
    }
    #[cfg(not(unix))]
    async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Completes after `time`, or never.
pub async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// The payload given on the command line; `-` is standard input.
pub fn payload(given: &str) -> anyhow::Result<Bytes> {
    if given != "-" {
        return Ok(Bytes::copy_from_slice(given.as_bytes()));
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)?;
    Ok(bytes.into())
}
