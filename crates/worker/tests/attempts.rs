//! Attempts as child processes, good ones and bad ones: each has its own clear end, and the worker lives on.
#![forbid(unsafe_code)]

mod house;

use std::fs;

use gristmill_proto::auth::ShuffleOperation;
use gristmill_proto::ids::{AttemptId, Epoch, JobId};
use gristmill_proto::task::attempt_failure::Kind as Failure;
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order;
use gristmill_proto::task::refused::Reason;
use gristmill_proto::task::{
    AttemptFailure, DropOutput, EndJob, Holder, KillAttempt, Launch, OutputEntry, Outputs, ReadLog, Refused,
};
use gristmill_worker::Role;
use house::{House, Stream, TASK_WORKER, child, eventually, processes_in};

/// Runs an attempt that does not end well.
fn failure(house: &House, stream: &Stream, behaviour: &str) -> AttemptFailure {
    let attempt = stream.launch(&house.job(behaviour), 0);
    let failure = stream.failed(attempt);
    stream.accept(attempt, false);
    failure
}

#[test]
fn bad_programs_have_clear_ends_and_the_worker_lives_on() {
    let house = House::build();
    let (worker, stream) = house.core();
    let fails = |behaviour: &str, kind: Failure, part: &str| {
        let failure = failure(&house, &stream, behaviour);
        assert_eq!(failure.kind(), kind, "{behaviour}: {failure:?}");
        assert!(failure.message.contains(part), "{behaviour}: {failure:?}");
        failure
    };
    fails("fail", Failure::Author, "line 12 is no number");
    fails("status 0", Failure::Exited, "child ended with status 0 without having said that it is done");
    let panicked = fails("panic", Failure::Exited, "ended with status 101");
    assert!(panicked.stderr_tail.contains("the author did not think of this"), "{panicked:?}");
    fails("garbage", Failure::Program, "does not speak as a job program does");
    fails("silent end", Failure::Program, "is no job program");
    fails("another plan", Failure::Plan, "differs in line 3");
    fails("close", Failure::Exited, "closed its connection");
    fails("long result", Failure::Program, "of at most 12582912");
    fails("map nothing", Failure::Scratch, "map output");

    let program = |name: &str, content: &[u8]| {
        let attempt = stream.launch(&house.job_of("done", name, content), 0);
        let failure = stream.failed(attempt);
        assert_eq!(failure.kind(), Failure::Program, "{name}: {failure:?}");
        failure.message
    };
    let said = program("true", &fs::read("/bin/true").expect("a program"));
    assert!(said.contains("true ended with status 0 and is no job program"), "{said}");
    let said = program("notes", b"milk, bread\n");
    assert!(said.contains("it is no executable file"), "{said}");
    let mut foreign = fs::read(child()).expect("the program");
    foreign[18..20].copy_from_slice(&[0xf3, 0x7f]);
    let said = program("foreign", &foreign);
    assert!(said.contains("built for another kind of machine"), "{said}");
    let mut wrong = house.job("done");
    wrong.program.as_mut().expect("a program").sha256 = vec![0; 32].into();
    let attempt = stream.launch(&wrong, 0);
    let said = stream.failed(attempt);
    assert_eq!(said.kind(), Failure::Program, "{said:?}");
    assert!(said.message.contains("is not the file that was submitted"), "{said:?}");

    let attempt = stream.launch(&house.job("done"), 0);
    assert_eq!(stream.done(attempt).records_in, 7);
    eventually("no process is left", || processes_in(&worker.scratch()) == 0);
    worker.stop();
}

#[test]
fn gigabytes_of_output_cost_a_bounded_file() {
    let house = House::build();
    let (worker, stream) = house.core();
    let attempt = stream.launch(&house.job("loud"), 0);
    stream.done(attempt);
    for (stderr, last) in [(false, "the last of stdout\n"), (true, "the last of stderr\n")] {
        let (text, dropped) = stream.log(attempt, stderr);
        assert!(text.ends_with(last), "{}", &text[text.len() - 100..]);
        assert_eq!(text.len(), 1 << 20);
        assert!(dropped > 15 << 20, "{dropped}");
    }
    let unknown = AttemptId { number: 9, ..attempt };
    let read = ReadLog { request: 6, attempt: Some(unknown.to_wire()), ..ReadLog::default() };
    stream.order(Order::ReadLog(read));
    let failure = stream.expect("an answer", |notice| match notice {
        Notice::LogPage(page) if page.request == 6 && page.last => Some(page.failure.clone()),
        _ => None,
    });
    assert!(failure.contains("no log"), "{failure}");
    worker.stop();
}

