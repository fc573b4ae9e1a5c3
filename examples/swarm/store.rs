//! The store: the one agent that touches files. It reads documents and writes results, each on a
//! subject that names the file, and trusts neither the name nor the asker.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::Message;
use trustmesh::Service;

use crate::Fault;
use crate::cast::Cast;
use crate::documents::Library;
use crate::documents::from_token;

/// The running store, with a list of the messages its handlers ran for.
pub struct Store {
    client: Client,
    handled: Arc<Mutex<Vec<String>>>,
    _services: [Service; 2],
}

impl Store {
    /// The store's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How often a handler ran for the message with this id.
    pub fn runs_for(&self, mid: &str) -> usize {
        let handled = self.handled.lock().unwrap_or_else(PoisonError::into_inner);
        handled.iter().filter(|handled| *handled == mid).count()
    }
}

/// Opens the store over the library and a directory for results.
pub async fn open(cast: &Cast, library: &Library, out: &Path) -> Result<Store, Fault> {
    let client = cast.connect("store").await?;
    let handled = Arc::new(Mutex::new(Vec::new()));
    let root = library.root.clone();
    let out = out.canonicalize()?;

    let log = handled.clone();
    let read = move |message: Message| {
        note(&log, &message);
        let path = named_by(&message).and_then(|name| inside(&root, &name));
        async move {
            let bytes = tokio::fs::read(path?).await?;
            Ok::<_, Fault>(Bytes::from(bytes))
        }
    };
    let log = handled.clone();
    let write = move |message: Message| {
        note(&log, &message);
        let path = named_by(&message).and_then(|name| result_file(&out, &name));
        async move {
            tokio::fs::write(path?, &message.payload).await?;
            Ok::<_, Fault>(Bytes::from_static(b"written"))
        }
    };
    let _services = [
        client.serve("store.read.*", read).await?,
        client.serve("store.write.*", write).await?,
    ];
    Ok(Store {
        client,
        handled,
        _services,
    })
}

fn note(log: &Mutex<Vec<String>>, message: &Message) {
    let mid = message.verified().claims().mid.to_string();
    log.lock().unwrap_or_else(PoisonError::into_inner).push(mid);
}

/// The file a subject names in its last token.
fn named_by(message: &Message) -> Result<String, Fault> {
    let token = message.subject.rsplit('.').next().unwrap_or_default();
    from_token(token).ok_or_else(|| "the subject names no file".into())
}

/// A file that lies below `root`, whatever its name and however it is linked.
fn inside(root: &Path, name: &str) -> Result<PathBuf, Fault> {
    let path = Path::new(name);
    let plain = |part| matches!(part, Component::Normal(_));
    if name.is_empty() || !path.components().all(plain) {
        return Err("the path leaves the store".into());
    }
    let path = root.join(path).canonicalize()?;
    if !path.starts_with(root) {
        return Err("the path leaves the store".into());
    }
    Ok(path)
}

/// A result has a plain name, and is no link to somewhere else.
fn result_file(out: &Path, name: &str) -> Result<PathBuf, Fault> {
    if !["report.md", "index.md"].contains(&name) {
        return Err("not the name of a result".into());
    }
    let path = out.join(name);
    if path.is_symlink() {
        return Err("the result would go elsewhere".into());
    }
    Ok(path)
}
