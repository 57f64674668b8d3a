//! Who looks at a job while it changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use gristmill_proto::ids::JobId;
use gristmill_proto::job::JobStatus;
use tokio::sync::watch;

/// What watchers see: the last state, and that it has changed. Whatever they missed in between they do not need.
pub(super) type StatusReceiver = watch::Receiver<Arc<JobStatus>>;

struct Watched {
    status: watch::Sender<Arc<JobStatus>>,
    /// Drivers among the watchers.
    drivers: usize,
    watchers: usize,
}

/// The jobs that are watched.
#[derive(Default)]
pub(super) struct Watchers {
    jobs: HashMap<JobId, Watched>,
    /// Changed in this turn.
    changed: BTreeSet<JobId>,
}

impl Watchers {
    /// Looks at a job from now on. True: it is the job's first driver.
    pub(super) fn watch(&mut self, job: JobId, driver: bool, now: JobStatus) -> (StatusReceiver, bool) {
        let new = || Watched { status: watch::Sender::new(Arc::new(now)), drivers: 0, watchers: 0 };
        let watched = self.jobs.entry(job).or_insert_with(new);
        watched.watchers += 1;
        watched.drivers += usize::from(driver);
        (watched.status.subscribe(), driver && watched.drivers == 1)
    }

    /// Looks away. True: it was the job's last driver.
    pub(super) fn unwatch(&mut self, job: JobId, driver: bool) -> bool {
        let Some(watched) = self.jobs.get_mut(&job) else {
            return false;
        };
        watched.watchers -= 1;
        watched.drivers -= usize::from(driver);
        let last_driver = driver && watched.drivers == 0;
        if watched.watchers == 0 {
            self.jobs.remove(&job);
        }
        last_driver
    }

    /// The job has changed in this turn.
    pub(super) fn changed(&mut self, job: JobId) {
        if self.jobs.contains_key(&job) {
            self.changed.insert(job);
        }
    }

    /// Shows the watchers what changed in this turn.
    pub(super) fn flush(&mut self, status: impl Fn(JobId) -> Option<JobStatus>) {
        for job in std::mem::take(&mut self.changed) {
            if let (Some(watched), Some(status)) = (self.jobs.get(&job), status(job)) {
                watched.status.send_replace(Arc::new(status));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_see_the_last_state_and_drivers_are_counted() {
        let mut watchers = Watchers::default();
        let (job, status) = (JobId([7; 16]), |version| JobStatus { version, ..JobStatus::default() });
        let (mut seen, first) = watchers.watch(job, true, status(1));
        let (_also, second) = watchers.watch(job, true, status(1));
        let (_people, third) = watchers.watch(job, false, status(1));
        assert_eq!((first, second, third), (true, false, false));
        watchers.changed(job);
        watchers.changed(JobId([8; 16]));
        watchers.flush(|asked| (asked == job).then(|| status(2)));
        assert!(seen.has_changed().unwrap());
        assert_eq!(seen.borrow_and_update().version, 2);
        assert!(!watchers.unwatch(job, true));
        assert!(watchers.unwatch(job, true), "the last driver");
        assert!(!watchers.unwatch(job, false));
        assert!(seen.has_changed().is_err(), "nobody is left");
    }
}
