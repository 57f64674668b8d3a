//! Long forms of what `cargo test` shows in short: jobs on real processes, with faults, against the output of the local run.
//!
//! ```text
//! cargo build --workspace --bins --examples
//! target/debug/campaign kills --iterations 500 --seed 1
//! target/debug/campaign soak --minutes 120 --seed 1
//! target/debug/campaign spot
//! target/debug/campaign mishaps --mib 256
//! target/debug/campaign commits --iterations 500 --seed 1
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use gristmill_tests::{
    Baseline, Campaign, Cost, Loss, MasterDeath, Mishap, Octet, Scenario, Spot, commit_on_unreliable_s3,
};

/// Jobs with faults on a cluster of real processes; the first wrong output ends it
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A fault in each job: every component, every kind, every phase in turn; after each round of them, rare paths
    Kills {
        /// How many jobs
        #[arg(long, default_value_t = 500)]
        iterations: u64,
        /// The same seed rolls the same faults
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Number of the first job: to see one again
        #[arg(long, default_value_t = 0)]
        first: u64,
    },
    /// Jobs and faults for a time; then the cluster uses no more than it did after the first of them
    Soak {
        /// For so long
        #[arg(long, default_value_t = 120)]
        minutes: u64,
        /// The same seed rolls the same faults
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Commits to S3 over a connection on which everything happens that can, and masters that are killed
    Commits {
        /// How many jobs
        #[arg(long, default_value_t = 500)]
        iterations: u64,
        /// The same seed rolls the same dice
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Number of the first job: to see one again
        #[arg(long, default_value_t = 0)]
        first: u64,
    },
    /// One, half and all task workers vanish at 25, 50, 75 and 95 % of the maps, with map outputs on core workers and where
    /// they were made
    Spot {
        /// The same seed makes the same text
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// One of eight workers is killed, or slow: how long the job takes, beside one without; then the master is killed
    Mishaps {
        /// The text: enough for a job of a minute
        #[arg(long, default_value_t = 256)]
        mib: usize,
        /// How often each is tried, in turn
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Files in the namespace when the master is killed at last
        #[arg(long, default_value_t = 100_000)]
        files: usize,
        /// The same seed makes the same text
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Jobs before the baseline of a soak is taken: each daemon has done everything once.
const WARM_UP: u64 = 20;

/// In so many commits everything happens at least so often.
const FIRED_ALL: u64 = 500;
const FIRED_MIN: u64 = 20;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Kills { iterations, seed, first } => kills(iterations, seed, first),
        Command::Soak { minutes, seed } => soak(Duration::from_secs(minutes * 60), seed),
        Command::Commits { iterations, seed, first } => commits(iterations, seed, first),
        Command::Spot { seed } => spot(seed),
        Command::Mishaps { mib, rounds, files, seed } => mishaps(mib, rounds, files, seed),
    }
}

fn kills(iterations: u64, seed: u64, first: u64) -> ExitCode {
    let started = Instant::now();
    let mut campaign = Campaign::begin(seed);
    let round = Scenario::all().len() as u64;
    for number in first..first + iterations {
        run(&mut campaign, number, started);
        if (number + 1) % round == 0 {
            println!("{:6} s  the rare paths", started.elapsed().as_secs());
            campaign.take_rare_paths();
        }
    }
    let tally = campaign.end();
    println!("\n{tally}");
    println!("{iterations} jobs with seed {seed}, 0 differences, in {} s", started.elapsed().as_secs());
    let missing = tally.missing();
    if iterations < round || missing.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("rare paths that were not taken: {}", missing.join(", "));
    ExitCode::FAILURE
}

fn commits(iterations: u64, seed: u64, first: u64) -> ExitCode {
    let started = Instant::now();
    let tally = commit_on_unreliable_s3(seed, first, iterations);
    println!("{tally}");
    println!("{iterations} jobs with seed {seed}, all right, in {} s", started.elapsed().as_secs());
    let missing = tally.missing(FIRED_MIN);
    if iterations < FIRED_ALL || missing.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("less than {FIRED_MIN} times: {}", missing.join(", "));
    ExitCode::FAILURE
}

fn soak(time: Duration, seed: u64) -> ExitCode {
    let started = Instant::now();
    let mut campaign = Campaign::begin(seed);
    let (mut number, mut baseline) = (0, None);
    while started.elapsed() < time || baseline.is_none() {
        run(&mut campaign, number, started);
        number += 1;
        if number == WARM_UP {
            let now = Baseline::of(campaign.cluster());
            println!("baseline after {number} jobs: {now}");
            baseline = Some(now);
        }
    }
    let before = baseline.expect("the loop does not end without it");
    let after = Baseline::of(campaign.cluster());
    println!("after {number} jobs: {after}");
    let excess = before.excess_of(&after);
    println!("\n{}", campaign.end());
    match excess {
        Some(excess) => {
            eprintln!("{excess}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn spot(seed: u64) -> ExitCode {
    let mut spot = Spot::begin(seed);
    println!("{}", Cost::HEAD);
    for loss in Loss::all() {
        println!("{}", spot.run(loss));
    }
    ExitCode::SUCCESS
}

fn mishaps(mib: usize, rounds: u32, files: usize, seed: u64) -> ExitCode {
    let mut octet = Octet::begin(mib, seed);
    println!("| mishap | wall | beside none |\n|---|---|---|");
    for _ in 0..rounds {
        let mut fault_free = None;
        for mishap in Mishap::ALL {
            let seconds = octet.run(mishap).as_secs_f64();
            let ratio = seconds / *fault_free.get_or_insert(seconds);
            println!("| {mishap} | {seconds:.1} s | {ratio:.2} |");
        }
    }
    octet.fill(files);
    println!("\n{}\n{}", MasterDeath::HEAD, octet.kill_master(files));
    ExitCode::SUCCESS
}

/// Says first what comes: a panic ends the program there.
fn run(campaign: &mut Campaign, number: u64, started: Instant) {
    let scenario = Campaign::scenario(number);
    println!("{:6} s  job {number}: {scenario}", started.elapsed().as_secs());
    campaign.run(number, scenario);
}
