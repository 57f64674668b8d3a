//! What three copies cost: the same file with one copy and with three, one after the other.

use std::time::Instant;

use gristmill_dfs::client::{ClientOptions, DfsClient};

use crate::Outcome;
use crate::figures::{median, rate, ratio};
use crate::transfer::{PATH, piece, write};

/// Options of `dfs-bench replicated`.
#[derive(clap::Args)]
pub(crate) struct ReplicatedOptions {
    /// HOST:PORT of the master
    #[arg(long, default_value = "127.0.0.1:7070")]
    master: String,
    /// Size of the file in MiB
    #[arg(long, default_value_t = 1300)]
    mib: u64,
    /// Rounds; the middle one is printed, with the range
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Writes the file in turn with one copy and with three.
pub(crate) fn run(options: &ReplicatedOptions) -> Outcome<()> {
    let client = DfsClient::connect(ClientOptions::new(&options.master))?;
    let piece = piece();
    let (mut single, mut triple) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        for (replication, times) in [(1, &mut single), (3, &mut triple)] {
            let started = Instant::now();
            write(&client, replication, &piece, options.mib)?;
            times.push(started.elapsed());
        }
    }
    client.delete(PATH, false, true)?;
    let ratios =
        triple.iter().zip(&single).map(|(three, one)| three.as_secs_f64() / one.as_secs_f64()).collect();
    let bytes = options.mib * 1024 * 1024;
    println!("| copies | rate | ratio of the times |\n|---|---|---|");
    println!("| 1 | {} | 1 |", rate(bytes, median(single)));
    println!("| 3 | {} | {} |", rate(bytes, median(triple)), ratio(ratios));
    Ok(())
}
