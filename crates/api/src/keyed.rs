//! Pairs: what a map emits and a reduce groups.

use crate::counter::Counter;
use crate::dataset::{Branch, Dataset, PartitionedFiles};
use crate::datum::{Datum, Place};
use crate::emit::Emit;
use crate::fold::TypedFold;
use crate::key::Key;
use crate::pipe::{Consumer, Pipe, Program, each};
use crate::plan::{Origin, PlanRef, ShuffleSpec, StageSpec, Target};
use crate::reduce;
use crate::sink::Sink;
use crate::value_form::{ValueForm, ValueOrder, encode_as};
use crate::values::Values;
use gristmill_dataflow::fold::Fold;
use gristmill_dataflow::partition::{PARTITIONS_MAX, Partitioner};
use std::any::type_name;
use std::error::Error;
use std::sync::Arc;

/// Pairs of type `(K, V)` that a plan will produce, and how they are to be shuffled when they are reduced.
#[must_use = "pairs that are neither reduced nor written do nothing"]
pub struct Keyed<K: Datum, V: Datum> {
    pub(crate) pairs: Dataset<(K, V)>,
    shuffle: Settings<V>,
    pub(crate) allow_bad: Option<Arc<dyn Fn(u64)>>,
}

/// How a shuffle is to be done.
struct Settings<V: Datum> {
    partitioner: Partitioner,
    reducers: Option<u32>,
    fold: Option<Arc<dyn Fold>>,
    order: Option<ValueOrder<V>>,
    /// What the author asked for, in words.
    asked: Vec<&'static str>,
}

impl<V: Datum> Default for Settings<V> {
    fn default() -> Self {
        Self { partitioner: Partitioner::Hash, reducers: None, fold: None, order: None, asked: Vec::new() }
    }
}

impl<K: Datum, V: Datum> Keyed<K, V> {
    pub(crate) fn new(pairs: Dataset<(K, V)>) -> Self {
        Self { pairs, shuffle: Settings::default(), allow_bad: None }
    }

    /// A named sum; the same name is the same counter.
    pub fn counter(&self, name: &str) -> Counter {
        self.pairs.counter(name)
    }

    /// The pairs as records, for a step that takes both: `|(key, value), out| ...`.
    #[track_caller]
    pub fn pairs(self) -> Dataset<(K, V)> {
        self.shuffle.expect_none("pairs");
        self.pairs
    }

    /// Calls `f` with each pair: `|(key, value), out| ...`. A map that follows a map runs in the same task, pair
    /// by pair; a map that follows a reduce runs in the reduce task.
    #[track_caller]
    pub fn map<K2, V2, F>(self, f: F) -> Keyed<K2, V2>
    where
        K2: Datum,
        V2: Datum,
        F: Fn((K::Ref<'_>, V::Ref<'_>), &mut Emit<'_, K2, V2>) + Send + Sync + 'static,
    {
        self.pairs().map(f)
    }

    /// Skips up to `limit` records, over all tasks, that the `try_map` before this refuses; the job's report counts
    /// them. One more fails the job; with a limit of zero the first one does.
    #[track_caller]
    pub fn skip_bad(mut self, limit: u64) -> Self {
        let Some(allow) = &self.allow_bad else { panic!("skip_bad belongs right after try_map") };
        allow(limit);
        self.pairs.branches.iter_mut().for_each(|branch| branch.steps.push(format!("skip_bad {limit}")));
        self
    }

    /// These pairs and those of `other`: several inputs, each with its own map, into one reduce.
    #[track_caller]
    pub fn union(self, other: Keyed<K, V>) -> Keyed<K, V> {
        Keyed::new(self.pairs().union(other.pairs()))
    }

    /// The keys alone, as records: what a table's rows can be.
    #[track_caller]
    pub fn keys(self) -> Dataset<K> {
        self.pairs().into_records("keys", |pipe| {
            Arc::new(move |input, attempt, consumer: &mut Consumer<'_, K>| {
                let mut take = each::<(K, V), _>(|(key, _), attempt| consumer.take(key, attempt));
                pipe(input, attempt, &mut take)
            })
        })
    }

