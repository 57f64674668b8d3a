//! Counts numbers, and does something on the way that a job program should not do.
#![forbid(unsafe_code)]

use clap::{Args, ValueEnum};
use gristmill::{Emit, Plan, Rows, TextOutput};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

#[derive(Args)]
struct Unruly {
    /// How many numbers to count
    #[arg(long, default_value_t = 100)]
    rows: u64,
    /// What the task with the number 0 does
    #[arg(long, value_enum)]
    fault: Fault,
    /// Directory for the counts of the last digits
    #[arg(long)]
    output: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fault {
    Panic,
    Abort,
    ExitZero,
    Hang,
    CloseDescriptors,
    Fork,
    Linger,
    Print,
    LookAround,
    Hoard,
    Crowd,
    Flood,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Unruly, plan: &mut Plan) {
    let fault = args.fault;
    plan.read(Rows::new(args.rows))
        .map(move |row, out: &mut Emit<u64, u64>| {
            if row == 0 {
                fault.happen();
            }
            out.emit(row % 10, 1);
        })
        .reduce(|digit, ones, out: &mut Emit<u64, u64>| out.emit(digit, ones.sum()))
        .write(TextOutput::at(&args.output));
}

/// Far more than is kept of what an attempt prints.
const PRINTED_BYTES: usize = 300 << 20;

/// Four times more than an attempt may have, and not so many that the program dies of them before it is ended.
const CROWD: u32 = 4096;

impl Fault {
    fn happen(self) {
        match self {
            Fault::Panic => panic!("the map is out of order"),
            Fault::Abort => std::process::abort(),
            Fault::ExitZero => std::process::exit(0),
            Fault::Hang => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
            Fault::CloseDescriptors => {
                // The process goes on as one that has closed what connects it to its worker.
                let close =
                    "for fd in /proc/self/fd/*; do n=${fd##*/}; eval \"exec $n>&-\"; done; exec sleep 600";
                panic!("{}", Command::new("/bin/bash").args(["-c", close]).exec());
            }
            Fault::Fork => {
                let mut child = Command::new("setsid");
                child.args(["sleep", "600"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                drop(child.spawn().expect("a child"));
            }
            // The same, and it has the attempt's output still.
            Fault::Linger => drop(Command::new("setsid").args(["sleep", "600"]).spawn().expect("a child")),
            Fault::Print => {
                let line = [b'x'; 1 << 16];
                let mut out = std::io::stdout().lock();
                for _ in 0..PRINTED_BYTES / line.len() {
                    out.write_all(&line).expect("whoever listens takes it all");
                    out.write_all(b"\n").expect("whoever listens takes it all");
                }
                eprintln!("that was all");
            }
            // Takes memory until somebody ends it.
            Fault::Hoard => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1_u8; 8 << 20]);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            // As what doubles itself would, but small: threads that sleep, until somebody ends them.
            Fault::Crowd => {
                let sleep = || std::thread::sleep(Duration::from_secs(600));
                let mut sleepers = 0;
                while sleepers < CROWD {
                    let sleeper = std::thread::Builder::new().stack_size(16 << 10);
                    match sleeper.spawn(sleep) {
                        Ok(_) => sleepers += 1,
                        Err(_) => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
                sleep();
            }
            Fault::Flood => flood(),
            // What an attempt sees of the world: its environment, its descriptors, its place.
            Fault::LookAround => {
                for (name, value) in std::env::vars_os() {
                    println!("variable {}={}", name.display(), value.display());
                }
                let open = std::fs::read_dir("/proc/self/fd").expect("descriptors can be listed");
                for entry in open.flatten() {
                    let to = std::fs::read_link(entry.path()).unwrap_or_default();
                    println!("descriptor {} {}", entry.file_name().display(), to.display());
                }
                println!("place {}", std::env::current_dir().expect("a place").display());
            }
        }
    }
}

/// Fills the attempt's directory until somebody ends it.
fn flood() {
    let piece = vec![1_u8; 4 << 20];
    for number in 0.. {
        std::fs::write(format!("flood-{number}"), &piece).expect("the disk has room for more");
        std::thread::sleep(Duration::from_millis(20));
    }
}
