//! What an ended attempt means: its task is done, or tried again, or fails the job.

use gristmill_proto::ids::{AttemptId, WorkerId};
use gristmill_proto::job_record::{self, record};
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::{AttemptFailure, AttemptResult};

use super::attempts::Attached;
use super::command::Command;
use super::deadly::PROOFS;
use super::event::{SessionId, TaskReport};
use super::job::{Job, Phase};
use super::options::{MEMORY_RETRIES_MAX, PARTS_MAX, SENTENCE_BYTES_MAX};
use super::submit::persist;
use super::task::{Place, Won, cut_short, plain};
use super::{Core, Out};

/// Bytes of the name of a part file.
const PART_NAME_BYTES_MAX: usize = 1_024;

impl Core {
    pub(super) fn attempt_ended(
        &mut self,
        session: SessionId,
        attempt: AttemptId,
        report: TaskReport,
        out: &mut Out,
    ) {
        let Some(worker) = self.attending(session, out) else { return };
        let keeper = keeper(&report).filter(|keeper| *keeper != worker);
        let winner = self.judge(worker, attempt, report, out);
        self.release(worker, attempt, out);
        out.push(Command::Accept { session, attempt, winner });
        if let Some(keeper) = keeper.filter(|_| !winner) {
            self.give_up_kept(attempt, keeper, out);
        }
    }

    /// Another worker took the map output, and nobody wants it.
    fn give_up_kept(&mut self, attempt: AttemptId, keeper: WorkerId, out: &mut Out) {
        if !self.roster.is_here(keeper) {
            return;
        }
        let job = attempt.task.job;
        if !self.jobs.contains_key(&job) {
            // It may have taken it after it heard that the job has ended.
            self.will_have_files(keeper, job);
            self.end_old_jobs(keeper, out);
        } else if let Some(session) = self.roster.session_of(keeper) {
            out.push(Command::DropOutput { session, attempt });
        }
    }

