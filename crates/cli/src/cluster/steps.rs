//! `add-steps`, `list-steps`, `describe-step`, `cancel-steps` and `protect`: the work of a cluster that runs.

use std::thread;
use std::time::Duration;

use clap::Args;
use gristmill_cluster::Registry;
use gristmill_proto::cluster::Step;
use gristmill_proto::cluster_record::StepRecord;
use serde_json::json;

use super::create::master;
use super::step::{WantedStep, parse_step};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::format::{duration, time};
use crate::job::client::{JobsClient, Master};

/// How often somebody who waits asks.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// Which cluster a command is about.
#[derive(Args)]
pub(super) struct Which {
    /// A cluster that was made on this machine [default: that of the master]
    #[arg(long = "cluster", value_name = "NAME")]
    name: Option<String>,
}

impl Which {
    pub(super) fn master(&self, address: Option<String>) -> Result<Master, Failure> {
        match &self.name {
            Some(name) => master(&Registry::from_environment()?.find(name)?),
            None => Master::named(address),
        }
    }
}

/// Adds steps, which run one after the other; all are added, or none
#[derive(Args)]
pub(crate) struct AddSteps {
    #[command(flatten)]
    which: Which,
    /// A step: "PROGRAM ARGS", or "name=N on-failure=continue|cancel-and-wait|terminate-cluster depends-on=A,B retries=N
    /// timeout=10m -- PROGRAM ARGS". PROGRAM is a file here, which is sent to the cluster, or a URI
    #[arg(required = true, value_name = "STEP", value_parser = parse_step)]
    steps: Vec<WantedStep>,
    /// Waits until all have ended; fails unless all are COMPLETED
    #[arg(long)]
    wait: bool,
}

impl AddSteps {
    pub(crate) fn run(self, address: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        let master = self.which.master(address)?;
        let jobs = JobsClient::of(&master)?;
        let numbers = add(&jobs, &master, &self.steps)?;
        for number in &numbers {
            match console.json {
                true => console.object(&json!({ "step": format!("step-{number}") }))?,
                false => console.line(format!("step-{number}"))?,
            }
        }
        if !self.wait {
            return Ok(Exit::Done);
        }
        console.flush()?;
        let ended = loop {
            let steps = jobs.steps()?;
            let ours: Vec<Step> = steps.into_iter().filter(|step| numbers.contains(&step.number)).collect();
            if ours.iter().all(|step| step.ended_ms > 0) {
                break ours;
            }
            thread::sleep(ASK_INTERVAL);
        };
        let records: Vec<StepRecord> = ended.iter().map(StepRecord::new).collect();
        records.iter().try_for_each(|record| show(record, console))?;
        let well = records.iter().all(|record| record.state == "COMPLETED");
        Ok(if well { Exit::Done } else { Exit::Failed })
    }
}

/// Sends the programs of steps, and adds the steps.
pub(super) fn add(jobs: &JobsClient, master: &Master, steps: &[WantedStep]) -> Result<Vec<u64>, Failure> {
    steps.iter().try_for_each(WantedStep::check)?;
    let known = jobs.steps()?.len();
    let named = (known + 1..).zip(steps).map(|(number, step)| step.send(master, number));
    Ok(jobs.add_steps(named.collect::<Result<_, Failure>>()?)?)
}

/// Lists the steps of a cluster, in the order in which they were added
#[derive(Args)]
pub(crate) struct ListSteps {
    #[command(flatten)]
    which: Which,
    /// Only those in this state, as FAILED; may be repeated
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
}

impl ListSteps {
    pub(crate) fn run(self, address: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        let steps = JobsClient::of(&self.which.master(address)?)?.steps()?;
        let wanted = |step: &StepRecord| {
            self.state.is_empty() || self.state.iter().any(|state| state.eq_ignore_ascii_case(&step.state))
        };
        for step in steps.iter().map(StepRecord::new).filter(wanted) {
            show(&step, console)?;
        }
        Ok(Exit::Done)
    }
}

/// Shows a step: its state, why it failed, and where its logs are
#[derive(Args)]
pub(crate) struct DescribeStep {
    #[command(flatten)]
    which: Which,
    /// Its id (step-1) or name
    step: String,
}

impl DescribeStep {
    pub(crate) fn run(self, address: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        let jobs = JobsClient::of(&self.which.master(address)?)?;
        let step = StepRecord::new(&jobs.step(&self.step)?);
        match console.json {
            true => show(&step, console)?,
            false => console.lines(lines(&step))?,
        }
        Ok(Exit::Done)
    }
}

/// Cancels steps: those that wait, and those that run, with their processes and jobs
#[derive(Args)]
pub(crate) struct CancelSteps {
    #[command(flatten)]
    which: Which,
    /// Their ids (step-1) or names
    #[arg(required = true, value_name = "STEP")]
    steps: Vec<String>,
    /// Kills their processes at once, instead of telling them to end
    #[arg(long)]
    kill: bool,
}

impl CancelSteps {
    pub(crate) fn run(self, address: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        let jobs = JobsClient::of(&self.which.master(address)?)?;
        for step in jobs.cancel_steps(&self.steps, self.kill)? {
            show(&StepRecord::new(&step), console)?;
        }
        Ok(Exit::Done)
    }
}

/// Protects a cluster against termination
#[derive(Args)]
pub(crate) struct Protect {
    #[command(flatten)]
    which: Which,
    /// Takes the protection back
    #[arg(long)]
    off: bool,
}

impl Protect {
    pub(crate) fn run(self, address: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        let cluster = JobsClient::of(&self.which.master(address)?)?.protect(!self.off)?;
        let protected = cluster.termination_protected;
        match console.json {
            true => console.object(&json!({ "termination_protected": protected }))?,
            false => {
                console.line(format!("The cluster is {}protected.", if protected { "" } else { "not " }))?
            }
        }
        Ok(Exit::Done)
    }
}

/// One line, or one object.
pub(super) fn show(step: &StepRecord, console: &mut Console) -> Result<(), Failure> {
    if console.json {
        return console
            .object(&serde_json::to_value(step).map_err(|error| Failure::Refused(error.to_string()))?);
    }
    let why = if step.reason.is_empty() {
        String::new()
    } else {
        format!(" {}: {}", step.reason, first_line(&step.message))
    };
    console.line(format!("{:<9} {:<20} {:<9}{why}", step.id, step.name, step.state))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn lines(step: &StepRecord) -> Vec<String> {
    let mut lines = vec![
        format!("Step:      {} ({}), {}", step.id, step.name, step.state),
        format!("Program:   {} {}", step.program, step.arguments.join(" ")),
        format!("On failure: {}, {} of {} tries", step.on_failure, step.tries, step.retries + 1),
        format!("Added:     {} by {}", time(step.created_ms, true), step.user),
    ];
    if step.started_ms > 0 && step.ended_ms > 0 {
        let took = duration(step.ended_ms.saturating_sub(step.started_ms));
        lines.push(format!("Took:      {took}, until {}", time(step.ended_ms, true)));
    }
    if !step.reason.is_empty() {
        lines.push(format!("Reason:    {}", step.reason));
        lines.extend(step.message.lines().map(|line| format!("           {line}")));
    }
    if !step.log.is_empty() {
        lines.push(format!("Logs:      {}/stdout, {}/stderr", step.log, step.log));
    }
    lines.extend(step.job.iter().map(|job| format!("Job:       {job}, if the program is a job program")));
    lines
}
