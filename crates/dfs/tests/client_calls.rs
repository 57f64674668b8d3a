//! The stream of calls: many at once, and none lost or done twice when it breaks.

mod fakes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fakes::master::Verdict;
use fakes::{FakeCluster, eventually};
use gristmill_dfs::client::{ConnectError, DfsClient, DfsError, RenameMode};
use gristmill_proto::auth::Secret;
use gristmill_proto::ids::ClusterId;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{MakeDirectory, Stat};

fn make(path: &str) -> Request {
    Request::MakeDirectory(MakeDirectory { path: path.to_owned(), parents: false, mode: 0o755 })
}

fn is_make(request: &Request) -> bool {
    matches!(request, Request::MakeDirectory(_))
}

/// Judges the first call of a kind, and answers all others.
fn once(kind: fn(&Request) -> bool, verdict: Verdict) -> impl FnMut(&Request) -> Verdict + Send {
    let mut verdict = Some(verdict);
    move |request| {
        let first = if kind(request) { verdict.take() } else { None };
        first.unwrap_or(Verdict::Answer)
    }
}

#[test]
fn calls_are_answered_and_refusals_are_typed() {
    let cluster = FakeCluster::start(0);
    let client = cluster.client();
    assert_eq!(client.home(), "/user/ann");
    client.make_directory("/a/b", true, 0o755).expect("made");
    assert!(client.stat("/a/b").expect("there").is_directory);
    let refused = client.stat("/missing").expect_err("it is not there");
    assert!(refused.is_not_found());
    assert_eq!(refused.to_string(), "/missing: no such file or directory", "the path comes from the call");
    client.rename("/a/b", "/a/c", RenameMode::Refuse).expect("moved");
    let names: Vec<String> =
        client.list("/a").expect("a list").map(|entry| entry.expect("an entry").path).collect();
    assert_eq!(names, ["/a/c"]);
    assert!(client.delete("/a", true, true).expect("deleted").found);
}

#[test]
fn a_listing_goes_on_over_all_pages() {
    let cluster = FakeCluster::start(0);
    let client = cluster.client();
    let wanted: Vec<String> = (0..8).map(|number| format!("/d/{number}")).collect();
    for path in &wanted {
        client.make_directory(path, true, 0o755).expect("made");
    }
    let found: Vec<String> =
        client.list("/d").expect("a list").map(|entry| entry.expect("an entry").path).collect();
    assert_eq!(found, wanted);
    let lists = cluster.master.count(|request| matches!(request, Request::List(_)));
    assert_eq!(lists, 3, "the fake's pages have three entries");
}

#[test]
fn calls_that_wait_leave_in_few_messages() {
    let mut cluster = FakeCluster::start(0);
    let client = cluster.client();
    client.stat("/").expect("there");
    cluster.master.down();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let stat = |_| Box::pin(client.call_async(Request::Stat(Stat { path: "/".to_owned() })));
    let mut stats: Vec<_> = (0..2_000).map(stat).collect();
    runtime.block_on(async {
        for stat in &mut stats {
            assert!(futures::future::poll_immediate(stat).await.is_none(), "there is nobody to answer");
        }
    });
    cluster.master.up();
    let answers = runtime.block_on(futures::future::join_all(stats));
    assert!(answers.iter().all(Result::is_ok));
    let seen = cluster.master.seen();
    assert_eq!(seen.calls.len(), 2_001);
    // The first may have been sent when the stream was breaking.
    assert!(seen.batches.len() <= 6, "{:?}", seen.batches);
    assert!(seen.batches.iter().all(|calls| *calls <= 512));
}

#[test]
fn answers_that_have_come_may_be_forgotten() {
    let cluster = FakeCluster::start(0);
    let client = cluster.client();
    for _ in 0..3 {
        client.stat("/").expect("there");
    }
    assert_eq!(cluster.master.seen().settled_below, 3, "all before the third call");
}

#[test]
fn a_call_inside_a_runtime_blocks_and_is_answered() {
    let cluster = FakeCluster::start(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = cluster.client();
        assert!(client.stat("/").expect("there").is_directory);
        drop(client);
    });
}

