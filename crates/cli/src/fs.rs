//! `gristmill fs`: what people do with files, by the names that Hadoop's users know.

mod attributes;
mod cluster;
mod copy;
mod copy_tree;
mod create;
pub(crate) mod distcp;
pub(crate) mod escape;
mod failure;
mod find;
pub(crate) mod format;
mod fsck;
mod list;
mod mode;
mod progress;
mod quota;
mod read;
mod remove;
mod rename;
mod report;
mod session;
mod spelling;
mod stat;
mod tail;
mod transfer;
mod uploads;
mod usage;
mod walk;
mod write;

use clap::{ArgAction, Args, Subcommand};

use crate::Streams;
use crate::exit::{Exit, is_broken_pipe};
use failure::Failure;
use session::Session;

pub(crate) use spelling::as_we_spell;

/// Works with files. Bare paths are the cluster's if there is a master, else this machine's; globs are expanded on the
/// file system they name; `-` is stdin or stdout; sizes take KiB, MiB, GiB, TiB; times are UTC.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Fs {
    /// The master of dfs:///path and of bare paths [env: GRISTMILL_MASTER]
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = master)]
    master: Option<String>,
    /// One JSON object a line, for each entry or result
    #[arg(long, global = true)]
    json: bool,
    /// Shows help
    #[arg(long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Command {
    // What is there.
    Ls(list::Ls),
    Lsr(list::Lsr),
    Find(find::Find),
    Stat(stat::Stat),
    Test(stat::Test),
    Du(usage::Du),
    Df(usage::Df),
    Count(usage::Count),
    // What is in it.
    Cat(read::Cat),
    Head(read::Head),
    Tail(tail::Tail),
    Checksum(read::Checksum),
    // To and fro.
    #[command(visible_alias = "copyFromLocal")]
    Put(transfer::Put),
    #[command(name = "moveFromLocal")]
    MoveFromLocal(transfer::MoveFromLocal),
    #[command(visible_alias = "copyToLocal")]
    Get(transfer::Get),
    Getmerge(write::Getmerge),
    Cp(copy::Cp),
    Mv(rename::Mv),
    Distcp(Box<distcp::Distcp>),
    // Changes.
    Mkdir(create::Mkdir),
    Touch(create::Touch),
    Touchz(create::Touchz),
    Rm(remove::Rm),
    Rmr(remove::Rmr),
    Rmdir(remove::Rmdir),
    Expunge(remove::Expunge),
    #[command(name = "appendToFile")]
    AppendToFile(write::AppendToFile),
    Truncate(write::Truncate),
    Concat(write::Concat),
    Chmod(attributes::Chmod),
    Chown(attributes::Chown),
    Chgrp(attributes::Chgrp),
    Setrep(attributes::Setrep),
    // The cluster.
    Quota(quota::Quota),
    #[command(alias = "setQuota")]
    Setquota(quota::Setquota),
    #[command(alias = "clrQuota")]
    Clrquota(quota::Clrquota),
    #[command(alias = "setSpaceQuota")]
    Setspacequota(quota::Setspacequota),
    #[command(alias = "clrSpaceQuota")]
    Clrspacequota(quota::Clrspacequota),
    Fsck(fsck::Fsck),
    Report(report::Report),
    Safemode(cluster::Safemode),
    Decommission(cluster::Decommission),
    Recommission(cluster::Recommission),
    Maintenance(cluster::Maintenance),
    #[command(name = "recoverLease")]
    RecoverLease(cluster::RecoverLease),
    // S3.
    Uploads(uploads::Uploads),
}

impl Fs {
    /// Runs the command; whatever fails is said on stderr.
    pub(crate) fn run(self, streams: &mut Streams<'_>) -> Exit {
        let mut session = Session::new(streams, self.master, self.json);
        let done = self.command.run(&mut session);
        // What was found before a failure is shown all the same.
        let done = session.flush().and(done);
        match done {
            Ok(()) => session.exit(),
            Err(Failure::Output(error)) if is_broken_pipe(&error) => Exit::Done,
            Err(failure) => {
                session.report(&failure);
                failure.exit()
            }
        }
    }
}

impl Command {
    fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Command::Ls(command) => command.run(session),
            Command::Lsr(command) => command.run(session),
            Command::Find(command) => command.run(session),
            Command::Stat(command) => command.run(session),
            Command::Test(command) => command.run(session),
            Command::Du(command) => command.run(session),
            Command::Df(command) => command.run(session),
            Command::Count(command) => command.run(session),
            Command::Cat(command) => command.run(session),
            Command::Head(command) => command.run(session),
            Command::Tail(command) => command.run(session),
            Command::Checksum(command) => command.run(session),
            Command::Put(command) => command.run(session),
            Command::MoveFromLocal(command) => command.run(session),
            Command::Get(command) => command.run(session),
            Command::Getmerge(command) => command.run(session),
            Command::Cp(command) => command.run(session),
            Command::Mv(command) => command.run(session),
            Command::Distcp(command) => command.run(session),
            Command::Mkdir(command) => command.run(session),
            Command::Touch(command) => command.run(session),
            Command::Touchz(command) => command.run(session),
            Command::Rm(command) => command.run(session),
            Command::Rmr(command) => command.run(session),
            Command::Rmdir(command) => command.run(session),
            Command::Expunge(command) => command.run(session),
            Command::AppendToFile(command) => command.run(session),
            Command::Truncate(command) => command.run(session),
            Command::Concat(command) => command.run(session),
            Command::Chmod(command) => command.run(session),
            Command::Chown(command) => command.run(session),
            Command::Chgrp(command) => command.run(session),
            Command::Setrep(command) => command.run(session),
            Command::Quota(command) => command.run(session),
            Command::Setquota(command) => command.run(session),
            Command::Clrquota(command) => command.run(session),
            Command::Setspacequota(command) => command.run(session),
            Command::Clrspacequota(command) => command.run(session),
            Command::Fsck(command) => command.run(session),
            Command::Report(command) => command.run(session),
            Command::Safemode(command) => command.run(session),
            Command::Decommission(command) => command.run(session),
            Command::Recommission(command) => command.run(session),
            Command::Maintenance(command) => command.run(session),
            Command::RecoverLease(command) => command.run(session),
            Command::Uploads(command) => command.run(session),
        }
    }
}

/// Reads HOST:PORT.
pub(crate) fn master(text: &str) -> Result<String, String> {
    if gristmill_dfs::is_host_and_port(text) {
        Ok(text.to_owned())
    } else {
        Err("a master is HOST:PORT".to_owned())
    }
}
