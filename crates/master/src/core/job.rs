//! A job that has not ended: its stages, its shuffles, where its tasks stand.
//!
//! ```text
//!   Preparing ──Staged──> Running ──all tasks won──> Committing ──Published──> ended
//!       +─────────────────────+── failed, killed ──> ended
//! ```

use std::collections::{BTreeMap, BTreeSet};

use gristmill_proto::consumed::Consumed;
use gristmill_proto::ids::{AttemptId, JobId, WorkerId};
use gristmill_proto::job::stage::{Origin, Target};
use gristmill_proto::job::{JobSpec, Stage as StageSpec, TaskHints};

use super::attempts::Attached;
use super::event::SessionId;
use super::options::CoreOptions;
use super::pace::Pace;
use super::pending::{Nearness, Offer, Pending};
use super::queues::Standing;
use super::task::{Place, Task};

/// Warnings of a job that are kept.
const WARNINGS_MAX: usize = 20;
const WARNING_BYTES_MAX: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Preparing,
    Running,
    Committing,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) spec: Box<JobSpec>,
    pub(super) phase: Phase,
    pub(super) sequence: u64,
    pub(super) stages: Vec<Stage>,
    pub(super) shuffles: Vec<Shuffle>,
    /// Sums over winners.
    pub(super) counters: Vec<u64>,
    /// Bad records that winners skipped, by limit.
    pub(super) skipped: Vec<u64>,
    pub(super) warnings: Vec<String>,
    pub(super) standing: Standing,
    /// Attached attempts.
    pub(super) running: u32,
    pub(super) submitted_ms: u64,
    pub(super) started_ms: u64,
    pub(super) committing_ms: u64,
    pub(super) version: u64,
    /// What it waits for.
    pub(super) waits_for: String,
    /// Known from the store of an earlier master: attempts of it may run that nobody has told this one of.
    pub(super) is_restored: bool,
    /// Until then nothing new is launched, so that workers can say what they run.
    pub(super) is_held_back: bool,
    pub(super) failures: BTreeMap<WorkerId, u32>,
    /// Attempts that were slow, by worker.
    pub(super) slow: BTreeMap<WorkerId, u32>,
    /// How often tasks that were done began again, because a map output became another.
    pub(super) rereads: u32,
    /// Map outputs of which a fetch failed once, though their holder seems well.
    pub(super) doubted: BTreeSet<AttemptId>,
    /// Map tasks whose outputs a worker holds, or once held.
    pub(super) held: BTreeMap<WorkerId, Vec<(u32, u32)>>,
    /// Workers that may have files of it.
    pub(super) workers: BTreeSet<WorkerId>,
    /// Attempts that were taken away for a task that comes before them, and still have their slot.
    pub(super) preempted: BTreeSet<AttemptId>,
    /// What is published with its outputs: there from the moment on at which it commits.
    pub(super) manifest: Option<String>,
    pub(super) no_worker_since_ms: Option<u64>,
    pub(super) unwatched_since_ms: Option<u64>,
    /// Heartbeats brought news that watchers have not seen.
    pub(super) has_progressed: bool,
    /// Demand when it was last looked at: slots are offered when it rises.
    pub(super) demand: usize,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) tasks: Vec<Task>,
    pub(super) pending: Pending,
    /// Its shuffle is there, and cut: its tasks can run.
    pub(super) is_ready: bool,
    /// Its tasks could begin to fetch.
    pub(super) is_early: bool,
    pub(super) runnable_ms: u64,
    pub(super) done: u32,
    /// Attached attempts, by launch.
    pub(super) running: BTreeSet<(u64, u32)>,
    /// Tasks whose only attempt is slow: they want a twin.
    pub(super) stragglers: BTreeSet<u32>,
    /// Attached attempts that are twins; of all so far; and those of them that were done first.
    pub(super) twins: u32,
    pub(super) twins_launched: u32,
    pub(super) twins_won: u32,
    pub(super) pace: Pace,
    pub(super) failed_attempts: u32,
    pub(super) lost_attempts: u32,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Of attached attempts, by heartbeats.
    pub(super) live_records: u64,
    pub(super) live_bytes: u64,
    pub(super) local: u32,
    pub(super) rack_local: u32,
    /// When its first attempt was launched, and when a task of it was last done; for people.
    pub(super) started_ms: u64,
    pub(super) last_done_ms: u64,
    /// The shuffle that it reads, and the one that it feeds.
    pub(super) reads: Option<u32>,
    pub(super) feeds: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Shuffle {
    pub(super) feeders: Vec<u32>,
    pub(super) reader: Option<u32>,
    pub(super) is_range: bool,
    /// Encoded, once chosen.
    pub(super) cuts: Vec<u8>,
    pub(super) cut: Task,
    pub(super) cut_waits: bool,
    /// Map tasks that feed it, and those that are done.
    pub(super) expected: u32,
    pub(super) done: u32,
    pub(super) complete_ms: Option<u64>,
    /// When one of its outputs was last lost.
    pub(super) loss_ms: Option<u64>,
    /// Map tasks in the order in which something became known of them.
    pub(super) log: Vec<(u32, u32)>,
    pub(super) listeners: BTreeMap<SessionId, Listener>,
    /// What an attempt has read that has read all outputs: the latest of each task, though it may be lost.
    pub(super) consumed: Consumed,
    /// An output became another: attempts under way may have read the former.
    pub(super) is_altered: bool,
    /// A listener lags behind the log.
    pub(super) is_lagging: bool,
}

