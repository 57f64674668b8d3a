//! Measures the master's core: 10,000 workers, a job of 1,000,000 tasks with hints, and heartbeats.
//!
//! Prints one line a figure: `assignments_per_s`, `heartbeat_cpu_share`, `peak_rss_mib`, and how many were near. All time is
//! processor time of the one thread that there is, so that others on the machine do not count.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::time::Duration;

use gristmill_master::core::{Command, Core, CoreOptions, Event, Joining, SessionId, TaskReport};
use gristmill_proto::ids::{AttemptId, Epoch, Incarnation, JobId, WorkerId};
use gristmill_proto::job::stage::Target;
use gristmill_proto::job::{JobSpec, Output, Program, Stage, TaskHint, TaskHints};
use gristmill_proto::task::register::Role;
use gristmill_proto::task::{AttemptProgress, AttemptResult, Part};

const WORKERS: u64 = 10_000;
const SLOTS: u32 = 4;
const TASKS: u32 = 1_000_000;
const RACKS: u64 = 250;
const HINTS_A_PART: u32 = 1_000;
/// Events in virtual time between two ticks: 100,000 attempts end in a second.
const EVENTS_A_TICK: u64 = 10_000;
const HEARTBEAT_SECONDS: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut core = Core::new(CoreOptions::default(), Epoch(1));
    let mut out = Vec::new();
    for worker in 1..=WORKERS {
        core.handle(0, registered(worker), &mut out);
    }
    out.clear();
    let (job, spec) = job();
    let submitted = cpu()?;
    core.handle(0, Event::Submit { spec: Box::new(spec), hints: hints(), wall_ms: 0 }, &mut out);
    out.clear();
    println!("submit_ms {}", (cpu()? - submitted).as_millis());
    let staged = cpu()?;
    core.handle(0, Event::Staged { job, result: Ok(()) }, &mut out);
    println!("first_wave_ms {}", (cpu()? - staged).as_millis());
    let mut running = launched(&mut out);
    println!("first_wave_assignments {}", running.len());
    heartbeats(&mut core, &running)?;
    assignments(&mut core, job, &mut running)?;
    println!("peak_rss_mib {}", peak_rss_mib()?);
    Ok(())
}

/// Each worker beats once a second and names its attempts.
fn heartbeats(core: &mut Core, running: &VecDeque<(SessionId, AttemptId)>) -> Result<(), Box<dyn Error>> {
    let mut of_worker = vec![Vec::new(); WORKERS as usize];
    for (session, attempt) in running {
        of_worker[session.0 as usize - 1].push((*attempt, attempt.to_wire()));
    }
    let (begun, mut out) = (cpu()?, Vec::new());
    for second in 0..HEARTBEAT_SECONDS {
        for (at, attempts) in of_worker.iter().enumerate() {
            let progress = attempts.iter().map(|(id, attempt)| {
                let attempt = Some(attempt.clone());
                (*id, AttemptProgress { attempt, records: second, bytes: second, silent_ms: 0 })
            });
            let session = SessionId(at as u64 + 1);
            core.handle(second * 100, Event::Heartbeat { session, running: progress.collect() }, &mut out);
            if at % 1_000 == 0 {
                core.handle(second * 100, Event::Tick { wall_ms: 0 }, &mut out);
            }
        }
        out.clear();
    }
    let share = (cpu()? - begun).as_secs_f64() / HEARTBEAT_SECONDS as f64;
    println!("heartbeat_cpu_share {share:.3}");
    Ok(())
}

