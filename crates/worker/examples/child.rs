//! A program as workers start it: it speaks the protocol of attempts, and behaves as the first argument in the job's file
//! says. For the worker's tests.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gristmill_dataflow::block::Codec;
use gristmill_dataflow::idle::IdleBuffers;
use gristmill_dataflow::map_output::{MapOutput, ShuffleRule};
use gristmill_dataflow::memory::{ResidentPool, TaskMemory};
use gristmill_dataflow::partition::Partitioner;
use gristmill_dataflow::scratch::Scratch;
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attempt::from_attempt::Message;
use gristmill_proto::attempt::{Begin, FromAttempt, Hello, Progress, ToAttempt, to_attempt};
use gristmill_proto::job::JobFile;
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::{
    AttemptFailure, AttemptId, AttemptResult, FetchFailed, MapOutput as HeldOutput, Outputs, fetch_failed,
};
use prost::Message as _;
use rustix::stdio::dup2_stdin;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let mut socket = socket()?;
    let begin = match next(&mut socket)?.message {
        Some(to_attempt::Message::Begin(begin)) => begin,
        other => return Err(format!("the worker begins with {other:?}").into()),
    };
    let file = JobFile::decode(&fs::read(&begin.job_file)?[..])?;
    let behaviour = file.arguments.first().map(|argument| String::from_utf8_lossy(argument).into_owned());
    behave(&mut socket, &begin, behaviour.as_deref().unwrap_or("done"))
}

/// What the worker left in the place of the standard input, which is empty from then on.
fn socket() -> Fallible<UnixStream> {
    assert_eq!(env::var("GRISTMILL_ATTEMPT")?, "0");
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(socket)
}

fn next(socket: &mut UnixStream) -> Fallible<ToAttempt> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut message)?;
    Ok(ToAttempt::decode(&message[..])?)
}

fn say(socket: &mut UnixStream, message: Message) -> io::Result<()> {
    let message = FromAttempt { message: Some(message) }.encode_to_vec();
    socket.write_all(&(message.len() as u32).to_le_bytes())?;
    socket.write_all(&message)
}

fn hello(socket: &mut UnixStream, fingerprint: &str) -> io::Result<()> {
    let fingerprint = fingerprint.to_owned();
    say(socket, Message::Hello(Hello { version: PROTOCOL_VERSION, fingerprint }))
}

fn done(socket: &mut UnixStream, result: AttemptResult) -> io::Result<()> {
    say(socket, Message::Done(result))
}

fn behave(socket: &mut UnixStream, begin: &Begin, behaviour: &str) -> Fallible<()> {
    match behaviour {
        "silent end" => return Ok(()),
        "garbage" => {
            socket.write_all(b"\xff\xff\xff\xff what is this")?;
            return sleep();
        }
        "another plan" => {
            hello(socket, "another")?;
            let message = "the plan differs in line 3".to_owned();
            let failure = AttemptFailure { kind: Kind::Plan as i32, message, ..AttemptFailure::default() };
            return Ok(say(socket, Message::Failed(failure))?);
        }
        _ => hello(socket, "plan-1")?,
    }
    match behaviour {
        "done" => done(socket, AttemptResult { records_in: 7, ..AttemptResult::default() })?,
        "map" => {
            let result = map(begin)?;
            done(socket, result)?;
        }
        "map nothing" => {
            done(socket, AttemptResult { map_output: Some(held(&[0; 16])), ..AttemptResult::default() })?
        }
        "long result" => {
            done(socket, AttemptResult { cuts: vec![1; 20 << 20].into(), ..AttemptResult::default() })?
        }
        "fail" => {
            let message = "line 12 is no number".to_owned();
            let failure = AttemptFailure { kind: Kind::Author as i32, message, ..AttemptFailure::default() };
            say(socket, Message::Failed(failure))?;
        }
        "status 0" => {}
        "panic" => panic!("the author did not think of this"),
        "hang" => return hang(socket),
        "loud" => shout(socket)?,
        "close" => {
            socket.shutdown(std::net::Shutdown::Both)?;
            return sleep();
        }
        "fork" => fork(socket)?,
        "linger" => {
            done(socket, AttemptResult::default())?;
            return sleep();
        }
        "look around" => look_around(socket)?,
        "fetch" => fetch(socket, begin)?,
        other => return Err(format!("nobody knows how to {other}").into()),
    }
    Ok(())
}

