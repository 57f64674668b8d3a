//! The live display on a terminal: one line for each stage that runs.

use crate::driver::Display;
use crate::local::Observer;
use crate::size::{ByteSize, thousands};
use crate::stages::PreparedStage;
use gristmill_dataflow::attempt::Progress;
use gristmill_proto::job::JobStatus;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Names of stages are short; longer ones push the rest of the line.
const TEMPLATE: &str = "{prefix:<9} {bar:24} {pos}/{len} tasks  {msg}";

/// Progress bars on standard error.
pub(crate) struct ProgressBars {
    bars: MultiProgress,
    running: Vec<RunningStage>,
}

struct RunningStage {
    number: usize,
    bar: StageBar,
    progress: Arc<Progress>,
}

impl ProgressBars {
    pub(crate) fn new() -> Self {
        Self { bars: MultiProgress::new(), running: Vec::new() }
    }
}

impl Observer for ProgressBars {
    fn stage_begins(&mut self, stage: &PreparedStage, tasks: u64, bytes: u64, progress: Arc<Progress>) {
        let bar = StageBar::new(&self.bars, &stage.name, tasks, bytes);
        self.running.push(RunningStage { number: stage.number, bar, progress });
    }

    fn task_ends(&mut self, stage: usize) {
        self.running.iter().filter(|running| running.number == stage).for_each(|running| running.bar.inc(1));
    }

    fn stage_ends(&mut self, stage: usize) {
        for running in self.running.extract_if(.., |running| running.number == stage) {
            running.show();
            running.bar.finish();
        }
    }

    fn tick(&mut self) {
        self.running.iter().for_each(RunningStage::show);
    }
}

impl RunningStage {
    fn show(&self) {
        let records = self.progress.records.load(Ordering::Relaxed);
        self.bar.show(records, self.progress.bytes.load(Ordering::Relaxed));
    }
}

/// Progress bars of a job on a cluster.
pub(crate) struct ClusterBars {
    bars: MultiProgress,
    /// By stage, once it has begun.
    stages: Vec<Option<StageBar>>,
}

impl ClusterBars {
    pub(crate) fn new() -> Self {
        Self { bars: MultiProgress::new(), stages: Vec::new() }
    }
}

impl Display for ClusterBars {
    fn show(&mut self, status: &JobStatus) {
        self.stages.resize_with(status.stages.len().max(self.stages.len()), || None);
        for (stage, shown) in status.stages.iter().zip(&mut self.stages) {
            if shown.is_none() && stage.running + stage.done == 0 {
                continue;
            }
            let bar = shown.get_or_insert_with(|| {
                StageBar::new(&self.bars, &stage.name, stage.tasks.into(), stage.input_bytes)
            });
            bar.bar.set_position(stage.done.into());
            bar.show(stage.records, stage.bytes);
            if stage.done == stage.tasks {
                bar.finish();
            }
        }
    }

    fn warn(&mut self, sentence: &str) {
        // Above the bars; where that is not possible, standard error takes it all the same.
        if self.bars.println(format!("warning: {sentence}")).is_err() {
            eprintln!("warning: {sentence}");
        }
    }
}

/// Shows warnings and nothing else.
pub(crate) struct Warnings;

impl Display for Warnings {
    fn show(&mut self, _: &JobStatus) {}

    fn warn(&mut self, sentence: &str) {
        eprintln!("warning: {sentence}");
    }
}

/// The line of one stage.
struct StageBar {
    bar: ProgressBar,
    /// Of its input, if known.
    bytes: u64,
    started: Instant,
}

impl StageBar {
    fn new(bars: &MultiProgress, name: &str, tasks: u64, bytes: u64) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is constant");
        let bar = bars.add(ProgressBar::new(tasks).with_style(style.progress_chars("=> ")));
        bar.set_prefix(name.to_owned());
        Self { bar, bytes, started: Instant::now() }
    }

    fn inc(&self, tasks: u64) {
        self.bar.inc(tasks);
    }

    fn finish(&self) {
        self.bar.finish();
    }

    fn show(&self, records: u64, bytes: u64) {
        if !self.bar.is_finished() {
            self.bar.set_message(self.message(records, bytes));
        }
    }

    fn message(&self, records: u64, bytes: u64) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = ByteSize((bytes as f64 / seconds) as u64);
        let mut message = format!("{} records  {}  {rate}/s", thousands(records), ByteSize(bytes));
        if bytes > 0 && bytes < self.bytes {
            let left = seconds * (self.bytes - bytes) as f64 / bytes as f64;
            message.push_str(&format!("  {:?} left", Duration::from_secs(left.ceil() as u64)));
        }
        message
    }
}
