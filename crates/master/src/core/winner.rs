//! A task's winner is counted in, and out again if what it made is lost.

use super::job::Job;
use super::task::{Place, Won};

impl Job {
    /// Counts a winner in, and has its map output told.
    pub(super) fn win(&mut self, place: Place, won: Won, now_ms: u64) {
        let task = place.task;
        self.begun(place, won.started_ms);
        for (sum, value) in self.counters.iter_mut().zip(&won.counters) {
            *sum = sum.wrapping_add(*value);
        }
        for (sum, count) in self.skipped.iter_mut().zip(&won.skipped) {
            *sum = sum.wrapping_add(*count);
        }
        let stage = &mut self.stages[place.stage as usize];
        stage.done += 1;
        stage.last_done_ms = stage.last_done_ms.max(won.ended_ms);
        stage.records += won.figures.records_in;
        stage.bytes += won.figures.bytes_in;
        stage.twins_won += u32::from(won.is_twin);
        won.effort().into_iter().for_each(|effort| stage.pace.add(effort));
        stage.pending.remove(task);
        let former = stage.tasks[task as usize].lost_digest.take();
        if let Some(shuffle) = stage.feeds {
            self.held.entry(won.holder).or_default().push((place.stage, task));
            let shuffle = &mut self.shuffles[shuffle as usize];
            if let Some(former) = former {
                shuffle.consumed.remove(place.stage, task, &former[..]);
                shuffle.is_altered |= *former != won.digest;
            }
            shuffle.consumed.add(place.stage, task, &won.digest);
            shuffle.done += 1;
            shuffle.tell(place.stage, task);
            if shuffle.done == shuffle.expected {
                shuffle.complete_ms = Some(now_ms);
            }
        }
        let task = self.known(place);
        task.settle(won.number);
        task.won = Some(Box::new(won));
    }

    /// Counts a winner out: its map output is gone, or it has read what does not count. The task waits again.
    pub(super) fn unwin(&mut self, place: Place, now_ms: u64) -> Option<Box<Won>> {
        let task = self.known(place);
        let won = task.won.take()?;
        task.losses += 1;
        task.lost_digest = Some(Box::new(won.digest));
        for (sum, value) in self.counters.iter_mut().zip(&won.counters) {
            *sum = sum.wrapping_sub(*value);
        }
        for (sum, count) in self.skipped.iter_mut().zip(&won.skipped) {
            *sum = sum.wrapping_sub(*count);
        }
        let stage = &mut self.stages[place.stage as usize];
        stage.done -= 1;
        stage.twins_won -= u32::from(won.is_twin);
        won.effort().into_iter().for_each(|effort| stage.pace.remove(effort));
        stage.records -= won.figures.records_in;
        stage.bytes -= won.figures.bytes_in;
        if let Some(shuffle) = stage.feeds {
            let shuffle = &mut self.shuffles[shuffle as usize];
            shuffle.done -= 1;
            shuffle.complete_ms = None;
            shuffle.loss_ms = Some(now_ms);
            shuffle.tell(place.stage, place.task);
        }
        self.wait(place, None);
        Some(won)
    }

    /// There was a winner before this master began, and what it made is lost.
    pub(super) fn once_won(&mut self, place: Place, digest: &[u8]) {
        let Ok(digest) = <[u8; 16]>::try_from(digest) else { return };
        if self.known(place).lost_digest.replace(Box::new(digest)).is_none()
            && let Some(shuffle) = self.stage(place.stage).feeds
        {
            self.shuffles[shuffle as usize].consumed.add(place.stage, place.task, &digest);
        }
    }
}