/// Not to be talked out of it, with a family.
fn hang(socket: &mut UnixStream) -> Fallible<()> {
    say(socket, Message::Progress(Progress { records: 5, bytes: 50 }))?;
    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' TERM; sleep 600 & wait; wait"]).stdin(Stdio::null());
    let mut deaf = deaf.spawn()?;
    deaf.wait()?;
    sleep()
}

/// Prints 20 MB to each stream.
fn shout(socket: &mut UnixStream) -> Fallible<()> {
    let line = [b"all work and no play ".repeat(40), b"\n".to_vec()].concat();
    for _ in 0..24_000 {
        io::stdout().write_all(&line)?;
        io::stderr().write_all(&line)?;
    }
    println!("the last of stdout");
    eprintln!("the last of stderr");
    Ok(done(socket, AttemptResult::default())?)
}

/// Leaves processes, in its group and not.
fn fork(socket: &mut UnixStream) -> Fallible<()> {
    for leaves_group in [true, false] {
        let mut child = Command::new("sleep");
        child.arg("600").stdin(Stdio::null());
        if leaves_group {
            child.process_group(0);
        }
        child.spawn()?;
    }
    Ok(done(socket, AttemptResult::default())?)
}

fn sleep() -> Fallible<()> {
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

fn held(digest: &[u8]) -> HeldOutput {
    HeldOutput { worker: 0, bytes: 0, digest: digest.to_vec().into() }
}

/// A map output of a thousand records.
fn map(begin: &Begin) -> Fallible<AttemptResult> {
    let scratch = Scratch::private(Path::new(&begin.scratch), ResidentPool::new(0), Codec::Lz4)?;
    let rule = ShuffleRule { partitioner: Partitioner::Hash, partitions: 2, fold: None };
    let memory = TaskMemory { bytes: 8 << 20 };
    let mut output = MapOutput::new(rule, memory, scratch, IdleBuffers::default());
    for number in 0..1000_u32 {
        output.collect(&number.to_be_bytes(), b"value")?;
    }
    let run = Arc::into_inner(Arc::new(output.finish()?)).ok_or("it is used elsewhere")?;
    let digest = run.digest();
    run.detach(Path::new(&begin.map_output))?;
    let map_output = Some(held(&digest));
    Ok(AttemptResult { map_output, records_in: 1000, ..AttemptResult::default() })
}

/// Says on stdout what it finds around itself.
fn look_around(socket: &mut UnixStream) -> Fallible<()> {
    for (name, value) in env::vars() {
        println!("{name}={value}");
    }
    println!("arguments {}", env::args().count());
    println!("cwd {}", env::current_dir()?.display());
    let mut input = String::new();
    println!("stdin {}", io::stdin().read_to_string(&mut input)?);
    let mut inherited = 0;
    for entry in fs::read_dir("/proc/self/fd")? {
        let target = fs::read_link(entry?.path());
        let shown = target.map(|target| target.display().to_string()).unwrap_or_default();
        // Its own directory handle is not inherited.
        if !shown.starts_with("/proc/") {
            inherited += 1;
            println!("open {shown}");
        }
    }
    println!("descriptors {inherited}");
    Ok(done(socket, AttemptResult::default())?)
}

/// Complains of the first map output it hears of, and is done when it hears of another attempt at it.
fn fetch(socket: &mut UnixStream, begin: &Begin) -> Fallible<()> {
    let mut complained = None;
    loop {
        let Some(to_attempt::Message::Outputs(Outputs { entries, .. })) = next(socket)?.message else {
            continue;
        };
        let Some(entry) = entries.first() else { continue };
        match complained {
            None => {
                complained = Some(entry.number);
                let job = begin.attempt.clone().unwrap_or_default().job;
                let output = AttemptId { job, stage: entry.stage, task: entry.task, number: entry.number };
                let kind = fetch_failed::Kind::Unreachable as i32;
                let report = FetchFailed {
                    output: Some(output),
                    holder: entry.holder,
                    kind,
                    ..FetchFailed::default()
                };
                say(socket, Message::FetchFailed(report))?;
            }
            Some(number) if number != entry.number => return Ok(done(socket, AttemptResult::default())?),
            Some(_) => {}
        }
    }
}
