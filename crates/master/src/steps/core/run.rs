//! Steps run, end, and are cancelled.

use gristmill_proto::cluster::step_spec::ActionOnFailure;
use gristmill_proto::cluster::{CancelStepsRequest, Step, cluster, step};

use super::add::label;
use super::{Command, Core, Now, Outcome, Refusal, Try, has_ended, job_of, spec};

/// Of a step's message: a sentence and the last lines of a log.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

impl Core {
    /// Steps that a former master has left RUNNING are begun again when workers are there; those that were being
    /// cancelled are over, as their processes ended with that master.
    pub(super) fn take_up(&mut self, now: Now) {
        for number in self.numbers(step::State::Running) {
            let step = &self.steps[&number];
            let is_over = step.cancelling || self.state() == cluster::State::Terminating || self.has_ended();
            if is_over {
                let job = job_of(&self.cluster.cluster_id, number, step.tries);
                self.commands.push(Command::KillJob(job));
                self.over(
                    now,
                    number,
                    step::State::Cancelled,
                    "USER_REQUEST",
                    "it was cancelled, and its master died meanwhile",
                );
            }
        }
        if self.has_ended() {
            self.commands.push(Command::End);
        }
        self.settle(now);
    }

    /// Begins what can be begun, in the order in which it was added.
    pub(super) fn begin(&mut self, now: Now) {
        if !self.attended || !matches!(self.state(), cluster::State::Running | cluster::State::Waiting) {
            return;
        }
        for number in self.numbers(step::State::Running) {
            if !self.tries.contains_key(&number) {
                self.start(now, number, self.steps[&number].tries);
            }
        }
        let concurrency = self.cluster.step_concurrency.max(1) as usize;
        for number in self.numbers(step::State::Pending) {
            if self.tries.len() >= concurrency {
                return;
            }
            if self.is_ready(&self.steps[&number]) {
                self.start_next(now, number);
            }
        }
    }

    fn is_ready(&self, step: &Step) -> bool {
        let done =
            |number| self.steps.get(number).is_some_and(|step: &Step| step.state() == step::State::Completed);
        step.depends_on.iter().all(done)
    }

    /// Begins the next try of a step.
    fn start_next(&mut self, now: Now, number: u64) {
        let cluster_id = self.cluster.cluster_id.clone();
        self.change(number, |step| {
            step.tries += 1;
            step.state = step::State::Running.into();
            step.job = job_of(&cluster_id, number, step.tries).0.to_vec().into();
            if step.started_ms == 0 {
                step.started_ms = now.wall_ms;
            }
        });
        self.start(now, number, self.steps[&number].tries);
    }

    fn start(&mut self, now: Now, number: u64, try_number: u32) {
        self.tries.insert(number, Try { began_ms: now.mono_ms, late: false });
        self.commands.push(Command::Start { number, try_number });
    }

    /// A try has ended. What is said of another try is old.
    pub(crate) fn ended(&mut self, now: Now, number: u64, try_number: u32, outcome: Outcome) {
        let is_current =
            self.steps.get(&number).is_some_and(|step| step.tries == try_number && !has_ended(step));
        let Some(ended) = self.tries.get(&number).copied().filter(|_| is_current) else { return };
        self.tries.remove(&number);
        let step = &self.steps[&number];
        let (cancelling, retries_left) = (step.cancelling, step.tries <= spec(step).retries);
        match outcome {
            Outcome::Completed => self.over(now, number, step::State::Completed, "", ""),
            Outcome::Failed { message, .. } if cancelling => {
                let reason = self.steps[&number].reason.clone();
                self.over(now, number, step::State::Cancelled, &reason, &message);
            }
            Outcome::Failed { .. } if retries_left => self.start_next(now, number),
            Outcome::Failed { message, .. } if ended.late => {
                let timeout_ms = spec(&self.steps[&number]).timeout_ms;
                self.fail(
                    now,
                    number,
                    "TIMEOUT",
                    &format!("it did not end within {timeout_ms} ms; {message}"),
                );
            }
            Outcome::Failed { reason, message } => self.fail(now, number, reason, &message),
        }
        self.settle(now);
    }

