//! What the life of a child means: pure. It hears what the child says and when it ends, and decides when to signal its
//! processes and what the outcome is.
//!
//! ```text
//!   silent ── hello ──> running ── done, failed ──> said ── 5 s ──> ending ── exit ──> outcome
//!      │ 10 s, nonsense     │ socket closed, order to kill             ^ SIGTERM, grace, SIGKILL
//!      └────────────────────┴──────────────────────────────────────────┘
//! ```

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attempt::Hello;
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::{AttemptFailure, AttemptResult};
use rustix::process::Signal;

use super::assignment::{Outcome, failure, short};
use super::frames::FrameError;

/// From the start of the process until it says that it is a job program.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// From its last word to its end.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);
/// From the end of its socket, or from a wrong fingerprint, until it says why, or ends.
const EXPLAIN_PATIENCE: Duration = Duration::from_secs(2);
/// Between asking a process to end and ending it.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(2);

/// The state of one child.
#[derive(Debug)]
pub(crate) struct Verdict {
    program: String,
    fingerprint: String,
    phase: Phase,
    greeted: bool,
    outcome: Option<Outcome>,
    /// The other plan, if Hello said one.
    mismatch: Option<AttemptFailure>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// No Hello yet.
    Silent {
        until: Instant,
    },
    Running,
    /// It should end by itself.
    Leaving {
        until: Instant,
    },
    /// It was asked to end.
    Ending {
        until: Instant,
    },
    /// It was killed.
    Killed,
}

impl Verdict {
    /// Of a child of `program` that starts now. Its plan must have this fingerprint.
    pub(crate) fn new(now: Instant, program: String, fingerprint: String) -> Verdict {
        let phase = Phase::Silent { until: now + HELLO_PATIENCE };
        Verdict { program, fingerprint, phase, greeted: false, outcome: None, mismatch: None }
    }

    /// It says who it is.
    pub(crate) fn hello(&mut self, now: Instant, hello: &Hello) -> Option<Signal> {
        if hello.version != PROTOCOL_VERSION {
            let (program, theirs) = (&self.program, hello.version);
            let message = format!(
                "{program} was built with a gristmill that speaks version {theirs}, this cluster speaks version \
                 {PROTOCOL_VERSION}: build it anew"
            );
            return self.end(now, failure(Kind::Program, message), KILL_GRACE);
        }
        self.greeted = true;
        if let Phase::Silent { .. } = self.phase {
            self.phase = Phase::Running;
        }
        if hello.fingerprint != self.fingerprint {
            let message = format!(
                "{} builds another plan here than at the driver (fingerprint {}, not {}): a plan must be a function \
                 of the arguments alone",
                self.program, hello.fingerprint, self.fingerprint
            );
            self.mismatch = Some(failure(Kind::Plan, message));
            self.leave(now + EXPLAIN_PATIENCE);
        }
        None
    }

    /// It says that it is done. Not believed of another plan, nor after the attempt was ended.
    pub(crate) fn done(&mut self, now: Instant, result: AttemptResult) -> Option<Signal> {
        if !self.greeted {
            return self.nonsense(now, "it was done before it had said what it is");
        }
        if self.outcome.is_none() {
            let mismatch = self.mismatch.take().map(Outcome::Failed);
            self.outcome = Some(mismatch.unwrap_or_else(|| Outcome::Done(Box::new(result))));
            self.leave(now + EXIT_PATIENCE);
        }
        None
    }

    /// It says why it failed: also before it can say who it is.
    pub(crate) fn failed(&mut self, now: Instant, mut failure: AttemptFailure) {
        if self.outcome.is_none() {
            failure.message = short(failure.message);
            failure.stderr_tail = short(failure.stderr_tail);
            self.outcome = Some(Outcome::Failed(failure));
            self.leave(now + EXIT_PATIENCE);
        }
    }

    /// Nothing more will come from its socket.
    pub(crate) fn closed(&mut self, now: Instant) {
        self.leave(now + EXPLAIN_PATIENCE);
    }

    /// It sent what is no message.
    pub(crate) fn garbage(&mut self, now: Instant, error: &FrameError) -> Option<Signal> {
        self.nonsense(now, &error.to_string())
    }

    /// The attempt is to end. What the child has said before counts.
    pub(crate) fn kill(&mut self, now: Instant, kind: Kind, reason: &str, grace: Duration) -> Option<Signal> {
        self.end(now, failure(kind, reason), grace)
    }

