//! Researchers, tools and the writer. None of them may ask for anything in its own name: each acts
//! on the authority that came with its task, and hands on a smaller piece of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::Message;
use trustmesh::Service;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::scope::Scope;

use crate::Fault;
use crate::cast::Cast;
use crate::cast::RESEARCHERS;
use crate::cast::ask;
use crate::documents::token;
use crate::plane::Plane;
use crate::planner::Planner;
use crate::report;
use crate::stage::say;
use crate::text::Finding;

/// For how long the summariser may work for a researcher.
const SUMMARISING: Duration = Duration::from_secs(30);

/// For how long the reader may work for the summariser.
const READING: Duration = Duration::from_secs(15);

/// Everyone at work. They stop when it is dropped.
pub struct Team {
    researchers: BTreeMap<&'static str, Service>,
    _others: [Service; 3],
}

/// Puts everyone to work.
pub async fn assemble(cast: &Cast) -> Result<Team, Fault> {
    let mut team = Team {
        researchers: BTreeMap::new(),
        _others: [
            serve(cast, "tools/summarise", "tools.summarise.*", summarise).await?,
            serve(cast, "tools/reader", "tools.read.*", read).await?,
            serve_writing(cast).await?,
        ],
    };
    for id in RESEARCHERS {
        team.take_up(cast, id).await?;
    }
    Ok(team)
}

impl Team {
    /// A researcher takes tasks from now on.
    pub async fn take_up(&mut self, cast: &Cast, id: &'static str) -> Result<(), Fault> {
        let client = cast.connect(id).await?;
        let group = "researchers".to_owned();
        let handler = move |task| research(id, task);
        let service = client.queue_serve("team.research", group, handler);
        self.researchers.insert(id, service.await?);
        Ok(())
    }

    /// A researcher takes no more tasks, and has finished those it has.
    pub async fn lay_down(&mut self, id: &'static str) -> Result<(), Fault> {
        let service = self.researchers.remove(id).ok_or("not at work")?;
        service.stop().await;
        Ok(())
    }
}

async fn serve<F>(
    cast: &Cast,
    id: &'static str,
    subject: &'static str,
    handler: fn(Message) -> F,
) -> Result<Service, Fault>
where
    F: Future<Output = Result<Bytes, Fault>> + Send + 'static,
{
    let client = cast.connect(id).await?;
    Ok(client.serve(subject, handler).await?)
}

async fn serve_writing(cast: &Cast) -> Result<Service, Fault> {
    let client = cast.connect("writer").await?;
    let plane = cast.plane().cloned();
    let handler = move |task| write(task, plane.clone());
    Ok(client.serve("team.write", handler).await?)
}

/// Everyone who will ask proves itself to everyone it will ask, and the other way round: policy
/// accepts no request without it.
pub async fn shake_hands(cast: &Cast, planner: &Planner) -> Result<(), Fault> {
    let mut pairs = vec![
        ("tools/summarise", "tools/reader"),
        ("tools/reader", "store"),
        ("writer", "store"),
    ];
    pairs.extend(RESEARCHERS.map(|researcher| (researcher, "tools/summarise")));
    for (asker, asked) in pairs {
        cast.connect(asker)
            .await?
            .handshake(&AgentId::parse(asked)?)
            .await?;
        say(asker, &format!("shook hands with {asked}"));
    }
    for asked in RESEARCHERS.into_iter().chain(["writer", "store"]) {
        planner.client().handshake(&AgentId::parse(asked)?).await?;
        say("planner", &format!("shook hands with {asked}"));
    }
    Ok(())
}

/// A researcher has the document summarised, which includes having it read.
async fn research(me: &'static str, task: Message) -> Result<Bytes, Fault> {
    let name = String::from_utf8(task.payload.to_vec())?;
    let finding = have_summarised(&task.acting()?, me, name).await?;
    Ok(serde_json::to_vec(&finding)?.into())
}

/// What a researcher does that acts on the authority of a task.
pub async fn have_summarised(acting: &Client, me: &str, name: String) -> Result<Finding, Fault> {
    let document = token(&name);
    let scope = Scope::parse([
        format!("req:tools.read.{document}"),
        format!("req+delegate:store.read.{document}"),
    ])?;
    let summariser = AgentId::parse("tools/summarise")?;
    let grant = acting.delegate_to_depth(&summariser, scope, SUMMARISING, 1)?;
    let request = acting
        .compose(format!("tools.summarise.{document}"))
        .grant(&grant);
    let mut finding: Finding = serde_json::from_slice(&ask(request).await?)?;
    finding.name = name;
    finding.by = me.to_owned();
    Ok(finding)
}

/// The summariser has the document read, and says what is in it.
async fn summarise(task: Message) -> Result<Bytes, Fault> {
    let document = document_of(&task);
    let acting = task.acting()?;
    let scope = Scope::parse([format!("req:store.read.{document}")])?;
    let reader = AgentId::parse("tools/reader")?;
    let grant = acting.delegate_to_depth(&reader, scope, READING, 0)?;
    let request = acting
        .compose(format!("tools.read.{document}"))
        .grant(&grant);
    let text = ask(request).await?;
    let finding = Finding::of(std::str::from_utf8(&text)?);
    Ok(serde_json::to_vec(&finding)?.into())
}

/// The reader gets the document from the store.
async fn read(task: Message) -> Result<Bytes, Fault> {
    let document = document_of(&task);
    ask(task.acting()?.compose(format!("store.read.{document}"))).await
}

/// The writer writes report and index and has the store keep them. In a served mesh it presents
/// the chain of its task first: by then policy asks for that.
async fn write(task: Message, plane: Option<Plane>) -> Result<Bytes, Fault> {
    let findings: Vec<Finding> = serde_json::from_slice(&task.payload)?;
    let acting = task.acting()?;
    if let Some(plane) = plane {
        plane.present(&acting).await?;
        say("writer", "presented the chain of its task: approved");
    }
    let results = [
        ("report.md", report::report(&findings)),
        ("index.md", report::index(&findings)),
    ];
    for (name, text) in results {
        let subject = format!("store.write.{}", token(name));
        ask(acting.compose(subject).payload(text)).await?;
    }
    let words: usize = findings.iter().map(|finding| finding.words).sum();
    let told = format!("{} documents, {words} words", findings.len());
    Ok(told.into())
}

/// The document a tool's subject names.
fn document_of(task: &Message) -> String {
    task.subject
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .to_owned()
}
