//! `gristmill cluster`: makes clusters, looks at them, ends them.

mod calls;
mod config;
mod create;
mod custodian;
mod daemon_logs;
mod describe;
mod doctor;
mod drain;
mod keeper;
mod life;
mod list;
mod scale;
mod scaler;
mod span;
mod step;
mod steps;
mod terminate;

use clap::{Args, Subcommand};

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::{Streams, fs};

/// Makes clusters, looks at them, ends them.
#[derive(Args)]
pub(crate) struct Cluster {
    /// The master, where a command is about a running cluster [env: GRISTMILL_MASTER]
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
    Create(Box<create::Create>),
    List(list::List),
    Describe(describe::Describe),
    Drain(drain::Drain),
    Scale(scale::Scale),
    Terminate(terminate::Terminate),
    Doctor(doctor::Doctor),
    #[command(hide = true)]
    Custodian(custodian::Custodian),
    AddSteps(steps::AddSteps),
    ListSteps(steps::ListSteps),
    DescribeStep(steps::DescribeStep),
    CancelSteps(steps::CancelSteps),
    Protect(steps::Protect),
}

impl Cluster {
    /// Runs the command; what fails is said on stderr.
    pub(crate) fn run(self, streams: &mut Streams<'_>) -> Exit {
        let mut console = Console::new(streams, self.json);
        let done = Self::act(self.command, self.master, &mut console);
        failure::end(&mut console, done)
    }

    fn act(command: Command, master: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        match command {
            Command::Create(command) => command.run(console),
            Command::List(command) => command.run(console),
            Command::Describe(command) => command.run(master, console),
            Command::Drain(command) => command.run(master, console),
            Command::Scale(command) => command.run(console),
            Command::Terminate(command) => command.run(console),
            Command::Doctor(command) => command.run(console),
            Command::Custodian(command) => command.run(console),
            Command::AddSteps(command) => command.run(master, console),
            Command::ListSteps(command) => command.run(master, console),
            Command::DescribeStep(command) => command.run(master, console),
            Command::CancelSteps(command) => command.run(master, console),
            Command::Protect(command) => command.run(master, console),
        }
    }
}
