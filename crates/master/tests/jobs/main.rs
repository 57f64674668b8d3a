//! Stories of jobs at a real master: its own process, its own store, gRPC and HTTP on loopback. The workers are the
//! tests' own, and do what they are told by hand.
#![allow(unreachable_pub)]

mod doors;
mod lives;
mod pages;
mod process;
mod restarts;
mod user;
mod worker;

use process::MASTER_ARGUMENTS;

/// What [`process::Master`] starts this program for: it is the master, until it is killed. It is no test by itself.
#[test]
#[ignore = "run by the other tests, as a process"]
fn be_a_master() {
    let Ok(arguments) = std::env::var(MASTER_ARGUMENTS) else {
        return;
    };
    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        options: gristmill_master::MasterOptions,
    }
    let arguments = std::iter::once("master").chain(arguments.split('\n'));
    let program = <Program as clap::Parser>::parse_from(arguments);
    if let Err(error) = gristmill_master::run(program.options) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
