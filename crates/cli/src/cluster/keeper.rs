//! Keeps a cluster of containers for as long as somebody waits for it: what its custodian does later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gristmill_cluster::{ClusterError, Kept, Registry};

use super::daemon_logs;
use crate::failure::Failure;

/// Between two looks at whether the cluster is over, or somebody interrupts.
const POLL: Duration = Duration::from_millis(20);

/// A thread that keeps a cluster; it ends with this, and the cluster goes on.
pub(super) struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Kept, ClusterError>>>,
}

impl Keeper {
    pub(super) fn start(registry: &Registry, name: &str) -> Result<Keeper, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let (registry, name, stopped) = (registry.clone(), name.to_owned(), Arc::clone(&stop));
        let keep = move || registry.keep(&name, &stopped, &mut daemon_logs::push);
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(keep);
        let thread =
            thread.map_err(|source| Failure::Start { program: "the thread that keeps".into(), source })?;
        Ok(Keeper { stop, thread: Some(thread) })
    }

    /// Whether there is nothing more to keep.
    pub(super) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the cluster is over and removed, or somebody interrupts.
    pub(super) fn end(mut self, interrupted: &AtomicBool) -> Result<Kept, Failure> {
        while !self.is_over() && !interrupted.load(Ordering::Relaxed) {
            thread::sleep(POLL);
        }
        match self.stop() {
            Some(kept) => Ok(kept?),
            None => Ok(Kept::Interrupted),
        }
    }

    fn stop(&mut self) -> Option<Result<Kept, ClusterError>> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take()?.join();
        Some(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.stop() {
            tracing::warn!(error = gristmill_process::sentence(&error), "the cluster was not kept");
        }
    }
}
