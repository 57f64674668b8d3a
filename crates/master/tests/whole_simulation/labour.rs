//! What attempts do with files: maps read their split from whoever has the block, reduces write their part through a
//! pipeline.

use gristmill_proto::ids::{AttemptId, ClientId};
use gristmill_proto::namespace::Locate;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::task::attempt_failure::Kind;

use crate::attendance::Notice;
use crate::plans;
use crate::script::Point;
use crate::words;
use crate::worker::failure;
use crate::world::World;
use crate::writer::{Author, Step, Writer};

/// Who only reads holds no lease.
const READER: ClientId = ClientId([0xee; 16]);

impl World {
    /// An attempt that has all that it reads from others goes on. None: it is not through yet. Otherwise what makes its
    /// map output another than the first one's: nothing.
    pub(crate) fn labour(&mut self, at: usize, attempt: AttemptId) -> Option<u64> {
        match attempt.task.stage {
            0 => self.read_split(at, attempt),
            _ => self.write_part(at, attempt),
        }
    }

    fn read_split(&mut self, at: usize, attempt: AttemptId) -> Option<u64> {
        let split = &self.driver.splits[attempt.task.task as usize];
        let (path, offset, bytes) = (split.path.clone(), split.offset, split.bytes.len() as u64);
        if !self.reaches(at) || self.master_stuck_until_ms > self.now_ms || self.loses() {
            return None;
        }
        self.prepare_dfs();
        let request = Request::Locate(Locate { path, offset, bytes, limit: 1 });
        let outcome = self.dfs.call(READER, 1, request, "")?;
        let Outcome::Located(located) = outcome else { panic!("{attempt} cannot read: {outcome:?}") };
        let block = &located.blocks[0];
        assert_eq!((block.offset, block.bytes), (offset, bytes), "{attempt}: the input has changed");
        let meets: Vec<bool> = (0..self.workers.len()).map(|to| self.meets(Some(at), to)).collect();
        let mut is_lost = self.loses();
        let answers = |to: usize| meets[to] && !std::mem::take(&mut is_lost);
        let (read, damaged) = self.dfs.read(block.block, block.generation, block.bytes, answers);
        for (worker, info) in damaged {
            self.count("damage read around");
            self.tell_blocks(worker, Notice::Bad(vec![info]));
        }
        let Some(read) = read else {
            self.count("reader waits");
            return None;
        };
        let split = &self.driver.splits[attempt.task.task as usize];
        assert_eq!(read, split.bytes, "{attempt} read something else");
        self.counts.insert(plans::digest(attempt, 0), words::count(&read));
        Some(0)
    }

    /// Whether a question to another, or its answer, is lost.
    pub(crate) fn loses(&mut self) -> bool {
        self.dfs.fault(Point::Exchange).is_some()
    }

    fn write_part(&mut self, at: usize, attempt: AttemptId) -> Option<u64> {
        let author = Author::Attempt(attempt);
        match self.writers.get(&author).map(|writer| writer.step.clone()) {
            None => {
                let writer = self.begin_part(at, attempt);
                self.writers.insert(author, writer);
            }
            Some(Step::Failed(why)) => {
                self.count("part failed");
                self.writers.remove(&author);
                self.over(at, attempt, failure(Kind::Output, &why));
            }
            Some(Step::Done) => {
                self.count("part written");
                self.writers.remove(&author);
                return Some(0);
            }
            Some(_) => self.write_on(author),
        }
        None
    }

    fn begin_part(&mut self, at: usize, attempt: AttemptId) -> Writer {
        let (job, partition) = (attempt.task.job, attempt.task.task);
        let read = &self.workers[at].attempts[&attempt].read;
        let counts = words::sum(read.values().map(|digest| &self.counts[digest]));
        let partitions = self.specs[&job].stages[1].tasks;
        let blocks = words::part(&counts, partition.into(), partitions.into());
        let path = format!("/data/.gristmill-{job}-0/shared/{}/part-r-{partition:05}", attempt.name());
        Writer::new(self.dfs.new_client(), Some(at), path, blocks)
    }

    /// With an attempt its writer ends, and says nothing to anybody.
    pub(crate) fn bury_writers(&mut self, at: usize) {
        let attempts = &self.workers[at].attempts;
        self.writers.retain(|author, writer| match author {
            Author::Attempt(attempt) => writer.at != Some(at) || attempts.contains_key(attempt),
            Author::Driver(_) => true,
        });
    }
}
