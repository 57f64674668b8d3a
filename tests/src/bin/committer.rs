//! The parts in a commit on S3, each as a process that can be killed: attempts that write, masters that publish or abort, and
//! somebody who looks at what has come of it. `s3_trouble` and `campaign commits` run it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gristmill_dfs::file_system::{CreateOptions, FsError, Kind};
use gristmill_dfs::s3::{LeftoverKind, leftovers};
use gristmill_dfs::{Existing, SharedOutputs, StageError, StagedFile, StagedWriter, Staging, Uri};
use gristmill_proto::ids::JobId;
use gristmill_tests::{Dice, patiently};
use serde_json::{Value, json};

/// Tasks of a job, at most.
const TASKS_MAX: usize = 5;
/// Tries of what an attempt or a master begins; half of them fail at the worst.
const TRIES_MAX: usize = 50;
/// Lines of a file.
const LINES: usize = 10;

/// One part in a commit
#[derive(Parser)]
struct Arguments {
    /// s3://BUCKET/PATH of the output
    #[arg(long)]
    output: Uri,
    #[arg(long)]
    job: String,
    /// Where reports go, and where a file `healed` appears when partitions end
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(subcommand)]
    part: Part,
}

#[derive(Clone, Copy, Subcommand)]
enum Part {
    /// Makes the bucket and what was there before
    Prepare,
    /// Claims the output, writes, reports, and comes back from a partition when all is over
    Attempts,
    /// Publishes what was reported first
    Publish,
    Abort,
    /// Says what can be seen, and what is left
    Look,
}

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("committer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Fallible<()> {
    let Arguments { output, job, dir, seed, part } = arguments;
    let job = JobId::from_text(job).ok_or("the job has no id")?;
    let outputs = || SharedOutputs::new(std::slice::from_ref(output), job, Existing::Overwrite, None);
    match part {
        Part::Prepare => prepare(output, *seed),
        Part::Attempts => Attempts::new(&outputs()?, dir, *seed)?.run(),
        Part::Publish => Ok(outputs()?.publish(&reported(dir)?, b"manifest")?),
        Part::Abort => Ok(outputs()?.abort()?),
        Part::Look => look(output),
    }
}

fn prepare(output: &Uri, seed: u64) -> Fallible<()> {
    let bucket = Uri::of(output.place().clone(), "");
    let files = bucket.file_system()?;
    files.make_directory(&bucket, false)?;
    for former in 0..Dice::new(seed).below(3) {
        let mut file = files.create(&output.join(format!("part-old-{former}")), &CreateOptions::default())?;
        file.write_all(b"former")?;
        file.finish()?;
    }
    Ok(())
}

/// What each line of a winner's file is.
fn line(task: usize, attempt: &str) -> String {
    format!("record of task {task}, of attempt {attempt}\n")
}

/// The attempts of a job.
struct Attempts<'a> {
    staging: Box<dyn Staging>,
    dir: &'a Path,
    dice: Dice,
    /// Those that are cut off and do not know it.
    partitioned: Vec<Box<dyn StagedWriter>>,
}

