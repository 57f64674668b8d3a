//! The master's publisher: the real shared outputs on the simulated file system, one work of a job after the other. The
//! master may die between any two calls.

use std::collections::VecDeque;
use std::error::Error;
use std::io;

use gristmill_dfs::{Existing, SharedOutputs, StageError, StagedFile, Uri};
use gristmill_master::core::Event;
use gristmill_proto::ids::JobId;

use crate::tree::Tree;
use crate::world::{Happening, World};

/// What is not possible now is tried again after so long.
const PAUSE_MS: u64 = 1_000;

#[derive(Clone, Debug)]
pub(crate) enum Work {
    Stage,
    Publish(Vec<(usize, StagedFile)>, Vec<u8>),
    Abort,
}

/// Whether another try may go better.
fn may_pass(error: &(dyn Error + 'static)) -> bool {
    let is_io = error.downcast_ref::<io::Error>();
    is_io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) || error.source().is_some_and(may_pass)
}

impl World {
    pub(crate) fn publish_later(&mut self, job: JobId, work: Work) {
        let line = self.outputs.entry(job).or_default();
        line.push_back(work);
        if line.len() == 1 {
            let delay_ms = 1 + self.below(if self.quiet { 20 } else { 2_000 });
            self.after(delay_ms, Happening::Outputs(job, self.epoch));
        }
    }

    /// The first work of the job's line is done.
    pub(crate) fn work_on_outputs(&mut self, job: JobId, epoch: u64) {
        if epoch != self.epoch || self.core.is_none() {
            return;
        }
        let Some(work) = self.outputs.get(&job).and_then(VecDeque::front).cloned() else { return };
        self.prepare_dfs();
        let dies_after = (!self.quiet && self.chance(150)).then(|| 1 + self.below(30));
        let tree = Tree::new(std::mem::take(&mut self.dfs), dies_after);
        let result = self.carry_out_work(job, &work, tree.clone());
        let (dfs, dies) = tree.into_inner();
        self.dfs = dfs;
        self.remember(&format!("{job}: {work:?} gives {result:?}"));
        if dies {
            self.count("master died in a publication");
            self.dfs.failed = true;
        }
        let epoch_before = self.epoch;
        self.after_dfs();
        if self.core.is_none() || self.epoch != epoch_before {
            return;
        }
        if result.as_ref().is_err_and(|error| may_pass(error)) {
            self.count("publication waits");
            return self.after(PAUSE_MS, Happening::Outputs(job, epoch));
        }
        let result = match result {
            Err(StageError::LeftOver { .. }) => Ok(()),
            ended => ended.map_err(|error| error.to_string()),
        };
        match work {
            Work::Stage => self.tell_core(Event::Staged { job, result }),
            Work::Publish(..) => self.tell_core(Event::Published { job, result }),
            Work::Abort => {}
        }
        let line = self.outputs.get_mut(&job).expect("a work was done");
        line.pop_front();
        if !line.is_empty() {
            self.after(1, Happening::Outputs(job, epoch));
        }
    }

    fn carry_out_work(&self, job: JobId, work: &Work, tree: Tree) -> Result<(), StageError> {
        let parse = |output: &gristmill_proto::job::Output| Uri::parse(&output.uri).expect("it is a URI");
        let uris: Vec<Uri> = self.specs[&job].outputs.iter().map(parse).collect();
        let outputs = SharedOutputs::on(tree, &uris, job, Existing::Refuse);
        match work {
            Work::Stage => outputs.begin(),
            Work::Publish(files, manifest) => outputs.publish(files, manifest),
            Work::Abort => outputs.abort(),
        }
    }
}
