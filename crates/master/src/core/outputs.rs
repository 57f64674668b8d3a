//! Who is told which map outputs: each stream on which attempts wait, in pages, what has changed since the last one.

use gristmill_proto::ids::{AttemptId, JobId, WorkerId};
use gristmill_proto::task::{Holder, OutputEntry};

use super::command::Command;
use super::event::SessionId;
use super::options::{PAGE_ENTRIES_MAX, PAGES_A_TURN};
use super::task::Place;
use super::worker::Roster;
use super::{Core, Out};

impl Core {
    /// An attempt on this stream reads the shuffle from now on.
    pub(super) fn listen(&mut self, id: JobId, shuffle: u32, session: SessionId, out: &mut Out) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.shuffles[shuffle as usize].listeners.entry(session).or_default().readers += 1;
        self.flush(id, shuffle, session, out);
    }

    /// An attempt on this stream does so no longer. What the stream was told stays told.
    pub(super) fn stop_listening(&mut self, attempt: AttemptId, session: SessionId) {
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        let Some(shuffle) = job.reads(Place::of(attempt)) else { return };
        if let Some(listener) = job.shuffles[shuffle as usize].listeners.get_mut(&session) {
            listener.readers -= 1;
        }
    }

    /// Tells all streams on which somebody waits.
    pub(super) fn flush_shuffle(&mut self, id: JobId, shuffle: u32, out: &mut Out) {
        let Some(job) = self.jobs.get(&id) else { return };
        let listeners = job.shuffles[shuffle as usize].listeners.iter();
        let waiting = listeners.filter(|(_, listener)| listener.readers > 0);
        let mut is_lagging = false;
        for session in waiting.map(|(session, _)| *session).collect::<Vec<SessionId>>() {
            is_lagging |= self.flush(id, shuffle, session, out);
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.shuffles[shuffle as usize].is_lagging = is_lagging;
        }
    }

    /// Tells one stream what it does not know; whether there is more.
    fn flush(&mut self, id: JobId, number: u32, session: SessionId, out: &mut Out) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        for _ in 0..PAGES_A_TURN {
            let shuffle = &job.shuffles[number as usize];
            let Some(listener) = shuffle.listeners.get(&session) else { return false };
            let from = listener.position;
            let to = shuffle.log.len().min(from + PAGE_ENTRIES_MAX);
            let tells_cuts = !shuffle.cuts.is_empty() && !listener.was_told_cuts;
            if listener.was_told && from == to && !tells_cuts {
                return false;
            }
            let entry =
                |&(stage, task): &(u32, u32)| job.stage(stage).tasks[task as usize].entry(stage, task);
            let entries: Vec<OutputEntry> = shuffle.log[from..to].iter().map(entry).collect();
            out.push(Command::Outputs {
                session,
                job: id,
                shuffle: number,
                holders: holders(&self.roster, &entries),
                entries,
                expected: shuffle.expected,
                cuts: if tells_cuts { shuffle.cuts.clone() } else { Vec::new() },
            });
            let shuffle = &mut job.shuffles[number as usize];
            let listener = shuffle.listeners.get_mut(&session).expect("it was there");
            listener.position = to;
            listener.was_told = true;
            listener.was_told_cuts |= tells_cuts;
        }
        let shuffle = &mut job.shuffles[number as usize];
        let lags = shuffle.listeners.get(&session).is_some_and(|to| to.position < shuffle.log.len());
        shuffle.is_lagging |= lags;
        lags
    }

    /// Where the output is has changed: all who wait are told.
    pub(super) fn tell_again(&mut self, output: AttemptId) {
        let Some(job) = self.jobs.get_mut(&output.task.job) else { return };
        let (stage, task) = (output.task.stage, output.task.task);
        if let Some(shuffle) = job.stage(stage).feeds.filter(|shuffle| job.is_needed(*shuffle)) {
            job.shuffles[shuffle as usize].tell(stage, task);
        }
    }

    /// Tells one stream what is known of an output, whether it knows it or not.
    pub(super) fn tell_one(&mut self, output: AttemptId, session: SessionId, out: &mut Out) {
        let Some(job) = self.jobs.get(&output.task.job) else { return };
        let (stage, task) = (output.task.stage, output.task.task);
        let Some(number) = job.stage(stage).feeds else { return };
        let entries = vec![job.stage(stage).tasks[task as usize].entry(stage, task)];
        out.push(Command::Outputs {
            session,
            job: output.task.job,
            shuffle: number,
            holders: holders(&self.roster, &entries),
            entries,
            expected: job.shuffles[number as usize].expected,
            cuts: Vec::new(),
        });
    }
}

/// Where the holders of these entries are.
fn holders(roster: &Roster, entries: &[OutputEntry]) -> Vec<Holder> {
    let mut workers: Vec<u64> =
        entries.iter().map(|entry| entry.holder).filter(|holder| *holder != 0).collect();
    workers.sort_unstable();
    workers.dedup();
    workers.into_iter().map(|worker| roster.holder(WorkerId(worker))).collect()
}
