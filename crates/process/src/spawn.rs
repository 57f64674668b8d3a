//! Starting programs whose files this very process may just have written.

use std::io::{self, ErrorKind};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

/// A child that another thread starts has all that this process has open until it executes its program, and with it, at
/// times, a program's file that is just being written: the system executes none that is open for writing. That passes
/// within milliseconds.
const BUSY_TRIES_MAX: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Starts a program; waits for its file to be closed by whoever writes it, up to 200 ms.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 1..BUSY_TRIES_MAX {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::sleep(BUSY_PAUSE),
            spawned => return spawned,
        }
    }
    command.spawn()
}
