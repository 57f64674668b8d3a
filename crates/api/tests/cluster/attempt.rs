//! What a worker does with attempts: starts the program as a child with one end of a socket, and speaks with it.

use crate::cluster::Cluster;
use crate::jobs::Submitted;
use gristmill_dataflow::shuffle::OutputStore;
use gristmill_dfs::file_system::Access;
use gristmill_dfs::{Existing, SharedOutputs, StagedFile, Uri};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attempt::from_attempt::Message as Said;
use gristmill_proto::attempt::{Begin, FromAttempt, Stop, ToAttempt, to_attempt};
use gristmill_proto::ids::{AttemptId, CUT_BIT, JobId, TaskId};
use gristmill_proto::job::stage::{Origin, Target};
use gristmill_proto::job::{JobSpec, job_status};
use gristmill_proto::report::{CounterReport, Report};
use gristmill_proto::task::launch;
use gristmill_proto::task::{AttemptResult, OutputEntry, Outputs};
use prost::Message;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nothing that a story waits for takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
const WORKER: u64 = 7;
const MEMORY_BYTES: u64 = 64 << 20;

/// A worker with one job.
pub(crate) struct Worker<'c> {
    cluster: &'c Cluster,
    pub(crate) spec: JobSpec,
    job: JobId,
    store: OutputStore,
    job_file: PathBuf,
    /// Attempts that were started.
    started: usize,
}

/// A running attempt; killed when a story fails.
pub(crate) struct Attempt {
    child: Child,
    socket: UnixStream,
}

impl<'c> Worker<'c> {
    pub(crate) fn new(cluster: &'c Cluster, submitted: &Submitted) -> Worker<'c> {
        let spec = submitted.spec.clone();
        let job = JobId::from_wire(&spec.job).expect("an id");
        let disk = cluster.path("worker");
        std::fs::create_dir_all(&disk).expect("a directory");
        let store = OutputStore::open(&[disk]).expect("a store");
        let job_file = cluster.path("job-file");
        std::fs::write(&job_file, cluster.get(&spec.job_file)).expect("written");
        Worker { cluster, spec, job, store, job_file, started: 0 }
    }

    /// The first attempt at a task of the plan.
    pub(crate) fn start(&mut self, stage: u32, task: u32) -> Attempt {
        self.start_as(stage, task, launch::Kind::Task)
    }

    fn start_as(&mut self, stage: u32, task: u32, kind: launch::Kind) -> Attempt {
        self.started += 1;
        let number = if kind == launch::Kind::Cut { CUT_BIT } else { 0 };
        let attempt = TaskId { job: self.job, stage, task }.attempt(number);
        let scratch = self.cluster.path(&format!("scratch-{}", self.started));
        std::fs::create_dir(&scratch).expect("a directory");
        let dirs = self.store.job_dirs(self.job);
        let begin = Begin {
            version: PROTOCOL_VERSION,
            attempt: Some(attempt.to_wire()),
            kind: kind.into(),
            spec: Some(self.spec.clone()),
            job_file: self.job_file.display().to_string(),
            memory_bytes: MEMORY_BYTES,
            scratch: scratch.display().to_string(),
            map_output: self.store.place(0, attempt).expect("a place").display().to_string(),
            master: self.cluster.master.clone(),
            worker: WORKER,
            outputs_dirs: dirs.iter().map(|dir| dir.display().to_string()).collect(),
            user: Access::from_environment().user,
            shuffle: self.spec.stages[stage as usize].shuffle,
            ..Begin::default()
        };
        let mut attempt = Attempt::start(&scratch);
        attempt.tell(to_attempt::Message::Begin(begin));
        attempt
    }

    /// Runs the whole job, one attempt after the other, and publishes what they leave.
    pub(crate) fn run_job(mut self) {
        let uris = self.spec.outputs.iter().map(|output| Uri::parse(&output.uri).expect("a URI"));
        let uris: Vec<Uri> = uris.collect();
        let existing = Existing::of(self.spec.overwrite, self.spec.append);
        let outputs = SharedOutputs::new(&uris, self.job, existing, None).expect("outputs");
        outputs.begin().expect("staged");
        let mut files = Vec::new();
        let mut report = Report { job: self.spec.name.clone(), ..Report::default() };
        report.job_id = Some(self.job.to_string());
        let counters = self.spec.counters.iter().map(|name| CounterReport { name: name.clone(), value: 0 });
        report.counters = counters.collect();
        for stage in 0..self.spec.stages.len() as u32 {
            for (attempt, result) in self.run_stage(stage) {
                for (counter, value) in report.counters.iter_mut().zip(result.counters) {
                    counter.value += value;
                }
                files.extend(result.parts.into_iter().map(|part| {
                    let attempt = attempt.name();
                    (
                        part.output as usize,
                        StagedFile { attempt, name: part.name, bytes: part.bytes, receipt: part.receipt },
                    )
                }));
            }
        }
        let json = serde_json::to_string(&report).expect("JSON");
        outputs.publish(&files, json.as_bytes()).expect("published");
        self.cluster.jobs.show(self.job, |status| {
            status.state = job_status::State::Done.into();
            status.report_json = json;
        });
    }

    fn run_stage(&mut self, stage: u32) -> Vec<(AttemptId, AttemptResult)> {
        let placed = self.spec.stages[stage as usize].clone();
        let outputs = (placed.origin() == Origin::Shuffle).then(|| self.outputs(stage, placed.shuffle));
        let mut results = Vec::new();
        for task in 0..placed.tasks {
            let mut attempt = self.start(stage, task);
            if let Some(outputs) = &outputs {
                attempt.tell(to_attempt::Message::Outputs(outputs.clone()));
            }
            let id = TaskId { job: self.job, stage, task }.attempt(0);
            let result = attempt.done();
            if placed.target() == Target::ToShuffle {
                let output = result.map_output.clone().expect("a map output");
                assert_eq!((output.worker, output.digest.len()), (WORKER, 16));
                assert_eq!(self.store.add(0, id).expect("it is whole"), output.bytes);
            }
            results.push((id, result));
        }
        results
    }

    /// Where the map outputs are that `stage` reads, and the cuts, if they are to be cut.
    fn outputs(&mut self, stage: u32, shuffle: u32) -> Outputs {
        let feeds = |stage: &gristmill_proto::job::Stage| {
            stage.target() == Target::ToShuffle && stage.target_index == shuffle
        };
        let mut outputs = Outputs { job: self.spec.job.clone(), shuffle, ..Outputs::default() };
        for (number, feeder) in self.spec.stages.iter().enumerate().filter(|(_, stage)| feeds(stage)) {
            outputs.expected += feeder.tasks;
            let entry =
                |task| OutputEntry { stage: number as u32, task, holder: WORKER, ..OutputEntry::default() };
            outputs.entries.extend((0..feeder.tasks).map(entry));
        }
        if self.spec.shuffles[shuffle as usize].range {
            let mut attempt = self.start_as(stage, 0, launch::Kind::Cut);
            attempt.tell(to_attempt::Message::Outputs(outputs.clone()));
            outputs.cuts = attempt.done().cuts;
        }
        outputs
    }
}

impl Attempt {
    fn start(scratch: &std::path::Path) -> Attempt {
        let (socket, theirs) = UnixStream::pair().expect("sockets");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut command = Command::new(std::env::current_exe().expect("this file"));
        command.env_clear().env("GRISTMILL_ATTEMPT", "0").current_dir(scratch);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
        Attempt { child: command.spawn().expect("the program starts"), socket }
    }