#[test]
fn a_change_whose_answer_was_lost_is_done_once() {
    let cluster = FakeCluster::start(0);
    let client = cluster.client();
    cluster.master.judge(once(is_make, Verdict::DoAndBreak));
    client.call(make("/a")).expect("the answer of the first sending, not `already exists`");
    assert_eq!(cluster.master.count(is_make), 2, "it was sent again");
    let seen = cluster.master.seen();
    assert_eq!(seen.streams, 2);
    let sequences: Vec<u64> = seen.calls.iter().map(|call| call.1).collect();
    assert_eq!(sequences, [1, 1], "under the same sequence");
    assert_eq!(seen.calls[0].0, seen.calls[1].0, "of the same client");
}

#[test]
fn calls_survive_a_restart_of_the_master() {
    let mut cluster = FakeCluster::start(0);
    let client = cluster.client();
    client.call(make("/before")).expect("made");
    cluster.master.down();
    let pending: Vec<_> =
        (0..100).map(|number| (number, client.call_async(make(&format!("/{number}"))))).collect();
    let waiting: Vec<_> = pending
        .into_iter()
        .map(|(number, call)| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            std::thread::spawn(move || (number, runtime.block_on(call)))
        })
        .collect();
    cluster.master.up();
    for thread in waiting {
        let (number, answer) = thread.join().expect("no panic");
        answer.unwrap_or_else(|error| panic!("/{number}: {error}"));
    }
    assert_eq!(cluster.master.seen().namespace.nodes.len(), 102);
}

#[test]
fn an_unanswered_change_is_unknown_and_an_unanswered_read_is_not() {
    let cluster = FakeCluster::start(0);
    let mut options = cluster.options();
    options.call_timeout = Duration::from_millis(300);
    let client = DfsClient::connect(options).expect("connected");
    cluster.master.judge(|_| Verdict::DoAndSwallow);
    let unknown = client.call(make("/a")).expect_err("no answer");
    let DfsError::OutcomeUnknown { path, waited_ms, source, .. } = &unknown else { panic!("{unknown}") };
    assert_eq!(path, "/a");
    assert!((300..5_000).contains(waited_ms), "{waited_ms} ms");
    assert!(matches!(**source, ConnectError::Slow));
    let unread = client.stat("/").expect_err("no answer");
    assert!(matches!(unread, DfsError::Unreachable { .. }), "{unread}");
}

#[test]
fn a_call_that_never_left_is_surely_not_done() {
    let mut cluster = FakeCluster::start(0);
    let mut options = cluster.options();
    options.call_timeout = Duration::from_millis(300);
    let client = DfsClient::connect(options).expect("connected");
    cluster.master.down();
    // The first call after the loss may have left; the one after it finds the client without a stream.
    drop(client.stat("/"));
    let error = client.call(make("/a")).expect_err("no master");
    assert!(matches!(error, DfsError::Unreachable { .. }), "{error}");
}

#[test]
fn patience_is_asked_for_with_new_calls_and_ends() {
    let cluster = FakeCluster::start(0);
    let client = cluster.client();
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = refusals.clone();
    cluster.master.judge(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Verdict::Refuse(Kind::SafeMode),
        1 => Verdict::Refuse(Kind::Overloaded),
        2 => Verdict::Refuse(Kind::NotYet),
        _ => Verdict::Answer,
    });
    client.make_directory("/a", false, 0o755).expect("made at last");
    let sequences: Vec<u64> = cluster.master.seen().calls.iter().map(|call| call.1).collect();
    assert_eq!(sequences, [1, 2, 3, 4]);

    let mut options = cluster.options();
    options.retry_timeout = Duration::from_millis(100);
    let client = DfsClient::connect(options).expect("connected");
    cluster.master.judge(|_| Verdict::Refuse(Kind::SafeMode));
    let refused = client.make_directory("/b", false, 0o755).expect_err("for ever in safe mode");
    assert_eq!(refused.kind(), Some(Kind::SafeMode));

    // An operator who has set it will not have ended it in a moment.
    cluster.master.judge(|_| Verdict::Refuse(Kind::ReadOnlyByHand));
    let before = cluster.master.seen().calls.len();
    let refused = cluster.client().make_directory("/c", false, 0o755).expect_err("read-only");
    assert_eq!(refused.kind(), Some(Kind::ReadOnlyByHand));
    assert_eq!(cluster.master.seen().calls.len(), before + 1, "asked once");
}

