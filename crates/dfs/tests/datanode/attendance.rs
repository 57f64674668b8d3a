//! A worker and its master: registering, telling, obeying, losing each other.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gristmill_dfs::datanode::AttendanceError;
use gristmill_dfs::datanode::block_store::{Identity, StoreOptions, WriteStage};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::notice::Notice as Kind;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::refused::Reason;
use gristmill_proto::attendance::{Changes, Delete, ReplicaInfo, SendReport, Welcome};
use gristmill_proto::auth::{BlockKey, Role, Secret};
use gristmill_proto::ids::{BlockId, Epoch, Generation, WorkerId};
use gristmill_proto::messages::ReadBlock;
use gristmill_proto::messages::bulk_failure::Kind as Failure;

use super::client::{BlockWriter, Client, write_block, write_whole};
use super::cluster::{Cluster, PATIENCE, Worker, eventually, now_ms, quick};
use super::master::{Attending, Master, Session, options, welcome};

const LEASE: Duration = Duration::from_secs(20);

fn new_worker(lease: Duration) -> Worker {
    let store = StoreOptions { reserve_bytes: 0 };
    Worker::start(WorkerId(1), quick(), store, lease)
}

/// A worker that is welcomed as worker 1, under epoch 1.
pub(crate) fn welcomed(cluster: &Cluster) -> (Worker, Master, Attending, Session) {
    let (worker, master) = (new_worker(LEASE), Master::start());
    let attending = Attending::start(&worker, options(master.address, None));
    let session = master.session();
    session.welcome(cluster, 1, 1);
    session.next("heartbeat", heartbeat);
    (worker, master, attending, session)
}

pub(crate) fn heartbeat(notice: Kind) -> Option<u64> {
    if let Kind::Heartbeat(heartbeat) = notice { Some(heartbeat.epoch) } else { None }
}

pub(crate) fn changes(notice: Kind) -> Option<Changes> {
    if let Kind::Changes(changes) = notice { Some(changes) } else { None }
}

#[test]
fn a_new_worker_gets_its_place_and_keeps_it() {
    let cluster = Cluster::new();
    let (worker, master) = (new_worker(LEASE), Master::start());
    let attending = Attending::start(&worker, options(master.address, None));
    let session = master.session();
    let register = &session.register;
    assert_eq!((register.version, register.worker, register.cluster_id.len()), (PROTOCOL_VERSION, 0, 0));
    assert_eq!((register.incarnation.len(), register.volumes.len()), (16, 1));
    assert_eq!([&register.address, &register.host, &register.rack], ["here:1", "host-1", "/rack-1"]);
    assert_eq!(session.token, None);
    session.welcome(&cluster, 4, 17);
    assert_eq!(session.next("heartbeat", heartbeat), 4);
    let identity = Identity { cluster: cluster.id, worker: WorkerId(17) };
    assert_eq!(worker.store.identity(), Some(identity));

    // Its blocks can be written now, and are reported at once, in order.
    for block in 1..=3 {
        write_whole(&cluster, block, 1, &[&worker], b"news");
        let changes = session.next("changes", changes);
        assert_eq!(changes.finished, [ReplicaInfo { block, generation: 1, bytes: 4 }]);
        assert_eq!((changes.epoch, changes.deleted.len(), changes.bad.len()), (4, 0, 0));
    }
    attending.stop().expect("it stops well");
    session.wait_end();

    // The next process is the same worker, in another life.
    let again = Attending::start(&worker, options(master.address, None));
    let second = master.session();
    assert_eq!((second.register.worker, &second.register.cluster_id[..]), (17, &cluster.id.0[..]));
    assert_ne!(second.register.incarnation, session.register.incarnation);
    again.stop().expect("it stops well");
}