    pub(crate) fn tell(&mut self, message: to_attempt::Message) {
        let frame = ToAttempt { message: Some(message) }.encode_to_vec();
        self.socket.write_all(&(frame.len() as u32).to_le_bytes()).expect("written");
        self.socket.write_all(&frame).expect("written");
    }

    pub(crate) fn stop(&mut self, reason: &str) {
        self.tell(to_attempt::Message::Stop(Stop { reason: reason.to_owned() }));
    }

    fn hear(&mut self) -> Said {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).expect("it says something");
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        self.socket.read_exact(&mut frame).expect("it says all of it");
        FromAttempt::decode(&frame[..]).expect("a message").message.expect("of a kind")
    }

    /// Waits until it has said that it is a job program.
    pub(crate) fn greeted(&mut self) -> String {
        match self.hear() {
            Said::Hello(hello) => hello.fingerprint,
            other => panic!("it said {other:?}"),
        }
    }

    /// Its last word, after which it ends.
    pub(crate) fn last_word(mut self) -> Said {
        loop {
            match self.hear() {
                Said::Hello(_) | Said::Progress(_) => {}
                last => {
                    self.child.wait().expect("it is our child");
                    return last;
                }
            }
        }
    }

    fn done(self) -> AttemptResult {
        match self.last_word() {
            Said::Done(result) => result,
            other => panic!("it said {other:?}"),
        }
    }

    /// The worker dies: whether its child ends by itself is all that is left to know.
    pub(crate) fn abandon(mut self) -> std::process::ExitStatus {
        self.socket.shutdown(std::net::Shutdown::Both).expect("shut down");
        self.child.wait().expect("it is our child")
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("it is our child");
        }
    }
}