    /// A step ends for good.
    pub(super) fn over(&mut self, now: Now, number: u64, state: step::State, reason: &str, message: &str) {
        self.change(number, |step| {
            step.state = state.into();
            step.reason = reason.to_owned();
            step.message = beginning(message, MESSAGE_BYTES_MAX).to_owned();
            step.ended_ms = now.wall_ms;
            step.cancelling = false;
        });
        match state {
            step::State::Completed => self.cluster.steps_completed += 1,
            step::State::Failed => self.cluster.steps_failed += 1,
            _ => return,
        }
        self.cluster_changed = true;
    }

    fn fail(&mut self, now: Now, number: u64, reason: &str, message: &str) {
        self.over(now, number, step::State::Failed, reason, message);
        let failed = label(&self.steps[&number]);
        let action = spec(&self.steps[&number]).on_failure();
        let why = format!("{failed} failed");
        let ends = match action {
            ActionOnFailure::Continue => false,
            ActionOnFailure::CancelAndWait => self.cluster.transient,
            // Whoever protects a cluster wants to look at what it has when something went wrong.
            ActionOnFailure::TerminateCluster => !self.cluster.termination_protected,
        };
        if action != ActionOnFailure::Continue {
            self.cancel_pending(now, "STEP_FAILURE", &why);
        }
        if ends {
            self.terminating(now, "STEP_FAILURE", why);
        }
    }

    pub(super) fn cancel_pending(&mut self, now: Now, reason: &str, message: &str) {
        for number in self.numbers(step::State::Pending) {
            self.over(now, number, step::State::Cancelled, reason, message);
        }
    }

    /// Steps whose predecessors did not complete never run.
    pub(super) fn cancel_dependents(&mut self, now: Now) {
        // In order, so that one pass is enough: a step depends on earlier ones only.
        for number in self.numbers(step::State::Pending) {
            let lost = self.steps[&number].depends_on.iter().find_map(|before| {
                let before = self.steps.get(before).filter(|before| has_ended(before))?;
                let state = before.state();
                (state != step::State::Completed)
                    .then(|| format!("it depends on {}, which is {}", label(before), state.as_str_name()))
            });
            if let Some(message) = lost {
                self.over(now, number, step::State::Cancelled, "DEPENDENCY", &message);
            }
        }
    }

    /// Cancels steps: those that wait at once, those that run a moment later.
    pub(crate) fn cancel(&mut self, now: Now, request: &CancelStepsRequest) -> Result<Vec<Step>, Refusal> {
        let numbers: Result<Vec<u64>, Refusal> = request.steps.iter().map(|text| self.find(text)).collect();
        let numbers = numbers?;
        for &number in &numbers {
            let message = format!("cancelled by {}", request.user);
            match self.steps[&number].state() {
                step::State::Pending => {
                    self.over(now, number, step::State::Cancelled, "USER_REQUEST", &message)
                }
                step::State::Running => self.stop(number, "USER_REQUEST", request.kill),
                _ => {}
            }
        }
        self.settle(now);
        Ok(numbers.iter().filter_map(|number| self.steps.get(number).cloned()).collect())
    }

    /// Tells a running step to end.
    pub(super) fn stop(&mut self, number: u64, reason: &str, kill: bool) {
        let step = &self.steps[&number];
        let (try_number, known) = (step.tries, step.cancelling);
        if !known {
            self.change(number, |step| {
                step.cancelling = true;
                step.reason = reason.to_owned();
            });
        }
        if self.tries.contains_key(&number) && (!known || kill) {
            self.commands.push(Command::Stop { number, try_number, kill });
        }
    }

    /// Tells those to end that take too long.
    pub(super) fn stop_late(&mut self, now: Now) {
        for (&number, each) in &mut self.tries {
            let step = &self.steps[&number];
            let limit_ms = spec(step).timeout_ms;
            if limit_ms > 0 && !each.late && !step.cancelling && now.mono_ms >= each.began_ms + limit_ms {
                each.late = true;
                self.commands.push(Command::Stop { number, try_number: step.tries, kill: false });
            }
        }
    }

    /// Where a step's logs are, once that is known.
    pub(crate) fn logged(&mut self, number: u64, log: String) {
        // A log may arrive at its place after the step has ended: this alone of an ended step is told later.
        if let Some(step) = self.steps.get_mut(&number).filter(|step| step.log != log) {
            step.log = log;
            self.changed.insert(number);
        }
    }
}

/// The beginning of a text, cut between characters.
fn beginning(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
