//! How the program ends.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::Streams;

/// What the program tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done,
    /// Something was not; stderr says what.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// A cluster has come to its end, which is TERMINATED_WITH_ERRORS.
    EndedWithErrors,
}

impl Exit {
    /// The code of the process.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::EndedWithErrors => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Shows help, or what is wrong with the arguments.
pub(crate) fn explain(error: &clap::Error, streams: &mut Streams<'_>) -> Exit {
    let (to, exit): (&mut dyn Write, Exit) =
        if error.use_stderr() { (&mut streams.err, Exit::Usage) } else { (&mut streams.out, Exit::Done) };
    let shown = write!(to, "{}", error.render()).and_then(|()| to.flush());
    if shown.is_err_and(|error| !is_broken_pipe(&error)) { Exit::Failed } else { exit }
}

/// Whether whoever read our output has seen enough: no failure of ours.
pub(crate) fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
