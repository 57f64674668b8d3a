//! Streams of a job's states: the state now, then what changes, at most ten times a second; the end state always.

use std::sync::Arc;
use std::time::Duration;

use gristmill_proto::ids::JobId;
use gristmill_proto::job::JobStatus;
use gristmill_proto::job::job_status::State;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::shared::Shared;
use super::turns::Turn;
use super::watchers::StatusReceiver;

/// Between two reports of progress. A change of the job's state does not wait.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Whether nothing more will become of a job.
pub(super) fn has_ended(state: State) -> bool {
    matches!(state, State::Done | State::Failed | State::Killed)
}

/// Sends states until the job has ended or nobody looks any more.
pub(super) async fn watch(
    shared: Arc<Shared>,
    job: JobId,
    driver: bool,
    states: StatusReceiver,
    messages: mpsc::Sender<Result<JobStatus, Status>>,
) {
    tokio::select! {
        () = show(states, &messages) => {}
        () = messages.closed() => tracing::debug!(%job, driver, "a watcher has gone"),
    }
    if shared.send(Turn::Unwatch { job, driver }).await.is_err() {
        tracing::debug!(%job, "the master ends with its watchers");
    }
}

async fn show(mut states: StatusReceiver, messages: &mpsc::Sender<Result<JobStatus, Status>>) {
    loop {
        let status = states.borrow_and_update().clone();
        let (state, shown) = (status.state(), Instant::now());
        if messages.send(Ok(JobStatus::clone(&status))).await.is_err() || has_ended(state) {
            return;
        }
        if states.changed().await.is_err() {
            return; // The master ends.
        }
        if states.borrow().state() == state {
            let changed = tokio::select! {
                () = tokio::time::sleep_until(shown + PROGRESS_INTERVAL) => continue,
                changed = states.wait_for(|now| now.state() != state) => changed.is_ok(),
            };
            if !changed {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    fn status(version: u64, state: State) -> Arc<JobStatus> {
        Arc::new(JobStatus { version, state: state.into(), ..JobStatus::default() })
    }

    #[tokio::test]
    async fn progress_is_shown_now_and_then_and_the_end_always() {
        let (sender, states) = watch::channel(status(1, State::Running));
        let (messages, mut shown) = mpsc::channel(4);
        let started = Instant::now();
        let showing = tokio::spawn(async move { show(states, &messages).await });
        assert_eq!(shown.recv().await.unwrap().unwrap().version, 1);
        sender.send_replace(status(2, State::Running));
        sender.send_replace(status(3, State::Running));
        assert_eq!(shown.recv().await.unwrap().unwrap().version, 3, "what is old is not shown");
        assert!(started.elapsed() >= PROGRESS_INTERVAL);
        sender.send_replace(status(4, State::Committing));
        assert_eq!(shown.recv().await.unwrap().unwrap().version, 4);
        sender.send_replace(status(5, State::Done));
        assert_eq!(shown.recv().await.unwrap().unwrap().version, 5);
        assert!(shown.recv().await.is_none(), "it ends after an end state");
        showing.await.unwrap();
    }

    #[tokio::test]
    async fn what_has_ended_is_shown_once() {
        let (_sender, states) = watch::channel(status(1, State::Killed));
        let (messages, mut shown) = mpsc::channel(4);
        show(states, &messages).await;
        drop(messages);
        assert_eq!(shown.recv().await.unwrap().unwrap().version, 1);
        assert!(shown.recv().await.is_none());
    }
}