#[test]
fn a_full_report_has_everything_and_no_gap() {
    let cluster = Cluster::new();
    let (worker, master, attending, session) = welcomed(&cluster);
    for block in [3, 7, 200] {
        write_whole(&cluster, block, block + 1, &[&worker], &vec![7; block as usize]);
    }
    // Somebody has begun two more, and one is a copy under way.
    let begin = |block, stage| worker.store.create(BlockId(block), Generation(2), stage, 0).expect("begun");
    let _open = [begin(5, WriteStage::Create), begin(300, WriteStage::Create), begin(6, WriteStage::Copy)];
    session.ask_report(1, 99);
    let slice = master.reports.recv_timeout(PATIENCE).expect("a report");
    let unfinished: Vec<_> = slice.unfinished.iter().map(|it| (it.block, it.generation, it.bytes)).collect();
    assert_eq!(unfinished, [(5, 2, 0), (300, 2, 0)]);
    assert_eq!((slice.report_id, slice.epoch, slice.worker), (99, 1, 1));
    assert_eq!((slice.first, slice.last), (0, u64::MAX));
    assert_eq!((slice.block_steps, slice.generations), (vec![3, 4, 193], vec![4, 8, 201]));
    assert_eq!((slice.bytes, slice.incarnation), (vec![3, 7, 200], session.register.incarnation.clone()));
    attending.stop().expect("it stops well");
}

#[test]
fn changes_wait_for_a_full_report_and_heartbeats_do_not() {
    let cluster = Cluster::new();
    let (worker, master, attending, session) = welcomed(&cluster);
    let gate = master.report_gate.clone();
    let shut = gate.blocking_lock();
    session.ask_report(1, 1);
    eventually("the report has begun", || master.begun.load(Ordering::Acquire) == 1);
    session.order(
        1,
        vec![Order::Delete(Delete { replicas: vec![ReplicaInfo { block: 5, generation: 1, bytes: 0 }] })],
    );
    write_whole(&cluster, 9, 1, &[&worker], b"meanwhile");
    let mut beats = 0;
    while beats < 5 {
        session.next("heartbeat", |notice| {
            assert!(!matches!(notice, Kind::Changes(_)), "a change overtakes the report");
            heartbeat(notice)
        });
        beats += 1;
    }
    drop(shut);
    master.reports.recv_timeout(PATIENCE).expect("a report");
    let mut told = Vec::new();
    while told.len() < 2 {
        let changes = session.next("changes", changes);
        told.extend(changes.deleted.iter().map(|info| info.block));
        told.extend(changes.finished.iter().map(|info| info.block));
    }
    told.sort_unstable();
    assert_eq!(told, [5, 9]);
    attending.stop().expect("it stops well");
}

#[test]
fn orders_of_an_old_master_are_dropped() {
    let cluster = Cluster::new();
    let (worker, master, attending, old) = welcomed(&cluster);
    write_whole(&cluster, 1, 1, &[&worker], b"keep me");
    // A later master has shown itself.
    assert!(worker.standing.hear(Epoch(5)));
    let delete = Order::Delete(Delete { replicas: vec![ReplicaInfo { block: 1, generation: 9, bytes: 0 }] });
    old.order(1, vec![delete.clone()]);
    old.wait_end();

    // It comes again, and the old master with its old epoch is none for it.
    let still_old = master.session();
    still_old.order(4, vec![Order::Welcome(welcome(&cluster, 1)), delete.clone()]);
    still_old.wait_end();
    let new = master.session();
    new.order(5, vec![Order::Welcome(welcome(&cluster, 1))]);
    assert_eq!(new.next("heartbeat", heartbeat), 5);
    assert_eq!(worker.finished(1), Some((1, 7)), "no order of the old master was obeyed");
    new.order(5, vec![delete]);
    assert_eq!(
        new.next("deletion", |notice| changes(notice).filter(|changes| !changes.deleted.is_empty())).deleted
            [0]
        .block,
        1
    );
    assert_eq!(worker.finished(1), None);
    attending.stop().expect("it stops well");
}

