//! `list`: the clusters that were made on this machine.

use std::time::Duration;

use clap::Args;
use gristmill_cluster::{Cluster, Look, Registry, State};
use gristmill_process::sentence;
use gristmill_proto::cluster_record::ClusterRecord;

use super::create::master;
use super::describe::{cluster_object, members_name, state_name};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::format::time;
use crate::job::client::JobsClient;

/// Lists the clusters of this user that were made on this machine
#[derive(Args)]
pub(crate) struct List {}

/// The state of a cluster whose members all run, as its master says it; one that does not answer at once is looked at from
/// outside only.
fn life(cluster: &Cluster, look: &Look) -> Option<ClusterRecord> {
    if look.state != State::Running {
        return None;
    }
    let asked = master(cluster).and_then(|master| Ok(JobsClient::of(&master)?.life_within(Duration::ZERO)?));
    match asked {
        Ok(life) => Some(ClusterRecord::new(&life, &[])),
        Err(error) => {
            tracing::debug!(cluster = cluster.name, error = sentence(&error), "the master does not answer");
            None
        }
    }
}

impl List {
    pub(crate) fn run(self, console: &mut Console) -> Result<Exit, Failure> {
        let registry = Registry::from_environment()?;
        let mut failed = None;
        for cluster in registry.list()? {
            let look = match registry.look(&cluster) {
                Ok(look) => look,
                // The others are there all the same.
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            let life = life(&cluster, &look);
            if console.json {
                let mut object = cluster_object(&cluster, &look);
                if let Some(life) = &life {
                    let life =
                        serde_json::to_value(life).map_err(|error| Failure::Refused(error.to_string()))?;
                    object["state"] = life["state"].clone();
                    object["life"] = life;
                }
                console.object(&object)?;
                continue;
            }
            let master = cluster.master.as_deref().unwrap_or("-");
            let (running, all) = (look.running(), cluster.members.len());
            console.line(format!(
                "{:<20} {:<13} {master:<21} {running} of {all} {}, made {}",
                cluster.name,
                life.map_or_else(|| state_name(look.state).to_owned(), |life| life.state),
                members_name(&cluster),
                time(cluster.created_ms, true),
            ))?;
        }
        failed.map_or(Ok(Exit::Done), |error| Err(error.into()))
    }
}
