//! Blocks written through pipelines that hold.

use gristmill_dfs::datanode::block_store::Change;
use gristmill_proto::ids::Generation;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{Packet, ReadBlock};

use super::client::{BlockWriter, Client, write_block, write_whole};
use super::cluster::{Cluster, Worker, content};

const CHUNK: usize = 16 << 10;

#[test]
fn a_block_is_on_every_worker_of_its_pipeline() {
    let cluster = Cluster::new();
    let workers: [Worker; 3] = cluster.workers();
    let all: Vec<&Worker> = workers.iter().collect();
    let mut block = 0;
    for length in 1..=3 {
        for bytes in [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 1, (2 << 20) + 77] {
            block += 1;
            let data = content(bytes);
            write_whole(&cluster, block, 5, &all[..length], &data);
            for worker in &all[..length] {
                assert_eq!(
                    worker.replica(block),
                    Some((Generation(5), data.clone())),
                    "{bytes} bytes on {length}"
                );
                assert_eq!(worker.finished(block), Some((5, bytes as u64)));
            }
        }
    }
    // Announced once each, on each worker that has it.
    let announced: Vec<usize> = workers.iter().map(|worker| worker.changes.lock().unwrap().len()).collect();
    assert_eq!(announced, [18, 12, 6]);
    let first = workers[0].changes.lock().unwrap()[0];
    assert!(matches!(first, Change::Finished(info) if info.block == 1 && info.generation == 5));
}

#[test]
fn one_connection_carries_many_blocks_and_reads_between_them() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let mut client = Client::connect(&first.address());
    for block in 1..=20 {
        let data = content(CHUNK * block as usize + 5);
        let write = write_block(block, 1, &[second.hop()]);
        let mut writer = BlockWriter::open_on(client, &cluster, write).expect("a pipeline");
        assert_eq!(writer.write(0, &data, 4 * CHUNK, true), (data.len() as u64, None));
        client = writer.client;
        let read = ReadBlock { block, generation: 1, offset: 3, bytes: u64::MAX };
        assert_eq!(client.read(cluster.read_token(block), read), Ok(data[3..].to_vec()));
    }
    // A refusal does not end it.
    let nothing = ReadBlock { block: 99, generation: 1, offset: 0, bytes: 1 };
    assert!(client.read(cluster.read_token(99), nothing).is_err());
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 2 };
    assert_eq!(client.read(cluster.read_token(1), read), Ok(content(2)));
}

#[test]
fn many_packets_are_under_way_at_once() {
    let cluster = Cluster::new();
    let workers: [Worker; 3] = cluster.workers();
    let write = write_block(1, 1, &[workers[1].hop(), workers[2].hop()]);
    let mut writer = BlockWriter::open(&cluster, &workers[0], write).expect("a pipeline");
    // More than any queue on the way holds, before the first ack is read.
    let data = content(CHUNK);
    for index in 0..1000 {
        assert!(writer.send(index * CHUNK as u64, &data, index == 999));
    }
    assert_eq!(writer.wait_acks(), (1000 * CHUNK as u64, None));
    assert!(workers.iter().all(|worker| worker.finished(1) == Some((1, 1000 * CHUNK as u64))));
}

#[test]
fn a_partial_chunk_is_sent_again_from_its_start() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let data = content(5 * CHUNK / 2 + 1000);
    let write = write_block(1, 1, &[second.hop()]);
    let mut writer = BlockWriter::open(&cluster, &first, write).expect("a pipeline");
    for end in [100, 200, CHUNK, CHUNK + 1, 2 * CHUNK + 7, data.len()] {
        let start = match end {
            100 | 200 | CHUNK => 0,
            end if end == CHUNK + 1 || end == 2 * CHUNK + 7 => CHUNK,
            _ => 2 * CHUNK,
        };
        assert!(writer.send(start as u64, &data[start..end], end == data.len()));
        assert_eq!(writer.wait_acks(), (end as u64, None));
        assert_eq!(second.replica(1).expect("visible").1, data[..end]);
    }
    assert_eq!(first.replica(1), second.replica(1));
}

#[test]
fn synced_bytes_are_acked_when_they_are_durable_everywhere() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let write = write_block(1, 1, &[second.hop()]);
    let mut writer = BlockWriter::open(&cluster, &first, write).expect("a pipeline");
    let data = content(CHUNK + 10);
    let packet = Packet { sequence: 0, offset: 0, bytes: data.len() as u32, last: false, sync: true };
    writer.client.packet(&packet, &data).expect("it is sent");
    let ack = writer.client.ack().expect("an ack");
    assert_eq!((ack.sequence, ack.failure), (0, None));
    // A packet of nothing but the wish to sync.
    writer.client.packet(&Packet { sequence: 1, sync: true, ..Packet::default() }, &[]).expect("it is sent");
    assert_eq!(writer.client.ack().map(|ack| (ack.sequence, ack.failure)), Some((1, None)));
    for worker in [&first, &second] {
        let stopped = worker.store.stop_writer(gristmill_proto::ids::BlockId(1), Generation(2));
        assert_eq!(stopped.expect("a disk").map(|stopped| stopped.bytes), Some(data.len() as u64));
    }
}

#[test]
fn the_counts_of_writers_go_up_and_down() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let write = write_block(1, 1, &[second.hop()]);
    let mut writer = BlockWriter::open(&cluster, &first, write).expect("a pipeline");
    assert_eq!((first.server.writers(), second.server.writers()), (1, 1));
    assert_eq!(writer.write(0, b"done", 4, true), (4, None));
    super::cluster::eventually("nobody writes", || first.server.writers() + second.server.transfers() == 0);
    // A stopped server takes nobody, and lets idle ones go at once.
    assert_eq!(first.server.stop(std::time::Duration::from_secs(10)).expect("it stops"), 0);
    let mut client = writer.client;
    client.send(cluster.read_token(1), Operation::ReadBlock(ReadBlock::default()));
    assert!(client.reply().is_none(), "the connection is closed");
}

#[test]
fn a_worker_that_ends_lets_writers_finish_but_not_begin() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let data = content(3 * CHUNK);
    let mut writer =
        BlockWriter::open(&cluster, &first, write_block(1, 1, &[second.hop()])).expect("a pipeline");
    assert_eq!(writer.write(0, &data[..CHUNK], CHUNK, false).1, None);
    let mut idle = Client::connect(&first.address());
    let server = first.server.clone();
    let ending = std::thread::spawn(move || server.stop(super::cluster::PATIENCE));
    // The listener is gone when it ends.
    super::cluster::eventually("it ends", || std::net::TcpStream::connect(first.address()).is_err());
    assert!(idle.reply().is_none(), "idle connections are closed");
    assert_eq!(writer.write(CHUNK as u64, &data[CHUNK..], CHUNK, true), (data.len() as u64, None));
    assert_eq!(ending.join().expect("no panic").expect("it stops"), 0);
    assert_eq!(first.finished(1), Some((1, data.len() as u64)));

    // One that does not finish is left after a while, with what was acked.
    let mut writer = BlockWriter::open(&cluster, &second, write_block(2, 1, &[])).expect("a pipeline");
    assert_eq!(writer.write(0, &data, CHUNK, false).1, None);
    let left = second.server.stop(std::time::Duration::from_millis(50)).expect("it stops");
    assert_eq!(left, 0);
    assert_eq!(writer.client.ack(), None);
    assert_eq!(second.replica(2), Some((Generation(1), data)));
}
