//! What the master orders is done: replicas copied, deleted, settled, their writers stopped.

use std::fs;

use gristmill_proto::attendance::notice::Notice as Kind;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Delete, ReplicaInfo, Replicate, Settle, StopWriter, Stopped, Target};
use gristmill_proto::ids::Generation;
use gristmill_proto::messages::bulk_failure::Kind as Failure;

use super::attendance::{changes, welcomed};
use super::client::{BlockWriter, write_block, write_whole};
use super::cluster::{Cluster, Worker, content, eventually};
use super::master::Session;
use super::proxy::{Fault, Proxy};
use super::reads::file_of;

const CHUNK: usize = 16 << 10;

fn stopped(notice: Kind) -> Option<Stopped> {
    if let Kind::Stopped(stopped) = notice { Some(stopped) } else { None }
}

fn delete(block: u64, generation: u64) -> Order {
    Order::Delete(Delete { replicas: vec![ReplicaInfo { block, generation, bytes: 0 }] })
}

fn replicate(cluster: &Cluster, block: u64, generation: u64, bytes: usize, targets: Vec<Target>) -> Order {
    let token = cluster.write_token(block, generation);
    Order::Replicate(Replicate { block, generation, bytes: bytes as u64, targets, token })
}

fn target(worker: &Worker) -> Target {
    Target { worker: worker.id.0, address: worker.address() }
}

/// Waits until `session` says that exactly this is deleted.
fn deleted(session: &Session) -> ReplicaInfo {
    let told = session.next("deletion", |notice| changes(notice).filter(|told| !told.deleted.is_empty()));
    told.deleted[0]
}

#[test]
fn a_replica_is_copied_to_others() {
    let cluster = Cluster::new();
    let (worker, _master, attending, session) = welcomed(&cluster);
    let others = [2, 3].map(|id| cluster.worker(id));
    for (block, bytes) in [(1, 0), (2, 5), (3, 3 * CHUNK), (4, (9 << 20) + 1)] {
        let data = content(bytes);
        write_whole(&cluster, block, 6, &[&worker], &data);
        let targets = others.iter().map(target).collect();
        session.order(1, vec![replicate(&cluster, block, 6, bytes, targets)]);
        for other in &others {
            eventually("the copy is there", || other.finished(block).is_some());
            assert_eq!(other.replica(block), Some((Generation(6), data.clone())));
        }
    }
    attending.stop().expect("it stops well");
}

#[test]
fn a_copy_takes_the_place_of_an_older_replica() {
    let cluster = Cluster::new();
    let (worker, _master, attending, session) = welcomed(&cluster);
    let other = cluster.worker(2);
    write_whole(&cluster, 1, 1, &[&other], b"of old");
    write_whole(&cluster, 1, 2, &[&worker], b"of now");
    session.order(1, vec![replicate(&cluster, 1, 2, 6, vec![target(&other)])]);
    eventually("the copy is there", || other.finished(1) == Some((2, 6)));
    assert_eq!(other.replica(1), Some((Generation(2), b"of now".to_vec())));
    // Not the other way round.
    write_whole(&cluster, 2, 1, &[&worker], b"of old");
    write_whole(&cluster, 2, 2, &[&other], b"of now");
    session.order(1, vec![replicate(&cluster, 2, 1, 6, vec![target(&other)]), delete(2, 1)]);
    assert_eq!(deleted(&session).block, 2);
    assert_eq!(other.replica(2), Some((Generation(2), b"of now".to_vec())));
    attending.stop().expect("it stops well");
}

#[test]
fn a_damaged_replica_is_announced_and_not_copied() {
    let cluster = Cluster::new();
    let (worker, _master, attending, session) = welcomed(&cluster);
    let other = cluster.worker(2);
    let data = content((2 << 20) + 5);
    write_whole(&cluster, 1, 1, &[&worker], &data);
    let path = file_of(&worker, 1, false);
    let mut bytes = fs::read(&path).expect("it is there");
    bytes[(1 << 20) + 70_000] ^= 4;
    fs::write(&path, bytes).expect("it is written");
    session.order(1, vec![replicate(&cluster, 1, 1, data.len(), vec![target(&other)])]);
    let told = session.next("bad replica", |notice| changes(notice).filter(|told| !told.bad.is_empty()));
    assert_eq!((told.bad[0].block, told.bad[0].generation), (1, 1));
    eventually("the target lets go", || other.server.transfers() == 0);
    assert!(other.replica(1).is_none(), "nothing of it stays");

    // A new session is told again: a full report has good replicas only.
    attending.stop().expect("it stops well");
}