/// A stream on which attempts wait for map outputs.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// How much of the log it was told.
    pub(super) position: usize,
    pub(super) was_told_cuts: bool,
    pub(super) was_told: bool,
    pub(super) readers: u32,
}

/// What a free slot is used for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) place: Place,
    pub(super) nearness: Nearness,
    pub(super) is_twin: bool,
}

impl Job {
    pub(super) fn stage(&self, stage: u32) -> &Stage {
        &self.stages[stage as usize]
    }

    pub(super) fn task(&self, place: Place) -> Option<&Task> {
        let stage = self.stages.get(place.stage as usize)?;
        if !place.cut {
            return stage.tasks.get(place.task as usize);
        }
        stage.reads.filter(|_| place.task == 0).map(|shuffle| &self.shuffles[shuffle as usize].cut)
    }

    pub(super) fn task_mut(&mut self, place: Place) -> Option<&mut Task> {
        let stage = self.stages.get_mut(place.stage as usize)?;
        if !place.cut {
            return stage.tasks.get_mut(place.task as usize);
        }
        stage.reads.filter(|_| place.task == 0).map(|shuffle| &mut self.shuffles[shuffle as usize].cut)
    }

    /// A task that is known to be there.
    pub(super) fn known(&mut self, place: Place) -> &mut Task {
        self.task_mut(place).expect("the core made this place")
    }

    /// The shuffle that the attempts of a place read.
    pub(super) fn reads(&self, place: Place) -> Option<u32> {
        self.stages.get(place.stage as usize)?.reads
    }

    /// All feeding tasks have winners.
    pub(super) fn is_complete(&self, shuffle: u32) -> bool {
        let shuffle = &self.shuffles[shuffle as usize];
        shuffle.done == shuffle.expected
    }

    /// Whether somebody will still read this shuffle.
    pub(super) fn is_needed(&self, shuffle: u32) -> bool {
        let reader = self.shuffles[shuffle as usize].reader;
        let unfinished = reader.map(|reader| self.stage(reader)).is_some_and(|stage| !stage.is_done());
        unfinished && self.phase != Phase::Committing
    }

    pub(super) fn is_done(&self) -> bool {
        self.stages.iter().all(Stage::is_done)
    }

    pub(super) fn attempts_max(&self, options: &CoreOptions) -> u32 {
        if self.spec.attempts_max == 0 { options.attempts_max } else { self.spec.attempts_max }
    }

    /// "map 1 task 3".
    pub(super) fn name_of(&self, place: Place) -> String {
        let stage = &self.spec.stages[place.stage as usize].name;
        if place.cut { format!("the cutting of ranges for {stage}") } else { task_name(stage, place.task) }
    }

    /// The attempt is to do the task, from this time of people's on.
    pub(super) fn attach(&mut self, place: Place, attached: Attached, wall_ms: u64) {
        self.known(place).attempts.insert(attached);
        self.running += 1;
        self.begun(place, wall_ms);
        if place.cut {
            let shuffle = self.reads(place).expect("a cut belongs to a shuffle");
            self.shuffles[shuffle as usize].cut_waits = false;
            return;
        }
        let stage = &mut self.stages[place.stage as usize];
        stage.pending.remove(place.task);
        stage.stragglers.remove(&place.task);
        stage.running.insert((attached.launch, place.task));
        stage.twins += u32::from(attached.is_twin);
        stage.twins_launched += u32::from(attached.is_twin);
    }

    /// An attempt began then, at the latest.
    pub(super) fn begun(&mut self, place: Place, wall_ms: u64) {
        let stage = &mut self.stages[place.stage as usize].started_ms;
        for begun_ms in [&mut self.started_ms, stage] {
            if *begun_ms == 0 || (wall_ms != 0 && wall_ms < *begun_ms) {
                *begun_ms = wall_ms;
            }
        }
    }

