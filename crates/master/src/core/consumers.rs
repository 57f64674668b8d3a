//! All tasks of a stage read the same map outputs, whatever was lost and made again meanwhile.
//!
//! A map output that is made again is most often the same. If it is not, those who have read the former and those who read
//! the later must not be mixed. So each attempt says, in 16 bytes, what it has read (`Consumed`), and the master knows
//! what that must be: who has read something else does not win. Tasks that are done can differ among each other only
//! when outputs became others between them: they begin again, with what they have made, all on the latest outputs.

use gristmill_proto::ids::{AttemptId, JobId};

use super::job::Job;
use super::task::{Place, Won};
use super::{Core, Out};

/// So often tasks of a job that are done may begin again: one whose maps write something else each time, on a cluster
/// that loses map outputs, would never end.
const REREADS_MAX: u32 = 5;

impl Job {
    /// Whether an attempt at this place has read the latest outputs of all map tasks.
    pub(super) fn has_read_the_latest(&self, place: Place, consumed: Option<[u8; 16]>) -> bool {
        let shuffle =
            self.reads(place).filter(|_| !place.cut).map(|shuffle| &self.shuffles[shuffle as usize]);
        match (shuffle, consumed) {
            // A partition that a range shuffle has no range for reads nothing.
            (None, _) | (_, None) => true,
            (Some(shuffle), Some(consumed)) => consumed == shuffle.consumed.to_bytes(),
        }
    }

    /// Winners that have read something else than the latest outputs, if they cannot stay.
    fn outdated(&self, shuffle: u32) -> Vec<AttemptId> {
        let shuffle = &self.shuffles[shuffle as usize];
        let Some(reader) = shuffle.reader else { return Vec::new() };
        let stage = self.stage(reader);
        let winners =
            || (0u32..).zip(&stage.tasks).filter_map(|(task, state)| Some((task, state.won.as_ref()?)));
        let mut consumed = winners().filter_map(|(_, won)| won.consumed);
        let first = consumed.next();
        if stage.is_done() && consumed.all(|other| Some(other) == first) {
            // They have all read the same: nobody needs what came later.
            return Vec::new();
        }
        let latest = shuffle.consumed.to_bytes();
        let is_outdated = |won: &Won| won.consumed.is_some_and(|consumed| consumed != latest);
        let outdated = winners().filter(|(_, won)| is_outdated(won));
        outdated.map(|(task, won)| Place::task(reader, task).attempt(self.id, won.number)).collect()
    }

    /// Attempts that may have read what is no longer the latest.
    fn under_way(&self, shuffle: u32) -> Vec<AttemptId> {
        let Some(reader) = self.shuffles[shuffle as usize].reader else { return Vec::new() };
        let running = self.stage(reader).running.iter().map(|(_, task)| Place::task(reader, *task));
        let attempts = running.flat_map(|place| {
            let attempts = self.task(place).into_iter().flat_map(|task| task.attempts.iter());
            attempts.map(move |attached| place.attempt(self.id, attached.number))
        });
        attempts.collect()
    }
}

impl Core {
    /// A task of this place was done: if a shuffle is complete by it, or all tasks that read one are done, they must all
    /// have read the same.
    pub(super) fn unify_readers(&mut self, id: JobId, place: Place, out: &mut Out) {
        let stage = |job: &Job| job.stage(place.stage).reads.filter(|_| job.stage(place.stage).is_done());
        if let Some(finished) = self.jobs.get(&id).and_then(stage) {
            self.read_again(id, finished, place, out);
        }
        let feeds = |job: &Job| job.stage(place.stage).feeds.filter(|shuffle| job.is_complete(*shuffle));
        if let Some(completed) = self.jobs.get(&id).and_then(feeds) {
            self.read_again(id, completed, place, out);
        }
    }

    fn read_again(&mut self, id: JobId, shuffle: u32, place: Place, out: &mut Out) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let is_altered =
            job.is_complete(shuffle) && std::mem::take(&mut job.shuffles[shuffle as usize].is_altered);
        let under_way = if is_altered { job.under_way(shuffle) } else { Vec::new() };
        let outdated = job.outdated(shuffle);
        if !outdated.is_empty() {
            job.rereads += 1;
            let (rereads, name) = (job.rereads, job.name_of(place));
            job.warn("the job is not deterministic: a map output became another when it was made again");
            if rereads > REREADS_MAX {
                let sentence = format!(
                    "the job is not deterministic (NONDETERMINISTIC): map outputs were lost and became others when they \
                     were made again, so that tasks that were done had to begin again, {rereads} times (the last time \
                     after {name}); make its functions give the same for the same records"
                );
                return self.fail(id, &sentence, out);
            }
        }
        for attempt in under_way {
            self.take_away(attempt, "a map output that it may have read is another now", out);
        }
        for attempt in outdated {
            self.lose_work(attempt, "a map output that it has read is another now", out);
        }
    }
}
