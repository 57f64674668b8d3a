//! `terminate`: the end of a cluster.

use std::time::Duration;

use clap::Args;
use gristmill_cluster::Registry;
use serde_json::json;

use super::create::master;
use super::life::{bury, end_of_master};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::job::client::{CallError, JobsClient};

/// A master that is there answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Ends clusters that were made on this machine: their processes, and all files, also those of their dfs://
#[derive(Args)]
pub(crate) struct Terminate {
    /// The clusters
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Also one that is protected, and without waiting for its records to be pushed
    #[arg(long)]
    force: bool,
}

impl Terminate {
    pub(crate) fn run(self, console: &mut Console) -> Result<Exit, Failure> {
        let registry = Registry::from_environment()?;
        for name in &self.names {
            self.end(&registry, name)?;
            if console.json {
                console.object(&json!({ "name": name, "done": "terminate" }))?;
            } else {
                console.line(format!("The cluster {name} is terminated."))?;
            }
        }
        Ok(Exit::Done)
    }

    /// A master that can be asked cancels its steps, and pushes what outlives it. One that cannot be is ended anyway.
    fn end(&self, registry: &Registry, name: &str) -> Result<(), Failure> {
        let cluster = registry.find(name)?;
        if self.force || cluster.master.is_none() {
            return Ok(registry.terminate(name)?);
        }
        let jobs = JobsClient::of(&master(&cluster)?)?;
        match jobs.terminate(ANSWER_LIMIT) {
            Ok(_) => {
                end_of_master(registry, &cluster)?;
                bury(registry, &cluster).map(drop)
            }
            Err(error @ CallError::Refused { .. }) => Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "the master is not there");
                Ok(registry.terminate(name)?)
            }
        }
    }
}
