//! The client's second connection: audit and handshakes, apart from the user's traffic.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::OnceCell;

use crate::bus::Bus;
use crate::bus::ConnectError;

/// A connection that is dialled at first use.
#[derive(Debug)]
pub(crate) struct Control {
    first: Arc<dyn Bus>,
    second: OnceCell<Arc<dyn Bus>>,
    closing: AtomicBool,
}

impl Control {
    pub(crate) fn beside(first: Arc<dyn Bus>) -> Self {
        Self {
            first,
            second: OnceCell::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// The connection, dialled if need be.
    pub(crate) async fn bus(&self) -> Result<&Arc<dyn Bus>, ConnectError> {
        self.second.get_or_try_init(|| self.first.second()).await
    }

    /// The client is gone: what the bus does not take now is given up.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Whether the client is gone.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Closes it, gently.
    pub(crate) async fn close(&self) {
        if let Some(bus) = self.second.get() {
            // What was published is written; a connection that is gone needs no closing.
            let _ = bus.flush().await;
            let _ = bus.drain().await;
        }
    }
}
