//! The one place that spawns. Tasks end with whoever started them.

use std::future::Future;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::runtime::RuntimeFlavor;
use tokio::task::AbortHandle;
use tokio::task::JoinHandle;

/// Runs a future beside its caller.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Whether what is spawned can run on another core than the caller.
pub(crate) fn has_workers() -> bool {
    Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread
            && runtime.metrics().num_workers() > 1
    })
}

/// Waits for less than the millisecond that the runtime's timers can tell, without spinning. A
/// clock that is paused for a test does not run on meanwhile.
pub(crate) async fn pause(time: Duration) {
    // Nothing is lost when the runtime ends: so does whoever waits.
    let _ = tokio::task::spawn_blocking(move || std::thread::sleep(time)).await;
}

/// Tasks that end when this value is dropped.
#[derive(Debug, Default)]
pub(crate) struct TaskSet(Mutex<Vec<AbortHandle>>);

impl TaskSet {
    /// Runs a future until it ends or this value is dropped.
    pub(crate) fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = spawn(future).abort_handle();
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|handle| !handle.is_finished());
        handles.push(handle);
    }
}

/// Tasks that are waited for.
#[derive(Debug, Default)]
pub(crate) struct Crew(tokio::task::JoinSet<()>);

impl Crew {
    /// Runs a future, and forgets those that have ended.
    pub(crate) fn spawn<F>(&mut self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while self.0.try_join_next().is_some() {}
        self.0.spawn(future);
    }

    /// Waits until all have ended.
    pub(crate) async fn join(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

impl Drop for TaskSet {
    fn drop(&mut self) {
        for handle in self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            handle.abort();
        }
    }
}
