//! Measures what the heartbeats of many workers cost a master that runs beside it: each worker has a connection and a
//! stream of its own, as a real one has, and beats once a second. None runs an attempt.
//!
//! Prints one line a figure: the processor time of the master's process over the measured seconds, as a share of one core;
//! how many heartbeats it took meanwhile; what it has resident.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order;
use gristmill_proto::task::register::Role;
use gristmill_proto::task::tasks_client::TasksClient;
use gristmill_proto::task::{FromWorker, Heartbeat, Register, ToWorker};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Workers that connect at the same time: the backlog of a listener is short.
const GREETING_MAX: usize = 64;
/// For one worker to be welcomed, on a machine that is busy with all of them.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// Each worker beats so often.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// As in a worker: a master that says nothing is asked for a sign of life so often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// After the last worker came, before measuring.
const SETTLING: Duration = Duration::from_secs(3);

/// Sessions of many workers with one master.
#[derive(Parser)]
struct Options {
    /// HOST:PORT of a master without a secret
    #[arg(long)]
    master: String,
    /// Its process on this machine
    #[arg(long)]
    pid: u32,
    /// How many workers
    #[arg(long, default_value_t = 10_000)]
    workers: u64,
    /// How long to measure
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let options = Options::parse();
    let (beats, lost) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let turns = Arc::new(Semaphore::new(GREETING_MAX));
    let mut greetings = JoinSet::new();
    for worker in 1..=options.workers {
        let (master, turns) = (options.master.clone(), turns.clone());
        greetings.spawn(async move {
            let _turn = turns.acquire_owned().await?;
            timeout(GREETING_TIMEOUT, Worker::register(&master, worker)).await?
        });
    }
    let begun = Instant::now();
    while let Some(greeted) = greetings.join_next().await {
        let (beats, lost) = (beats.clone(), lost.clone());
        let worker = greeted??;
        tokio::spawn(async move {
            worker.attend(&beats).await;
            lost.fetch_add(1, Ordering::Relaxed);
        });
    }
    println!("welcomed {} in {:.1} s", options.workers, begun.elapsed().as_secs_f64());
    sleep(SETTLING).await;

    let (cpu, count, started) = (cpu_of(options.pid)?, beats.load(Ordering::Relaxed), Instant::now());
    sleep(Duration::from_secs(options.seconds)).await;
    let (cpu, count) = (cpu_of(options.pid)? - cpu, beats.load(Ordering::Relaxed) - count);
    let seconds = started.elapsed().as_secs_f64();
    let gone = lost.load(Ordering::Relaxed);
    if gone > 0 {
        return Err(format!("{gone} sessions ended: nothing was measured").into());
    }
    println!("heartbeats_per_s {:.0}", count as f64 / seconds);
    println!("master_cpu_share {:.3}", cpu.as_secs_f64() / seconds);
    println!("master_cpu_us_per_heartbeat {:.1}", cpu.as_secs_f64() * 1e6 / count.max(1) as f64);
    println!("master_resident_mib {}", resident_mib(options.pid)?);
    Ok(())
}

/// One that was welcomed.
struct Worker {
    number: u64,
    epoch: u64,
    notices: mpsc::Sender<FromWorker>,
    orders: Streaming<ToWorker>,
}

impl Worker {
    async fn register(master: &str, number: u64) -> Outcome<Worker> {
        let endpoint = Endpoint::from_shared(format!("http://{master}"))?
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(GREETING_TIMEOUT)
            .keep_alive_while_idle(true);
        let mut client = TasksClient::new(endpoint.connect().await?);
        let (notices, queue) = mpsc::channel(1);
        notices.send(message(Notice::Register(introduction(number)))).await?;
        let mut orders = client.attend(ReceiverStream::new(queue)).await?.into_inner();
        let first = orders.message().await?.ok_or("the master ended the stream")?;
        match first.orders.into_iter().next().and_then(|order| order.order) {
            Some(Order::Welcome(_)) => Ok(Worker { number, epoch: first.epoch, notices, orders }),
            other => Err(format!("worker {number} is not welcomed: {other:?}").into()),
        }
    }

    /// Beats until the session ends.
    async fn attend(mut self, beats: &AtomicU64) {
        // Not all in the same millisecond.
        sleep(BEAT_INTERVAL * (self.number % 1000) as u32 / 1000).await;
        let mut ticks = interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let beat = Heartbeat { epoch: self.epoch, scratch_free_bytes: 1 << 40, ..Heartbeat::default() };
                    if self.notices.send(message(Notice::Heartbeat(beat))).await.is_err() {
                        return;
                    }
                    beats.fetch_add(1, Ordering::Relaxed);
                }
                orders = self.orders.message() => {
                    if !matches!(orders, Ok(Some(_))) {
                        return;
                    }
                }
            }
        }
    }
}

fn message(notice: Notice) -> FromWorker {
    FromWorker { notice: Some(notice) }
}

fn introduction(number: u64) -> Register {
    let mut incarnation = vec![0; 16];
    incarnation[..8].copy_from_slice(&number.to_le_bytes());
    Register {
        version: PROTOCOL_VERSION,
        incarnation: incarnation.into(),
        role: Role::Task.into(),
        slots: 4,
        memory_bytes: 16 << 30,
        host: format!("host{number}"),
        rack: format!("rack{}", number % 250),
        address: format!("host{number}:7071"),
        pid: 1,
        ..Register::default()
    }
}

/// Processor time of all threads that the process has now. None of the master's ends while workers beat.
fn cpu_of(pid: u32) -> Outcome<Duration> {
    let mut spent_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let told = fs::read_to_string(task?.path().join("schedstat"))?;
        spent_ns += told.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(spent_ns))
}

fn resident_mib(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()? / 1024)
}