    /// Whether what the attempt has made counts.
    fn judge(&mut self, worker: WorkerId, attempt: AttemptId, report: TaskReport, out: &mut Out) -> bool {
        let (place, number) = (Place::of(attempt), plain(attempt.number));
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return false };
        let Some(task) = job.task(place) else { return false };
        if !task.may_win(number) || job.phase == Phase::Committing {
            // Told again, or too late.
            return task.won.as_ref().is_some_and(|won| won.number == number);
        }
        match report {
            TaskReport::Failed(failure) => {
                self.fail_attempt(worker, attempt, &failure, out);
                false
            }
            TaskReport::Done(mut result) => {
                if let Err(wrong) = check(job, place, &result) {
                    let message = format!("it was said to be done, but {wrong}");
                    let failure = AttemptFailure { message, ..AttemptFailure::default() };
                    self.fail_attempt(worker, attempt, &failure, out);
                    return false;
                }
                if let Some(output) = result.map_output.as_mut().filter(|output| output.worker == 0) {
                    output.worker = worker.0;
                }
                self.done(worker, attempt, *result, out)
            }
        }
    }

    /// The first attempt of a task that is done wins; false if its map output is gone already.
    fn done(&mut self, worker: WorkerId, attempt: AttemptId, result: AttemptResult, out: &mut Out) -> bool {
        let (id, place) = (attempt.task.job, Place::of(attempt));
        let holder = result.map_output.as_ref().map(|output| WorkerId(output.worker));
        if holder.is_some_and(|holder| self.grace_until_ms.is_none() && !self.roster.is_here(holder)) {
            self.lose_attempt(attempt, "lost", "the worker that took its map output was lost", out);
            return false;
        }
        let mut won = Won::new(plain(attempt.number), worker, &result);
        if !self.jobs.get(&id).is_some_and(|job| job.has_read_the_latest(place, won.consumed)) {
            self.lose_attempt(attempt, "lost", "a map output that it has read is another now", out);
            return false;
        }
        self.end_race(worker, attempt, &mut won, out);
        if let Some(holder) = holder.filter(|holder| self.roster.is_here(*holder)) {
            self.will_have_files(holder, id);
        }
        let job = self.jobs.get_mut(&id).expect("its task is there");
        job.warn(&result.note);
        if place.cut {
            self.cut_won(attempt, won, &result.cuts, out);
        } else {
            let (started_ms, ended_ms, took_ms) = (won.started_ms, won.ended_ms, won.took_ms);
            let twin = won.is_twin;
            job.win(place, won, self.now_ms);
            if let Some(shuffle) = job.stage(place.stage).feeds.filter(|shuffle| job.is_complete(*shuffle)) {
                self.turn.urgent.insert((id, shuffle));
            }
            let (attempt, worker, result) = (Some(attempt.to_wire()), worker.0, Some(result));
            let won = job_record::Won { attempt, result, worker, started_ms, ended_ms, took_ms, twin };
            out.push(persist(record::Record::Won(won)));
            self.unify_readers(id, place, out);
        }
        self.totals.done += 1;
        self.touch(id);
        self.limit_bad_records(attempt, out);
        true
    }

    /// The attempt has won: whoever else does the task ends, and it is seen who was slow.
    fn end_race(&mut self, worker: WorkerId, attempt: AttemptId, won: &mut Won, out: &mut Out) {
        let (id, place) = (attempt.task.job, Place::of(attempt));
        let running = self.roster.get(worker).and_then(|there| there.running.get(&attempt)).copied();
        (won.started_ms, won.ended_ms) = (running.map_or(0, |run| run.started_wall_ms), self.wall_ms());
        let job = &self.jobs[&id];
        // Of an attempt that nobody followed it is not known.
        won.took_ms = running.map_or(0, |running| self.effort_ms(job, place, &running).max(1));
        let winner = job.task(place).and_then(|task| task.attempts.get(won.number));
        won.is_twin = winner.is_some_and(|winner| winner.is_twin);
        self.totals.twins_won += u64::from(won.is_twin);
        self.detach(attempt);
        let others = self.jobs[&id].task(place).into_iter().flat_map(|task| task.attempts.iter());
        for other in others.collect::<Vec<Attached>>() {
            self.overtake(place.attempt(id, other.number), winner, out);
        }
        if let Some(effort) = won.effort() {
            self.judge_pace(id, place, worker, effort);
        }
    }

    /// An attempt keeps to the job's limit by itself; this holds it over all tasks.
    fn limit_bad_records(&mut self, attempt: AttemptId, out: &mut Out) {
        let Some(job) = self.jobs.get(&attempt.task.job) else { return };
        let mut limits = job.spec.bad_records_limits.iter().zip(&job.skipped).enumerate();
        let Some((number, (limit, skipped))) = limits.find(|(_, (limit, skipped))| skipped > limit) else {
            return;
        };
        let which = match job.skipped.len() {
            1 => String::new(),
            _ => format!(" (limit number {} of the plan's)", number + 1),
        };
        let sentence = format!(
            "more than {limit} bad records{which}: with {}, its tasks have skipped {skipped}",
            job.name_of(Place::of(attempt)),
        );
        self.fail(attempt.task.job, &sentence, out);
    }

    fn cut_won(&mut self, attempt: AttemptId, won: Won, cuts: &[u8], out: &mut Out) {
        let (id, place) = (attempt.task.job, Place::of(attempt));
        let job = self.jobs.get_mut(&id).expect("its task is there");
        let number = job.reads(place).expect("a cut belongs to a shuffle");
        let shuffle = &mut job.shuffles[number as usize];
        shuffle.cuts = cuts.to_vec();
        shuffle.cut_waits = false;
        shuffle.cut.settle(won.number);
        shuffle.cut.won = Some(Box::new(won));
        self.turn.urgent.insert((id, number));
        let cut = job_record::Cut { job: id.0.to_vec().into(), shuffle: number, cuts: cuts.to_vec().into() };
        out.push(persist(record::Record::Cut(cut)));
    }

    /// The attempt failed: of its own fault, or not.
    pub(super) fn fail_attempt(
        &mut self,
        worker: WorkerId,
        attempt: AttemptId,
        failure: &AttemptFailure,
        out: &mut Out,
    ) {
        let place = Place::of(attempt);
        let message = cut_short(&failure.message, SENTENCE_BYTES_MAX);
        if self.is_forgiven(attempt, failure.kind()) {
            self.lose_attempt(attempt, "lost", &message, out);
            return;
        }
        // One that this master does not follow may fail too.
        self.remember(attempt, worker, "failed", &message);
        self.detach(attempt);
        self.totals.failed += 1;
        let (until_ms, id) = (self.now_ms + self.options.retry_elsewhere_ms, attempt.task.job);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.stages[place.stage as usize].failed_attempts += 1;
        *job.failures.entry(worker).or_default() += 1;
        let may_skip = job.spec.bad_records_limits.iter().any(|limit| *limit > 0);
        let task = job.known(place);
        task.settle(plain(attempt.number));
        task.failed += 1;
        if matches!(failure.kind(), Kind::Exited | Kind::Panic)
            && task.deadly.get_or_insert_default().ended_at(failure.record)
            && may_skip
        {
            // Those who have found it have not failed: the next attempt goes on behind it.
            task.failed = task.failed.saturating_sub(PROOFS);
        }
        let is_short = failure.kind() == Kind::Memory;
        task.short_of_memory = task.short_of_memory.saturating_add(u8::from(is_short));
        let short_of_memory = task.short_of_memory;
        let (failed, next) = (task.failed, place.attempt(id, task.next).number);
        job.wait_if_alone(place, Some((worker, until_ms)));
        let failures = job_record::Failures {
            job: id.0.to_vec().into(),
            stage: place.stage,
            task: place.task,
            failed,
            next_number: next,
            short_of_memory: short_of_memory.into(),
        };
        out.push(persist(record::Record::Failures(failures)));
        self.touch(id);
        let is_hopeless = matches!(failure.kind(), Kind::Plan | Kind::Program)
            || (is_short && short_of_memory > MEMORY_RETRIES_MAX);
        let job = &self.jobs[&id];
        if is_hopeless || failed >= job.attempts_max(&self.options) {
            let sentence = self.why(job, attempt, worker, failure, failed);
            self.fail(id, &sentence, out);
        }
    }

    /// Failures that say nothing about the task.
    fn is_forgiven(&mut self, attempt: AttemptId, kind: Kind) -> bool {
        match kind {
            Kind::Killed | Kind::Worker => true,
            Kind::Fetch | Kind::Damaged => {
                // It is the map output's fault, if that was found to be lost since the attempt began.
                let Some(worker) = self.attached_worker(attempt) else { return false };
                let running = self.roster.get(worker).and_then(|there| there.running.get(&attempt));
                let began_ms = running.map_or(0, |running| running.started_ms);
                let job = &self.jobs[&attempt.task.job];
                let shuffle = job.reads(Place::of(attempt)).map(|shuffle| &job.shuffles[shuffle as usize]);
                shuffle.and_then(|shuffle| shuffle.loss_ms).is_some_and(|loss_ms| loss_ms >= began_ms)
            }
            _ => false,
        }
    }

    /// The sentence of a job that fails by this attempt.
    fn why(
        &self,
        job: &Job,
        attempt: AttemptId,
        worker: WorkerId,
        failure: &AttemptFailure,
        failed: u32,
    ) -> String {
        let host = self.roster.get(worker).map_or("", |there| &there.host);
        let (name, attempt_name) = (job.name_of(Place::of(attempt)), attempt.name());
        let message = cut_short(&failure.message, SENTENCE_BYTES_MAX);
        let head = match failed {
            1 => format!("{name} failed, attempt {attempt_name} on {worker} ({host}): {message}"),
            _ => format!(
                "{name} failed {failed} times; the last, attempt {attempt_name} on {worker} ({host}): {message}"
            ),
        };
        let last_line = failure.stderr_tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let says_more =
            matches!(failure.kind(), Kind::Exited | Kind::Memory | Kind::Program | Kind::Unspecified);
        match last_line.filter(|line| says_more && !message.contains(line)) {
            Some(line) => {
                format!("{head}; the last line of its stderr: {}", cut_short(line, SENTENCE_BYTES_MAX))
            }
            None => head,
        }
    }
}

