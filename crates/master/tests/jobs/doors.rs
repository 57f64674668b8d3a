//! Who comes in, and who is shown out.

use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use gristmill_proto::ids::JobId;
use gristmill_proto::job::jobs_client::JobsClient;
use gristmill_proto::job::{
    DescribeRequest, DrainRequest, JobSpec, KillRequest, ListJobs, ListTasksRequest, ReadLogRequest,
    SubmitPart, WatchRequest,
};
use gristmill_proto::namespace::namespace_client::NamespaceClient;
use gristmill_proto::namespace::{Calls, Hello};
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order;
use gristmill_proto::task::tasks_client::TasksClient;
use gristmill_proto::task::{FromWorker, Heartbeat, refused};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

use crate::process::{Master, PATIENCE};
use crate::user::{User, map_only, wall_ms};
use crate::worker::{Identity, Worker, attend, register};

fn with<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert(CALLER_TOKEN_METADATA, token.parse().unwrap());
    }
    request
}

/// Calls everything there is for drivers, users and workers; what each says.
async fn call_all(master: &Master, token: Option<&str>) -> Vec<Status> {
    let address = format!("http://{}", master.address());
    let mut jobs = JobsClient::connect(address.clone()).await.unwrap();
    let mut tasks = TasksClient::connect(address).await.unwrap();
    let notice = FromWorker { notice: Some(Notice::Register(register(&Identity::new(1), &[]))) };
    vec![
        jobs.submit(with(token, tokio_stream::once(SubmitPart::default()))).await.err(),
        jobs.watch(with(token, WatchRequest::default())).await.err(),
        jobs.list(with(token, ListJobs::default())).await.err(),
        jobs.kill(with(token, KillRequest::default())).await.err(),
        jobs.list_tasks(with(token, ListTasksRequest::default())).await.err(),
        jobs.read_log(with(token, ReadLogRequest::default())).await.err(),
        jobs.describe(with(token, DescribeRequest::default())).await.err(),
        jobs.drain(with(token, DrainRequest::default())).await.err(),
        tasks.attend(with(token, tokio_stream::once(notice))).await.err(),
    ]
    .into_iter()
    .map(|status| status.expect("it is refused"))
    .collect()
}

#[tokio::test]
async fn nobody_without_the_right_token_comes_in_anywhere() {
    let master = Master::start_with_secret();
    let secret = master.secret().unwrap();
    let stranger = Secret::from_bytes(&[b't'; 32]).unwrap();
    for token in [
        None,
        Some("nonsense".to_owned()),
        Some(stranger.caller_token(Role::Client, "jobs", wall_ms())),
        Some(secret.caller_token(Role::Client, "namespace", wall_ms())),
        Some(secret.caller_token(Role::Worker, "attendance", wall_ms())),
        Some(secret.caller_token(Role::Client, "jobs", 0)),
        Some(secret.job_token(JobId([7; 16]), "root", &[], wall_ms())),
        Some(secret.http_token()),
    ] {
        // One of the services may know the audience; none the role, the key or the time.
        for status in call_all(&master, token.as_deref()).await {
            assert_eq!(status.code(), Code::Unauthenticated, "{token:?}: {status}");
        }
    }
}

#[tokio::test]
async fn with_the_secret_a_job_runs_and_its_token_opens_the_namespace_as_its_user() {
    let master = Master::start_with_secret();
    let user = User::of(&master).await;
    let (job, spec) = map_only(&master.dir.path().join("out"));
    user.submit(&spec).await.unwrap();
    let mut worker = Worker::join(&master, &Identity::new(1), &[]).await;
    assert!(worker.welcome.open_key.is_empty(), "the key is made from the secret");
    let (start, _) = worker.launched().await;
    let caller = master.secret().unwrap().check_job(&start.caller_token, wall_ms()).unwrap();
    assert_eq!((caller.job, caller.user.as_str()), (job, "ann"));

    let mut namespace = NamespaceClient::connect(format!("http://{}", master.address())).await.unwrap();
    let hello = Hello {
        version: 1,
        client_id: vec![3; 16].into(),
        user: "root".to_owned(),
        host: "node".to_owned(),
        ..Hello::default()
    };
    let calls = tokio_stream::once(Calls { hello: Some(hello), ..Calls::default() });
    let mut answers = namespace.call(with(Some(&start.caller_token), calls)).await.unwrap().into_inner();
    let welcome = answers.message().await.unwrap().unwrap().welcome.unwrap();
    assert_eq!(welcome.user_home, "/user/ann", "whoever it says it is");
}