    /// The attempt is no longer to do the task.
    pub(super) fn detach(&mut self, place: Place, number: u32) -> Option<Attached> {
        let attached = self.known(place).attempts.remove(number)?;
        self.running -= 1;
        if !place.cut {
            let stage = &mut self.stages[place.stage as usize];
            stage.stragglers.remove(&place.task);
            stage.running.remove(&(attached.launch, place.task));
            stage.twins -= u32::from(attached.is_twin);
        }
        Some(attached)
    }

    /// The task waits for a slot, unless another attempt is to do it.
    pub(super) fn wait_if_alone(&mut self, place: Place, shunned: Option<(WorkerId, u64)>) {
        if self.known(place).attempts.is_empty() {
            self.wait(place, shunned);
        }
    }

    /// The task waits for a slot.
    pub(super) fn wait(&mut self, place: Place, shunned: Option<(WorkerId, u64)>) {
        if place.cut {
            let shuffle = self.reads(place).expect("a cut belongs to a shuffle");
            self.shuffles[shuffle as usize].cut_waits = true;
            return;
        }
        let pending = &mut self.stages[place.stage as usize].pending;
        match shunned {
            Some((worker, until_ms)) => pending.insert_retry(place.task, worker, until_ms),
            None => pending.insert(place.task),
        }
    }

    pub(super) fn warn(&mut self, note: &str) {
        let note = super::task::cut_short(note, WARNING_BYTES_MAX);
        if !note.is_empty() && self.warnings.len() < WARNINGS_MAX && !self.warnings.contains(&note) {
            self.warnings.push(note);
        }
    }

    /// Looks which stages can run; whether slots should be offered because there is more to do than before.
    pub(super) fn look(&mut self, now_ms: u64, early_permille: u32) -> bool {
        for number in 0..self.stages.len() {
            let (is_ready, is_early) = self.readiness(number, early_permille);
            let stage = &mut self.stages[number];
            if is_ready && !stage.is_ready {
                stage.runnable_ms = now_ms;
            }
            (stage.is_ready, stage.is_early) = (is_ready, is_early);
        }
        let (demand, early) = self.demand();
        let rose = demand + early > self.demand;
        self.demand = demand + early;
        rose
    }

    fn readiness(&self, number: usize, early_permille: u32) -> (bool, bool) {
        if self.phase != Phase::Running || self.is_held_back {
            return (false, false);
        }
        let Some(read) = self.stages[number].reads else { return (true, false) };
        let shuffle = &self.shuffles[read as usize];
        if self.is_complete(read) {
            return (!shuffle.is_range || !shuffle.cuts.is_empty(), false);
        }
        let is_under_way = |stage: &u32| self.stage(*stage).pending.len() == 0;
        let done_enough =
            u64::from(shuffle.done) * 1000 >= u64::from(shuffle.expected) * u64::from(early_permille);
        let is_early =
            !shuffle.is_range && shuffle.done > 0 && done_enough && shuffle.feeders.iter().all(is_under_way);
        (false, is_early)
    }

    /// Tasks that could run now or want a twin, and those that could begin to fetch.
    pub(super) fn demand(&self) -> (usize, usize) {
        let of = |wanted: fn(&Stage) -> bool| {
            let stages = self.stages.iter().filter(|stage| wanted(stage));
            stages.map(|stage| stage.pending.len()).sum::<usize>()
        };
        let stragglers = self.stages.iter().map(|stage| stage.stragglers.len()).sum::<usize>();
        let cuts = (0..self.shuffles.len() as u32).filter(|shuffle| self.can_cut(*shuffle)).count();
        (of(|stage| stage.is_ready) + cuts + stragglers, of(|stage| stage.is_early))
    }

    pub(super) fn can_cut(&self, shuffle: u32) -> bool {
        let can_run = self.phase == Phase::Running && !self.is_held_back;
        can_run && self.shuffles[shuffle as usize].cut_waits && self.is_complete(shuffle)
    }

    /// What to do with a free slot, if it is to be used for this job now.
    pub(super) fn choose(&mut self, offer: &Offer, is_early: bool) -> Option<Choice> {
        if !is_early
            && let Some(shuffle) = (0..self.shuffles.len() as u32).find(|number| self.can_cut(*number))
        {
            let reader = self.shuffles[shuffle as usize].reader?;
            let (place, nearness) = (Place::cut(reader), Nearness::Unknown);
            return Some(Choice { place, nearness, is_twin: false });
        }
        for (number, stage) in self.stages.iter_mut().enumerate() {
            let is_wanted = if is_early { stage.is_early } else { stage.is_ready };
            if is_wanted && let Some((task, nearness)) = stage.pending.take(offer, stage.runnable_ms) {
                return Some(Choice { place: Place::task(number as u32, task), nearness, is_twin: false });
            }
        }
        if is_early { None } else { self.choose_twin(offer) }
    }