/// Who holds the map output of an attempt that is done.
fn keeper(report: &TaskReport) -> Option<WorkerId> {
    let TaskReport::Done(result) = report else { return None };
    result.map_output.as_ref().map(|output| WorkerId(output.worker)).filter(|worker| worker.0 != 0)
}

/// Whether a result fits the task.
fn check(job: &Job, place: Place, result: &AttemptResult) -> Result<(), String> {
    if place.cut {
        return if result.cuts.is_empty() { Err("it gave no cuts".to_owned()) } else { Ok(()) };
    }
    if result.counters.len() != job.spec.counters.len() {
        let (has, wants) = (result.counters.len(), job.spec.counters.len());
        return Err(format!("it gave {has} counters for {wants}"));
    }
    let (has, wants) = (result.bad_records_by_limit.len(), job.spec.bad_records_limits.len());
    if has != wants && has != 0 {
        return Err(format!("it counted bad records for {has} limits of {wants}"));
    }
    match (job.stage(place.stage).feeds, &result.map_output) {
        (Some(_), Some(output)) if output.digest.len() == 16 => {}
        (None, None) => {}
        (Some(_), _) => return Err("it gave no map output".to_owned()),
        (None, Some(_)) => return Err("it gave a map output that nobody reads".to_owned()),
    }
    if result.parts.len() > PARTS_MAX {
        return Err(format!("it wrote {} parts, more than {PARTS_MAX}", result.parts.len()));
    }
    let is_bad = |part: &&gristmill_proto::task::Part| {
        part.output as usize >= job.spec.outputs.len()
            || part.name.is_empty()
            || part.name.len() > PART_NAME_BYTES_MAX
    };
    match result.parts.iter().find(is_bad) {
        Some(part) => Err(format!("its part {:?} of output {} cannot be", part.name, part.output)),
        None => Ok(()),
    }
}
