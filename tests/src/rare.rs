//! Rare paths of a cluster, taken on purpose: the faults of a campaign come upon them by chance, or never.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use gristmill_dfs::client::CreateOptions;
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{ReadBlock, Request};
use rustix::process::Signal;
use serde_json::Value;

use crate::blocks::block_files;
use crate::campaign::{ARGS, CORE_WORKERS, Campaign};
use crate::job::{Job, file_uri};
use crate::patience::patiently_for;
use crate::process::Process;
use crate::tally::ANOTHER_OUTPUT;

/// How long a path may take: it means that it is not taken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files that are written at once: of their pipelines one at least begins at either of two workers.
const WRITERS: u32 = 12;
/// A block's number, and one with the same low byte, has its files in the same directory.
const OTHER_BLOCK: u64 = 1 << 40;
/// Several packets of a pipeline.
const ORPHAN_BYTES: usize = 4 << 20;
/// Enough for a map that gives each reduce some.
const ROWS: &str = "20000";

impl Campaign {
    /// Takes each path that no fault of a scenario is sure to lead to.
    ///
    /// # Panics
    /// If one is not taken, or an output is another one.
    pub fn take_rare_paths(&mut self) {
        self.leave_a_process_behind();
        self.refuse_a_map_output();
        self.leave_a_publication();
        self.break_a_write();
        self.ask_without_a_token();
        self.leave_a_file_open();
        self.leave_an_empty_replica();
        self.outlast_a_lease();
        self.scatter_by_chance();
        self.hear_the_dead();
    }

    /// A worker is paused until it is lost, and wakes up: it is refused, and starts anew.
    fn outlast_a_lease(&mut self) {
        let worker = Process::of(self.cluster.worker_id(0));
        let anew = self.said_of(0, "starts anew");
        worker.pause();
        patiently_for(PATIENCE, "the worker to be lost", || {
            let described = self.cluster.describe();
            let workers = described["workers"].as_array().expect("a list");
            let there = workers.iter().find(|known| known["pid"] == worker.id());
            there.is_none_or(|there| there["state"] == "lost")
        });
        worker.signal(Signal::CONT);
        patiently_for(PATIENCE, "it to start anew", || self.said_of(0, "starts anew") > anew);
        self.all_are_there();
    }

    /// A process in another session outlives its worker; and its attempt, when that runs again.
    fn leave_a_process_behind(&mut self) {
        let gate = self.shut("commit");
        let args = ["--fault", "linger", "--output", "dfs:///lingered", "--max-attempts", "2"];
        let job = self.cluster.submit("unruly", &args);
        let mut held = Vec::new();
        patiently_for(PATIENCE, "an attempt to be held", || {
            held = self.held_attempts("commit");
            !held.is_empty()
        });
        let (worker, _) = held[0];
        self.cluster.kill_worker(worker);
        self.cluster.start_worker(worker);
        patiently_for(PATIENCE, "the process to be ended", || {
            self.said_of(worker, "ended processes that an earlier life left") > 0
        });
        fs::remove_file(gate).expect("our gate");
        job.done();
        patiently_for(PATIENCE, "the other to be ended", || {
            let phrase = "ended processes that outlived their attempt";
            (0..self.cluster.worker_count()).any(|worker| self.said_of(worker, phrase) > 0)
        });
        self.all_are_there();
        self.remove("/lingered");
    }

    /// Both core workers die when the task worker is about to give them a map output.
    fn refuse_a_map_output(&mut self) {
        let gate = self.shut("commit");
        let job = self.submit_words("/refused");
        patiently_for(PATIENCE, "an attempt of the task worker to be held", || {
            self.held_attempts("commit").iter().any(|(worker, _)| *worker == CORE_WORKERS)
        });
        (0..CORE_WORKERS).for_each(|worker| self.cluster.kill_worker(worker));
        (0..CORE_WORKERS).for_each(|worker| self.cluster.start_worker(worker));
        fs::remove_file(gate).expect("our gate");
        patiently_for(PATIENCE, "nobody to keep the map output", || {
            self.said_of(CORE_WORKERS, "does not keep it") > 0
        });
        self.is_word_count(&job, "/refused");
    }

