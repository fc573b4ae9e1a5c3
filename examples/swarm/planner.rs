//! The planner: it alone was granted authority to ask for things, and lends it out in small pieces.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use futures_util::stream;
use trustmesh::Client;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::scope::Scope;

use crate::Fault;
use crate::cast::Cast;
use crate::cast::RESEARCHERS;
use crate::cast::ask;
use crate::documents::token;
use crate::stage::say;
use crate::stage::success;
use crate::text::Finding;

/// For how long a researcher may work on one document.
const RESEARCH: Duration = Duration::from_secs(60);

/// For how long the writer may write.
const WRITING: Duration = Duration::from_secs(30);

/// Documents in work at once.
const AT_ONCE: usize = 6;

/// The planner.
pub struct Planner {
    client: Client,
}

impl Planner {
    /// Connects the planner, under a trace that every message of this work will carry.
    pub async fn hire(cast: &Cast) -> Result<Self, Fault> {
        let client = cast.connect("planner").await?;
        let trace = "00-7377617266d10000000000000000cafe-00000000000000a1-01";
        let client = client.with_traceparent(trace)?;
        Ok(Self { client })
    }

    /// The planner's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks for a file outside the store. Authority covers it, since it covers every name; the
    /// store has to know better, and does.
    pub async fn try_a_path_trick(&self) -> Result<(), Fault> {
        let trick = "../../etc/passwd";
        say("planner", &format!("asks the store for {trick}"));
        let subject = format!("store.read.{}", token(trick));
        match ask(self.client.compose(subject)).await {
            Err(error) if error.to_string().contains("the path leaves the store") => {
                success("store", "refuses: the path leaves the store");
                Ok(())
            }
            other => Err(format!("the store should have refused {trick}: {other:?}").into()),
        }
    }

    /// Has one document read and summarised by whichever researcher gets the task.
    ///
    /// The task carries authority for each researcher, for this document alone.
    pub async fn research(&self, name: &str) -> Result<Finding, Fault> {
        let mut task = self
            .client
            .compose("team.research")
            .payload(name.to_owned());
        for researcher in RESEARCHERS {
            task = task.grant(&self.lend(researcher, name)?);
        }
        let finding: Finding = serde_json::from_slice(&ask(task).await?)?;
        let terms: Vec<_> = finding
            .terms
            .iter()
            .take(4)
            .map(|(term, _)| &**term)
            .collect();
        let told = format!("{name}: {} words; {}", finding.words, terms.join(", "));
        say(&finding.by, &told);
        Ok(finding)
    }

    /// Authority for a researcher, for one document, under the key it has now.
    pub fn lend(&self, researcher: &str, name: &str) -> Result<Chain, Fault> {
        let document = token(name);
        let scope = Scope::parse([
            format!("req:tools.summarise.{document}"),
            format!("req+delegate:tools.read.{document}"),
            format!("req+delegate:store.read.{document}"),
        ])?;
        let researcher = AgentId::parse(researcher)?;
        Ok(self
            .client
            .delegate_to_depth(&researcher, scope, RESEARCH, 2)?)
    }

    /// [`research`](Self::research) for many documents, several at a time, in the order given.
    pub async fn research_all(&self, names: &[String]) -> Result<Vec<Finding>, Fault> {
        stream::iter(names)
            .map(|name| self.research(name))
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Has the findings written up, with authority for the two results and nothing else.
    pub async fn publish(&self, findings: &[Finding]) -> Result<String, Fault> {
        let scope = Scope::parse(["report.md", "index.md"].map(|name| {
            let document = token(name);
            format!("req:store.write.{document}")
        }))?;
        let writer = AgentId::parse("writer")?;
        let grant = self.client.delegate_to_depth(&writer, scope, WRITING, 0)?;
        let task = self.client.compose("team.write").grant(&grant);
        let told = ask(task.payload(serde_json::to_vec(findings)?)).await?;
        Ok(String::from_utf8(told.to_vec())?)
    }
}
