//! A worker that reports all blocks of a populated namespace, and what the stats of others wait for meanwhile.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gristmill_dfs::client::{ClientOptions, DfsClient};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::attendance_client::AttendanceClient;
use gristmill_proto::attendance::notice::Notice as NoticeKind;
use gristmill_proto::attendance::order::Order as OrderKind;
use gristmill_proto::attendance::{BlockReport, Heartbeat, Notice, Orders, Register, Volume};
use gristmill_proto::ids::Incarnation;
use gristmill_proto::namespace::Stat;
use gristmill_proto::namespace::call::Request;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::Outcome;
use crate::figures::percentile;

/// Options of `dfs-bench report`.
#[derive(clap::Args)]
pub(crate) struct ReportOptions {
    /// HOST:PORT of the master
    #[arg(long, default_value = "127.0.0.1:7070")]
    master: String,
    /// What `populate` wrote
    #[arg(long)]
    blocks: PathBuf,
    /// Report only so many
    #[arg(long, default_value_t = u64::MAX)]
    limit: u64,
    /// Stats in flight meanwhile
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// Stay registered for so long afterwards
    #[arg(long, default_value_t = 0)]
    stay_seconds: u64,
}

/// As many as a real worker sends.
const SLICE_REPLICAS: usize = 10_000;
/// How long stats are measured while nothing else happens.
const QUIET: Duration = Duration::from_secs(3);

/// Measures stats in quiet, then during the report.
pub(crate) fn run(options: &ReportOptions) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let client = DfsClient::connect(ClientOptions::new(&options.master))?;
    runtime.block_on(measure(options, client))
}

async fn measure(options: &ReportOptions, client: DfsClient) -> Outcome<()> {
    let quiet = Waits::start(&client, options.in_flight);
    tokio::time::sleep(QUIET).await;
    let quiet = quiet.end().await?;

    let mut worker = Worker::register(&options.master).await?;
    let busy = Waits::start(&client, options.in_flight);
    let started = Instant::now();
    let replicas = worker.report(options).await?;
    let elapsed = started.elapsed();
    let busy = busy.end().await?;

    println!("| stats | count | 50% | 99% | 99.9% | longest |\n|---|---|---|---|---|---|");
    row("in quiet", &quiet);
    row("during the report", &busy);
    println!("\n{replicas} replicas were taken in within {:.2} s", elapsed.as_secs_f64());
    tokio::time::sleep(Duration::from_secs(options.stay_seconds)).await;
    Ok(())
}

fn row(name: &str, waits: &[Duration]) {
    let shown = |share| format!("{:.1} ms", percentile(waits, share).as_secs_f64() * 1e3);
    let count = waits.len();
    println!("| {name} | {count} | {} | {} | {} | {} |", shown(0.5), shown(0.99), shown(0.999), shown(1.0));
}

/// Stats that go on until they are ended.
struct Waits {
    ended: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Outcome<Vec<Duration>>>>,
}

impl Waits {
    fn start(client: &DfsClient, in_flight: usize) -> Waits {
        let ended = Arc::new(AtomicBool::new(false));
        let task = |_| tokio::spawn(stat_until(client.clone(), ended.clone()));
        let tasks = (0..in_flight).map(task).collect();
        Waits { ended, tasks }
    }

    /// How long each stat took, sorted.
    async fn end(self) -> Outcome<Vec<Duration>> {
        self.ended.store(true, Ordering::Relaxed);
        let mut waits = Vec::new();
        for task in self.tasks {
            waits.extend(task.await??);
        }
        waits.sort();
        Ok(waits)
    }
}

async fn stat_until(client: DfsClient, ended: Arc<AtomicBool>) -> Outcome<Vec<Duration>> {
    let mut waits = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let started = Instant::now();
        client.call_async(Request::Stat(Stat { path: "/many".to_owned() })).await?;
        waits.push(started.elapsed());
    }
    Ok(waits)
}

/// What the master takes for a core worker.
struct Worker {
    attendance: AttendanceClient<Channel>,
    notices: mpsc::Sender<Notice>,
    orders: Streaming<Orders>,
    incarnation: Incarnation,
    worker: u64,
    epoch: u64,
}

