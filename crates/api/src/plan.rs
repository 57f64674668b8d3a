//! What a program's `job` function builds: stages, the shuffles between them, outputs.

use crate::broadcast::Broadcast;
use crate::counter::Counter;
use crate::dataset::{BadRecords, Branch, Dataset};
use crate::datum::Datum;
use crate::pipe::Program;
use crate::sink::{Extra, Sink};
use crate::source::{Input, Source};
use gristmill_dataflow::fold::Fold;
use gristmill_dataflow::partition::Partitioner;
use gristmill_proto::report::Report;
use std::any::type_name;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A job under construction. The program's `job` function describes the whole job here; nothing runs before it
/// returns. It must do the same for the same arguments, on every machine: read no clock, no environment, no
/// files (except within [`Plan::broadcast`]).
pub struct Plan {
    state: PlanRef,
}

pub(crate) type PlanRef = Rc<RefCell<PlanState>>;

/// What runs once the job has committed.
pub(crate) type Afterwards = Box<dyn FnOnce(&Report) -> String>;

#[derive(Default)]
pub(crate) struct PlanState {
    pub(crate) stages: Vec<StageSpec>,
    pub(crate) shuffles: Vec<ShuffleSpec>,
    pub(crate) outputs: Vec<OutputSpec>,
    pub(crate) counters: Vec<String>,
    /// Where functions make files that are no output.
    pub(crate) makes_files_below: Vec<String>,
    pub(crate) broadcasts: Vec<BroadcastSpec>,
    /// In an attempt: what the driver's broadcasts were, by number. Elsewhere none: they are made.
    given: Option<Vec<Vec<u8>>>,
    pub(crate) afterwards: Vec<Afterwards>,
    /// Of each `try_map`.
    pub(crate) bad_records: Vec<Arc<BadRecords>>,
}

/// A run of work from an input or a shuffle to a shuffle or an output.
#[derive(Clone)]
pub(crate) struct StageSpec {
    pub(crate) origin: Origin,
    /// What the stage does, in words, in order.
    pub(crate) steps: Vec<String>,
    pub(crate) target: Target,
    pub(crate) program: Program,
}

#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Input(Input),
    Shuffle(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Shuffle(usize),
    Output(usize),
    /// Counters and extra outputs are all that is wanted.
    Nothing,
}

#[derive(Clone)]
pub(crate) struct ShuffleSpec {
    pub(crate) partitioner: Partitioner,
    /// What the author asked for.
    pub(crate) reducers: Option<u32>,
    pub(crate) fold: Option<Arc<dyn Fold>>,
    /// Key and value types, and the order of values, in words.
    pub(crate) description: String,
}

#[derive(Clone, Debug)]
pub(crate) struct OutputSpec {
    pub(crate) uri: String,
    /// Named in plans and fingerprints.
    pub(crate) format: &'static str,
    /// What it holds, in words.
    pub(crate) record: &'static str,
    pub(crate) extra: bool,
}