#[test]
fn a_fenced_worker_registers_again() {
    let cluster = Cluster::new();
    let (_worker, master, attending, mut session) = welcomed(&cluster);
    for reason in [Reason::Fenced, Reason::Unauthenticated, Reason::Fenced] {
        session.refuse(1, reason);
        let again = master.session();
        assert_eq!(again.register.incarnation, session.register.incarnation);
        // At the door as well.
        again.refuse(1, reason);
        again.wait_end();
        session = master.session();
        session.welcome(&cluster, 1, 1);
        session.next("heartbeat", heartbeat);
    }
    attending.stop().expect("it stops well");
}

#[test]
fn a_worker_that_is_not_wanted_ends() {
    let cluster = Cluster::new();
    for reason in [Reason::WrongCluster, Reason::WrongVersion, Reason::Replaced, Reason::UnknownWorker] {
        // At the door, and later.
        for welcomed_first in [false, true] {
            let (worker, master) = (new_worker(LEASE), Master::start());
            let attending = Attending::start(&worker, options(master.address, None));
            let session = master.session();
            if welcomed_first {
                session.welcome(&cluster, 1, 1);
                session.next("heartbeat", heartbeat);
            }
            session.refuse(1, reason);
            let error = attending.join().expect_err("it ends");
            let told = error.to_string();
            assert!(matches!(error, AttendanceError::Refused { .. }), "{told}");
            assert!(told.contains(reason.as_str_name()) && told.contains("so says the test"), "{told}");
        }
    }
}

#[test]
fn disks_of_another_cluster_are_not_touched() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let right = welcome(&theirs, 1);
    let wrong: [(Welcome, &str); 3] = [
        (welcome(&ours, 1), "disks"),
        (welcome(&theirs, 2), "disks"),
        (Welcome { version: PROTOCOL_VERSION + 1, ..right }, "version"),
    ];
    for (welcome, why) in wrong {
        let (worker, master) = (new_worker(LEASE), Master::start());
        let identity = Identity { cluster: theirs.id, worker: WorkerId(1) };
        worker.store.adopt(identity).expect("new");
        let attending = Attending::start(&worker, options(master.address, None));
        master.session().order(1, vec![Order::Welcome(welcome)]);
        let error = attending.join().expect_err("it ends");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(worker.store.identity(), Some(identity));
        // Nobody's token counts.
        let mut client = Client::connect(&worker.address());
        let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 1 };
        assert_eq!(client.read(ours.read_token(1), read), Err((Failure::Busy, 0)));
    }
}

#[test]
fn a_master_that_comes_back_finds_its_worker_and_its_news() {
    let cluster = Cluster::new();
    let (worker, master, attending, session) = welcomed(&cluster);
    let address = master.kill();
    session.wait_end();
    // What happens meanwhile is told later.
    write_whole(&cluster, 1, 1, &[&worker], b"alone");
    let master = Master::start_at(address);
    let again = master.session();
    assert_eq!(again.register.worker, 1);
    again
        .order(2, vec![Order::Welcome(welcome(&cluster, 1)), Order::SendReport(SendReport { report_id: 6 })]);
    let slice = master.reports.recv_timeout(PATIENCE).expect("a report");
    assert_eq!((slice.epoch, slice.block_steps), (2, vec![1]));
    assert_eq!(again.next("changes", changes).finished[0].block, 1);
    attending.stop().expect("it stops well");
}

#[test]
fn a_master_that_is_not_there_is_tried_for_ever() {
    let worker = new_worker(LEASE);
    // A port that nobody listens on: that of a master that has ended.
    let address: SocketAddr = Master::start().kill();
    let attending = Attending::start(&worker, options(address, None));
    // Longer than some pauses; there is nothing to see but that it goes on.
    std::thread::sleep(Duration::from_millis(200));
    let master = Master::start_at(address);
    master.session();
    attending.stop().expect("it stops well");
    assert!(master.is_left_alone(Duration::from_millis(100)));

    let nonsense = Attending::start(&worker, super::master::options(address, None));
    nonsense.stop().expect("it stops while it waits for the welcome");
}

