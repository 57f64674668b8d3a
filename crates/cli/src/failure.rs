//! Why a command about jobs or clusters was not done.

use std::io;
use std::path::PathBuf;

use gristmill_cluster::ClusterError;
use gristmill_dfs::client::DfsError;
use gristmill_process::sentence;
use gristmill_proto::auth::SecretError;

use crate::console::Console;
use crate::exit::{Exit, is_broken_pipe};
use crate::job::client::CallError;

/// One sentence for stderr.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for makes no sense, whatever is there.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A call of the file system.
    #[error(transparent)]
    Dfs(#[from] DfsError),
    /// It makes sense, but not with what is there.
    #[error("{0}")]
    Refused(String),
    #[error("cannot start {}", .program.display())]
    Start { program: PathBuf, source: io::Error },
    /// The program said itself what was wrong.
    #[error("{} ended with {status}", .program.display())]
    Submit { program: PathBuf, status: std::process::ExitStatus },
    #[error("cannot write the cluster file")]
    ClusterFile(#[source] io::Error),
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    #[error("cannot write the standard output")]
    Output(#[source] io::Error),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::Submit { status, .. } if status.code() == Some(2) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

/// Ends a command: says what failed.
pub(crate) fn end(console: &mut Console, done: Result<Exit, Failure>) -> Exit {
    // What was found before a failure is shown all the same.
    match console.flush().and(done) {
        Ok(exit) => exit,
        Err(Failure::Output(error)) if is_broken_pipe(&error) => Exit::Done,
        Err(failure) => {
            console.say(&sentence(&failure));
            failure.exit()
        }
    }
}