/// A value for every task.
#[derive(Clone, Debug)]
pub(crate) struct BroadcastSpec {
    /// Its type.
    pub(crate) value: &'static str,
    /// Its encoding.
    pub(crate) bytes: Vec<u8>,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self { state: PlanRef::default() }
    }

    /// The plan of an attempt: its broadcasts are the driver's.
    pub(crate) fn with_broadcasts(given: Vec<Vec<u8>>) -> Self {
        let state = PlanState { given: Some(given), ..PlanState::default() };
        Self { state: Rc::new(RefCell::new(state)) }
    }

    pub(crate) fn into_state(self) -> PlanState {
        // Datasets that were never written may still hold the plan: they are not part of it.
        self.state.take()
    }

    /// The records of a source.
    pub fn read<S: Source>(&mut self, source: S) -> Dataset<S::Item> {
        let input = source.input();
        let mut steps = vec![format!("read {}", input.describe())];
        if let Some(bad) = source.bad_records() {
            if bad.limit() > 0 {
                steps.push(format!("skip_bad {}", bad.limit()));
            }
            self.state.borrow_mut().count_bad_records(bad);
        }
        let pipe: crate::pipe::Pipe<S::Item> =
            Arc::new(move |input, attempt, consumer| source.read(input, attempt, consumer));
        Dataset::new(self.state.clone(), Branch { origin: Origin::Input(input), steps, pipe })
    }

    /// A named sum; the same name is the same counter.
    pub fn counter(&mut self, name: &str) -> Counter {
        counter(&self.state, name)
    }

    /// An output beside the main one: functions write to it with [`Emit::emit_to`](crate::Emit::emit_to). Tasks
    /// that write nothing to it leave no file.
    pub fn extra_output<K: Datum, V: Datum>(&mut self, sink: impl Sink<(K, V)>) -> Extra<K, V> {
        let output = add_output(&self.state, &sink, true);
        Extra::new(output, sink)
    }

    /// A value that only the driver can know (a small table, a model): `make` runs once, where the job is
    /// started, and every task sees what it returned.
    pub fn broadcast<T, E>(&mut self, make: impl FnOnce() -> Result<T, E>) -> Result<Broadcast<T>, E>
    where
        T: Datum + Sync,
    {
        let given = self.state.borrow().given_broadcast();
        let (broadcast, bytes) = match given {
            Some(bytes) => (Broadcast::given(&bytes), bytes),
            None => Broadcast::make(make()?),
        };
        self.state.borrow_mut().broadcasts.push(BroadcastSpec { value: type_name::<T>(), bytes });
        Ok(broadcast)
    }

    /// Says that functions of this job make files themselves, at and below `uri`, beside the job's outputs. On a cluster their
    /// worker signs what they then ask of `s3://`: to make objects there, not to delete any. What they make is no output: it
    /// is visible at once, and a function that runs again must make the same.
    pub fn makes_files_below(&mut self, uri: impl Into<String>) {
        self.state.borrow_mut().makes_files_below.push(uri.into());
    }

    /// Calls `tell` with the job's report, once, after the job has committed, where the job was started; what it
    /// returns is printed on standard output, as a line.
    pub fn afterwards(&mut self, tell: impl FnOnce(&Report) -> String + 'static) {
        self.state.borrow_mut().afterwards.push(Box::new(tell));
    }
}

impl PlanState {
    /// From now on these bad records are counted apart from all others.
    pub(crate) fn count_bad_records(&mut self, bad: Arc<BadRecords>) {
        bad.take_number(self.bad_records.len());
        self.bad_records.push(bad);
    }

    /// Bad records that all tasks together may skip, for each `try_map` and each source that may skip some.
    pub(crate) fn bad_records_limits(&self) -> Vec<u64> {
        self.bad_records.iter().map(|bad| bad.limit()).collect()
    }

    /// In an attempt, the next broadcast's value.
    ///
    /// # Panics
    /// If the driver made fewer: an attempt catches it, as it means another plan.
    fn given_broadcast(&self) -> Option<Vec<u8>> {
        let (given, number) = (self.given.as_ref()?, self.broadcasts.len());
        let Some(bytes) = given.get(number) else {
            panic!("the plan has a broadcast more than the {} that the driver made", given.len())
        };
        Some(bytes.clone())
    }
}

pub(crate) fn counter(plan: &PlanRef, name: &str) -> Counter {
    let counters = &mut plan.borrow_mut().counters;
    let number = counters.iter().position(|known| known == name).unwrap_or_else(|| {
        counters.push(name.to_owned());
        counters.len() - 1
    });
    Counter { number }
}

pub(crate) fn add_output<T: Datum>(plan: &PlanRef, sink: &impl Sink<T>, extra: bool) -> usize {
    let spec =
        OutputSpec { uri: sink.uri().to_owned(), format: sink.format(), record: type_name::<T>(), extra };
    let outputs = &mut plan.borrow_mut().outputs;
    outputs.push(spec);
    outputs.len() - 1
}
