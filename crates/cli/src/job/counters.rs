//! `counters`: of the tasks that are done.

use clap::Args;
use serde_json::json;

use super::client::JobsClient;
use super::find::find;
use super::status::{counters, id};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::escape::escape;

/// Shows the counters of a job, summed over the tasks that are done
#[derive(Args)]
pub(crate) struct Counters {
    /// The job
    job: String,
}

impl Counters {
    pub(crate) fn run(self, jobs: &JobsClient, console: &mut Console) -> Result<Exit, Failure> {
        let status = jobs.status(find(jobs, &self.job)?)?;
        if console.json {
            console.object(&json!({ "job": id(&status), "counters": counters(&status) }))?;
        } else if status.counters.is_empty() {
            console.hint("the job has no counters");
        } else {
            for counter in &status.counters {
                console.bytes(format!("{}\t{}\n", escape(&counter.name), counter.value).as_bytes())?;
            }
        }
        Ok(Exit::Done)
    }
}