#[test]
fn another_cluster_at_the_same_address_is_refused() {
    let mut cluster = FakeCluster::start(0);
    let client = cluster.client();
    client.stat("/").expect("there");
    cluster.master.down();
    cluster.master.seen().welcome.cluster_id = ClusterId::random().0.to_vec().into();
    cluster.master.up();
    let error = client.stat("/").expect_err("not this cluster");
    let DfsError::Unreachable { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, ConnectError::OtherCluster { .. }), "{source}");
}

#[test]
fn a_master_of_an_older_term_is_refused() {
    let mut cluster = FakeCluster::start(0);
    cluster.master.seen().welcome.epoch = 7;
    let client = cluster.client();
    cluster.master.down();
    cluster.master.seen().welcome.epoch = 6;
    cluster.master.up();
    let error = client.stat("/").expect_err("an old master");
    let DfsError::Unreachable { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, ConnectError::OldMaster { .. }), "{source}");
}

#[test]
fn another_version_is_refused_at_once() {
    let cluster = FakeCluster::start(0);
    cluster.master.seen().welcome.version = 99;
    let error = DfsClient::connect(cluster.options()).expect_err("another version");
    let DfsError::Unreachable { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, ConnectError::WrongVersion { theirs: 99, .. }), "{source}");
}

#[test]
fn a_cluster_with_a_secret_wants_it() {
    let cluster = FakeCluster::start(0);
    let secret = Secret::from_bytes(b"a secret that is long enough: 32 bytes").expect("long enough");
    cluster.master.seen().secret = Some(secret.clone());
    let error = DfsClient::connect(cluster.options()).expect_err("no token");
    let DfsError::Unreachable { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, ConnectError::Refused(_)), "{source}");

    let mut options = cluster.options();
    options.secret = Some(secret);
    DfsClient::connect(options).expect("the token is taken").stat("/").expect("there");
}

#[test]
fn nobody_at_the_address_is_an_error_in_time() {
    let mut cluster = FakeCluster::start(0);
    cluster.master.down();
    let mut options = cluster.options();
    options.connect_timeout = Duration::from_millis(200);
    let error = DfsClient::connect(options).expect_err("nobody there");
    assert!(matches!(error, DfsError::Unreachable { .. }), "{error}");
    let mut options = cluster.options();
    options.master = "no address".to_owned();
    let error = DfsClient::connect(options).expect_err("no address");
    let DfsError::Unreachable { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, ConnectError::Address { .. }), "{source}");
}

#[test]
fn leases_are_renewed_while_a_file_is_open() {
    let cluster = FakeCluster::start(0);
    cluster.master.seen().welcome.lease_soft_limit_ms = 150;
    let client = cluster.client();
    let renewals = || cluster.master.count(|request| matches!(request, Request::RenewLeases(_)));
    let writer = client.create("/a", Default::default()).expect("created");
    eventually("a renewal", || renewals() >= 2);
    writer.finish().expect("finished");
}

/// Not a test of anything but speed: `cargo test --release --test client_calls -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn calls_per_second() {
    let cluster = FakeCluster::start(0);
    let client = cluster.client();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (what, in_flight) in [("one at a time", 1), ("64 in flight", 64), ("1024 in flight", 1024)] {
        let messages = cluster.master.seen().batches.len();
        let started = std::time::Instant::now();
        let rounds = if in_flight == 1 { 20_000 } else { 200_000 / in_flight };
        for _ in 0..rounds {
            let stats =
                (0..in_flight).map(|_| client.call_async(Request::Stat(Stat { path: "/".to_owned() })));
            assert!(runtime.block_on(futures::future::join_all(stats)).iter().all(Result::is_ok));
        }
        let each = started.elapsed() / (rounds * in_flight) as u32;
        let messages = cluster.master.seen().batches.len() - messages;
        println!("{what}: {each:?} a call, {} calls a message", rounds * in_flight / messages);
    }
}
