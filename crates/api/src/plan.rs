//! What a program's `job` function builds: stages, the shuffles between them, outputs.

use crate::broadcast::Broadcast;
use crate::counter::Counter;
use crate::dataset::{Branch, Dataset};
use crate::datum::Datum;
use crate::pipe::Program;
use crate::report::Report;
use crate::sink::{Extra, Sink};
use crate::source::{Input, Source};
use gristmill_dataflow::fold::Fold;
use gristmill_dataflow::partition::Partitioner;
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
    pub(crate) broadcasts: Vec<Vec<u8>>,
    pub(crate) afterwards: Vec<Afterwards>,
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
    pub(crate) extra: bool,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self { state: PlanRef::default() }
    }

    pub(crate) fn into_state(self) -> PlanState {
        // Datasets that were never written may still hold the plan: they are not part of it.
        self.state.take()
    }

    /// The records of a source.
    pub fn read<S: Source>(&mut self, source: S) -> Dataset<S::Item> {
        let input = source.input();
        let steps = vec![format!("read {}", input.describe())];
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
        let (broadcast, bytes) = Broadcast::make(make()?);
        self.state.borrow_mut().broadcasts.push(bytes);
        Ok(broadcast)
    }

    /// Calls `tell` with the job's report, once, after the job has committed, where the job was started; what it
    /// returns is printed on standard output, as a line.
    pub fn afterwards(&mut self, tell: impl FnOnce(&Report) -> String + 'static) {
        self.state.borrow_mut().afterwards.push(Box::new(tell));
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
    let spec = OutputSpec { uri: sink.uri().to_owned(), format: sink.format(), extra };
    let outputs = &mut plan.borrow_mut().outputs;
    outputs.push(spec);
    outputs.len() - 1
}
