//! Reading the audit of a whole mesh.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use futures_util::Stream;
use futures_util::StreamExt as _;

use super::Client;
use super::Shared;
use crate::bus::BusSubscriber;
use crate::bus::Subject;
use crate::bus::SubscribeError;
use crate::bus::SubscribeErrorKind;
use crate::error::Denied;
use crate::proto::audit::AuditItem;
use crate::proto::audit::AuditReader;
use crate::proto::rejection::Rejection;
use crate::proto::subject::SubjectPattern;
use crate::proto::verify;

/// Subscribes to the audit of every agent of the mesh.
///
/// Needs SUB on `<prefix>.audit.*`. Uses the client's second connection. What was published before
/// is not seen: the first record of a run may have any number.
///
/// ```
/// use futures_util::StreamExt as _;
/// use trustmesh::ConnectOptions;
/// use trustmesh::audit;
/// use trustmesh::audit::AuditItem;
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::services::authority::Authority;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let bus = MemoryBus::new();
/// let auditor = mesh.agent("auditor", ["sub:trustmesh.audit.*"])?;
/// let auditor = ConnectOptions::new(auditor).connect_bus(bus.connect()).await?;
/// let mut items = audit::subscribe(&auditor).await?;
/// # let echo = mesh.agent("echo", ["sub:echo", "pub:echo"])?;
/// # let echo = ConnectOptions::new(echo).connect_bus(bus.connect()).await?;
/// # let mut messages = echo.subscribe("echo").await?;
/// # echo.publish("echo", "hello".into()).await?;
/// # messages.next().await;
///
/// if let Some(Ok(AuditItem::Record(record))) = items.next().await {
///     println!("{} #{}: {:?}", record.emitter, record.seq, record.event);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`SubscribeErrorKind::Other`], with a source of [`Denied`] when authority or policy do not allow
/// it, or of [`ConnectError`](crate::bus::ConnectError) when there is no second connection.
pub async fn subscribe(client: &Client) -> Result<AuditSubscriber, SubscribeError> {
    let shared = &client.shared;
    let other =
        |rejection| SubscribeError::with_source(SubscribeErrorKind::Other, Denied(rejection));
    let subject = format!("{}.audit.*", shared.prefix);
    let pattern = SubjectPattern::parse(&subject)
        .map_err(|e| SubscribeError::with_source(SubscribeErrorKind::InvalidSubject, e))?;
    let (now, trust) = shared.moment().map_err(other)?;
    let scene = shared.scene(now, &trust);
    let credential = client.credential();
    verify::check_subscribe(&credential, &pattern, None, &scene, shared.skew).map_err(other)?;
    let bus = shared.control.bus().await;
    let bus = bus.map_err(|e| SubscribeError::with_source(SubscribeErrorKind::Other, e))?;
    let raw = bus.subscribe(Subject::from(subject), None).await?;
    Ok(AuditSubscriber {
        raw,
        reader: AuditReader::new(&shared.prefix, shared.skew),
        shared: shared.clone(),
        ready: VecDeque::new(),
    })
}

/// The audit of a mesh: verified records, each emitter's in its own order, with every gap
/// reported.
///
/// A batch that is not an emitter's yields an error and nothing else; the stream goes on. It ends
/// with the client's second connection. [`subscribe`] makes one, and has an example.
pub struct AuditSubscriber {
    raw: BusSubscriber,
    reader: AuditReader,
    shared: Arc<Shared>,
    ready: VecDeque<AuditItem>,
}

impl Stream for AuditSubscriber {
    type Item = Result<AuditItem, Denied>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            let Some(delivery) = ready!(this.raw.poll_next_unpin(cx)) else {
                return Poll::Ready(None);
            };
            if delivery.status.is_some() {
                continue;
            }
            let mut read = || -> Result<Vec<AuditItem>, Rejection> {
                let (now, trust) = this.shared.moment()?;
                this.reader
                    .read(&delivery.payload, &delivery.subject, &trust, now)
            };
            match read() {
                Ok(items) => this.ready.extend(items),
                Err(rejection) => return Poll::Ready(Some(Err(Denied(rejection)))),
            }
        }
    }
}

impl std::fmt::Debug for AuditSubscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditSubscriber")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}
