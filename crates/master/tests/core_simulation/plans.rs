//! Jobs of the simulation, and what is right for them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use gristmill_proto::consumed::Consumed;
use gristmill_proto::ids::{AttemptId, JobId, TaskId};
use gristmill_proto::job::stage::{Origin, Target};
use gristmill_proto::job::{JobSpec, Output, Program, Shuffle, Stage, TaskHint, TaskHints};
use gristmill_proto::task::{AttemptResult, MapOutput, Part};

/// What the attempts of a job have read, by attempt: of each map task the digest of its output.
pub(crate) type Readings = BTreeMap<AttemptId, BTreeMap<(u32, u32), Vec<u8>>>;

/// A chain of stages: the first reads input, the last writes.
pub(crate) fn chain(id: u8, tasks: &[u32], range: bool) -> JobSpec {
    let last = tasks.len() - 1;
    let stage = |(at, tasks): (usize, &u32)| Stage {
        name: if at == 0 { "map 1".to_owned() } else { format!("reduce {at}") },
        origin: if at == 0 { Origin::Input } else { Origin::Shuffle } as i32,
        shuffle: at.saturating_sub(1) as u32,
        tasks: *tasks,
        target: if at == last { Target::ToOutput } else { Target::ToShuffle } as i32,
        target_index: if at == last { 0 } else { at as u32 },
        ..Stage::default()
    };
    let shuffles = tasks[1..].iter().map(|partitions| Shuffle { partitions: *partitions, range });
    JobSpec {
        version: 1,
        job: vec![id; 16].into(),
        name: format!("job {id}"),
        user: "ada".to_owned(),
        program: Some(Program { sha256: vec![1; 32].into(), ..Program::default() }),
        job_file_sha256: vec![2; 32].into(),
        stages: tasks.iter().enumerate().map(stage).collect(),
        shuffles: shuffles.collect(),
        outputs: vec![Output { uri: format!("dfs:///out/{id}"), extra: false }],
        counters: vec!["seen".to_owned(), "tasks".to_owned()],
        ..JobSpec::default()
    }
}

/// Each task of the first stage has its input on one or two of the core workers.
pub(crate) fn hints(tasks: u32, cores: u64) -> Vec<TaskHints> {
    let hint = |task: u32| {
        let first = u64::from(task) % cores + 1;
        TaskHint { bytes: 64, workers: vec![first, first % cores + 1] }
    };
    let all: Vec<TaskHint> = (0..tasks).map(hint).collect();
    let parts = all.chunks(1000).enumerate();
    parts
        .map(|(at, hints)| TaskHints { stage: 0, first_task: at as u32 * 1000, hints: hints.to_vec() })
        .collect()
}

/// The digest of a task's map output; `salt` makes it another.
pub(crate) fn digest(attempt: AttemptId, salt: u64) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    (attempt.task, salt).hash(&mut hasher);
    hasher.finish().to_le_bytes().repeat(2)
}

/// What an attempt says that has read these outputs.
pub(crate) fn consumed(read: impl Iterator<Item = ((u32, u32), Vec<u8>)>) -> Vec<u8> {
    let mut consumed = Consumed::default();
    read.for_each(|((stage, task), digest)| consumed.add(stage, task, &digest));
    consumed.to_bytes().to_vec()
}

/// What an attempt says when it is done, and what it reads was never another than at first.
pub(crate) fn result(spec: &JobSpec, attempt: AttemptId, holder: u64, salt: u64) -> AttemptResult {
    let stage = &spec.stages[attempt.task.stage as usize];
    let mut result = AttemptResult {
        counters: vec![u64::from(attempt.task.task) + 1, 1],
        records_in: 10,
        bytes_in: 100,
        elapsed_ms: 5,
        ..AttemptResult::default()
    };
    if stage.origin() == Origin::Shuffle {
        let from = attempt.task.stage - 1;
        let digest = |task| digest(TaskId { job: attempt.task.job, stage: from, task }.attempt(0), 0);
        let maps = 0..spec.stages[from as usize].tasks;
        result.consumed = consumed(maps.map(|task| ((from, task), digest(task)))).into();
    }
    match stage.target() {
        Target::ToShuffle => {
            let digest = digest(attempt, salt).into();
            result.map_output = Some(MapOutput { worker: holder, bytes: 100, digest });
        }
        _ => {
            let name = format!("part-r-{:05}", attempt.task.task);
            result.parts = vec![Part { output: 0, name, bytes: 7, crc32c: 1, receipt: String::new() }];
        }
    }
    result
}

/// What the counters of a job that is done must be.
pub(crate) fn counters(spec: &JobSpec) -> [u64; 2] {
    let tasks = || spec.stages.iter().map(|stage| u64::from(stage.tasks));
    [tasks().map(|tasks| tasks * (tasks + 1) / 2).sum(), tasks().sum()]
}

pub(crate) fn id_of(spec: &JobSpec) -> JobId {
    JobId::from_wire(&spec.job).expect("16 bytes")
}