/// Attempts end one after the other, and the slots are given again.
fn assignments(
    core: &mut Core,
    job: JobId,
    running: &mut VecDeque<(SessionId, AttemptId)>,
) -> Result<(), Box<dyn Error>> {
    let (begun, mut out, mut ended) = (cpu()?, Vec::new(), 0u64);
    let mut beaten = 0;
    while let Some((session, attempt)) = running.pop_front() {
        let now_ms = 1_000 + ended / (EVENTS_A_TICK / 100);
        let report = TaskReport::Done(Box::new(result(attempt)));
        core.handle(now_ms, Event::Ended { session, attempt, report, wall_ms: 0 }, &mut out);
        ended += 1;
        if ended.is_multiple_of(EVENTS_A_TICK) {
            core.handle(now_ms, Event::Tick { wall_ms: 0 }, &mut out);
        }
        if now_ms / 1_000 > beaten {
            beaten = now_ms / 1_000;
            for worker in 1..=WORKERS {
                let session = SessionId(worker);
                core.handle(now_ms, Event::Heartbeat { session, running: Vec::new() }, &mut out);
            }
        }
        running.extend(launched(&mut out));
    }
    let seconds = (cpu()? - begun).as_secs_f64();
    let status = core.status(job).ok_or("the job is gone")?;
    if u64::from(status.stages[0].done) != u64::from(TASKS) {
        return Err(format!("{} tasks are done", status.stages[0].done).into());
    }
    println!("assignments_per_s {:.0}", ended as f64 / seconds);
    println!("near_percent {:.1}", 100.0 * f64::from(status.stages[0].local) / f64::from(TASKS));
    Ok(())
}

fn launched(out: &mut Vec<Command>) -> VecDeque<(SessionId, AttemptId)> {
    let launches = out.drain(..).filter_map(|command| match command {
        Command::Launch { session, launch } => {
            Some((session, AttemptId::from_wire(launch.attempt.as_ref()?).ok()?))
        }
        _ => None,
    });
    launches.collect()
}

fn registered(worker: u64) -> Event {
    let mut incarnation = [0; 16];
    incarnation[..8].copy_from_slice(&worker.to_le_bytes());
    Event::Registered {
        worker: WorkerId(worker),
        joining: Joining {
            session: SessionId(worker),
            incarnation: Incarnation(incarnation),
            role: Role::Core,
            slots: SLOTS,
            memory_bytes: 16 << 30,
            host: format!("host{worker}"),
            rack: format!("rack{}", worker % RACKS),
            address: format!("host{worker}:7071"),
            pid: 1,
            running: Vec::new(),
            held_pages: 0,
        },
    }
}

fn job() -> (JobId, JobSpec) {
    let stage =
        Stage { name: "map 1".to_owned(), tasks: TASKS, target: Target::ToOutput as i32, ..Stage::default() };
    let spec = JobSpec {
        version: 1,
        job: vec![1; 16].into(),
        program: Some(Program { sha256: vec![1; 32].into(), ..Program::default() }),
        job_file_sha256: vec![2; 32].into(),
        stages: vec![stage],
        outputs: vec![Output { uri: "dfs:///out".to_owned(), extra: false }],
        counters: vec!["records".to_owned(), "words".to_owned()],
        ..JobSpec::default()
    };
    (JobId([1; 16]), spec)
}

/// Three workers for each task, spread as blocks are.
fn hints() -> Vec<TaskHints> {
    let hint = |task: u32| {
        let first = u64::from(task).wrapping_mul(0x9e37_79b9) % WORKERS;
        TaskHint { bytes: 64 << 20, workers: (0..3).map(|copy| (first + copy * 331) % WORKERS + 1).collect() }
    };
    let part = |first_task: u32| TaskHints {
        stage: 0,
        first_task,
        hints: (first_task..first_task + HINTS_A_PART).map(hint).collect(),
    };
    (0..TASKS / HINTS_A_PART).map(|part_number| part(part_number * HINTS_A_PART)).collect()
}

fn result(attempt: AttemptId) -> AttemptResult {
    AttemptResult {
        counters: vec![1_000, 10_000],
        records_in: 1_000,
        bytes_in: 64 << 20,
        elapsed_ms: 900,
        parts: vec![Part {
            output: 0,
            name: format!("part-m-{:05}", attempt.task.task),
            bytes: 1 << 20,
            crc32c: 7,
            receipt: String::new(),
        }],
        ..AttemptResult::default()
    }
}

/// Processor time of this thread so far.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let told = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(told.split_whitespace().next().ok_or("an empty schedstat")?.parse()?))
}

fn peak_rss_mib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024)
}
