//! The cluster's own states.

use gristmill_proto::cluster::bootstrap_report::Phase;
use gristmill_proto::cluster::{BootstrapReport, cluster, step};

use super::{Command, Core, Now, Refusal, has_ended};

/// Reasons of an end that is no good one.
const BAD_REASONS: [&str; 2] = ["STEP_FAILURE", "BOOTSTRAP_FAILURE"];

impl Core {
    /// How many workers with slots there are, and how many jobs are not over.
    pub(crate) fn observe(&mut self, now: Now, workers: u32, jobs_live: u32) {
        self.jobs_live = jobs_live;
        let starting = matches!(self.state(), cluster::State::Starting | cluster::State::Bootstrapping);
        // After a restart one is enough to go on: the others may have gone for good.
        let wanted = if starting { self.cluster.workers_wanted.max(1) } else { 1 };
        if workers >= wanted && !self.attended {
            self.attended = true;
            if starting {
                self.cluster.ready_ms = now.wall_ms;
                self.set_state(cluster::State::Waiting);
            }
        }
        self.settle(now);
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: Now) {
        self.stop_late(now);
        let active = self.steps.values().any(|step| !has_ended(step));
        if active
            || self.jobs_live > 0
            || matches!(self.state(), cluster::State::Terminating)
            || self.has_ended()
        {
            self.idle_since_ms = None;
            return;
        }
        let since_ms = *self.idle_since_ms.get_or_insert(now.mono_ms);
        let limit_ms = self.cluster.idle_timeout_ms;
        if limit_ms > 0 && now.mono_ms >= since_ms + limit_ms && !self.cluster.termination_protected {
            let message = format!("no step and no job for {limit_ms} ms");
            self.terminating(now, "IDLE_TIMEOUT", message);
            self.settle(now);
        }
    }

    /// A node says how it gets ready.
    pub(crate) fn bootstrap(&mut self, now: Now, report: &BootstrapReport) {
        match report.phase() {
            Phase::Begun if self.state() == cluster::State::Starting => {
                self.set_state(cluster::State::Bootstrapping)
            }
            // A node that comes later, as one that grows the cluster, does not end it.
            Phase::Broken
                if matches!(self.state(), cluster::State::Starting | cluster::State::Bootstrapping) =>
            {
                let message = format!("the bootstrap action of {} failed: {}", report.node, report.message);
                self.terminating(now, "BOOTSTRAP_FAILURE", message);
            }
            Phase::Unspecified | Phase::Begun | Phase::Done | Phase::Broken => {}
        }
        self.settle(now);
    }

    /// Whether the cluster can be terminated by anybody.
    pub(crate) fn protect(&mut self, protected: bool) -> Result<(), Refusal> {
        if protected && self.cluster.transient {
            return Err(Refusal::Bad(
                "a transient cluster ends by itself: it cannot be protected".to_owned(),
            ));
        }
        self.cluster_changed |= self.cluster.termination_protected != protected;
        self.cluster.termination_protected = protected;
        Ok(())
    }

    /// Somebody wants the cluster's end.
    pub(crate) fn terminate(&mut self, now: Now, user: &str) -> Result<(), Refusal> {
        if self.cluster.termination_protected {
            return Err(Refusal::State(
                "the cluster is protected against termination: `gristmill cluster protect --off` takes that back".to_owned(),
            ));
        }
        if self.state() != cluster::State::Terminating && !self.has_ended() {
            self.terminating(now, "USER_REQUEST", format!("terminated by {user}"));
        }
        self.settle(now);
        Ok(())
    }

    /// The end begins: what waits is cancelled, what runs is told to end.
    pub(super) fn terminating(&mut self, now: Now, reason: &str, message: String) {
        self.cluster.reason = reason.to_owned();
        self.cluster.message = message;
        self.set_state(cluster::State::Terminating);
        self.cancel_pending(now, "TERMINATION", "the cluster ends");
        for number in self.numbers(step::State::Running) {
            match self.tries.contains_key(&number) {
                true => self.stop(number, "TERMINATION", false),
                // Of a former master, and not taken up yet: its processes have ended with that.
                false => self.over(now, number, step::State::Cancelled, "TERMINATION", "the cluster ends"),
            }
        }
    }

    /// Follows up on whatever has happened.
    pub(super) fn settle(&mut self, now: Now) {
        self.cancel_dependents(now);
        self.begin(now);
        let active = self.steps.values().any(|step| !has_ended(step));
        match self.state() {
            cluster::State::Running | cluster::State::Waiting
                if self.cluster.transient && !active && !self.steps.is_empty() =>
            {
                let (failed, all) = (self.cluster.steps_failed, self.steps.len());
                let message = if failed == 0 {
                    format!("{all} steps")
                } else {
                    format!("{all} steps, of which {failed} failed")
                };
                self.terminating(now, "ALL_STEPS_COMPLETED", message);
            }
            cluster::State::Running | cluster::State::Waiting => {
                self.set_state(if active { cluster::State::Running } else { cluster::State::Waiting });
            }
            _ => {}
        }
        if self.state() == cluster::State::Terminating && self.numbers(step::State::Running).is_empty() {
            self.cluster.ended_ms = now.wall_ms;
            let bad = BAD_REASONS.contains(&self.cluster.reason.as_str());
            self.set_state(if bad {
                cluster::State::TerminatedWithErrors
            } else {
                cluster::State::Terminated
            });
            self.commands.push(Command::End);
        }
        self.forget();
    }
}
