//! The live display on a terminal: one line for each stage that runs.

use crate::local::{Observer, PreparedStage};
use crate::size::{ByteSize, thousands};
use gristmill_dataflow::attempt::Progress;
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
    bar: ProgressBar,
    bytes: u64,
    progress: Arc<Progress>,
    started: Instant,
}

impl ProgressBars {
    pub(crate) fn new() -> Self {
        Self { bars: MultiProgress::new(), running: Vec::new() }
    }
}

impl Observer for ProgressBars {
    fn stage_begins(&mut self, stage: &PreparedStage, tasks: u64, bytes: u64, progress: Arc<Progress>) {
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is constant");
        let bar = self.bars.add(ProgressBar::new(tasks).with_style(style.progress_chars("=> ")));
        bar.set_prefix(stage.name.clone());
        self.running.push(RunningStage {
            number: stage.number,
            bar,
            bytes,
            progress,
            started: Instant::now(),
        });
    }

    fn task_ends(&mut self, stage: usize) {
        self.running.iter().filter(|running| running.number == stage).for_each(|running| running.bar.inc(1));
    }

    fn stage_ends(&mut self, stage: usize) {
        for running in self.running.extract_if(.., |running| running.number == stage) {
            running.bar.set_message(running.message());
            running.bar.finish();
        }
    }

    fn tick(&mut self) {
        self.running.iter().for_each(|running| running.bar.set_message(running.message()));
    }
}

impl RunningStage {
    fn message(&self) -> String {
        let records = self.progress.records.load(Ordering::Relaxed);
        let bytes = self.progress.bytes.load(Ordering::Relaxed);
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