#[tokio::test]
async fn nonsense_is_refused_in_words() {
    let master = Master::start();
    let user = User::of(&master).await;
    let no_id = JobSpec { job: vec![1; 3].into(), ..map_only(master.dir.path()).1 };
    let error = user.submit(&no_id).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("16 bytes"), "{}", error.message());
    assert_eq!(user.watch(JobId::random()).await.unwrap_err().code(), Code::NotFound);
    let drain = DrainRequest { worker: 1, undo: false, user: "ann".to_owned() };
    let error = user.client().drain(user.request(drain)).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_worker_of_another_cluster_or_release_is_told_so() {
    let master = Master::start();
    let identity = Identity::new(1);
    let mut of_another = register(&identity, &[]);
    of_another.cluster_id = vec![9; 16].into();
    let mut of_later = register(&identity, &[]);
    of_later.version = 99;
    for (register, reason) in
        [(of_another, refused::Reason::WrongCluster), (of_later, refused::Reason::WrongVersion)]
    {
        let (_notices, mut messages) = attend(&master, register).await.unwrap();
        let message = messages.message().await.unwrap().unwrap();
        let Some(Order::Refused(refused)) = &message.orders[0].order else { panic!("{message:?}") };
        assert_eq!(refused.reason(), reason);
        assert!(messages.message().await.unwrap().is_none(), "the stream ends");
    }
}

#[tokio::test]
async fn a_worker_that_comes_again_ends_its_earlier_stream() {
    let master = Master::start();
    let identity = Identity::new(1);
    let mut earlier = Worker::join(&master, &identity, &[]).await;
    let _later = Worker::join(&master, &identity, &[]).await;
    loop {
        match earlier.next().await {
            Some(Order::Refused(refused)) => {
                assert_eq!(refused.reason(), refused::Reason::Replaced);
                break;
            }
            Some(_) => {}
            None => panic!("it ends with a word"),
        }
    }
    assert!(earlier.next().await.is_none());
}

#[tokio::test]
async fn a_worker_that_speaks_nonsense_is_shown_out_and_the_others_stay() {
    let master = Master::start();
    let mut other = Worker::join(&master, &Identity::new(2), &[]).await;
    let mut worker = Worker::join(&master, &Identity::new(1), &[]).await;
    worker.say(Notice::Register(register(&Identity::new(1), &[]))).await;
    assert!(worker.next().await.is_none(), "a worker registers once");
    let epoch = other.epoch;
    other.say(Notice::Heartbeat(Heartbeat { epoch, ..Heartbeat::default() })).await;
    let user = User::of(&master).await;
    let (_, spec) = map_only(&master.dir.path().join("out"));
    user.submit(&spec).await.unwrap();
    other.launched().await;
}

#[tokio::test]
async fn a_worker_too_slow_to_take_its_orders_is_cut_off_and_nobody_waits_for_it() {
    let master = Master::start();
    let user = User::of(&master).await;
    // It speaks and does not listen. Each heartbeat is answered: when its window is full, the answers wait at the
    // master, and beyond a limit its stream is closed.
    let endpoint = Endpoint::from_shared(format!("http://{}", master.address())).unwrap();
    let channel = endpoint.initial_stream_window_size(Some(1024)).connect().await.unwrap();
    let (notices, receiver) = mpsc::channel(64);
    let first = FromWorker { notice: Some(Notice::Register(register(&Identity::new(1), &[]))) };
    notices.send(first).await.unwrap();
    let attending = TasksClient::new(channel).attend(ReceiverStream::new(receiver)).await.unwrap();
    let mut unread = attending.into_inner();
    let epoch = unread.message().await.unwrap().unwrap().epoch;

    let heartbeat =
        FromWorker { notice: Some(Notice::Heartbeat(Heartbeat { epoch, ..Heartbeat::default() })) };
    let beating = async {
        let mut answered = 0;
        loop {
            // Once it is cut off nobody takes its heartbeats either.
            let beat = notices.try_send(heartbeat.clone());
            let status = user.client().describe(user.request(DescribeRequest {})).await.unwrap().into_inner();
            answered += 1;
            if status.workers[0].state != "live" {
                return (answered, beat);
            }
        }
    };
    let (answered, _) = tokio::time::timeout(PATIENCE, beating).await.expect("the worker is cut off");
    assert!(answered > 1024, "after {answered} turns: it was not the queue that was full");
}
