//! Waits for a job's end, over lost connections and restarts of the master.

use super::jobs::{Jobs, detail, is_lost};
use super::{Display, DriverError, DriverOptions};
use gristmill_proto::ids::JobId;
use gristmill_proto::job::JobStatus;
use gristmill_proto::job::job_status::State;
use gristmill_proto::report::Report;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tonic::{Status, Streaming};

/// How often interruption is looked for.
const TICK: Duration = Duration::from_millis(100);
/// How long the driver waits for a master that does not answer. The job does not need the driver.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// So much of it is no news.
const SILENCE_WORTH_TELLING: Duration = Duration::from_secs(5);
/// Between tries.
const BACK_OFF: Duration = Duration::from_millis(200);

/// A job that is watched.
struct Watch<'w> {
    jobs: &'w Jobs,
    options: &'w DriverOptions,
    job: JobId,
    stream: Option<Streaming<JobStatus>>,
    /// Since when the master does not answer, and whether its user knows.
    silent: Option<(Instant, bool)>,
    /// Warnings of the job that were shown.
    warned: usize,
    killing: bool,
}

/// Returns the report of a job that is done.
pub(super) fn wait(
    jobs: &Jobs,
    options: &DriverOptions,
    job: JobId,
    display: &mut dyn Display,
) -> Result<Report, DriverError> {
    let mut watch = Watch { jobs, options, job, stream: None, silent: None, warned: 0, killing: false };
    loop {
        if let Some(status) = watch.next(display)? {
            for warning in status.warnings.iter().skip(watch.warned) {
                display.warn(warning);
            }
            watch.warned = watch.warned.max(status.warnings.len());
            display.show(&status);
            if let Some(ended) = watch.ended(status) {
                return ended;
            }
        }
        watch.heed_interruption()?;
    }
}

impl Watch<'_> {
    /// What is new, if anything is within a tick.
    fn next(&mut self, display: &mut dyn Display) -> Result<Option<JobStatus>, DriverError> {
        let news = match &mut self.stream {
            Some(stream) => self.jobs.next(stream, TICK),
            None => self.jobs.watch(self.job, true).map(|stream| {
                self.stream = Some(stream);
                None
            }),
        };
        match news {
            Ok(Some(status)) => {
                self.silent = None;
                Ok(Some(status))
            }
            Ok(None) => Ok(None),
            Err(status) if is_lost(&status) => self.lost(&status, display).map(|()| None),
            Err(status) => Err(self.jobs.refused("let the job be watched", &status)),
        }
    }

    /// The connection is gone; the job goes on.
    fn lost(&mut self, status: &Status, display: &mut dyn Display) -> Result<(), DriverError> {
        self.stream = None;
        let (since, told) = self.silent.get_or_insert((Instant::now(), false));
        let waited = since.elapsed();
        if waited > SILENCE_MAX {
            let (master, detail) = (self.jobs.master().to_owned(), detail(status));
            return Err(DriverError::Unreachable { master, call: "watch the job", waited, detail });
        }
        if waited > SILENCE_WORTH_TELLING && !*told {
            *told = true;
            display.warn(&format!(
                "the master at {} does not answer since {} s ({}); job {} does not need this program, which tries on for \
                 {} minutes",
                self.jobs.master(),
                waited.as_secs(),
                detail(status),
                self.job,
                SILENCE_MAX.as_secs() / 60
            ));
        }
        self.jobs.pause(BACK_OFF);
        Ok(())
    }

    /// The job's result, if it has ended.
    fn ended(&self, status: JobStatus) -> Option<Result<Report, DriverError>> {
        let (job, state, reason) = (self.job, status.state(), status.reason);
        match state {
            State::Done => {
                let master = self.jobs.master().to_owned();
                let report = serde_json::from_str(&status.report_json);
                Some(report.map_err(|source| DriverError::Report { job, master, source }))
            }
            State::Failed => Some(Err(DriverError::Failed { job, reason })),
            State::Killed => Some(Err(DriverError::Killed { job, reason })),
            State::Unspecified | State::Preparing | State::Running | State::Committing => None,
        }
    }

    /// Leaves the job running, or kills it and goes on waiting for its end.
    fn heed_interruption(&mut self) -> Result<(), DriverError> {
        if !self.options.interrupted.load(Ordering::Relaxed) || self.killing {
            return Ok(());
        }
        if !self.options.kill_when_interrupted {
            let (job, master) = (self.job, self.jobs.master().to_owned());
            return Err(DriverError::LeftRunning { job, master });
        }
        self.killing = true;
        self.jobs.kill(self.job, "its driver was interrupted")
    }
}