impl<'a> Attempts<'a> {
    fn new(outputs: &SharedOutputs, dir: &'a Path, seed: u64) -> Fallible<Attempts<'a>> {
        if !(1..TRIES_MAX).any(|_| outputs.begin().is_ok()) {
            outputs.begin()?;
        }
        let staging = outputs.join()?.pop().ok_or("a job has an output")?;
        Ok(Attempts { staging, dir, dice: Dice::new(seed), partitioned: Vec::new() })
    }

    fn run(mut self) -> Fallible<()> {
        for task in 0..=self.dice.below(TASKS_MAX) {
            self.run_task(task)?;
        }
        fs::write(self.dir.join("reported"), "")?;
        patiently("the partition to heal", || self.dir.join("healed").exists());
        let cut_off = self.partitioned.len();
        for writer in self.partitioned {
            // Whether its upload is gone already is chance; nothing of it may appear, and that is looked at.
            if let Err(error) = writer.finish() {
                eprintln!("an attempt that was cut off: {error}");
            }
        }
        match self.staging.create("zombie", "part-r-00000") {
            Err(StageError::Ended { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("an attempt began a file of a job that has ended".into()),
        }
        println!("{}", json!({ "partitioned": cut_off }));
        Ok(())
    }

    /// Attempts until one has reported, and perhaps one more.
    fn run_task(&mut self, task: usize) -> Fallible<()> {
        let name = format!("part-r-{task:05}");
        let mut reports = 0;
        for number in 0..TRIES_MAX {
            let attempt = format!("{task}-{number}");
            let Ok(mut writer) = self.staging.create(&attempt, &name) else { continue };
            for _ in 0..LINES {
                writer.write_all(line(task, &attempt).as_bytes())?;
            }
            match self.dice.below(6) {
                // It is killed before its report: nobody aborts its upload now.
                0 => std::mem::forget(writer),
                1 => self.partitioned.push(writer),
                fate => {
                    let Ok(file) = writer.finish() else { continue };
                    self.report(&file)?;
                    if fate == 2 {
                        // The answer was lost: it reports again.
                        self.report(&file)?;
                    }
                    reports += 1;
                    // A twin reports, too: one of the two has lost, and is told so, or is killed before it is.
                    if reports > 1 && self.dice.below(2) == 0 && self.staging.discard(&file).is_err() {
                        eprintln!("a loser could not abort its upload");
                    }
                }
            }
            if reports > 0 && self.dice.below(3) > 0 {
                return Ok(());
            }
        }
        if reports > 0 { Ok(()) } else { Err(format!("no attempt of task {task} came through").into()) }
    }

    fn report(&self, file: &StagedFile) -> Fallible<()> {
        let StagedFile { attempt, name, bytes, receipt } = file;
        let mut reports = OpenOptions::new().append(true).create(true).open(self.dir.join("reports"))?;
        let report = json!({ "attempt": attempt, "name": name, "bytes": bytes, "receipt": receipt });
        Ok(writeln!(reports, "{report}")?)
    }
}

/// The first report of each task, as the master journals it.
fn reported(dir: &Path) -> Fallible<Vec<(usize, StagedFile)>> {
    let mut first = BTreeMap::new();
    for report in fs::read_to_string(dir.join("reports"))?.lines() {
        let report: Value = serde_json::from_str(report)?;
        let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
        let bytes = report["bytes"].as_u64().ok_or("a report has a length")?;
        let file =
            StagedFile { attempt: text("attempt"), name: text("name"), bytes, receipt: text("receipt") };
        first.entry(file.name.clone()).or_insert(file);
    }
    Ok(first.into_values().map(|file| (0, file)).collect())
}

/// Prints the objects of the output with their texts, claims, and open uploads.
fn look(output: &Uri) -> Fallible<()> {
    let bucket = Uri::of(output.place().clone(), "");
    let files = output.file_system()?;
    let mut objects = BTreeMap::new();
    let entries = match files.list(output) {
        Err(error) if error.is_absence() => Vec::new(),
        entries => entries?.collect::<Result<Vec<_>, FsError>>()?,
    };
    for entry in entries.into_iter().filter(|entry| entry.kind == Kind::File) {
        let file = files.open(&entry.uri)?;
        let mut text = vec![0; usize::try_from(entry.bytes)?];
        let mut filled = 0;
        while filled < text.len() {
            match file.read_at(&mut text[filled..], filled as u64)? {
                0 => return Err(format!("{} is short", entry.uri).into()),
                count => filled += count,
            }
        }
        let name = entry.uri.to_string().split('/').next_back().unwrap_or_default().to_owned();
        objects.insert(name, String::from_utf8(text)?);
    }
    let left = leftovers(&bucket)?;
    let open: Vec<String> = left
        .iter()
        .filter_map(|left| match &left.kind {
            LeftoverKind::Upload { id } => Some(format!("{} {id}", left.uri)),
            LeftoverKind::Staging { .. } => None,
        })
        .collect();
    let claims = left.len() - open.len();
    println!("{}", json!({ "objects": objects, "open": open, "claims": claims }));
    Ok(())
}
