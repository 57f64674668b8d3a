//! Records of one type, wherever they come from.

use crate::counter::Counter;
use crate::datum::Datum;
use crate::emit::Emit;
use crate::keyed::Keyed;
use crate::pipe::{Consumer, Pipe, each, then};
use crate::plan::{self, Origin, PlanRef, StageSpec, Target};
use crate::sink::{PartitionedOutput, Sink, output_program};
use gristmill_dataflow::attempt::{Attempt, TaskError};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Records of type `T` that a plan will produce. Operations describe what is to happen; nothing runs before the
/// program's `job` function has returned.
#[must_use = "a dataset that is neither reduced nor written does nothing"]
pub struct Dataset<T: Datum> {
    pub(crate) plan: PlanRef,
    /// Where the records come from: several after a [`Dataset::union`].
    pub(crate) branches: Vec<Branch<T>>,
}

/// A stage that is not finished: it has an origin and some steps.
pub(crate) struct Branch<T: Datum> {
    pub(crate) origin: Origin,
    pub(crate) steps: Vec<String>,
    pub(crate) pipe: Pipe<T>,
}

/// What `try_map` does with a record that its function refuses, and a source with one that it cannot read.
#[derive(Debug)]
pub struct BadRecords {
    /// Its number among those of its plan.
    number: AtomicUsize,
    /// Zero until `skip_bad` sets it: the first bad record fails the job.
    limit: AtomicU64,
    /// Over all tasks of this process.
    seen: AtomicU64,
}

impl<T: Datum> Dataset<T> {
    pub(crate) fn new(plan: PlanRef, branch: Branch<T>) -> Self {
        Self { plan, branches: vec![branch] }
    }

    /// A named sum; the same name is the same counter.
    pub fn counter(&self, name: &str) -> Counter {
        plan::counter(&self.plan, name)
    }

    /// Calls `f` with each record; it emits any number of pairs.
    pub fn map<K, V, F>(self, f: F) -> Keyed<K, V>
    where
        K: Datum,
        V: Datum,
        F: Fn(T::Ref<'_>, &mut Emit<'_, K, V>) + Send + Sync + 'static,
    {
        let f = Arc::new(f);
        self.step("map", |pipe| then(pipe, f.clone()))
    }

