//! Masters that die, between any two steps of a job, and come back on their store.

use std::fs;
use std::time::Instant;

use gristmill_dfs::client::{ClientOptions, DfsClient};
use gristmill_proto::ids::JobId;
use gristmill_proto::job::job_status::State;

use crate::process::{Master, PATIENCE};
use crate::user::{User, map_only, write_part};
use crate::worker::{Identity, Worker};

#[tokio::test]
async fn a_job_that_was_submitted_runs_under_the_next_master() {
    let mut master = Master::start();
    let output = master.dir.path().join("out");
    let (job, spec) = map_only(&output);
    assert!(!User::of(&master).await.submit(&spec).await.unwrap().known_before);

    master.restart();
    let user = User::of(&master).await;
    assert!(user.submit(&spec).await.unwrap().known_before, "a driver asks again");
    let mut worker = Worker::join(&master, &Identity::new(1), &[]).await;
    assert_eq!(worker.epoch, 2);
    let (_, attempt) = worker.launched().await;
    worker.done(attempt, vec![write_part(&spec, attempt, "to be\n")]).await;
    user.wait_for(job, State::Done).await;
    assert!(output.join("part-m-00000").exists());
}

#[tokio::test]
async fn a_job_goes_on_wherever_its_master_is_killed() {
    let mut master = Master::start();
    let output = master.dir.path().join("out");
    let (job, spec) = map_only(&output);
    User::of(&master).await.submit(&spec).await.unwrap();
    let identity = Identity::new(1);
    let mut worker = Worker::join(&master, &identity, &[]).await;
    let (_, attempt) = worker.launched().await;
    let part = write_part(&spec, attempt, "to be\n");

    // While an attempt runs: the worker still has it, and it is not run twice.
    master.restart();
    let mut worker = Worker::join(&master, &identity, &[attempt]).await;
    worker.done(attempt, vec![part.clone()]).await;
    assert!(worker.accepted(attempt).await, "its end is told to the next master, and counts");

    // After the winner was accepted, at whatever moment of the commit that is.
    master.restart();
    let user = User::of(&master).await;
    user.wait_for(job, State::Done).await;
    assert_eq!(fs::read_to_string(output.join("part-m-00000")).unwrap(), "to be\n");
    let mut worker = Worker::join(&master, &identity, &[]).await;
    worker.done(attempt, vec![part]).await;
    worker.accepted(attempt).await;

    // After its end.
    master.restart();
    let status = User::of(&master).await.wait_for(job, State::Done).await;
    assert!(!status.report_json.is_empty(), "its report is kept");
    assert!(output.join("_SUCCESS").exists());
}

#[tokio::test]
async fn what_was_said_to_an_earlier_master_is_not_believed_by_the_next() {
    let mut master = Master::start();
    let (job, spec) = map_only(&master.dir.path().join("out"));
    User::of(&master).await.submit(&spec).await.unwrap();
    let identity = Identity::new(1);
    let mut worker = Worker::join(&master, &identity, &[]).await;
    let old_epoch = worker.epoch;
    let (_, attempt) = worker.launched().await;
    let part = write_part(&spec, attempt, "to be\n");

    master.restart();
    let mut worker = Worker::join(&master, &identity, &[attempt]).await;
    let epoch = std::mem::replace(&mut worker.epoch, old_epoch);
    worker.done(attempt, Vec::new()).await;
    worker.epoch = epoch;
    worker.done(attempt, vec![part]).await;
    assert!(worker.accepted(attempt).await, "the second counts: the first was dropped");
    User::of(&master).await.wait_for(job, State::Done).await;
    assert!(master.dir.path().join("out/part-m-00000").exists());
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_left_as_it_is() {
    let mut master = Master::start();
    master.kill();
    let path = master.data_dir().join("jobs.redb");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 3]).unwrap();
    let said = master.refusal();
    assert!(said.contains("jobs.redb"), "{said}");
    assert_eq!(fs::read(&path).unwrap().len(), whole.len() / 3);
    fs::write(&path, whole).unwrap();
    master.begin();
}

#[tokio::test]
async fn what_a_driver_left_that_never_submitted_is_swept_once_it_is_old() {
    let mut master = Master::start();
    let (job, spec) = map_only(&master.dir.path().join("out"));
    User::of(&master).await.submit(&spec).await.unwrap();
    let directory = |job: JobId| format!("/.gristmill/jobs/{job}");
    let (live, old, young) = (directory(job), directory(JobId::random()), directory(JobId::random()));
    let client = |master: &Master| {
        let options = ClientOptions { user: "root".to_owned(), ..ClientOptions::new(master.address()) };
        move || DfsClient::connect(options).unwrap()
    };
    let (connect, paths) = (client(&master), [live.clone(), old.clone(), young.clone()]);
    let make = move || {
        let client = connect();
        for path in &paths {
            client.make_directory(&format!("{path}/below"), true, 0o755).unwrap();
        }
        for path in &paths[..2] {
            client.set_times(path, 1_000_000_000_000, 0).unwrap();
        }
    };
    tokio::task::spawn_blocking(make).await.unwrap();

    master.restart();
    let connect = client(&master);
    let look = move || {
        let (client, started) = (connect(), Instant::now());
        while client.stat(&old).is_ok() {
            assert!(started.elapsed() < PATIENCE, "{old} is still there");
            std::thread::yield_now();
        }
        client.stat(&young).expect("its driver may yet submit it");
        client.stat(&live).expect("its job is under way");
    };
    tokio::task::spawn_blocking(look).await.unwrap();
}