#[test]
fn an_address_that_is_none_ends_the_worker() {
    let worker = new_worker(LEASE);
    let mut options = options("127.0.0.1:1".parse().expect("an address"), None);
    options.master = "not an address".to_owned();
    let error = Attending::start(&worker, options).join().expect_err("it ends");
    assert!(matches!(&error, AttendanceError::Address { .. }), "{error}");
}

#[test]
fn a_silent_master_is_given_up_and_no_writes_are_taken_without_one() {
    let cluster = Cluster::new();
    let (worker, master) = (new_worker(Duration::from_secs(3)), Master::start());
    let attending = Attending::start(&worker, options(master.address, None));
    let session = master.session();
    session.welcome(&cluster, 1, 1);
    session.next("heartbeat", heartbeat);
    write_whole(&cluster, 1, 1, &[&worker], b"before");
    // It takes what it is sent, and says nothing.
    master.answers.store(false, Ordering::Release);
    session.wait_end();
    let refused = BlockWriter::open(&cluster, &worker, write_block(2, 1, &[])).err();
    assert_eq!(refused, Some((Failure::Busy, 0)));
    let mut client = Client::connect(&worker.address());
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 100 };
    assert_eq!(client.read(cluster.read_token(1), read), Ok(b"before".to_vec()));

    master.answers.store(true, Ordering::Release);
    let again = master.session();
    again.welcome(&cluster, 1, 1);
    again.next("heartbeat", heartbeat);
    write_whole(&cluster, 3, 1, &[&worker], b"after");
    attending.stop().expect("it stops well");
}

#[test]
fn a_secret_is_proved_and_opens_the_blocks_before_the_master_is_there() {
    let secret = || Secret::from_bytes(&[42; 40]).expect("long enough");
    let (worker, master) = (new_worker(LEASE), Master::start());
    let mut cluster = Cluster::new();
    cluster.key = BlockKey::from_secret(&secret(), cluster.id);
    let attending = Attending::start(&worker, options(master.address, Some(secret())));
    let session = master.session();
    let token = session.token.as_deref().expect("a token");
    secret().check_caller(token, Role::Worker, "attendance", now_ms()).expect("it is good");
    // The key is not sent in such a cluster.
    session.order(1, vec![Order::Welcome(Welcome { open_key: Default::default(), ..welcome(&cluster, 1) })]);
    session.next("heartbeat", heartbeat);
    write_whole(&cluster, 1, 1, &[&worker], b"secret");
    attending.stop().expect("it stops well");

    // After a restart, the disks say which cluster's key it is.
    let nobody = Master::start().kill();
    let alone = gristmill_dfs::datanode::Standing::new(LEASE);
    assert!(alone.worker().is_none());
    let again = Attending::start(&worker, options(nobody, Some(secret())));
    let mut client = Client::connect(&worker.address());
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 100 };
    assert_eq!(client.read(cluster.read_token(1), read), Ok(b"secret".to_vec()));
    again.stop().expect("it stops well");
}

#[test]
fn heartbeats_keep_their_time_whatever_is_ordered() {
    let cluster = Cluster::new();
    let (worker, _master, attending, session) = welcomed(&cluster);
    write_whole(&cluster, 1, 1, &[&worker], b"to be copied");
    let stopped = super::proxy::Stopped::start();
    let target = gristmill_proto::attendance::Target { worker: 2, address: stopped.address.clone() };
    let replicate = gristmill_proto::attendance::Replicate {
        block: 1,
        generation: 1,
        bytes: 12,
        targets: vec![target],
        token: cluster.write_token(1, 1),
    };
    session.order(1, vec![Order::Replicate(replicate); 100]);
    assert!(stopped.was_called(), "a copy is under way, and will be for long");
    // If they came after what was ordered they would come more than a minute late, and nobody waits for so long here.
    for _ in 0..10 {
        session.next("heartbeat", heartbeat);
    }
    eventually("the worker goes on", || worker.server.transfers() == 0);
    attending.stop().expect("it stops well");
}
