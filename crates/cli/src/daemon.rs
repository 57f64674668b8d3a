//! Daemons: processes that serve until they are told to end.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;

use crate::{Exit, Streams};

/// Whether the program is started as a daemon: it then says what it does, not only what fails.
pub fn is_daemon(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|command| command == "master" || command == "worker")
}

/// Runs a daemon to its end. What ends it is said in one sentence, its causes included.
///
/// A panic in any of its threads ends the process at once: half a daemon would hold its locks, its leases and its
/// workers, and serve none of them. Whatever was acknowledged is on disk.
pub(crate) fn run<O, E: Error>(
    daemon: impl FnOnce(O) -> Result<(), E>,
    options: O,
    streams: &mut Streams<'_>,
) -> Exit {
    // What a daemon keeps is read through it, with its permissions; other accounts of the machine have no business there.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        std::process::abort();
    }));
    match daemon(options) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let mut sentence = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                let text = cause.to_string();
                if !sentence.contains(&text) {
                    sentence = format!("{sentence}: {text}");
                }
                source = cause.source();
            }
            match writeln!(streams.err, "gristmill: {sentence}") {
                Ok(()) => Exit::Failed,
                // Nobody listens on stderr; the exit code says it.
                Err(_) => Exit::Failed,
            }
        }
    }
}