#[test]
fn an_order_to_kill_ends_the_whole_family() {
    let house = House::build();
    let (worker, stream) = house.core();
    let attempt = stream.launch(&house.job("hang"), 0);
    let silent_ms = stream.expect("progress", |notice| match notice {
        Notice::Heartbeat(beat) => beat.running.iter().find(|it| it.records == 5).map(|it| it.silent_ms),
        _ => None,
    });
    assert!(silent_ms < 60_000);
    eventually("its family is there", || processes_in(&worker.scratch()) >= 3);
    let reason = "killed by ann".to_owned();
    stream.order(Order::Kill(KillAttempt { attempt: Some(attempt.to_wire()), reason }));
    let failure = stream.failed(attempt);
    assert_eq!((failure.kind(), &failure.message[..]), (Failure::Killed, "killed by ann"));
    assert_eq!(processes_in(&worker.scratch()), 0);

    // Done, and what it started goes on, in its group or not: not beyond the end of the job.
    let forks = house.job("fork");
    let attempt = stream.launch(&forks, 0);
    stream.done(attempt);
    stream.order(Order::EndJob(EndJob { job: forks.job.clone() }));
    eventually("no process is left", || processes_in(&worker.scratch()) == 0);
    // Done, and does not go away.
    let lingers = stream.launch(&house.job("linger"), 0);
    stream.done(lingers);
    assert_eq!(processes_in(&worker.scratch()), 0);
    worker.stop();
}

#[test]
fn map_outputs_are_kept_until_they_are_dropped_or_the_job_ends() {
    let house = House::build();
    let (worker, stream) = house.core();
    let spec = house.job("map");
    let attempt = stream.launch(&spec, 0);
    let output = stream.done(attempt).map_output.expect("a map output");
    assert_eq!((output.worker, output.digest.len()), (stream.register.worker, 16));
    stream.accept(attempt, true);
    let shuffle = worker.scratch().join("shuffle").join(attempt.task.job.to_string()).join("outputs");
    let file = shuffle.join(format!("{}.run", attempt.name()));
    assert_eq!(fs::metadata(&file).expect("it is there").len(), output.bytes);

    // The next life still has it, and says so.
    drop(stream);
    worker.stop();
    let (worker, stream) = house.core();
    assert_eq!(stream.register.held_pages, 1);
    let held = stream.expect("what is held", |notice| match notice {
        Notice::Held(held) => Some(held.clone()),
        _ => None,
    });
    assert_eq!((&held.job, held.outputs.len()), (&spec.job, 1));
    stream.order(Order::DropOutput(DropOutput { attempt: Some(attempt.to_wire()) }));
    eventually("it is dropped", || !file.exists());

    let attempt = stream.launch(&spec, 0);
    stream.done(attempt);
    assert!(file.exists());
    stream.order(Order::EndJob(EndJob { job: spec.job.clone() }));
    eventually("everything of the job is gone", || {
        let left = |name: &str| fs::read_dir(worker.scratch().join(name)).expect("a list").count();
        left("shuffle") + left("attempts") + left("job-files") == 0
    });
    assert_eq!(stream.log(attempt, true).0, "", "its logs are kept for a while");
    worker.stop();
}

#[test]
fn a_task_worker_gives_its_map_output_away() {
    let house = House::build();
    let (core, of_core) = house.core();
    let task = house.worker("task", Role::Task);
    let stream = house.welcome();
    assert_eq!(
        (stream.register.worker, stream.register.role()),
        (0, gristmill_proto::task::register::Role::Task)
    );
    let spec = house.job("map");
    let job = JobId::from_wire(&spec.job).expect("an id");
    let operations = [ShuffleOperation::Fetch, ShuffleOperation::Keep];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let token = house.key.shuffle_token(house.cluster, Epoch(1), job, &operations, now.as_millis() as u64);
    let core_holder = Holder { worker: of_core.register.worker, address: of_core.register.address.clone() };
    let nobody = Holder { worker: 99, address: "127.0.0.1:1".to_owned() };
    let keep = vec![nobody.clone(), core_holder.clone()];
    let attempt = stream.launch_with(&spec, 0, Launch { keep, ..Launch::default() }, token.clone());
    let result = stream.done(attempt);
    assert_eq!(result.map_output.expect("a map output").worker, core_holder.worker);
    let file = |worker: &house::Worker| {
        let outputs = worker.scratch().join("shuffle").join(job.to_string()).join("outputs");
        outputs.join(format!("{}.run", attempt.name()))
    };
    assert!(file(&core).exists() && !file(&task).exists());

    // Nobody takes it: it stays, and people are told.
    stream.accept(attempt, true);
    let keep = vec![nobody];
    let attempt = stream.launch_with(&house.job("map"), 0, Launch { keep, ..Launch::default() }, token);
    let result = stream.done(attempt);
    assert_eq!(result.map_output.expect("a map output").worker, TASK_WORKER);
    assert!(result.note.contains("no core worker took the map output"), "{}", result.note);

    // It is the same worker when it comes back.
    drop(stream);
    task.stop();
    let task = house.worker("task", Role::Task);
    let stream = house.welcome();
    assert_eq!((stream.register.worker, stream.register.held_pages), (TASK_WORKER, 1));
    task.stop();
    core.stop();
}

