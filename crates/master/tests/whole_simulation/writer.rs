//! A client that writes a file: calls to the master that are sent again until they are answered, and a pipeline that is
//! built anew, with a new generation, when a worker of it fails.

use std::collections::VecDeque;

use gristmill_proto::ids::{AttemptId, ClientId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{
    AbandonBlock, AddBlock, BlockEnd, Complete, Create, LocatedBlock, MakeDirectory, RebuildBlock,
};

use crate::dfs::REPLICATION;
use crate::script::{Flaw, Point};
use crate::world::{Happening, World};

/// A call without an answer is sent again after so long.
const CALL_TIMEOUT_MS: u64 = 2_000;
/// A call that was refused for now is made again after so long.
const PAUSE_MS: u64 = 500;
/// Calls refused for now, one after the other, after which a writer gives up.
const PATIENCE: u32 = 200;
/// A worker that has not heard the master for so long takes no blocks.
pub(crate) const SILENCE_MS: u64 = 10_000;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Author {
    /// The driver: the input file of this number.
    Driver(usize),
    Attempt(AttemptId),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Makes the directory of the attempt.
    Enter,
    Create,
    AddBlock,
    /// Bytes are on their way to the pipeline.
    Send,
    Finish,
    Rebuild(Vec<u64>),
    /// Nobody has the block.
    Abandon,
    Complete,
    Done,
    Failed(String),
}

#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) client: ClientId,
    /// On which worker; none: elsewhere.
    pub(crate) at: Option<usize>,
    path: String,
    blocks: VecDeque<Vec<u8>>,
    pub(crate) step: Step,
    sequence: u64,
    asked: Option<(Request, u64)>,
    retry_ms: u64,
    refused: u32,
    inode: u64,
    end: Option<BlockEnd>,
    pipeline: Vec<u64>,
    exclude: Vec<u64>,
}

/// A call on its way.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) author: Author,
    pub(crate) at: Option<usize>,
    pub(crate) client: ClientId,
    pub(crate) sequence: u64,
    pub(crate) request: Request,
}

impl Writer {
    pub(crate) fn new(client: ClientId, at: Option<usize>, path: String, blocks: Vec<Vec<u8>>) -> Writer {
        Writer {
            client,
            at,
            path,
            blocks: blocks.into(),
            step: if at.is_some() { Step::Enter } else { Step::Create },
            sequence: 0,
            asked: None,
            retry_ms: 0,
            refused: 0,
            inode: 0,
            end: None,
            pipeline: Vec::new(),
            exclude: Vec::new(),
        }
    }

    /// What the master is asked in this step.
    fn request(&self) -> Option<Request> {
        let (path, inode) = (self.path.clone(), self.inode);
        let directory = || path.rsplit_once('/').expect("it is absolute").0.to_owned();
        let block = || self.end.expect("a block is open");
        Some(match &self.step {
            Step::Enter => {
                Request::MakeDirectory(MakeDirectory { path: directory(), parents: false, mode: 0o755 })
            }
            Step::Create => Request::Create(Create {
                path,
                // The driver begins again; an attempt is the only one in its directory.
                overwrite: self.at.is_none(),
                parents: self.at.is_none(),
                replication: REPLICATION,
                mode: 0o644,
                ..Create::default()
            }),
            Step::AddBlock => {
                Request::AddBlock(AddBlock { inode, previous: self.end, exclude: self.exclude.clone() })
            }
            Step::Rebuild(failed) => Request::RebuildBlock(RebuildBlock {
                inode,
                block: block().block,
                generation: block().generation,
                failed: failed.clone(),
                acked_bytes: 0,
            }),
            Step::Abandon => Request::AbandonBlock(AbandonBlock { inode, block: block().block }),
            Step::Complete => Request::Complete(Complete { inode, last: self.end }),
            Step::Send | Step::Finish | Step::Done | Step::Failed(_) => return None,
        })
    }

