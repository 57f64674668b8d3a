//! A core, driven by hand.

use gristmill_master::core::{Command, Core, CoreOptions, Event, Joining, SessionId, TaskReport};
use gristmill_proto::ids::{AttemptId, CUT_BIT, Epoch, Incarnation, JobId, TaskId, WorkerId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::job::{JobSpec, JobStatus, TaskHints};
use gristmill_proto::job_record::Record;
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::register::Role;
use gristmill_proto::task::{AttemptFailure, AttemptResult, FetchFailed, HeldOutput, Launch, fetch_failed};

use crate::plans;

pub(crate) struct Cluster {
    pub(crate) core: Core,
    pub(crate) now_ms: u64,
    pub(crate) records: Vec<Record>,
    /// Of the last event.
    pub(crate) commands: Vec<Command>,
    epoch: u64,
}

/// What a worker says when it comes.
pub(crate) struct Coming {
    pub(crate) worker: u64,
    pub(crate) session: u64,
    pub(crate) life: u8,
    pub(crate) slots: u32,
    pub(crate) rack: &'static str,
    pub(crate) running: Vec<AttemptId>,
    pub(crate) held_pages: u32,
}

impl Cluster {
    /// Core workers 1.. with one slot each; their streams have the same numbers.
    pub(crate) fn with_workers(workers: u64) -> Cluster {
        let core = Core::new(CoreOptions::default(), Epoch(1));
        let mut cluster = Cluster { core, now_ms: 0, records: Vec::new(), commands: Vec::new(), epoch: 1 };
        for worker in 1..=workers {
            cluster.come(coming(worker));
        }
        cluster
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.commands.clear();
        self.core.handle(self.now_ms, event, &mut self.commands);
        self.core.check().unwrap();
        let records = self.commands.iter().filter_map(|command| match command {
            Command::Persist(record) => Some(record.clone()),
            _ => None,
        });
        self.records.extend(records);
    }

    pub(crate) fn come(&mut self, coming: Coming) {
        let is_task = coming.worker == 0 || coming.worker > 1_000_000;
        self.handle(Event::Registered {
            worker: WorkerId(coming.worker),
            joining: Joining {
                session: SessionId(coming.session),
                incarnation: Incarnation([coming.life; 16]),
                role: if is_task { Role::Task } else { Role::Core },
                slots: coming.slots,
                memory_bytes: 1 << 30,
                host: format!("host{}", coming.worker),
                rack: coming.rack.to_owned(),
                address: format!("host{}:1", coming.worker),
                pid: 1,
                running: coming.running,
                held_pages: coming.held_pages,
            },
        });
    }

    /// Submits a job and stages its outputs.
    pub(crate) fn run(&mut self, spec: &JobSpec, hints: Vec<TaskHints>) -> JobId {
        let job = plans::id_of(spec);
        self.handle(Event::Submit { spec: Box::new(spec.clone()), hints, wall_ms: self.now_ms });
        assert!(
            self.saw(|command| matches!(command, Command::Admit { known: false, .. })),
            "{:?}",
            self.commands
        );
        self.handle(Event::Staged { job, result: Ok(()) });
        job
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now_ms += 100;
            self.handle(Event::Tick { wall_ms: self.now_ms });
        }
    }

    /// Time passes, and these sessions beat.
    pub(crate) fn pass_with(&mut self, ms: u64, sessions: &[u64]) {
        for _ in 0..ms / 100 {
            for session in sessions {
                self.handle(Event::Heartbeat { session: SessionId(*session), running: Vec::new() });
            }
            self.pass(100);
        }
    }

    /// The manifest of the job that is to be published.
    pub(crate) fn manifest(&self) -> Option<String> {
        self.commands.iter().rev().find_map(|command| match command {
            Command::Publish { manifest, .. } => Some(manifest.clone()),
            _ => None,
        })
    }

    pub(crate) fn saw(&self, wanted: impl Fn(&Command) -> bool) -> bool {
        self.commands.iter().any(wanted)
    }

    /// (session, attempt) of the launches of the last event.
    pub(crate) fn launched(&self) -> Vec<(u64, AttemptId)> {
        let launch = |command: &Command| match command {
            Command::Launch { session, launch } => Some((session.0, attempt_of(launch))),
            _ => None,
        };
        self.commands.iter().filter_map(launch).collect()
    }

    /// Sessions and attempts that are ordered to end.
    pub(crate) fn killed(&self) -> Vec<(u64, AttemptId)> {
        let killed = self.commands.iter().filter_map(|command| match command {
            Command::Kill { session, attempt, .. } => Some((session.0, *attempt)),
            _ => None,
        });
        killed.collect()
    }

    /// The memory that the launches of the last event give.
    pub(crate) fn given_bytes(&self) -> Vec<u64> {
        let given = |command: &Command| match command {
            Command::Launch { launch, .. } => Some(launch.memory_bytes),
            _ => None,
        };
        self.commands.iter().filter_map(given).collect()
    }

    /// The attempt is done; the stream's worker of the same number holds its map output.
    pub(crate) fn done(&mut self, spec: &JobSpec, session: u64, attempt: AttemptId) {
        let result = match attempt.number & CUT_BIT {
            0 => plans::result(spec, attempt, session, 0),
            _ => AttemptResult { cuts: vec![7].into(), ..AttemptResult::default() },
        };
        self.told(session, attempt, TaskReport::Done(Box::new(result)));
    }

    pub(crate) fn failed(&mut self, session: u64, attempt: AttemptId, kind: Kind, message: &str) {
        let (message, stderr_tail) = (message.to_owned(), "at the end\n".to_owned());
        let failure = AttemptFailure { kind: kind as i32, message, stderr_tail, ..AttemptFailure::default() };
        self.told(session, attempt, TaskReport::Failed(failure));
    }

    pub(crate) fn told(&mut self, session: u64, attempt: AttemptId, report: TaskReport) {
        let (session, wall_ms) = (SessionId(session), self.now_ms);
        self.handle(Event::Ended { session, attempt, report, wall_ms });
    }

    pub(crate) fn fetch_failed(
        &mut self,
        session: u64,
        reader: AttemptId,
        output: AttemptId,
        kind: fetch_failed::Kind,
    ) {
        let report = FetchFailed {
            reader: Some(reader.to_wire()),
            output: Some(output.to_wire()),
            kind: kind as i32,
            ..FetchFailed::default()
        };
        self.handle(Event::FetchFailed { session: SessionId(session), reader, output, report });
    }

    pub(crate) fn holds(&mut self, session: u64, job: JobId, attempts: &[AttemptId]) {
        let held = |attempt: &AttemptId| HeldOutput {
            stage: attempt.task.stage,
            task: attempt.task.task,
            number: attempt.number,
        };
        let outputs = attempts.iter().map(held).collect();
        self.handle(Event::Held { session: SessionId(session), job, outputs });
    }

    /// A new master on the records of the former.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.core = Core::new(CoreOptions::default(), Epoch(self.epoch));
        for record in self.records.clone() {
            self.core.restore(record);
        }
        self.now_ms += 10;
        self.handle(Event::Tick { wall_ms: self.now_ms });
    }

    pub(crate) fn status(&self, job: JobId) -> JobStatus {
        self.core.status(job).expect("the job is known")
    }

    pub(crate) fn state(&self, job: JobId) -> State {
        self.status(job).state()
    }
}

pub(crate) fn coming(worker: u64) -> Coming {
    Coming { worker, session: worker, life: 1, slots: 1, rack: "", running: Vec::new(), held_pages: 0 }
}

pub(crate) fn attempt_of(launch: &Launch) -> AttemptId {
    AttemptId::from_wire(launch.attempt.as_ref().expect("an attempt")).expect("whole")
}

pub(crate) fn attempt(job: JobId, stage: u32, task: u32, number: u32) -> AttemptId {
    TaskId { job, stage, task }.attempt(number)
}