    /// The values alone, as records: what a table's rows can be.
    #[track_caller]
    pub fn values(self) -> Dataset<V> {
        self.pairs().into_records("values", |pipe| {
            Arc::new(move |input, attempt, consumer: &mut Consumer<'_, V>| {
                let mut take = each::<(K, V), _>(|(_, value), attempt| consumer.take(value, attempt));
                pipe(input, attempt, &mut take)
            })
        })
    }

    /// [`Dataset::partition_files_by`], of pairs.
    #[track_caller]
    pub fn partition_files_by<F, const N: usize>(
        self,
        names: [&'static str; N],
        f: F,
    ) -> PartitionedFiles<(K, V), F, N>
    where
        F: Fn(&(K::Ref<'_>, V::Ref<'_>)) -> [String; N] + Send + Sync + 'static,
    {
        self.pairs().partition_files_by(names, f)
    }

    /// Writes the pairs; the output becomes visible, whole, when the job commits.
    #[track_caller]
    pub fn write(self, sink: impl Sink<(K, V)>) {
        self.pairs().write(sink);
    }

    /// Runs all steps and drops the pairs: for jobs whose result is in counters or extra outputs.
    #[track_caller]
    pub fn discard(self) {
        self.pairs().discard();
    }
}

impl<K: Datum, V: Datum> Keyed<K, V> {
    /// Folds values of the same key already where they are emitted, so that little is shuffled. `f` must be
    /// associative and commutative: it is called with whatever values meet, in any order, any number of times.
    #[track_caller]
    pub fn combine<F>(mut self, f: F) -> Self
    where
        K: Key,
        F: Fn(&mut V, V::Ref<'_>) + Send + Sync + 'static,
    {
        assert!(self.shuffle.order.is_none(), "combine and sort_values_by exclude each other");
        self.shuffle.fold = Some(Arc::new(TypedFold::<V, F>::new(f)));
        self.shuffle.asked.push("combine");
        self
    }

    /// Sends each key to the partition that `f` returns; it gets the key and the number of partitions.
    pub fn partition_by<F>(mut self, f: F) -> Self
    where
        K: Key,
        F: Fn(K::Ref<'_>, u32) -> u32 + Send + Sync + 'static,
    {
        self.shuffle.partitioner = Partitioner::Custom(Arc::new(move |key, partitions| {
            let mut copy = key.to_vec();
            f(K::decode_key_all(&mut copy).expect("a key decodes from its own encoding"), partitions)
        }));
        self.shuffle.asked.push("partition_by");
        self
    }

    /// Gives each reducer one range of keys, so that the part files, one after the other, are in total order.
    /// The ranges are chosen from a sample of the map output so that they hold about equally much.
    pub fn range_partition(mut self) -> Self
    where
        K: Key,
    {
        self.shuffle.partitioner = Partitioner::Range;
        self.shuffle.asked.push("range_partition");
        self
    }

    /// The number of reduce tasks, whatever the command line says.
    #[track_caller]
    pub fn reducers(mut self, count: u32) -> Self
    where
        K: Key,
    {
        assert!((1..=PARTITIONS_MAX).contains(&count), "reducers must be 1 to {PARTITIONS_MAX}, not {count}");
        self.shuffle.reducers = Some(count);
        self
    }

    /// Hands the values of each key to the reduce function in the order of what `f` returns (secondary sort).
    /// Without this, values come in the order of their encoded bytes: always the same, but of no meaning.
    #[track_caller]
    pub fn sort_values_by<O, F>(mut self, f: F) -> Self
    where
        K: Key,
        O: Key,
        F: Fn(V::Ref<'_>) -> O + Send + Sync + 'static,
    {
        assert!(self.shuffle.fold.is_none(), "combine and sort_values_by exclude each other");
        self.shuffle.order = Some(Arc::new(move |value, out| f(value).store_key(Place::Inner, out)));
        self.shuffle.asked.push("sort_values_by");
        self
    }

    /// Calls `f` once for each key, with all its values; keys come in order. It emits any number of pairs.
    pub fn reduce<K2, V2, F>(self, f: F) -> Keyed<K2, V2>
    where
        K: Key,
        K2: Datum,
        V2: Datum,
        F: Fn(K::Ref<'_>, Values<'_, V>, &mut Emit<'_, K2, V2>) + Send + Sync + 'static,
    {
        self.reduce_as("reduce", |form| {
            reduce::pipe::<K, V, K2, V2, _>(form, move |key, values, out: &mut Emit<'_, K2, V2>| {
                f(key, values, out);
                Ok(())
            })
        })
    }

    /// [`reduce`](Self::reduce) with a function that may fail; then the job fails, naming the key.
    pub fn try_reduce<K2, V2, E, F>(self, f: F) -> Keyed<K2, V2>
    where
        K: Key,
        K2: Datum,
        V2: Datum,
        E: Into<Box<dyn Error + Send + Sync>>,
        F: Fn(K::Ref<'_>, Values<'_, V>, &mut Emit<'_, K2, V2>) -> Result<(), E> + Send + Sync + 'static,
    {
        self.reduce_as("try_reduce", |form| {
            reduce::pipe::<K, V, K2, V2, _>(form, move |key, values, out: &mut Emit<'_, K2, V2>| {
                f(key, values, out).map_err(Into::into)
            })
        })
    }

    fn reduce_as<K2: Datum, V2: Datum>(
        self,
        name: &str,
        reduce: impl FnOnce(ValueForm) -> Pipe<(K2, V2)>,
    ) -> Keyed<K2, V2>
    where
        K: Key,
    {
        let form = if self.shuffle.order.is_some() { ValueForm::Ordered } else { ValueForm::Plain };
        let plan = self.pairs.plan.clone();
        let shuffle = add_shuffle(&plan, self.shuffle.spec::<K>());
        self.feed(shuffle, form);
        Keyed::from_shuffle(plan, shuffle, name, reduce(form))
    }

    /// Ends the stages of these pairs in `shuffle`.
    pub(crate) fn feed(self, shuffle: usize, form: ValueForm)
    where
        K: Key,
    {
        for branch in self.pairs.branches {
            let program = shuffle_program::<K, V>(branch.pipe, form, self.shuffle.order.clone());
            let mut steps = branch.steps;
            steps.extend(self.shuffle.asked.iter().map(|&step| step.to_owned()));
            let stage = StageSpec { origin: branch.origin, steps, target: Target::Shuffle(shuffle), program };
            self.pairs.plan.borrow_mut().stages.push(stage);
        }
    }

    /// The settings of a join: partitioning and the number of reducers.
    #[track_caller]
    pub(crate) fn join_spec(&self) -> ShuffleSpec
    where
        K: Key,
    {
        assert!(self.shuffle.fold.is_none(), "combine does not go with a join: reduce first");
        assert!(self.shuffle.order.is_none(), "sort_values_by does not go with a join");
        self.shuffle.spec::<K>()
    }
}

impl<K: Datum, V: Datum> Keyed<K, V> {
    pub(crate) fn from_shuffle(plan: PlanRef, shuffle: usize, name: &str, pipe: Pipe<(K, V)>) -> Self {
        let branch = Branch { origin: Origin::Shuffle(shuffle), steps: vec![name.to_owned()], pipe };
        Keyed::new(Dataset::new(plan, branch))
    }
}

impl<V: Datum> Settings<V> {
    #[track_caller]
    fn expect_none(&self, step: &str) {
        if let Some(asked) = self.asked.first() {
            panic!("{asked} is about a shuffle, but {step} follows and not reduce or a join");
        }
    }

    fn spec<K: Key>(&self) -> ShuffleSpec {
        ShuffleSpec {
            partitioner: self.partitioner.clone(),
            reducers: self.reducers,
            fold: self.fold.clone(),
            description: format!("({}, {})", type_name::<K>(), type_name::<V>()),
        }
    }
}

pub(crate) fn add_shuffle(plan: &PlanRef, spec: ShuffleSpec) -> usize {
    let shuffles = &mut plan.borrow_mut().shuffles;
    shuffles.push(spec);
    shuffles.len() - 1
}

fn shuffle_program<K: Key, V: Datum>(
    pipe: Pipe<(K, V)>,
    form: ValueForm,
    order: Option<ValueOrder<V>>,
) -> Program {
    match (form, order) {
        (ValueForm::Plain, _) => Arc::new(move |input, attempt| {
            let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
            let mut collect = each::<(K, V), _>(|(key, value), attempt| {
                attempt.collect(K::key_bytes(key, &mut key_bytes), V::bytes(value, &mut value_bytes));
            });
            pipe(input, attempt, &mut collect)
        }),
        (form, order) => Arc::new(move |input, attempt| {
            let (mut key_bytes, mut value_bytes, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
            let mut collect = each::<(K, V), _>(|(key, value), attempt| {
                value_bytes.clear();
                encode_as::<V>(form, order.as_ref(), value, &mut encoded, &mut value_bytes);
                attempt.collect(K::key_bytes(key, &mut key_bytes), &value_bytes);
            });
            pipe(input, attempt, &mut collect)
        }),
    }
}
