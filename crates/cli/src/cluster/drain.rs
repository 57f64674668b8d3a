//! `drain`: takes a worker out of service without losing what it has done.

use std::thread;
use std::time::Duration;

use clap::Args;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::job::WorkerStatus;
use serde_json::json;

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::job::client::{JobsClient, Master};

/// How often somebody who waits asks.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
const DRAINED: &str = "drained";

/// Takes a worker out of service: it gets no more tasks, finishes those it has, and is drained when nobody needs what it
/// holds. (The blocks of a core worker are another matter: `gristmill fs decommission` copies them elsewhere.)
#[derive(Args)]
pub(crate) struct Drain {
    /// A worker by number (3 or worker-3) or address (HOST:PORT)
    worker: String,
    /// Puts it back into service
    #[arg(long)]
    undo: bool,
    /// Waits until it is drained
    #[arg(long, conflicts_with = "undo")]
    wait: bool,
}

impl Drain {
    pub(crate) fn run(self, address: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        let jobs = JobsClient::of(&Master::named(address)?)?;
        let worker = find(&jobs.describe()?.workers, &self.worker).map_err(Failure::Refused)?;
        let name = WorkerId(worker);
        let answer = jobs.drain(worker, self.undo)?;
        if !answer.found {
            return Err(Failure::Refused(format!("{name} has gone")));
        }
        let mut state = answer.state;
        while self.wait && state != DRAINED {
            thread::sleep(ASK_INTERVAL);
            let workers = jobs.describe()?.workers;
            let now = workers.into_iter().find(|found| found.worker == worker);
            // It said that it was drained, and has ended since.
            state = now.map_or_else(|| DRAINED.to_owned(), |worker| worker.state);
            if state == "lost" {
                return Err(Failure::Refused(format!("{name} was lost before it was drained")));
            }
        }
        if console.json {
            console.object(&json!({ "worker": worker, "state": state }))?;
        } else {
            console.line(format!("{name} is {state}"))?;
        }
        Ok(Exit::Done)
    }
}

/// The one worker that a text names.
fn find(workers: &[WorkerStatus], text: &str) -> Result<u64, String> {
    let number: Option<u64> = text.strip_prefix("worker-").unwrap_or(text).parse().ok();
    let named = workers.iter().filter(|worker| match number {
        Some(number) => worker.worker == number,
        None => worker.address == text,
    });
    let found: Vec<u64> = named.map(|worker| worker.worker).collect();
    match found.as_slice() {
        [worker] => Ok(*worker),
        [] => Err(format!("no worker is named {text}; `gristmill cluster describe` shows them")),
        _ => Err(format!("{} workers are named {text}", found.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_numbers_and_addresses() {
        let worker = |worker, address: &str| WorkerStatus {
            worker,
            address: address.to_owned(),
            ..WorkerStatus::default()
        };
        let workers = [worker(3, "a:1"), worker(1_000_001, "a:2"), worker(5, "a:2")];
        assert_eq!(find(&workers, "3"), Ok(3));
        assert_eq!(find(&workers, "worker-1000001"), Ok(1_000_001));
        assert_eq!(find(&workers, "a:1"), Ok(3));
        assert!(find(&workers, "a:2").unwrap_err().starts_with("2 workers"));
        assert!(find(&workers, "4").unwrap_err().starts_with("no worker is named 4;"));
    }
}