    /// When [`Verdict::pass`] has something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Silent { until } | Phase::Leaving { until } | Phase::Ending { until } => Some(until),
            Phase::Running | Phase::Killed => None,
        }
    }

    /// Time has passed: which signal its processes get, if any.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<Signal> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match self.phase {
            Phase::Silent { .. } => {
                let patience = HELLO_PATIENCE.as_secs();
                let program = &self.program;
                let message = format!("{program} has not said within {patience} s that it is a job program");
                // It may be one, on a machine that is short of breath: the task is tried again, elsewhere if possible.
                self.end(now, failure(Kind::Exited, message), KILL_GRACE)
            }
            Phase::Leaving { .. } if self.outcome.is_none() => {
                let other_plan = self.mismatch.take();
                let message =
                    "the program closed its connection to the worker, and went on running without it";
                self.end(now, other_plan.unwrap_or_else(|| failure(Kind::Exited, message)), KILL_GRACE)
            }
            Phase::Leaving { .. } | Phase::Ending { .. } => {
                self.phase = Phase::Killed;
                Some(Signal::KILL)
            }
            Phase::Running | Phase::Killed => None,
        }
    }

    /// The process has ended.
    pub(crate) fn exited(self, status: ExitStatus) -> Outcome {
        let Verdict { program, greeted, outcome, mismatch, .. } = self;
        if let Some(outcome) = outcome {
            return outcome;
        }
        if let Some(mismatch) = mismatch {
            return Outcome::Failed(mismatch);
        }
        let said = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with status {code}"),
            (None, Some(9)) => "was killed (signal 9), perhaps by the system for want of memory".to_owned(),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => format!("ended ({status})"),
        };
        Outcome::Failed(if greeted {
            failure(Kind::Exited, format!("{program} {said} without having said that it is done"))
        } else if status.code().is_some() {
            failure(
                Kind::Program,
                format!("{program} {said} and is no job program: it never said that it is one"),
            )
        } else {
            failure(Kind::Exited, format!("{program} {said} before it had said anything"))
        })
    }

    fn nonsense(&mut self, now: Instant, what: &str) -> Option<Signal> {
        let message = format!("{} does not speak as a job program does: {what}", self.program);
        self.end(now, failure(Kind::Program, message), KILL_GRACE)
    }

    /// It should end by itself now, unless it was asked to already.
    fn leave(&mut self, until: Instant) {
        if let Phase::Silent { .. } | Phase::Running | Phase::Leaving { .. } = self.phase {
            self.phase = Phase::Leaving { until };
        }
    }

    /// Has it ended, for this reason unless there is one already.
    fn end(&mut self, now: Instant, failure: AttemptFailure, grace: Duration) -> Option<Signal> {
        self.outcome.get_or_insert(Outcome::Failed(failure));
        let until = now + grace;
        match &mut self.phase {
            Phase::Killed => None,
            Phase::Ending { until: before } => {
                *before = until.min(*before);
                None
            }
            _ => {
                self.phase = Phase::Ending { until };
                Some(Signal::TERM)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn verdict(now: Instant) -> Verdict {
        Verdict::new(now, "job".to_owned(), "f1".to_owned())
    }

    fn hello(fingerprint: &str) -> Hello {
        Hello { version: PROTOCOL_VERSION, fingerprint: fingerprint.to_owned() }
    }

    fn greeted(now: Instant) -> Verdict {
        let mut verdict = verdict(now);
        assert_eq!(verdict.hello(now, &hello("f1")), None);
        assert_eq!(verdict.deadline(), None);
        verdict
    }

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn failed(outcome: Outcome) -> (Kind, String) {
        match outcome {
            Outcome::Failed(failure) => (failure.kind(), failure.message),
            Outcome::Done(_) => panic!("it is done"),
        }
    }

    #[test]
    fn what_is_done_counts_however_it_ends() {
        let now = Instant::now();
        let mut verdict = greeted(now);
        assert_eq!(verdict.done(now, AttemptResult { records_in: 3, ..AttemptResult::default() }), None);
        assert_eq!(verdict.pass(now + SECOND * 4), None);
        assert_eq!(verdict.pass(now + SECOND * 5), Some(Signal::KILL), "it does not go away");
        assert_eq!(verdict.kill(now, Kind::Killed, "too late", KILL_GRACE), None);
        let Outcome::Done(result) = verdict.exited(ExitStatus::from_raw(9)) else { panic!("it is done") };
        assert_eq!(result.records_in, 3);
    }

    #[test]
    fn an_end_without_a_word_is_a_failure() {
        let now = Instant::now();
        let (kind, said) = failed(greeted(now).exited(exit(0)));
        assert_eq!(kind, Kind::Exited);
        assert_eq!(said, "job ended with status 0 without having said that it is done");
        let (kind, said) = failed(greeted(now).exited(ExitStatus::from_raw(11)));
        assert_eq!((kind, said.contains("signal 11")), (Kind::Exited, true));
        let (kind, said) = failed(verdict(now).exited(exit(0)));
        assert_eq!((kind, said.contains("is no job program")), (Kind::Program, true));
        let (kind, _) = failed(verdict(now).exited(ExitStatus::from_raw(9)));
        assert_eq!(kind, Kind::Exited, "killed from outside: another try may do");
    }

    #[test]
    fn a_program_that_says_nothing_is_ended_and_another_try_may_do() {
        let now = Instant::now();
        let mut verdict = verdict(now);
        assert_eq!(verdict.pass(now + SECOND * 9), None);
        assert_eq!(verdict.pass(now + SECOND * 10), Some(Signal::TERM));
        assert_eq!(verdict.pass(now + SECOND * 11), None);
        assert_eq!(verdict.pass(now + SECOND * 12), Some(Signal::KILL));
        assert_eq!((verdict.pass(now + SECOND * 99), verdict.deadline()), (None, None));
        let (kind, said) = failed(verdict.exited(ExitStatus::from_raw(15)));
        assert_eq!(kind, Kind::Exited);
        assert_eq!(said, "job has not said within 10 s that it is a job program");
    }

    #[test]
    fn garbage_and_other_versions_are_no_job_programs() {
        let now = Instant::now();
        let mut garbled = verdict(now);
        assert_eq!(garbled.garbage(now, &FrameError::TooLong { bytes: 1 << 30 }), Some(Signal::TERM));
        assert_eq!(failed(garbled.exited(exit(0))).0, Kind::Program);
        let mut old = verdict(now);
        assert_eq!(old.hello(now, &Hello { version: 0, ..hello("f1") }), Some(Signal::TERM));
        assert!(failed(old.exited(exit(0))).1.contains("version 0"));
        let mut hasty = verdict(now);
        assert_eq!(hasty.done(now, AttemptResult::default()), Some(Signal::TERM));
        assert_eq!(failed(hasty.exited(exit(0))).0, Kind::Program);
    }

    #[test]
    fn another_plan_never_counts() {
        let now = Instant::now();
        let mut silent = verdict(now);
        silent.hello(now, &hello("f2"));
        assert_eq!(silent.pass(now + SECOND * 2), Some(Signal::TERM));
        assert_eq!(failed(silent.exited(exit(0))).0, Kind::Plan);
        let mut explains = verdict(now);
        explains.hello(now, &hello("f2"));
        explains.failed(now, failure(Kind::Plan, "line 3 differs"));
        assert_eq!(failed(explains.exited(exit(1))), (Kind::Plan, "line 3 differs".to_owned()));
        let mut goes_on = verdict(now);
        goes_on.hello(now, &hello("f2"));
        goes_on.done(now, AttemptResult::default());
        assert_eq!(failed(goes_on.exited(exit(0))).0, Kind::Plan);
    }

    #[test]
    fn a_program_without_its_socket_has_a_moment_to_end() {
        let now = Instant::now();
        let mut ends = greeted(now);
        ends.closed(now);
        let (kind, said) = failed(ends.exited(exit(101)));
        assert_eq!((kind, said.contains("status 101")), (Kind::Exited, true));
        let mut goes_on = greeted(now);
        goes_on.closed(now);
        assert_eq!(goes_on.pass(now + SECOND * 2), Some(Signal::TERM));
        assert!(failed(goes_on.exited(exit(0))).1.contains("closed its connection"));
    }

    #[test]
    fn an_order_to_kill_ends_it_within_its_grace() {
        let now = Instant::now();
        let mut verdict = greeted(now);
        assert_eq!(verdict.kill(now, Kind::Killed, "by ann", KILL_GRACE), Some(Signal::TERM));
        assert_eq!(verdict.kill(now, Kind::Worker, "the worker ends", SECOND), None);
        verdict.done(now, AttemptResult::default());
        assert_eq!(verdict.pass(now + SECOND), Some(Signal::KILL), "the shorter grace");
        assert_eq!(failed(verdict.exited(exit(0))), (Kind::Killed, "by ann".to_owned()));
    }
}
