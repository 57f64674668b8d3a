//! Histories of jobs, pushed when the jobs have ended. A new master pushes those that it still knows once more: the last
//! one may have died before.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use gristmill_proto::ids::JobId;
use tokio::time::MissedTickBehavior;

use super::shell::Shell;

/// So late is a history begun to be pushed, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The jobs whose histories are where they stay, or could not be pushed.
#[derive(Default)]
pub(super) struct Histories {
    // Held while they are pushed: whoever comes second finds nothing left to do.
    settled: tokio::sync::Mutex<HashSet<JobId>>,
}

impl Histories {
    /// Pushes what has come since the last time, and returns when it is there.
    pub(super) async fn push(&self, shell: &Arc<Shell>) {
        if shell.archive().place().is_none() {
            return;
        }
        let mut settled = self.settled.lock().await;
        let Some(ended) = shell.jobs().ended().await else { return };
        let known: HashSet<JobId> = ended.iter().copied().collect();
        settled.retain(|job| known.contains(job));
        for job in ended {
            if settled.contains(&job) {
                continue;
            }
            // It may be forgotten by now.
            if let Some(history) = shell.jobs().history(job).await {
                let shell = shell.clone();
                let pushing = tokio::task::spawn_blocking(move || {
                    shell.archive().push_history(&history.job, &history.to_json())
                });
                pushing.await.expect("pushing a history does not panic");
            }
            settled.insert(job);
        }
    }
}

/// Pushes histories as jobs end. Ends with the runtime.
pub(super) async fn keep_pushing(shell: Arc<Shell>) {
    if shell.archive().place().is_none() {
        return;
    }
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        shell.histories().push(&shell).await;
    }
}
