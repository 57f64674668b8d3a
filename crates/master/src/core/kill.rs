//! What users end.

use gristmill_proto::ids::{AttemptId, JobId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::task::AttemptFailure;
use gristmill_proto::task::attempt_failure::Kind;

use super::attempts::Attached;
use super::job::Phase;
use super::task::Place;
use super::{Core, Out};

impl Core {
    pub(super) fn kill_job(&mut self, id: JobId, reason: &str, out: &mut Out) {
        let can = self.jobs.get(&id).is_some_and(|job| job.phase != Phase::Committing);
        if can {
            let reason = if reason.is_empty() { "killed" } else { reason };
            self.end(id, State::Killed, reason, out);
        }
    }

    /// Its running attempts end and count as failures.
    pub(super) fn kill_task(&mut self, id: JobId, stage: u32, task: u32, out: &mut Out) {
        let place = Place::task(stage, task);
        let Some(task) = self.jobs.get(&id).and_then(|job| job.task(place)) else { return };
        for attached in task.attempts.iter().collect::<Vec<Attached>>() {
            let attempt = place.attempt(id, attached.number);
            let message = "a user failed it".to_owned();
            let failure =
                AttemptFailure { kind: Kind::Unspecified as i32, message, ..AttemptFailure::default() };
            self.order_end(attached.worker, attempt, "a user failed it", out);
            self.fail_attempt(attached.worker, attempt, &failure, out);
        }
    }

    pub(super) fn kill_attempt(&mut self, attempt: AttemptId, out: &mut Out) {
        self.take_away(attempt, "a user killed it", out);
    }
}
