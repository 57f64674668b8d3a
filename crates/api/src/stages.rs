//! From a plan to stages with tasks: inputs are listed and cut, names and numbers given. What a laptop and a cluster do
//! differently is in [`Cutting`].

use crate::error::JobError;
use crate::pipe::{Program, TaskInput};
use crate::plan::{Origin, PlanState, ShuffleSpec, StageSpec, Target};
use crate::size::ByteSize;
use crate::source::{Cut, Input};
use gristmill_dataflow::commit::refuse_input_in_output;
use gristmill_dataflow::compression::{Compression, zstd_frames};
use gristmill_dataflow::map_output::ShuffleRule;
use gristmill_dataflow::read::ReadError;
use gristmill_dataflow::split::{Cuts, SPLITS_MAX, SplitRule, plan_splits};
use gristmill_dfs::{Existing, FileInfo, Place, Uri, UriError};
use std::sync::Arc;

/// So many files that could not be cut are named.
const NOTES_MAX: usize = 5;
/// One DFS block.
pub(crate) const SPLIT_BYTES: u64 = 64 << 20;
/// Locally a job has at least so many map and reduce tasks, so that what fails on a cluster fails on a laptop.
pub(crate) const TASKS_MIN: u64 = 2;
/// Generated rows of one task, unless there are too many rows.
const ROWS_PER_TASK: u64 = 640 << 10;
/// What a generated row is expected to become.
const ROW_BYTES: u64 = 100;

/// How inputs are listed and cut.
pub(crate) struct Cutting<'c> {
    /// So many directories are listed at a time.
    pub(crate) listers: usize,
    /// Files are cut so that there are at least this many splits,
    pub(crate) splits_wanted: u64,
    /// and rows into at least this many tasks,
    pub(crate) rows_wanted: u64,
    /// but not into smaller pieces than this for that reason alone.
    pub(crate) split_bytes_min: u64,
    /// Largest split.
    pub(crate) split_bytes: u64,
    /// Largest split of a stage that combines.
    pub(crate) combined_split_bytes: u64,
    /// Whether outputs that exist are replaced.
    pub(crate) existing: Existing,
    /// For a cluster: HOST:PORT of the master that `dfs:///path` means, and no path stays relative.
    pub(crate) master: Option<&'c str>,
}

/// All stages of a job, with all that is known before it starts.
pub(crate) struct Stages {
    pub(crate) stages: Vec<PreparedStage>,
    pub(crate) rules: Vec<ShuffleRule>,
    pub(crate) output_uris: Vec<Uri>,
    /// Reduce tasks of shuffles for which the plan does not say.
    pub(crate) reducers: u32,
}

/// A stage of a job that can run.
pub(crate) struct PreparedStage {
    pub(crate) number: usize,
    pub(crate) program: Program,
    pub(crate) target: Target,
    /// `map 1`, `reduce 2`.
    pub(crate) name: String,
    /// The shuffle that it reads, if it does.
    pub(crate) shuffle: Option<usize>,
    /// Number of tasks.
    pub(crate) tasks: u64,
    /// Bytes of input, if known before.
    pub(crate) bytes: u64,
    /// Files of input.
    pub(crate) files: u64,
    /// Generated rows of input.
    pub(crate) rows: u64,
    /// By output: number of the stage's first part file.
    pub(crate) part_bases: Arc<Vec<u32>>,
    pub(crate) inputs: Vec<TaskInput>,
    /// What about its input costs time, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl PreparedStage {
    pub(crate) fn take_inputs(&mut self) -> Vec<TaskInput> {
        std::mem::take(&mut self.inputs)
    }

    /// The files that it reads, as often as they are cut.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Uri> {
        self.inputs.iter().flat_map(|input| {
            match input {
                TaskInput::Split(split) => &split.ranges[..],
                TaskInput::Rows(_) | TaskInput::Parts(_) => &[],
            }
            .iter()
            .map(|range| &range.uri)
        })
    }

    pub(crate) fn task_name(&self, task: usize) -> String {
        format!("{} task {}", self.name, task + 1)
    }
}

impl Stages {
    /// What about the inputs costs time.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.stages.iter().flat_map(|stage| stage.notes.iter().cloned()).collect()
    }

    /// Lists and cuts all inputs, without touching any output. `reducers` says how many reduce tasks a shuffle has for
    /// which the plan does not say, given the bytes of all inputs.
    pub(crate) fn prepare(
        state: &PlanState,
        cutting: &Cutting,
        reducers: impl FnOnce(u64) -> u32,
    ) -> Result<Stages, JobError> {
        check(state)?;
        let uris = state.outputs.iter().map(|output| cutting.uri(&output.uri));
        let output_uris = uris.collect::<Result<Vec<Uri>, UriError>>()?;
        let mut stages = Vec::new();
        for (number, spec) in state.stages.iter().enumerate() {
            let mut stage = PreparedStage::new(number, spec);
            if let Origin::Input(input) = &spec.origin {
                let combines =
                    matches!(spec.target, Target::Shuffle(to) if state.shuffles[to].fold.is_some());
                stage.read(input, cutting, combines, &output_uris)?;
            }
            stages.push(stage);
        }
        let reducers = reducers(stages.iter().map(PreparedStage::expected_bytes).sum());
        let rules = rules(state, reducers);
        number_tasks(state, &mut stages, &rules);
        Ok(Stages { stages, rules, output_uris, reducers })
    }
}