    /// The master is told to end while a publication waits for workers; the next one begins before they are back.
    fn leave_a_publication(&mut self) {
        let gate = self.shut("before");
        let job = self.submit_words("/left");
        job.until("the commit", |status| status["state"] == "COMMITTING");
        let workers: Vec<Process> =
            (0..CORE_WORKERS).map(|worker| Process::of(self.cluster.worker_id(worker))).collect();
        workers.iter().for_each(Process::pause);
        fs::remove_file(gate).expect("our gate");
        let out = format!("/.gristmill-{}-0/out", job.id);
        patiently_for(PATIENCE, "the publication to write what says that it is whole", || {
            self.cluster.names_in(&out).iter().any(|name| name.ends_with("_SUCCESS"))
        });
        let ended = self.cluster.stop_master();
        assert!(ended.stderr.contains("outputs are left to the next master"), "{}", ended.stderr);
        self.tally.hear(&ended);
        self.cluster.start_master();
        patiently_for(PATIENCE, "the publication to be asked for again", || {
            self.cluster.said_by_master().contains("it is asked again")
        });
        workers.iter().for_each(|worker| worker.signal(Signal::CONT));
        self.is_word_count(&job, "/left");
    }

    /// A worker dies in the middle of writes.
    fn break_a_write(&mut self) {
        let client = self.cluster.client();
        let path = |number: u32| format!("/broken-{number}");
        let begin = |number| {
            let options = CreateOptions { replication: CORE_WORKERS as u32, ..CreateOptions::default() };
            let mut writer = client.create(&path(number), options).expect("a file");
            writer.write_all(b"some").expect("bytes are taken");
            writer.sync().expect("they are on disk");
            writer
        };
        let writers: Vec<_> = (0..WRITERS).map(begin).collect();
        self.cluster.kill_worker(1);
        for mut writer in writers {
            writer.write_all(b" and more").expect("one worker is enough");
            writer.finish().expect("the file is whole");
        }
        assert!(self.said_of(0, "a write has failed") > 0, "it was further down in some pipeline");
        self.cluster.start_worker(1);
        self.all_are_there();
        for number in 0..WRITERS {
            assert_eq!(self.cluster.get(&path(number)), b"some and more");
            self.remove(&path(number));
        }
    }

