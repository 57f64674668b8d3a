//! Jobs tested in three lines, in this process.
//!
//! ```
//! use gristmill::{Dataset, Emit, Keyed, testing};
//!
//! fn lengths(lines: Dataset<String>) -> Keyed<u64, u64> {
//!     lines
//!         .map(|line, out: &mut Emit<u64, u64>| out.emit(line.len() as u64, 1))
//!         .reduce(|length, lines, out| out.emit(length, lines.sum()))
//! }
//!
//! assert_eq!(testing::run(["a", "bb", "c"], lengths), [(1, 2), (2, 1)]);
//! ```
//! Tests run as jobs do: at least two map and two reduce tasks, through encoding, sorting and merging, in buffers
//! small enough that a few thousand records spill to disk.

use crate::dataset::Dataset;
use crate::datum::{Datum, Place};
use crate::error::JobError;
use crate::keyed::Keyed;
use crate::local::{LocalOptions, Unobserved, run_plan};
use crate::pipe::{Consumer, TaskInput, each};
use crate::plan::{Plan, StageSpec, Target};
use crate::source::{Input, Source};
use gristmill_dataflow::attempt::{Attempt, Position, TaskError};
use gristmill_proto::report::Report;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

/// Runs `job` over `records` and returns what it emits, sorted by key and value.
///
/// # Panics
/// If the job fails, with the sentence that it fails with.
#[track_caller]
pub fn run<T, K, V, I>(records: I, job: impl FnOnce(Dataset<T>) -> Keyed<K, V>) -> Vec<(K, V)>
where
    T: Datum,
    K: Datum,
    V: Datum,
    I: IntoIterator<Item: Into<T>>,
{
    run_plan_of(|plan| job(plan.read(self::records(records)))).0
}

/// [`run`] for a job with several inputs: it reads [`records`]. Returns the job's report too, for its counters.
#[track_caller]
pub fn run_plan_of<K: Datum, V: Datum>(job: impl FnOnce(&mut Plan) -> Keyed<K, V>) -> (Vec<(K, V)>, Report) {
    match try_run(job) {
        Ok(result) => result,
        Err(error) => panic!("{error}"),
    }
}

/// [`run_plan_of`] for a job that may fail.
pub fn try_run<K: Datum, V: Datum>(
    job: impl FnOnce(&mut Plan) -> Keyed<K, V>,
) -> Result<(Vec<(K, V)>, Report), JobError> {
    let (mut found, report) = execute(job)?;
    found.sort_by(|a, b| (&a.key, &a.value).cmp(&(&b.key, &b.value)));
    Ok((found.into_iter().map(Found::decode).collect(), report))
}

/// [`run`] without sorting: what the first reduce task emits, then the second, as their files would hold it.
#[track_caller]
pub fn run_in_order<T, K, V, I>(records: I, job: impl FnOnce(Dataset<T>) -> Keyed<K, V>) -> Vec<(K, V)>
where
    T: Datum,
    K: Datum,
    V: Datum,
    I: IntoIterator<Item: Into<T>>,
{
    let (mut found, _) = match execute(|plan| job(plan.read(self::records(records)))) {
        Ok(found) => found,
        Err(error) => panic!("{error}"),
    };
    found.sort_by_key(|pair| pair.task);
    found.into_iter().map(Found::decode).collect()
}

/// Records out of memory, as a source.
pub fn records<T: Datum>(records: impl IntoIterator<Item: Into<T>>) -> Memory<T> {
    let encode = |record: T| {
        let mut bytes = Vec::new();
        record.store(Place::Last, &mut bytes);
        bytes
    };
    let records = records.into_iter().map(|record| encode(record.into())).collect();
    Memory { records, record: PhantomData }
}

/// See [`records`].
pub struct Memory<T> {
    records: Vec<Vec<u8>>,
    record: PhantomData<fn() -> T>,
}

impl<T: Datum> crate::source::Sealed for Memory<T> {}

impl<T: Datum> Source for Memory<T> {
    type Item = T;

    fn input(&self) -> Input {
        Input::Rows { count: self.records.len() as u64 }
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, T>,
    ) -> Result<(), TaskError> {
        let TaskInput::Rows(rows) = input else { unreachable!("a source of rows reads rows") };
        for row in rows.clone() {
            attempt.position = Position::Row(row);
            let record = T::decode_all(&self.records[row as usize]);
            let record = record.map_err(|error| TaskError::undecodable(&attempt.position, error))?;
            consumer.take(record, attempt);
            attempt.record_done()?;
        }
        Ok(())
    }
}

/// An emitted pair, encoded.
struct Found<K, V> {
    task: (usize, u32),
    key: Vec<u8>,
    value: Vec<u8>,
    pair: PhantomData<fn() -> (K, V)>,
}

impl<K: Datum, V: Datum> Found<K, V> {
    fn decode(self) -> (K, V) {
        let own = "a value decodes from its own encoding";
        (K::own(K::decode_all(&self.key).expect(own)), V::own(V::decode_all(&self.value).expect(own)))
    }
}

fn execute<K: Datum, V: Datum>(
    job: impl FnOnce(&mut Plan) -> Keyed<K, V>,
) -> Result<(Vec<Found<K, V>>, Report), JobError> {
    let mut plan = Plan::new();
    let pairs = job(&mut plan);
    let found = Arc::new(Mutex::new(Vec::new()));
    keep(pairs, &found);
    let state = plan.into_state();
    let options =
        LocalOptions { job: "test".into(), threads: 2, tiny_buffers: true, ..LocalOptions::default() };
    let report = run_plan(&state, &options, &mut Unobserved)?;
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    Ok((found, report))
}

/// Ends the stages of `pairs` in memory.
fn keep<K: Datum, V: Datum>(pairs: Keyed<K, V>, found: &Arc<Mutex<Vec<Found<K, V>>>>) {
    let pairs = pairs.pairs();
    for branch in pairs.branches {
        let (pipe, found, number) = (branch.pipe, found.clone(), pairs.plan.borrow().stages.len());
        let program: crate::pipe::Program = Arc::new(move |input, attempt| {
            let mut kept = Vec::new();
            let task = (number, attempt.context().parts.task);
            let mut keep = each::<(K, V), _>(|(key, value), _| {
                let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
                K::encode(key, Place::Last, &mut key_bytes);
                V::encode(value, Place::Last, &mut value_bytes);
                kept.push(Found { task, key: key_bytes, value: value_bytes, pair: PhantomData });
            });
            pipe(input, attempt, &mut keep)?;
            found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).append(&mut kept);
            Ok(())
        });
        let stage =
            StageSpec { origin: branch.origin, steps: branch.steps, target: Target::Nothing, program };
        pairs.plan.borrow_mut().stages.push(stage);
    }
}
