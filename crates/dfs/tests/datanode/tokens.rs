//! Who has no right token gets nothing.

use bytes::Bytes;
use gristmill_proto::auth::{BlockKey, Operation};
use gristmill_proto::ids::ClusterId;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request;
use gristmill_proto::messages::{BlockToken, OpenLocal, ReadBlock};

use super::client::{Client, write_block, write_whole};
use super::cluster::{Cluster, now_ms};

/// Every way in which a token for `good` may be wrong.
fn wrong(cluster: &Cluster, good: &BlockToken, other: Operation) -> Vec<(&'static str, Bytes)> {
    let sign = |change: fn(&mut BlockToken)| {
        let mut token = good.clone();
        change(&mut token);
        cluster.sign(&token)
    };
    let mut cut = cluster.sign(good);
    cut.truncate(cut.len() - 1);
    let mut flipped = cluster.sign(good).to_vec();
    flipped[40] ^= 1;
    let wrong_operation = BlockToken { operations: other.bit(), ..good.clone() };
    vec![
        ("none", Bytes::new()),
        ("short", cut),
        ("changed", flipped.into()),
        ("long", vec![0; 60_000].into()),
        ("of another block", sign(|token| token.block += 1)),
        ("of a later generation", sign(|token| token.generation += 1)),
        ("expired", sign(|token| token.expires_ms = now_ms() - 1)),
        ("of another cluster", sign(|token| token.cluster_id = ClusterId::random().0.to_vec().into())),
        ("for nothing", sign(|token| token.operations = 0)),
        ("for another operation", cluster.sign(&wrong_operation)),
        ("of another key", BlockKey::random().sign(good).into()),
    ]
}

#[test]
fn a_writer_needs_its_own_token() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let good = cluster.token(1, 5, Operation::Write);
    let mut client = Client::connect(&first.address());
    let mut seen = 0;
    let earlier = ("of an earlier generation", cluster.write_token(1, 4));
    for (what, token) in wrong(&cluster, &good, Operation::Read).into_iter().chain([earlier]) {
        let write = request::Operation::WriteBlock(write_block(1, 5, &[second.hop()]));
        assert_eq!(client.ask(token, write).map(drop), Err((Kind::Token, 0)), "a token {what}");
        seen += 1;
    }
    assert_eq!(seen, 12);
    assert!(first.replica(1).is_none() && second.replica(1).is_none());
    let write = request::Operation::WriteBlock(write_block(1, 5, &[second.hop()]));
    assert!(client.ask(cluster.sign(&good), write).is_ok());
}

#[test]
fn a_reader_needs_its_own_token() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    write_whole(&cluster, 1, 5, &[&worker], b"secret");
    let good = cluster.token(1, 5, Operation::Read);
    let mut client = Client::connect(&worker.address());
    let read = ReadBlock { block: 1, generation: 5, offset: 0, bytes: 100 };
    for (what, token) in wrong(&cluster, &good, Operation::Write) {
        assert_eq!(client.read(token, read), Err((Kind::Token, 0)), "a token {what}");
    }
    assert_eq!(client.read(cluster.sign(&good), read), Ok(b"secret".to_vec()));
}

#[test]
fn files_are_not_handed_out_over_tcp() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    write_whole(&cluster, 1, 5, &[&worker], b"secret");
    let mut client = Client::connect(&worker.address());
    let open = request::Operation::OpenLocal(OpenLocal { block: 1, generation: 5 });
    assert_eq!(client.ask(cluster.read_token(1), open).map(drop), Err((Kind::Protocol, 0)));
}
