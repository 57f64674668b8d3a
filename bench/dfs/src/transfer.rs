//! Bytes a second of one large file, each round beside the same work without the file system.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_dfs::client::{ClientOptions, CreateOptions, DfsClient};

use crate::Outcome;
use crate::figures::{median, rate, ratio};

/// Options of `dfs-bench transfer`.
#[derive(clap::Args)]
pub(crate) struct TransferOptions {
    /// HOST:PORT of the master
    #[arg(long, default_value = "127.0.0.1:7070")]
    master: String,
    /// Size of the file in MiB
    #[arg(long, default_value_t = 1300)]
    mib: u64,
    /// Rounds; the middle one is printed, with the range
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A directory on the disk that the worker uses
    #[arg(long)]
    scratch: PathBuf,
}

/// What is written and read in one call.
const PIECE_BYTES: usize = 1024 * 1024;
const PAGE_BYTES: usize = 4096;
/// The file.
pub(crate) const PATH: &str = "/benchmark-file";

#[derive(Default)]
struct Times {
    local_write: Vec<Duration>,
    write: Vec<Duration>,
    local_read: Vec<Duration>,
    short_circuit: Vec<Duration>,
    /// Processor time of the thread that reads: what is left to compare on a machine that others use as well.
    local_read_cpu: Vec<Duration>,
    short_circuit_cpu: Vec<Duration>,
    stream: Vec<Duration>,
    read: Vec<Duration>,
}

/// Runs all rounds and prints a table.
pub(crate) fn run(options: &TransferOptions) -> Outcome<()> {
    let near = DfsClient::connect(ClientOptions::new(&options.master))?;
    let far =
        DfsClient::connect(ClientOptions { short_circuit: false, ..ClientOptions::new(&options.master) })?;
    let local = options.scratch.join("benchmark-file");
    let bytes = options.mib * 1024 * 1024;
    let piece = piece();
    // From a page border on: elsewhere some processors (AMD Zen 4) need up to three times as long for the kernel's copies.
    let mut buffer = vec![0; PIECE_BYTES + PAGE_BYTES];
    let start = buffer.as_ptr().align_offset(PAGE_BYTES);
    let buffer = &mut buffer[start..][..PIECE_BYTES];
    let mut times = Times::default();
    for _ in 0..options.rounds {
        times.local_write.push(timed(|| write_local(&local, &piece, options.mib))?);
        times.write.push(timed(|| write(&near, 1, &piece, options.mib))?);
    }
    // Not between writes: after each of them the worker removes what the one before has written.
    for _ in 0..options.rounds {
        let before = cpu()?;
        times.local_read.push(timed(|| drain(File::open(&local)?, buffer, bytes))?);
        let between = cpu()?;
        times.short_circuit.push(timed(|| drain(near.open(PATH)?, buffer, bytes))?);
        times.local_read_cpu.push(between - before);
        times.short_circuit_cpu.push(cpu()? - between);
        times.stream.push(stream(&piece, buffer, options.mib)?);
        times.read.push(timed(|| drain(far.open(PATH)?, buffer, bytes))?);
    }
    fs::remove_file(&local)?;
    near.delete(PATH, false, true)?;
    println!("| work | rate | beside it | ratio of the times |\n|---|---|---|---|");
    row("write", &times.write, "local file, checksum, sync", &times.local_write, bytes);
    row("short-circuit read", &times.short_circuit, "local file", &times.local_read, bytes);
    row(
        "short-circuit read, processor time",
        &times.short_circuit_cpu,
        "local file",
        &times.local_read_cpu,
        bytes,
    );
    row("network read", &times.read, "bare TCP stream", &times.stream, bytes);
    Ok(())
}

fn row(name: &str, times: &[Duration], beside: &str, others: &[Duration], bytes: u64) {
    let ratios =
        times.iter().zip(others).map(|(time, other)| time.as_secs_f64() / other.as_secs_f64()).collect();
    let (time, other) = (median(times.to_vec()), median(others.to_vec()));
    println!("| {name} | {} | {beside}: {} | {} |", rate(bytes, time), rate(bytes, other), ratio(ratios));
}

fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

/// Processor time of this thread so far.
fn cpu() -> Outcome<Duration> {
    let told = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(told.split_whitespace().next().ok_or("an empty schedstat")?.parse()?))
}

/// Bytes that are no pattern a disk could be clever with.
pub(crate) fn piece() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while piece.len() < PIECE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.extend_from_slice(&state.to_le_bytes());
    }
    piece
}

/// A plain file, its bytes summed as they go, on disk at the end.
fn write_local(path: &Path, piece: &[u8], mib: u64) -> Outcome<()> {
    let mut file = File::create(path)?;
    let mut sum = 0;
    for _ in 0..mib {
        sum = crc32c::crc32c_append(sum, piece);
        file.write_all(piece)?;
    }
    file.write_all(&sum.to_le_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// Writes the file anew, with `replication` copies.
pub(crate) fn write(client: &DfsClient, replication: u32, piece: &[u8], mib: u64) -> Outcome<()> {
    let options = CreateOptions { overwrite: true, replication, ..CreateOptions::default() };
    let mut writer = client.create(PATH, options)?;
    for _ in 0..mib {
        writer.write_all(piece)?;
    }
    writer.finish()?;
    Ok(())
}

/// Reads `bytes` bytes into the buffer, one over the other.
fn drain(mut input: impl Read, buffer: &mut [u8], bytes: u64) -> Outcome<()> {
    let mut left = bytes;
    while left > 0 {
        match input.read(buffer)? {
            0 => return Err(format!("{left} bytes are missing").into()),
            read => left = left.saturating_sub(read as u64),
        }
    }
    Ok(())
}

/// A bare stream over loopback between two threads: what the network of this machine can do.
fn stream(piece: &[u8], buffer: &mut [u8], mib: u64) -> Outcome<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let started = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(move || -> Outcome<()> {
            let mut stream = TcpStream::connect(address)?;
            for _ in 0..mib {
                stream.write_all(piece)?;
            }
            Ok(())
        });
        let (stream, _) = listener.accept()?;
        drain(stream, buffer, mib * 1024 * 1024)?;
        sender.join().map_err(|_| "the sender panicked")?
    })?;
    Ok(started.elapsed())
}