impl Worker {
    async fn register(master: &str) -> Outcome<Worker> {
        let mut attendance = AttendanceClient::connect(format!("http://{master}")).await?;
        let incarnation = Incarnation::random();
        let (notices, receiver) = mpsc::channel(16);
        let terabyte = 1 << 40;
        let volume = Volume {
            id: "benchmark".to_owned(),
            capacity_bytes: 100 * terabyte,
            used_bytes: 0,
            remaining_bytes: 100 * terabyte,
            failed: false,
        };
        let register = Register {
            version: PROTOCOL_VERSION,
            cluster_id: Vec::new().into(),
            worker: 0,
            incarnation: incarnation.0.to_vec().into(),
            address: "127.0.0.1:1".to_owned(),
            host: "benchmark".to_owned(),
            rack: "/default".to_owned(),
            socket: String::new(),
            volumes: vec![volume],
        };
        notices.send(Notice { notice: Some(NoticeKind::Register(register)) }).await?;
        let mut orders = attendance.attend(ReceiverStream::new(receiver)).await?.into_inner();
        let first = orders.message().await?.ok_or("the master ended the stream")?;
        let Some(OrderKind::Welcome(welcome)) = first.orders.into_iter().next().and_then(|order| order.order)
        else {
            return Err("the master did not welcome the worker".into());
        };
        Ok(Worker { attendance, notices, orders, incarnation, worker: welcome.worker, epoch: first.epoch })
    }

    /// Reports once the master asks for it, with heartbeats beside.
    async fn report(&mut self, options: &ReportOptions) -> Outcome<u64> {
        let report_id = self.asked_for().await?;
        let heart = tokio::spawn(beat(self.notices.clone(), self.epoch));
        let slices = self.slices(report_id, options)?;
        let (sender, receiver) = mpsc::channel(4);
        let sending = tokio::task::spawn_blocking(move || -> Outcome<()> {
            for slice in slices {
                sender.blocking_send(slice?)?;
            }
            Ok(())
        });
        let answer = self.attendance.report(ReceiverStream::new(receiver)).await?.into_inner();
        sending.await??;
        heart.abort();
        if answer.unknown > 0 {
            return Err(format!("{} replicas are of no block the master knows", answer.unknown).into());
        }
        Ok(answer.replicas)
    }

    async fn asked_for(&mut self) -> Outcome<u64> {
        loop {
            let orders = self.orders.message().await?.ok_or("the master ended the stream")?;
            for order in orders.orders {
                if let Some(OrderKind::SendReport(asked)) = order.order {
                    return Ok(asked.report_id);
                }
            }
        }
    }

    fn slices(
        &self,
        report_id: u64,
        options: &ReportOptions,
    ) -> Outcome<impl Iterator<Item = Outcome<BlockReport>> + Send + 'static> {
        let file = File::open(&options.blocks)?;
        let mut left = (file.metadata()?.len() / 24).min(options.limit);
        let mut input = BufReader::new(file);
        let template = BlockReport {
            report_id,
            epoch: self.epoch,
            worker: self.worker,
            incarnation: self.incarnation.0.to_vec().into(),
            ..BlockReport::default()
        };
        let mut first = 0;
        let mut ended = false;
        Ok(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let count = left.min(SLICE_REPLICAS as u64);
            left -= count;
            ended = left == 0;
            let slice = read_slice(&mut input, &template, count, first, ended);
            if let Ok(slice) = &slice {
                first = slice.last.wrapping_add(1);
            }
            Some(slice)
        }))
    }
}

fn read_slice(
    input: &mut impl Read,
    template: &BlockReport,
    count: u64,
    first: u64,
    last: bool,
) -> Outcome<BlockReport> {
    let mut slice = BlockReport { first, ..template.clone() };
    let mut block = 0;
    for _ in 0..count {
        let next = read_number(input)?;
        slice.block_steps.push(next - block);
        block = next;
        slice.generations.push(read_number(input)?);
        slice.bytes.push(read_number(input)?);
    }
    slice.last = if last { u64::MAX } else { block };
    Ok(slice)
}

fn read_number(input: &mut impl Read) -> Outcome<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

async fn beat(notices: mpsc::Sender<Notice>, epoch: u64) {
    let heartbeat = Heartbeat { epoch, volumes: Vec::new(), writers: 0, transfers: 0 };
    let notice = Notice { notice: Some(NoticeKind::Heartbeat(heartbeat)) };
    while notices.send(notice.clone()).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