    fn next_block(&mut self) {
        self.step = if self.blocks.is_empty() { Step::Complete } else { Step::AddBlock };
    }

    /// The master answers.
    fn hear(&mut self, outcome: Outcome, now_ms: u64) {
        self.asked = None;
        match (&self.step, outcome) {
            (_, Outcome::Failure(failure)) => {
                let passes = [Kind::NotYet, Kind::NoWorkers, Kind::SafeMode, Kind::LeaseHeld];
                let passes = passes.contains(&failure.kind());
                self.refused += 1;
                if !passes || self.refused > PATIENCE || matches!(self.step, Step::Rebuild(_)) {
                    self.step = Step::Failed(format!("{:?}: {failure:?}", self.step));
                }
                self.exclude.clear();
                self.retry_ms = now_ms + PAUSE_MS;
            }
            (Step::Enter, _) => self.step = Step::Create,
            (Step::Create, Outcome::OpenFile(open)) => {
                self.inode = open.entry.expect("it is open").inode;
                self.next_block();
            }
            (Step::AddBlock | Step::Rebuild(_), Outcome::Block(block)) => self.begin_block(&block),
            (Step::Abandon, _) => {
                self.end = None;
                self.step = Step::AddBlock;
            }
            (Step::Complete, _) => self.step = Step::Done,
            (step, other) => panic!("{other:?} is no answer to {step:?}"),
        }
    }

    fn begin_block(&mut self, block: &LocatedBlock) {
        let bytes = self.blocks.front().expect("a block is to be written").len() as u64;
        self.end = Some(BlockEnd { block: block.block, generation: block.generation, bytes });
        self.pipeline = block.replicas.iter().map(|replica| replica.worker).collect();
        (self.refused, self.step) = (0, Step::Send);
    }
}

impl World {
    /// A writer does its next step.
    pub(crate) fn write_on(&mut self, author: Author) {
        let Some(mut writer) = self.writers.remove(&author) else { return };
        if let Some((_, sent_ms)) = &mut writer.asked {
            if self.now_ms > *sent_ms + CALL_TIMEOUT_MS {
                *sent_ms = self.now_ms;
                self.count("call sent again");
                self.send_call(author, &writer);
            }
        } else if self.now_ms >= writer.retry_ms {
            match writer.step {
                Step::Send => self.send_bytes(&mut writer),
                Step::Finish => self.finish_block(&mut writer),
                _ => {}
            }
            if let Some(request) = writer.request() {
                writer.sequence += 1;
                writer.asked = Some((request, self.now_ms));
                self.send_call(author, &writer);
            }
        }
        self.writers.insert(author, writer);
    }

    fn send_call(&mut self, author: Author, writer: &Writer) {
        let Some((request, _)) = writer.asked.clone() else { return };
        let (at, client, sequence) = (writer.at, writer.client, writer.sequence);
        let call = Happening::Call(Box::new(Call { author, at, client, sequence, request }));
        if at.is_some_and(|at| !self.speaks(at)) {
            return;
        }
        self.send_loosely(call);
    }

    /// A call arrives at the master.
    pub(crate) fn take_call(&mut self, call: Call) {
        let Call { author, at, client, sequence, request } = call;
        let host = at.map_or_else(String::new, |at| format!("host{at}"));
        self.prepare_dfs();
        let outcome = self.dfs.call(client, sequence, request, &host);
        self.after_dfs();
        let is_deaf = at.is_some_and(|at| !self.hears(at));
        if let Some(outcome) = outcome.filter(|_| !is_deaf) {
            self.send_loosely(Happening::Answer(author, client, sequence, Box::new(outcome)));
        }
    }