    /// [`map`](Self::map) with a state that lives as long as a task: `init` makes it before the first record.
    pub fn map_init<S, K, V, I, F>(self, init: I, f: F) -> Keyed<K, V>
    where
        K: Datum,
        V: Datum,
        I: Fn() -> S + Send + Sync + 'static,
        F: Fn(&mut S, T::Ref<'_>, &mut Emit<'_, K, V>) + Send + Sync + 'static,
    {
        self.map_with_state("map_init", init, f, |_: S, _: &mut Emit<'_, K, V>| {})
    }

    /// [`map_init`](Self::map_init), and `finish` is called with the state after the task's last record.
    ///
    /// State lives as long as a task, and where tasks begin and end depends on the splits: what is emitted in
    /// `finish` should not depend on them after it has been reduced.
    pub fn map_finish<S, K, V, I, F, L>(self, init: I, f: F, finish: L) -> Keyed<K, V>
    where
        K: Datum,
        V: Datum,
        I: Fn() -> S + Send + Sync + 'static,
        F: Fn(&mut S, T::Ref<'_>, &mut Emit<'_, K, V>) + Send + Sync + 'static,
        L: Fn(S, &mut Emit<'_, K, V>) + Send + Sync + 'static,
    {
        self.map_with_state("map_finish", init, f, finish)
    }

    fn map_with_state<S, K, V, I, F, L>(self, name: &str, init: I, f: F, finish: L) -> Keyed<K, V>
    where
        K: Datum,
        V: Datum,
        I: Fn() -> S + Send + Sync + 'static,
        F: Fn(&mut S, T::Ref<'_>, &mut Emit<'_, K, V>) + Send + Sync + 'static,
        L: Fn(S, &mut Emit<'_, K, V>) + Send + Sync + 'static,
    {
        let functions = Arc::new((init, f, finish));
        self.step(name, |pipe| {
            let (pipe, functions) = (pipe.clone(), functions.clone());
            Arc::new(move |input, attempt, consumer: &mut Consumer<'_, (K, V)>| {
                let (init, f, finish) = &*functions;
                let mut state = init();
                pipe(
                    input,
                    attempt,
                    &mut each::<T, _>(|record, attempt| {
                        f(&mut state, record, &mut Emit::new(consumer, attempt));
                    }),
                )?;
                finish(state, &mut Emit::new(consumer, attempt));
                attempt.check()
            })
        })
    }

    /// [`map`](Self::map) with a function that may refuse a record. The first refusal fails the job, with the
    /// file and offset of the record, unless [`Keyed::skip_bad`] follows. What `f` emitted before it refused
    /// stays emitted: refuse first.
    pub fn try_map<K, V, E, F>(self, f: F) -> Keyed<K, V>
    where
        K: Datum,
        V: Datum,
        E: Into<Box<dyn Error + Send + Sync>>,
        F: Fn(T::Ref<'_>, &mut Emit<'_, K, V>) -> Result<(), E> + Send + Sync + 'static,
    {
        let bad = BadRecords::none();
        self.plan.borrow_mut().count_bad_records(bad.clone());
        let f = Arc::new({
            let bad = bad.clone();
            move |record: T::Ref<'_>, out: &mut Emit<'_, K, V>| {
                if out.attempt().is_at_deadly() && bad.limit() > 0 {
                    let mut bytes = Vec::new();
                    return bad.deadly(T::bytes(record, &mut bytes), out.attempt());
                }
                if let Err(error) = f(record, out) {
                    bad.refused(error.into(), out.attempt());
                }
            }
        });
        let mut keyed = self.step("try_map", |pipe| then(pipe, f.clone()));
        keyed.allow_bad = Some(Arc::new(move |limit| bad.allow(limit)));
        keyed
    }

    /// These records and those of `other`: each side keeps its own steps, and they go on together.
    pub fn union(mut self, other: Dataset<T>) -> Dataset<T> {
        self.branches.extend(other.branches);
        self
    }

    /// Each record becomes another one, without a function of the author's.
    pub(crate) fn into_records<U: Datum>(
        self,
        name: &str,
        append: impl Fn(Pipe<T>) -> Pipe<U>,
    ) -> Dataset<U> {
        let step = |branch: Branch<T>| {
            let mut steps = branch.steps;
            steps.push(name.to_owned());
            Branch { origin: branch.origin, steps, pipe: append(branch.pipe) }
        };
        let branches = self.branches.into_iter().map(step).collect();
        Dataset { plan: self.plan, branches }
    }

    fn step<K: Datum, V: Datum>(self, name: &str, append: impl Fn(&Pipe<T>) -> Pipe<(K, V)>) -> Keyed<K, V> {
        let step = |branch: Branch<T>| {
            let mut steps = branch.steps;
            steps.push(name.to_owned());
            Branch { origin: branch.origin, steps, pipe: append(&branch.pipe) }
        };
        let branches = self.branches.into_iter().map(step).collect();
        Keyed::new(Dataset { plan: self.plan, branches })
    }

    /// Writes the records into directories named after what is in them, as Hive has it: with the names `["year", "month"]`, a
    /// record for which `f` returns `["2026", "05"]` goes to `year=2026/month=05/part-r-00000` of the output. A task may have
    /// 256 directories open at once: if there are more, make what names them the key of a reduce.
    pub fn partition_files_by<F, const N: usize>(
        self,
        names: [&'static str; N],
        f: F,
    ) -> PartitionedFiles<T, F, N>
    where
        F: Fn(&T::Ref<'_>) -> [String; N] + Send + Sync + 'static,
    {
        PartitionedFiles { records: self, names, values: Arc::new(f) }
    }

    /// Writes the records; the output becomes visible, whole, when the job commits.
    pub fn write(self, sink: impl Sink<T>) {
        let output = plan::add_output(&self.plan, &sink, false);
        let step = format!("write {} to {}", sink.format(), sink.uri());
        let sink = Arc::new(sink);
        for branch in self.branches {
            let program = output_program(branch.pipe, output, sink.clone());
            let mut steps = branch.steps;
            steps.push(step.clone());
            let stage = StageSpec { origin: branch.origin, steps, target: Target::Output(output), program };
            self.plan.borrow_mut().stages.push(stage);
        }
    }

    /// Runs all steps and drops the records: for jobs whose result is in counters or extra outputs.
    pub fn discard(self) {
        for branch in self.branches {
            let pipe = branch.pipe;
            let program: crate::pipe::Program =
                Arc::new(move |input, attempt| pipe(input, attempt, &mut each::<T, _>(|_, _| {})));
            let mut steps = branch.steps;
            steps.push("discard".to_owned());
            let stage = StageSpec { origin: branch.origin, steps, target: Target::Nothing, program };
            self.plan.borrow_mut().stages.push(stage);
        }
    }
}

/// Why a record is bad about which no function could say anything.
#[derive(Debug, thiserror::Error)]
#[error("it has ended the attempts that came to it")]
struct EndedAttempts;

impl BadRecords {
    /// The first bad record fails the job.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self { number: AtomicUsize::new(0), limit: AtomicU64::new(0), seen: AtomicU64::new(0) })
    }

    /// It is the one of this number in its plan.
    pub(crate) fn take_number(&self, number: usize) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// So many may be skipped.
    pub(crate) fn allow(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// What `skip_bad` allows.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    #[cold]
    fn refused(&self, source: Box<dyn Error + Send + Sync>, attempt: &mut Attempt) {
        if self.limit() == 0 {
            let at = attempt.position.clone();
            return attempt.fail(TaskError::Author { at, source });
        }
        self.skip(source, attempt);
    }

    /// The record has ended attempts before this one.
    #[cold]
    fn deadly(&self, record: &[u8], attempt: &mut Attempt) {
        attempt.set_aside(record);
        self.skip(Box::new(EndedAttempts), attempt);
    }

    /// A record does not become what the source should yield.
    #[cold]
    pub(crate) fn undecodable(&self, error: impl Error + Send + Sync + 'static, attempt: &mut Attempt) {
        if self.limit() == 0 {
            return attempt.fail(TaskError::undecodable(&attempt.position, error));
        }
        self.skip(Box::new(error), attempt);
    }

    /// The rest of a file cannot be read.
    #[cold]
    pub(crate) fn unreadable(&self, error: TaskError, attempt: &mut Attempt) {
        if self.limit() == 0 {
            return attempt.fail(error);
        }
        self.skip(Box::new(error), attempt);
    }

    fn skip(&self, source: Box<dyn Error + Send + Sync>, attempt: &mut Attempt) {
        let limit = self.limit();
        attempt.report.skip_bad_record(self.number.load(Ordering::Relaxed));
        if self.seen.fetch_add(1, Ordering::Relaxed) >= limit {
            let at = attempt.position.clone();
            attempt.fail(TaskError::TooManyBad { limit, at, source });
        }
    }
}

/// Records that are to be written into directories named after what is in them: see [`Dataset::partition_files_by`].
#[must_use = "records that are not written do nothing"]
pub struct PartitionedFiles<T: Datum, F, const N: usize> {
    records: Dataset<T>,
    names: [&'static str; N],
    values: Arc<F>,
}

impl<T, F, const N: usize> PartitionedFiles<T, F, N>
where
    T: Datum,
    F: Fn(&T::Ref<'_>) -> [String; N] + Send + Sync + 'static,
{
    /// Writes the records; the output becomes visible, whole, when the job commits.
    pub fn write(self, sink: impl Sink<T>) {
        self.records.write(PartitionedOutput::new(sink, self.names, self.values));
    }
}
