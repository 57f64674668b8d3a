//! Daemons: processes that serve until they are told to end.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;

use gristmill_cluster::NEW_SESSION_VARIABLE;
use gristmill_process::sentence;

use crate::{Exit, Streams};

/// Whether the program is started as a daemon: it then says what it does, not only what fails.
pub fn is_daemon(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|command| command == "master" || command == "worker" || command == "s3-server")
}

/// Why a daemon ended.
pub(crate) trait DaemonError: Error {
    /// What the process says by its code.
    fn exit(&self) -> Exit {
        Exit::Failed
    }
}

impl DaemonError for gristmill_worker::WorkerError {}
impl DaemonError for gristmill_s3_server::RunError {}

/// Runs a daemon to its end. What ends it is said in one sentence, its causes included.
///
/// A panic in any of its threads ends the process at once: half a daemon would hold its locks, its leases and its
/// workers, and serve none of them. Whatever was acknowledged is on disk.
pub(crate) fn run<O, E: DaemonError>(
    daemon: impl FnOnce(O) -> Result<(), E>,
    options: O,
    streams: &mut Streams<'_>,
) -> Exit {
    if std::env::var_os(NEW_SESSION_VARIABLE).is_some() {
        // The end of a terminal, and what is typed there, is no business of this process. It fails where there is a
        // session of its own already.
        if let Err(error) = rustix::process::setsid() {
            tracing::debug!(%error, "no new session");
        }
    }
    // What a daemon keeps is read through it, with its permissions; other accounts of the machine have no business there.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A damaged file, looked at before anything was begun: it becomes the sentence that is said below.
        if gristmill_dfs::guarded::is_guarded() {
            return;
        }
        told(panic);
        std::process::abort();
    }));
    match daemon(options) {
        Ok(()) => Exit::Done,
        Err(error) => {
            match writeln!(streams.err, "gristmill: {}", sentence(&error)) {
                Ok(()) => error.exit(),
                // Nobody listens on stderr; the exit code says it.
                Err(_) => error.exit(),
            }
        }
    }
}