    /// An answer arrives at a client, if it still waits for it.
    pub(crate) fn hear_answer(&mut self, author: Author, client: ClientId, sequence: u64, outcome: Outcome) {
        let now_ms = self.now_ms;
        let Some(writer) = self.writers.get_mut(&author) else { return };
        if writer.client != client || writer.sequence != sequence || writer.asked.is_none() {
            return self.count("answer nobody waits for");
        }
        writer.hear(outcome, now_ms);
        if let (Step::Send, Some(end)) = (&writer.step, writer.end) {
            let bytes = writer.blocks.front().expect("a block is to be written").clone();
            self.dfs.contents.insert(end.block, bytes);
        }
    }

    /// Whether the worker can be sent bytes of a block, and takes any.
    fn takes_bytes(&self, writer: &Writer, worker: u64) -> bool {
        let target = worker as usize - 1;
        let node = &self.dfs.nodes[target];
        self.meets(writer.at, target) && node.stream.is_some() && node.heard_ms + SILENCE_MS > self.now_ms
    }

    /// All of the pipeline get some of the bytes; those of a rebuilt one take the new generation.
    fn send_bytes(&mut self, writer: &mut Writer) {
        let end = writer.end.expect("a block is open");
        let mut failed = Vec::new();
        for &worker in &writer.pipeline.clone() {
            let bytes = self.below(end.bytes + 1);
            let takes = self.takes_bytes(writer, worker);
            let fault = self.dfs.fault(Point::Exchange);
            let disk = &mut self.dfs.nodes[worker as usize - 1].disk;
            let takes = takes && fault != Some(Flaw::Before);
            if !takes || !disk.write(end.block, end.generation, bytes) || fault.is_some() {
                failed.push(worker);
            }
        }
        self.go_on_without(writer, failed, Step::Finish);
    }

    /// The last packet: when all have it on disk, the block is done.
    fn finish_block(&mut self, writer: &mut Writer) {
        let end = writer.end.expect("a block is open");
        let may_finish = |world: &World, worker: u64| {
            let replica = world.dfs.nodes[worker as usize - 1].disk.replicas.get(&end.block);
            world.takes_bytes(writer, worker)
                && replica.is_some_and(|replica| {
                    let (is_fenced, is_open) = (replica.fence > end.generation, !replica.finished);
                    replica.generation == end.generation && !is_fenced && is_open && !replica.noticed
                })
        };
        let mut failed: Vec<u64> =
            writer.pipeline.iter().copied().filter(|&worker| !may_finish(self, worker)).collect();
        if failed.is_empty() {
            failed = self.lose_acks(writer, end);
        }
        if failed.is_empty() {
            for &worker in &writer.pipeline {
                let disk = &mut self.dfs.nodes[worker as usize - 1].disk;
                let info = disk.finish(end.block, end.generation, end.bytes).expect("it may");
                self.tell_finished(worker as usize - 1, info);
            }
            self.count("block written");
            writer.blocks.pop_front();
            return writer.next_block();
        }
        self.go_on_without(writer, failed, Step::Finish);
    }

    /// Of the workers that may finish, those that are not asked, or whose answer is lost.
    fn lose_acks(&mut self, writer: &Writer, end: BlockEnd) -> Vec<u64> {
        let mut failed = Vec::new();
        for &worker in &writer.pipeline {
            let Some(kind) = self.dfs.fault(Point::Exchange) else { continue };
            failed.push(worker);
            if kind == Flaw::After {
                let disk = &mut self.dfs.nodes[worker as usize - 1].disk;
                let info = disk.finish(end.block, end.generation, end.bytes).expect("it may");
                self.tell_finished(worker as usize - 1, info);
            }
        }
        failed
    }

    fn go_on_without(&mut self, writer: &mut Writer, failed: Vec<u64>, next: Step) {
        writer.step = match failed.len() {
            0 => next,
            all if all == writer.pipeline.len() => {
                self.count("pipeline lost");
                writer.exclude = failed;
                Step::Abandon
            }
            _ => {
                self.count("pipeline rebuilt");
                Step::Rebuild(failed)
            }
        };
    }
}
