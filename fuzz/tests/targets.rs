//! The seeds of every target and some thousand random changes of them.

#[path = "../metered.rs"]
mod metered;

use gristmill_fuzz::mutation::Mutation;
use gristmill_fuzz::{TARGETS, Target};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Inputs made for a target: few enough that all targets take some seconds; those that take longer get fewer.
const INPUTS_MAX: usize = 50_000;
const INPUTS_MIN: usize = 1_000;
const TARGET_MS_MAX: i64 = 1_000;
/// Of the processor's time, for one input: none should take a hundredth of it.
const INPUT_MS_MAX: i64 = 1_000;

macro_rules! stories {
    ($($name:ident)*) => {
        const STORIES: &[&str] = &[$(stringify!($name)),*];

        mod any_bytes_are_taken_or_refused_by {
            $(#[test]
            fn $name() {
                super::run(stringify!($name));
            })*
        }
    };
}
stories! {
    block block_files block_report block_token caller_token chunks compressed datum delimited fixed frames fs_path glob key lines message names namespace_rows parquet passage range_cuts record replica run_file shuffle_token size tsv uri words
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(corpus(target.name)).expect("a target has a directory of seeds");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    // The order in which a directory lists them is its own.
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("there is such a target");
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds.iter().for_each(|seed| run_input(target, seed));
    let mut mutation = Mutation::new(seeds, target.input_bytes_max);
    let began_ms = processor_ms();
    for number in 0..INPUTS_MAX {
        if number >= INPUTS_MIN && processor_ms() - began_ms > TARGET_MS_MAX {
            break;
        }
        run_input(target, &mutation.next_input());
    }
}

/// Runs one input; if it fails, it is left in a file that can become a seed.
fn run_input(target: &Target, input: &[u8]) {
    let before = processor_ms();
    let run = catch_unwind(AssertUnwindSafe(|| metered::run(target, input)));
    let elapsed_ms = processor_ms() - before;
    if run.is_err() || elapsed_ms > INPUT_MS_MAX {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failed-{}", target.name));
        fs::write(&path, input).expect("it is written");
        panic!("{} failed, or took {elapsed_ms} ms, with the input in {}", target.name, path.display());
    }
}

/// Processor time of this thread: other threads' work does not count.
fn processor_ms() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

#[test]
fn every_target_has_a_story_and_a_directory() {
    assert_eq!(TARGETS.map(|target| target.name), STORIES);
    let mut listed: Vec<String> = fs::read_dir(corpus(""))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    listed.sort();
    assert_eq!(listed, STORIES);
}
