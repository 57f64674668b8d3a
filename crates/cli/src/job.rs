//! `gristmill job`: jobs on a cluster, by way of the master's service `Jobs`.
//!
//! Modules, in reading order: [`client`] (calls), `find` (jobs by a prefix of their id), `task_name`, `archive`
//! (what outlives a cluster), then a file for each command.

mod archive;
pub(crate) mod client;
mod counters;
mod find;
mod history;
mod kill;
mod list;
mod logs;
mod status;
mod submit;
mod task_name;
mod tasks;
mod wait;

use clap::{Args, Subcommand};

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::{Streams, fs};
use client::{JobsClient, Master};

/// Submits jobs and looks after them. A job is named by its id, or by any beginning of it that no other job has.
#[derive(Args)]
pub(crate) struct Job {
    /// The master [env: GRISTMILL_MASTER]
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = fs::master)]
    master: Option<String>,
    /// One JSON object a line, for each entry or result
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Command {
    Submit(submit::Submit),
    List(list::List),
    History(history::History),
    Status(status::Status),
    Wait(wait::Wait),
    Tasks(tasks::Tasks),
    Logs(logs::Logs),
    Counters(counters::Counters),
    Kill(kill::Kill),
}

impl Job {
    /// Runs the command; what fails is said on stderr.
    pub(crate) fn run(self, streams: &mut Streams<'_>) -> Exit {
        let mut console = Console::new(streams, self.json);
        let done = Self::act(self.command, self.master, &mut console);
        failure::end(&mut console, done)
    }

    fn act(command: Command, master: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        let command = match command {
            Command::History(history::History { job, from: Some(place) }) => {
                return archive::tell(&place, job.as_deref(), console);
            }
            command => command,
        };
        let master = Master::named(master)?;
        if let Command::Submit(submit) = command {
            return submit.run(&master, console);
        }
        let jobs = JobsClient::of(&master)?;
        match command {
            Command::Submit(submit) => submit.run(&master, console),
            Command::List(command) => command.run(&jobs, console),
            Command::History(command) => command.run(&jobs, console),
            Command::Status(command) => command.run(&jobs, console),
            Command::Wait(command) => command.run(&jobs, console),
            Command::Tasks(command) => command.run(&jobs, console),
            Command::Logs(command) => command.run(&jobs, console),
            Command::Counters(command) => command.run(&jobs, console),
            Command::Kill(command) => command.run(&jobs, console),
        }
    }
}