fn rules(state: &PlanState, reducers: u32) -> Vec<ShuffleRule> {
    let rule = |spec: &ShuffleSpec| ShuffleRule {
        partitioner: spec.partitioner.clone(),
        partitions: spec.reducers.unwrap_or(reducers),
        fold: spec.fold.clone(),
    };
    state.shuffles.iter().map(rule).collect()
}

/// Gives stages their names, reduces their tasks, and part files their numbers.
fn number_tasks(state: &PlanState, stages: &mut [PreparedStage], rules: &[ShuffleRule]) {
    let (mut maps, mut reduces) = (Parts::new(state), Parts::new(state));
    for stage in stages {
        let (kind, parts) = match stage.shuffle {
            None => ("map", &mut maps),
            Some(shuffle) => {
                stage.tasks = rules[shuffle].partitions.into();
                ("reduce", &mut reduces)
            }
        };
        stage.name = format!("{kind} {}", parts.next_stage());
        stage.part_bases = parts.take(state, stage.target, stage.tasks);
    }
}

/// What only the whole plan shows.
fn check(state: &PlanState) -> Result<(), JobError> {
    if state.stages.is_empty() {
        return Err(JobError::Plan("the plan does nothing: end it with write or discard".to_owned()));
    }
    for (number, _) in state.shuffles.iter().enumerate() {
        let read = |stage: &StageSpec| matches!(stage.origin, Origin::Shuffle(n) if n == number);
        if !state.stages.iter().any(read) {
            let sentence = "the result of a reduce or join is not used: end it with write or discard";
            return Err(JobError::Plan(sentence.to_owned()));
        }
    }
    Ok(())
}

impl Cutting<'_> {
    /// What `text` names, whoever reads it.
    pub(crate) fn uri(&self, text: &str) -> Result<Uri, UriError> {
        let uri = Uri::parse(text)?;
        let Some(master) = self.master else { return Ok(uri) };
        match uri.place() {
            Place::Dfs { master: None } => Ok(Uri::dfs(master, uri.path())),
            // Without a working directory there is no absolute path; then the name is wrong on its own.
            Place::Local => Ok(std::path::absolute(uri.path()).map_or(uri, Uri::local)),
            Place::Dfs { .. } | Place::S3 { .. } | Place::Memory { .. } => Ok(uri),
        }
    }

    fn tasks_min(&self, wanted: u64, bytes: u64) -> u64 {
        wanted.min(bytes / self.split_bytes_min).max(1)
    }

    fn list(&self, uris: &[String]) -> Result<Vec<FileInfo>, JobError> {
        let mut files = Vec::new();
        for uri in uris {
            let uri = self.uri(uri)?;
            files.extend(uri.store()?.list(&uri, self.listers)?);
        }
        Ok(files)
    }

    fn rows(&self, count: u64) -> impl Iterator<Item = TaskInput> + use<> {
        let tasks_min = self.tasks_min(self.rows_wanted, count.saturating_mul(ROW_BYTES)).min(count);
        let tasks = count.div_ceil(ROWS_PER_TASK).clamp(tasks_min, SPLITS_MAX);
        let bound = move |task: u64| (u128::from(count) * u128::from(task) / u128::from(tasks.max(1))) as u64;
        (0..tasks).map(move |task| TaskInput::Rows(bound(task)..bound(task + 1)))
    }
}

impl PreparedStage {
    fn new(number: usize, spec: &StageSpec) -> Self {
        Self {
            number,
            program: spec.program.clone(),
            target: spec.target,
            name: String::new(),
            shuffle: match spec.origin {
                Origin::Input(_) => None,
                Origin::Shuffle(shuffle) => Some(shuffle),
            },
            tasks: 0,
            bytes: 0,
            files: 0,
            rows: 0,
            part_bases: Arc::default(),
            inputs: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn read(
        &mut self,
        input: &Input,
        cutting: &Cutting,
        combines: bool,
        outputs: &[Uri],
    ) -> Result<(), JobError> {
        match input {
            Input::Rows { count } => {
                self.rows = *count;
                self.inputs = cutting.rows(*count).collect();
            }
            Input::Files { uris, cut, align_bytes, headed, .. } => {
                let files = cutting.list(uris)?;
                if cutting.existing == Existing::Overwrite {
                    refuse_input_in_output(&files, outputs)?;
                }
                self.files = files.len() as u64;
                self.bytes = files.iter().map(|file| file.bytes).sum();
                let split_bytes = if combines { cutting.combined_split_bytes } else { cutting.split_bytes };
                let rule = SplitRule {
                    split_bytes: split_bytes.max(1),
                    splits_min: cutting.tasks_min(cutting.splits_wanted, self.bytes),
                    align_bytes: *align_bytes,
                    headed: *headed,
                };
                let planned = plan_splits(&files, rule, |file| cuts(file, *cut))?;
                self.inputs = planned.splits.into_iter().map(TaskInput::Split).collect();
                self.notes = notes(&planned.uncut);
            }
        }
        self.tasks = self.inputs.len() as u64;
        Ok(())
    }

    fn expected_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.rows.saturating_mul(ROW_BYTES))
    }
}