#[test]
fn a_reader_hears_of_news_and_its_complaints_are_heard() {
    let house = House::build();
    let (worker, stream) = house.core();
    let spec = house.job("fetch");
    let news = |number| {
        let entry = OutputEntry { stage: 0, task: 2, number, holder: 9, ..OutputEntry::default() };
        let holders = vec![Holder { worker: 9, address: "127.0.0.1:1".to_owned() }];
        let job = spec.job.clone();
        Order::Outputs(Outputs { job, entries: vec![entry], holders, expected: 4, ..Outputs::default() })
    };
    let attempt = stream.launch(&spec, 1);
    stream.order(news(0));
    let report = stream.expect("a complaint", |notice| match notice {
        Notice::FetchFailed(report) => Some(report.clone()),
        _ => None,
    });
    assert_eq!(report.reader, Some(attempt.to_wire()));
    assert_eq!(report.output.expect("of an output").task, 2);
    // The stream breaks; the attempt runs on, and its complaint is told again.
    drop(stream);
    let stream = house.welcome();
    assert_eq!(stream.register.running, [attempt.to_wire()]);
    stream.expect("the complaint", |notice| matches!(notice, Notice::FetchFailed(_)).then_some(()));
    stream.order(news(1));
    stream.done(attempt);
    drop(stream);
    // Not accepted: told again.
    let stream = house.welcome();
    stream.done(attempt);
    worker.stop();
}

#[test]
fn a_worker_that_is_told_to_end_ends_its_attempts_first() {
    let house = House::build();
    let (worker, stream) = house.core();
    let scratch = worker.scratch();
    let attempt = stream.launch(&house.job("hang"), 0);
    eventually("it runs", || processes_in(&scratch) > 0);
    let ending = std::thread::spawn(move || worker.stop());
    let failure = stream.failed(attempt);
    assert_eq!(failure.kind(), Failure::Worker, "{failure:?}");
    stream.accept(attempt, false);
    ending.join().expect("it ends well");
    assert_eq!(processes_in(&scratch), 0);
}

#[test]
fn a_worker_that_was_given_up_starts_anew_with_nothing() {
    let house = House::build();
    let (worker, stream) = house.core();
    let maps = house.job("map");
    let map = stream.launch(&maps, 0);
    stream.done(map);
    let hangs = stream.launch(&house.job("hang"), 0);
    eventually("it runs", || processes_in(&worker.scratch()) > 0);
    let reason = Reason::Fenced as i32;
    stream.order(Order::Refused(Refused { reason, detail: "silent for too long".to_owned() }));
    let anew = house.welcome();
    assert_eq!(anew.register.worker, stream.register.worker);
    assert_ne!(anew.register.incarnation, stream.register.incarnation);
    assert_eq!((anew.register.running.len(), anew.register.held_pages), (0, 0));
    assert_eq!(processes_in(&worker.scratch()), 0, "{hangs} has ended");
    // The same job may begin here again at once.
    let again = anew.launch(&maps, 0);
    assert!(anew.done(again).map_output.is_some());
    worker.stop();
}

#[test]
fn a_worker_that_is_not_wanted_ends_with_a_sentence() {
    let house = House::build();
    let task = house.worker("task", Role::Task);
    let stream = house.stream();
    let reason = Reason::WrongCluster as i32;
    stream.order(Order::Refused(Refused { reason, detail: "this is another cluster".to_owned() }));
    let ended = task.ended().expect_err("refused");
    assert!(ended.to_string().contains("(WRONG_CLUSTER): this is another cluster"), "{ended}");
}
