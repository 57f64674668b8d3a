//! The driver: it writes the input as a client of the file system, cuts it into splits, and submits its jobs until they
//! are taken.

use std::collections::BTreeSet;

use gristmill_master::core::Event;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::{JobSpec, Output, TaskHint, TaskHints};

use crate::plans;
use crate::words;
use crate::world::{Happening, World};
use crate::writer::{Author, Step, Writer};

/// A job that is not taken yet is submitted again after so long.
const SUBMIT_INTERVAL_MS: u64 = 2_000;

/// Words of two blocks.
const REFERENCE_WORDS: usize = 30;

/// What one map reads: a block of a file, as it was written.
pub(crate) struct Split {
    pub(crate) path: String,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Driver {
    files: Vec<Vec<Vec<u8>>>,
    written: usize,
    pub(crate) splits: Vec<Split>,
    /// Reduces of each job, and when it is submitted.
    plans: Vec<(u32, u64)>,
    submitted_ms: u64,
    admitted: BTreeSet<JobId>,
}

impl Driver {
    pub(crate) fn is_done(&self) -> bool {
        self.written == self.files.len() && self.admitted.len() == self.plans.len()
    }
}

/// Where the input file of this number is.
fn path(number: usize) -> String {
    format!("/data/in/{number}")
}

impl World {
    pub(crate) fn plan_driver(&mut self) {
        for _ in 0..2 + self.below(3) {
            let words = 5 + self.below(90) as usize;
            let file = words::file(words, |end| self.below(end));
            self.driver.files.push(file);
        }
        for _ in 0..1 + self.below(2) {
            let plan = (1 + self.below(4) as u32, 1 + self.below(50_000));
            self.driver.plans.push(plan);
        }
    }

    /// Two blocks, counted by two maps and two reduces.
    pub(crate) fn plan_reference(&mut self) {
        let file = words::file(REFERENCE_WORDS, |end| self.below(end));
        self.driver.files.push(file);
        self.driver.plans.push((2, 1));
    }

    pub(crate) fn drive(&mut self) {
        self.after(100, Happening::Drive);
        let number = self.driver.written;
        if number < self.driver.files.len() {
            self.write_input(number);
        } else if !self.driver.is_done() && self.now_ms >= self.driver.submitted_ms {
            self.driver.submitted_ms = self.now_ms + SUBMIT_INTERVAL_MS;
            self.submit();
        }
    }

    fn write_input(&mut self, number: usize) {
        let author = Author::Driver(number);
        match self.writers.get(&author).map(|writer| writer.step.clone()) {
            None => {
                let (client, blocks) = (self.dfs.new_client(), self.driver.files[number].clone());
                self.writers.insert(author, Writer::new(client, None, path(number), blocks));
            }
            Some(Step::Failed(_)) => {
                self.count("input written again");
                self.writers.remove(&author);
            }
            Some(Step::Done) => {
                self.writers.remove(&author);
                self.driver.written += 1;
                self.cut(number);
            }
            Some(_) => self.write_on(author),
        }
    }

    /// The file is whole: it is promised, and each of its blocks is a split.
    fn cut(&mut self, number: usize) {
        let mut offset = 0;
        for bytes in self.driver.files[number].clone() {
            let length = bytes.len() as u64;
            self.driver.splits.push(Split { path: path(number), offset, bytes });
            offset += length;
        }
        self.oracle.acknowledged.insert(path(number), offset);
    }

    fn spec(&self, at: usize) -> JobSpec {
        let id = at as u8 + 1;
        let mut spec = plans::chain(id, &[self.driver.splits.len() as u32, self.driver.plans[at].0], false);
        spec.outputs = vec![Output { uri: format!("dfs:///data/out-{id}"), extra: false }];
        spec
    }

    fn submit(&mut self) {
        for at in 0..self.driver.plans.len() {
            let spec = self.spec(at);
            let id = plans::id_of(&spec);
            if self.driver.admitted.contains(&id) || self.now_ms < self.driver.plans[at].1 {
                continue;
            }
            self.specs.insert(id, spec.clone());
            let hint = |at: usize| TaskHint { bytes: 64, workers: vec![at as u64 % 3 + 1] };
            let hints = (0..self.driver.splits.len()).map(hint).collect();
            let hints = vec![TaskHints { stage: 0, first_task: 0, hints }];
            let submit = Event::Submit { spec: Box::new(spec), hints, wall_ms: self.dfs.wall_ms() };
            self.send_loosely(Happening::Told(0, self.epoch, Box::new(submit)));
        }
    }

    pub(crate) fn admitted(&mut self, job: JobId) {
        self.driver.admitted.insert(job);
    }
}
