//! Jobs from their submission to their end.

use std::fs;

use gristmill_proto::job::job_status::State;
use gristmill_proto::job::{ListJobs, ListTasksRequest, ReadLogRequest};
use gristmill_proto::task::LogPage;
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order;
use tonic::Code;

use crate::process::Master;
use crate::user::{User, map_only, write_part};
use crate::worker::{Identity, Worker};

#[tokio::test]
async fn a_job_of_one_map_task_is_done_and_its_output_appears() {
    let master = Master::start();
    let user = User::of(&master).await;
    let output = master.dir.path().join("out");
    let (job, spec) = map_only(&output);
    assert!(!user.submit(&spec).await.unwrap().known_before);
    let mut states = user.watch(job).await.unwrap();

    let mut worker = Worker::join(&master, &Identity::new(1), &[]).await;
    assert_eq!(worker.welcome.worker, 1);
    assert!(!worker.welcome.open_key.is_empty(), "without a secret workers are told the key");
    let (start, attempt) = worker.launched().await;
    assert_eq!(start.spec.as_ref(), Some(&spec));
    assert_eq!((start.caller_token.as_str(), start.shuffle_token.is_empty()), ("", false));
    assert!(!output.exists());
    worker.done(attempt, vec![write_part(&spec, attempt, "to be\n")]).await;
    assert!(worker.accepted(attempt).await);

    let mut last = None;
    while let Some(status) = states.message().await.unwrap() {
        last = Some(status);
    }
    let last = last.expect("a watch shows something");
    assert_eq!((last.state(), last.reason.as_str()), (State::Done, ""), "a watch ends with the end state");
    assert_eq!(fs::read_to_string(output.join("part-m-00000")).unwrap(), "to be\n");
    let success = fs::read_to_string(output.join("_SUCCESS")).unwrap();
    assert_eq!(success.trim_end(), last.report_json.trim_end());
    loop {
        if let Some(Order::EndJob(end)) = worker.next().await {
            assert_eq!(end.job[..], job.0);
            break;
        }
    }
}

#[tokio::test]
async fn the_same_job_again_is_the_same_job_and_another_with_its_id_is_refused() {
    let master = Master::start();
    let user = User::of(&master).await;
    let (job, spec) = map_only(&master.dir.path().join("out"));
    assert!(!user.submit(&spec).await.unwrap().known_before);
    let again = user.submit(&spec).await.unwrap();
    assert!(again.known_before);
    assert_eq!(again.job[..], job.0);
    let other = gristmill_proto::job::JobSpec { name: "another".to_owned(), ..spec };
    assert_eq!(user.submit(&other).await.unwrap_err().code(), Code::AlreadyExists);
    let mut listed =
        user.client().list(user.request(ListJobs { all: true, limit: 0 })).await.unwrap().into_inner();
    assert_eq!(listed.message().await.unwrap().unwrap().name, "word count");
    assert!(listed.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_job_whose_output_exists_fails_and_says_so() {
    let master = Master::start();
    let user = User::of(&master).await;
    let output = master.dir.path().join("out");
    fs::create_dir(&output).unwrap();
    fs::write(output.join("mine"), "").unwrap();
    let (job, spec) = map_only(&output);
    user.submit(&spec).await.unwrap();
    let status = user.wait_for(job, State::Failed).await;
    assert!(status.reason.contains("out") && status.reason.contains("exists"), "{}", status.reason);
    assert!(output.join("mine").exists());
}

#[tokio::test]
async fn its_owner_or_the_superuser_kills_a_job_and_nobody_else() {
    let master = Master::start();
    let user = User::of(&master).await;
    for killer in ["ann", "root"] {
        let output = master.dir.path().join(killer);
        let (job, spec) = map_only(&output);
        user.submit(&spec).await.unwrap();
        for stranger in ["bob", ""] {
            let error = user.kill(job, stranger).await.unwrap_err();
            assert_eq!(error.code(), Code::PermissionDenied);
            assert!(error.message().contains("it is ann's"), "{}", error.message());
        }
        assert!(user.kill(job, killer).await.unwrap().found);
        let status = user.wait_for(job, State::Killed).await;
        assert!(status.reason.contains(&format!("killed by {killer}")), "{}", status.reason);
        assert!(user.kill(job, killer).await.unwrap().detail.contains("has ended already"));
        assert!(!output.exists());
    }
    assert!(!user.kill(gristmill_proto::ids::JobId::random(), "ann").await.unwrap().found);
}

#[tokio::test]
async fn tasks_and_logs_of_a_running_attempt_can_be_read() {
    let master = Master::start();
    let user = User::of(&master).await;
    let (job, spec) = map_only(&master.dir.path().join("out"));
    user.submit(&spec).await.unwrap();
    let mut worker = Worker::join(&master, &Identity::new(1), &[]).await;
    let (_, attempt) = worker.launched().await;

    let request = ListTasksRequest { job: job.0.to_vec().into(), ..ListTasksRequest::default() };
    let mut pages = user.client().list_tasks(user.request(request)).await.unwrap().into_inner();
    let page = pages.message().await.unwrap().unwrap();
    assert_eq!((page.tasks.len(), page.tasks[0].state.as_str()), (1, "running"));
    assert!(pages.message().await.unwrap().is_none());

    let wire = attempt.to_wire();
    let request = ReadLogRequest {
        job: wire.job,
        stage: wire.stage,
        task: wire.task,
        number: wire.number,
        stderr: true,
        offset: 5,
    };
    let mut chunks = user.client().read_log(user.request(request.clone())).await.unwrap().into_inner();
    let read = loop {
        if let Some(Order::ReadLog(read)) = worker.next().await {
            break read;
        }
    };
    assert_eq!((read.stderr, read.offset), (true, 5));
    for (text, last) in [("first ", false), ("last", true)] {
        let page = LogPage { request: read.request, bytes: text.into(), last, ..LogPage::default() };
        worker.say(Notice::LogPage(page)).await;
    }
    let mut text = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        text.extend(chunk.bytes);
    }
    assert_eq!(text, b"first last");
    let unknown = ReadLogRequest { number: 99, ..request };
    assert_eq!(user.client().read_log(user.request(unknown)).await.unwrap_err().code(), Code::NotFound);
}