    /// The youngest attempt that waits for map outputs and whose slot is of use, of the last stage that has one.
    pub(super) fn waiting_reader(&self, is_of_use: impl Fn(WorkerId) -> bool) -> Option<(Place, Attached)> {
        for (number, stage) in self.stages.iter().enumerate().rev() {
            let Some(shuffle) = stage.reads.filter(|shuffle| !self.is_complete(*shuffle)) else { continue };
            let number = number as u32;
            let youngest_first = stage.running.iter().rev().filter_map(|(launch, task)| {
                let mut attempts = stage.tasks[*task as usize].attempts.iter();
                Some((Place::task(number, *task), attempts.find(|attached| attached.launch == *launch)?))
            });
            let cutting = self.shuffles[shuffle as usize].cut.attempts.iter();
            let mut readers = youngest_first.chain(cutting.map(|attached| (Place::cut(number), attached)));
            if let Some(reader) = readers.find(|(_, attached)| is_of_use(attached.worker)) {
                return Some(reader);
            }
        }
        None
    }
}

impl Stage {
    fn new(spec: &StageSpec) -> Stage {
        let reads = (spec.origin() == Origin::Shuffle).then_some(spec.shuffle);
        let feeds = (spec.target() == Target::ToShuffle).then_some(spec.target_index);
        Stage {
            tasks: (0..spec.tasks).map(|_| Task::default()).collect(),
            pending: Pending::all(spec.tasks),
            is_ready: false,
            is_early: false,
            runnable_ms: 0,
            done: 0,
            running: BTreeSet::new(),
            stragglers: BTreeSet::new(),
            twins: 0,
            twins_launched: 0,
            twins_won: 0,
            pace: Pace::default(),
            failed_attempts: 0,
            lost_attempts: 0,
            records: 0,
            bytes: 0,
            live_records: 0,
            live_bytes: 0,
            local: 0,
            rack_local: 0,
            started_ms: 0,
            last_done_ms: 0,
            reads,
            feeds,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done as usize == self.tasks.len()
    }
}

impl Shuffle {
    /// There is news of a map task. A log of many turns is begun again.
    pub(super) fn tell(&mut self, stage: u32, task: u32) {
        self.log.push((stage, task));
        self.is_lagging = true;
        if self.log.len() > 4 * self.expected as usize + 1000 {
            let all: BTreeSet<(u32, u32)> = self.log.drain(..).collect();
            self.log.extend(all);
            for listener in self.listeners.values_mut() {
                listener.position = 0;
            }
        }
    }
}

/// The stages and shuffles of a spec that was found good.
pub(super) fn lay_out(spec: &JobSpec, hints: &[TaskHints]) -> (Vec<Stage>, Vec<Shuffle>) {
    let mut stages: Vec<Stage> = spec.stages.iter().map(Stage::new).collect();
    for part in hints {
        let stage = &mut stages[part.stage as usize];
        stage.pending.hint(stage.tasks.len() as u32, part);
    }
    let shuffle = |(number, shuffle): (usize, &gristmill_proto::job::Shuffle)| {
        let number = number as u32;
        let numbered = || (0u32..).zip(&stages);
        let feeders: Vec<u32> =
            numbered().filter(|(_, stage)| stage.feeds == Some(number)).map(|(at, _)| at).collect();
        Shuffle {
            expected: feeders.iter().map(|at| spec.stages[*at as usize].tasks).sum(),
            reader: numbered().find(|(_, stage)| stage.reads == Some(number)).map(|(at, _)| at),
            feeders,
            is_range: shuffle.range,
            cuts: Vec::new(),
            cut: Task::default(),
            cut_waits: shuffle.range,
            done: 0,
            complete_ms: None,
            loss_ms: None,
            log: Vec::new(),
            listeners: BTreeMap::new(),
            consumed: Consumed::default(),
            is_altered: false,
            is_lagging: false,
        }
    };
    let shuffles = spec.shuffles.iter().enumerate().map(shuffle).collect();
    (stages, shuffles)
}

/// What people call a task: they count from 1.
pub(super) fn task_name(stage: &str, task: u32) -> String {
    format!("{stage} task {}", task + 1)
}