#[test]
fn a_copy_that_breaks_leaves_nothing() {
    let cluster = Cluster::new();
    let (worker, _master, attending, session) = welcomed(&cluster);
    let other = cluster.worker(2);
    let data = content(4 << 20);
    write_whole(&cluster, 1, 1, &[&worker], &data);
    for (forth, back) in [
        (Fault::Cut(2 << 20), Fault::None),
        (Fault::Flip(3 << 20), Fault::None),
        (Fault::None, Fault::Cut(60)),
    ] {
        let proxy = Proxy::start(other.address(), forth, back);
        let through = Target { worker: 2, address: proxy.address() };
        session.order(1, vec![replicate(&cluster, 1, 1, data.len(), vec![through])]);
        eventually("it breaks", || proxy.fired());
        eventually("the target lets go", || other.server.transfers() == 0);
        // Where only acks were lost, it may have been whole already.
        let copy = other.replica(1).map(|(_, bytes)| bytes);
        assert!(
            copy.is_none() || (matches!(forth, Fault::None) && copy.as_ref() == Some(&data)),
            "{forth:?}"
        );
    }
    session.order(1, vec![replicate(&cluster, 1, 1, data.len(), vec![target(&other)])]);
    eventually("the copy is there", || other.finished(1).is_some());
    attending.stop().expect("it stops well");
}

#[test]
fn only_the_generations_ordered_are_deleted() {
    let cluster = Cluster::new();
    let (worker, _master, attending, session) = welcomed(&cluster);
    write_whole(&cluster, 1, 5, &[&worker], b"new");
    session.order(1, vec![delete(1, 4), delete(7, 1)]);
    assert_eq!(deleted(&session).block, 7, "what is not there is deleted");
    assert_eq!(worker.finished(1), Some((5, 3)));
    session.order(1, vec![delete(1, 5)]);
    assert_eq!(deleted(&session).block, 1);
    assert!(worker.replica(1).is_none());
    attending.stop().expect("it stops well");
}

#[test]
fn a_writer_is_stopped_and_its_replica_settled() {
    let cluster = Cluster::new();
    let (worker, _master, attending, session) = welcomed(&cluster);
    let data = content(2 * CHUNK + 50);
    let mut writer = BlockWriter::open(&cluster, &worker, write_block(1, 3, &[])).expect("a pipeline");
    assert_eq!(writer.write(0, &data, CHUNK, false).1, None);
    let stop = |block| Order::StopWriter(StopWriter { block, generation: 9 });
    session.order(1, vec![stop(1), stop(2)]);
    let mut answers = [session.next("answer", stopped), session.next("answer", stopped)];
    answers.sort_by_key(|answer| answer.block);
    let there = Stopped {
        epoch: 1,
        block: 1,
        generation: 9,
        generation_before: 3,
        bytes: data.len() as u64,
        found: true,
    };
    let missing = Stopped { block: 2, generation_before: 0, bytes: 0, found: false, ..there };
    assert_eq!(answers, [there, missing]);

    // The writer is a ghost now.
    let (_, blame) = writer.write(2 * CHUNK as u64, &data[..100], CHUNK, true);
    assert_eq!(blame, Some((Failure::StaleGeneration, 1)));
    let cut = CHUNK as u64 + 7;
    session.order(1, vec![Order::Settle(Settle { block: 1, generation: 9, bytes: cut })]);
    let told =
        session.next("settled replica", |notice| changes(notice).filter(|told| !told.finished.is_empty()));
    assert_eq!(told.finished, [ReplicaInfo { block: 1, generation: 9, bytes: cut }]);
    assert_eq!(worker.replica(1), Some((Generation(9), data[..cut as usize].to_vec())));
    attending.stop().expect("it stops well");
}
