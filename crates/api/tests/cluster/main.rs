//! A job program on a cluster: the driver and the attempts are real processes, of this very file; the master's part is
//! played by a real namenode and a fake of its service Jobs, the worker's by the stories themselves.

mod attempt;
mod cluster;
mod jobs;
mod program;
mod stories;

use std::process::ExitCode;

/// Set for a driver, and for a job that runs in its own process.
const PROGRAM_VARIABLE: &str = "GRISTMILL_STORY_PROGRAM";

fn main() -> ExitCode {
    if std::env::var_os(PROGRAM_VARIABLE).is_some() || std::env::var_os("GRISTMILL_ATTEMPT").is_some() {
        return program::main();
    }
    // As the standard harness: names to run, or a part of them.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = 0;
    for (name, story) in stories::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part)) {
            continue;
        }
        let told = std::panic::catch_unwind(story);
        println!("test {name} ... {}", if told.is_ok() { "ok" } else { "FAILED" });
        failed += u32::from(told.is_err());
    }
    ExitCode::from(u8::from(failed > 0))
}