    /// A client that has no right to a block, or none any more, asks a worker for it.
    fn ask_without_a_token(&self) {
        let address = self.cluster.client().report().expect("a report").workers[0].address.clone();
        let mut stream = TcpStream::connect(address).expect("the worker takes connections");
        let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 1 };
        let request = Request { operation: Some(Operation::ReadBlock(read)), ..Request::default() };
        bulk::write_frame(&mut stream, FrameKind::Request, 1, &request, &[]).expect("it is short");
        patiently_for(PATIENCE, "a worker to refuse it", || {
            (0..self.cluster.worker_count()).any(|worker| self.said_of(worker, "refused a request") > 0)
        });
    }

    /// A process dies that writes a file: the master closes it, and what workers have of its block becomes one length.
    fn leave_a_file_open(&mut self) {
        let (input, mut held) = std::io::pipe().expect("a pipe");
        let writer = self.cluster.fs().args(["-put", "-", "/orphan"]).stdin(input).start();
        // Far more than a pipe holds: most of it is with the workers when this returns.
        held.write_all(&vec![b'x'; ORPHAN_BYTES]).expect("it is read");
        writer.signal(Signal::KILL);
        writer.end();
        let closed = "a file whose writer is gone is being closed";
        patiently_for(PATIENCE, "the master to close the file", || {
            self.cluster.said_by_master().contains(closed)
        });
        let recovered = "block recovered";
        patiently_for(PATIENCE, "its block to be recovered", || {
            self.cluster.said_by_master().contains(recovered)
        });
        for uri in self.cluster.names_in("/").iter().filter(|uri| uri.contains("orphan")) {
            self.cluster.fs().args(["-rm", "-skipTrash", uri]).run().succeeded();
        }
    }

    /// A crash between the making of a replica's two files leaves an empty one: no signal hits that moment for certain.
    fn leave_an_empty_replica(&mut self) {
        self.cluster.kill_worker(0);
        let files = block_files(&self.cluster.worker_dir(0));
        let one = files.first().expect("the text is there");
        let name = one.file_name().and_then(|name| name.to_str()).expect("a number");
        let block: u64 = name.parse().expect("a number");
        let left = one.with_file_name((block + OTHER_BLOCK).to_string());
        fs::write(&left, "").expect("an empty file");
        self.cluster.start_worker(0);
        patiently_for(PATIENCE, "it to be swept", || !left.exists());
        self.all_are_there();
    }

    /// A map runs again, and gives each reduce other rows than before.
    fn scatter_by_chance(&mut self) {
        let tokens = self.cluster.path("tokens");
        fs::create_dir_all(&tokens).expect("a directory");
        let put = |name: u32| fs::write(tokens.join(name.to_string()), "").expect("a token");
        let place = file_uri(&tokens);
        let args = ["--rows", ROWS, "--tokens", &place, "--output", "dfs:///scattered", "--reducers", "5"];
        let job = self.cluster.submit("fickle", &[&args[..], &["--shuffle", "local"]].concat());
        let of = |status: &Value, number: usize, what: &str| {
            status["stages"][number][what].as_u64().expect("a number")
        };
        job.until("maps to be done", |status| of(status, 0, "done") == of(status, 0, "tasks"));
        let maps = job.tasks();
        let first = maps.iter().find(|task| task["stage"] == 0).expect("a map");
        let holder = first["attempts"][0]["worker"].as_u64().expect("a worker");
        put(0);
        job.until("a reduce to be done", |status| of(status, 1, "done") == 1);
        let workers = 0..self.cluster.worker_count();
        let victim = workers.into_iter().find(|index| self.cluster.worker_number(*index) == holder);
        let victim = victim.expect("it is one of ours");
        self.cluster.kill_worker(victim);
        job.until("a map to be lost", |status| of(status, 0, "lost_attempts") > 0);
        job.until("it to be made again", |status| of(status, 0, "done") == of(status, 0, "tasks"));
        (1..100).for_each(put);
        let warnings = job.done()["warnings"].to_string();
        assert!(warnings.contains("not deterministic"), "{warnings}");
        self.tally.note(ANOTHER_OUTPUT);
        let rows: usize = self.cluster.output("/scattered").counts().iter().map(|part| part.len()).sum();
        assert_eq!(rows.to_string(), ROWS, "every row is there once");
        self.cluster.start_worker(victim);
        self.all_are_there();
        self.remove("/scattered");
        fs::remove_dir_all(&tokens).expect("our directory");
    }

    fn submit_words(&self, output: &str) -> Job {
        let output = format!("dfs://{output}");
        let paths = ["--input", "dfs:///words", "--output", &output];
        self.cluster.submit("word_count", &[&ARGS[..], &paths[..]].concat())
    }

    /// The job ends well, with the output of the local run, and all is as it was before it.
    fn is_word_count(&self, job: &Job, output: &str) {
        let ended = job.command("wait").start().end_within(PATIENCE);
        assert!(ended.status.success(), "{}\n{}", ended.stderr, job.status());
        let found = self.cluster.output(output);
        assert!(found.parts == self.expected.parts, "{output} is not what one machine writes");
        self.all_are_there();
        self.remove(output);
    }

    fn remove(&self, path: &str) {
        self.cluster.client().delete(path, true, true).expect("it is ours");
    }

    fn all_are_there(&self) {
        self.cluster.wait_for_all_slots();
        self.cluster.wait_for_workers(CORE_WORKERS);
    }

    /// How often a worker, in this life, has said so.
    fn said_of(&self, worker: usize, phrase: &str) -> usize {
        self.cluster.said_by_worker(worker).matches(phrase).count()
    }
}