/// Where `file` may be cut.
fn cuts(file: &FileInfo, cut: Cut) -> Result<Cuts, ReadError> {
    Ok(match (cut, Compression::of(&file.uri)) {
        (Cut::Whole(reason), _) => Cuts::Nowhere(reason),
        (Cut::Blocks, _) | (Cut::Lines | Cut::Records, None) | (Cut::Lines, Some(Compression::Bzip2)) => {
            Cuts::Anywhere
        }
        (Cut::Lines, Some(Compression::Zstd)) => {
            let opened = file.uri.store()?.open(&file.uri)?;
            let frames = zstd_frames(&*opened);
            Cuts::At(frames.map_err(|source| ReadError::Io { uri: file.uri.clone(), offset: 0, source })?)
        }
        (Cut::Lines, Some(_)) => {
            Cuts::Nowhere("its compression cannot be read from the middle; bzip2, and zstd with frames, can")
        }
        (Cut::Records, Some(_)) => Cuts::Nowhere("compressed records of one length are not cut"),
    })
}

/// Says which files one task reads alone, and why.
fn notes(uncut: &[(FileInfo, &'static str)]) -> Vec<String> {
    let mut notes: Vec<String> = uncut
        .iter()
        .take(NOTES_MAX)
        .map(|(file, reason)| {
            format!("{} ({}) is read by one task: {reason}", file.uri, ByteSize(file.bytes))
        })
        .collect();
    if let Some(more) = uncut.len().checked_sub(NOTES_MAX).filter(|more| *more > 0) {
        notes.push(format!("{more} more files are read by one task each, for such reasons"));
    }
    notes
}

/// Numbers part files: of several stages that write to the same output, each goes on where the last one ended.
struct Parts {
    stages: u32,
    next: Vec<u32>,
}

impl Parts {
    fn new(state: &PlanState) -> Self {
        Self { stages: 0, next: vec![0; state.outputs.len()] }
    }

    fn next_stage(&mut self) -> u32 {
        self.stages += 1;
        self.stages
    }

    fn take(&mut self, state: &PlanState, target: Target, tasks: u64) -> Arc<Vec<u32>> {
        let bases = Arc::new(self.next.clone());
        for (output, next) in self.next.iter_mut().enumerate() {
            // Any stage may write to an extra output.
            if target == Target::Output(output) || state.outputs[output].extra {
                *next += tasks as u32;
            }
        }
        bases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cutting(master: Option<&str>) -> Cutting<'_> {
        Cutting {
            listers: 1,
            splits_wanted: 8,
            rows_wanted: 8,
            split_bytes_min: 1 << 20,
            split_bytes: SPLIT_BYTES,
            combined_split_bytes: SPLIT_BYTES,
            existing: Existing::Refuse,
            master,
        }
    }

    #[test]
    fn every_slot_gets_a_task_unless_its_piece_would_be_tiny() {
        let cutting = cutting(Some("h:1"));
        let tasks = |bytes| cutting.tasks_min(cutting.splits_wanted, bytes);
        assert_eq!([tasks(0), tasks(1024), tasks(3 << 20), tasks(1 << 30)], [1, 1, 3, 8]);
        let rows = |count| cutting.rows(count).count();
        assert_eq!([rows(0), rows(10), rows(1_000_000), rows(100_000_000)], [0, 1, 8, 153]);
    }

    #[test]
    fn on_a_cluster_a_name_means_the_same_to_everyone() {
        let (cluster, here) = (cutting(Some("h:1")), cutting(None));
        let named = |cutting: &Cutting, text: &str| cutting.uri(text).expect("a URI").to_string();
        assert_eq!(named(&cluster, "dfs:///a"), "dfs://h:1/a");
        assert_eq!(named(&cluster, "dfs://other:2/a"), "dfs://other:2/a");
        assert!(named(&cluster, "a/b").starts_with('/') && named(&cluster, "a/b").ends_with("/a/b"));
        assert_eq!([named(&here, "dfs:///a"), named(&here, "a/b")], ["dfs:///a", "a/b"]);
    }
}
