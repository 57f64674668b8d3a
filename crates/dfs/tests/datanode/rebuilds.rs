//! Pipelines that go on under a new generation, and ghosts of the old one.

use gristmill_dfs::datanode::block_store::StoreOptions;
use gristmill_proto::ids::Generation;
use gristmill_proto::messages::WriteBlock;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::write_block::Stage;

use super::client::{BlockWriter, rebuild, write_block, write_whole};
use super::cluster::{Cluster, Worker, content};

const CHUNK: usize = 16 << 10;

#[test]
fn a_ghost_of_the_old_generation_is_refused() {
    let cluster = Cluster::new();
    let workers: [Worker; 3] = cluster.workers();
    let data = content(4 * CHUNK);
    let write = write_block(1, 1, &[workers[1].hop(), workers[2].hop()]);
    let mut ghost = BlockWriter::open(&cluster, &workers[0], write).expect("a pipeline");
    assert_eq!(ghost.write(0, &data[..CHUNK], CHUNK, false), (CHUNK as u64, None));

    // The writer has given up worker 2, which still lives.
    let again = rebuild(1, 1, 2, CHUNK as u64, &[workers[2].hop()]);
    let mut again = BlockWriter::open(&cluster, &workers[0], again).expect("a pipeline");
    // The old pipeline goes on nevertheless.
    let other = vec![0xee; CHUNK];
    let (_, blame) = ghost.write(CHUNK as u64, &other, CHUNK, true);
    assert!(matches!(blame, Some((Kind::StaleGeneration, 1 | 3))), "{blame:?}");
    assert_eq!(again.write(CHUNK as u64, &data[CHUNK..], CHUNK, true), (data.len() as u64, None));
    for worker in [&workers[0], &workers[2]] {
        assert_eq!(worker.replica(1), Some((Generation(2), data.clone())));
    }
    // What the ghost wrote alone is of its own generation.
    assert_eq!(workers[1].replica(1).expect("it is there").0, Generation(1));

    // It cannot come back either: not as it was, not as a rebuilt pipeline of its own.
    for late in [write_block(1, 1, &[]), rebuild(1, 1, 1, 0, &[])] {
        let refused = BlockWriter::open(&cluster, &workers[0], late).err().expect("it is over");
        assert!(matches!(refused.0, Kind::StaleGeneration | Kind::BusyReplica), "{refused:?}");
    }
    assert_eq!(workers[0].finished(1), Some((2, data.len() as u64)));
}

#[test]
fn a_rebuilt_replica_is_cut_to_what_was_acked() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let data = content(3 * CHUNK);
    let mut writer =
        BlockWriter::open(&cluster, &first, write_block(1, 1, &[second.hop()])).expect("a pipeline");
    assert_eq!(writer.write(0, &data, CHUNK, false).1, None);
    let kept = CHUNK + 100;
    let again = rebuild(1, 1, 2, kept as u64, &[second.hop()]);
    let mut again = BlockWriter::open(&cluster, &first, again).expect("a pipeline");
    for worker in [&first, &second] {
        assert_eq!(worker.replica(1), Some((Generation(2), data[..kept].to_vec())));
    }
    // The partial chunk comes from its start.
    assert_eq!(again.write(CHUNK as u64, &data[CHUNK..2 * CHUNK], CHUNK, true).1, None);
    assert_eq!(first.replica(1), Some((Generation(2), data[..2 * CHUNK].to_vec())));
    assert_eq!(first.replica(1), second.replica(1));
    // More than there is cannot be kept.
    let too_long = rebuild(1, 2, 3, 1 << 63, &[]);
    assert!(BlockWriter::open(&cluster, &first, too_long).is_err());
}

#[test]
fn a_finished_block_is_appended_to() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let data = content(CHUNK + 5000);
    write_whole(&cluster, 1, 1, &[&first, &second], &data[..CHUNK + 10]);
    let append = WriteBlock {
        stage: Stage::Append as i32,
        generation_before: 1,
        offset: CHUNK as u64 + 10,
        ..write_block(1, 2, &[second.hop()])
    };
    let mut writer = BlockWriter::open(&cluster, &first, append).expect("a pipeline");
    assert_eq!(writer.write(CHUNK as u64, &data[CHUNK..], CHUNK, true), (data.len() as u64, None));
    for worker in [&first, &second] {
        assert_eq!(worker.replica(1), Some((Generation(2), data.clone())));
        assert_eq!(worker.finished(1), Some((2, data.len() as u64)));
    }
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    write_whole(&cluster, 1, 1, &[&second], b"theirs");
    let opened = BlockWriter::open(&cluster, &first, write_block(1, 1, &[second.hop()]));
    // The culprit is named by the one before it.
    assert_eq!(opened.err(), Some((Kind::BusyReplica, 2)));
    assert_eq!(second.replica(1), Some((Generation(1), b"theirs".to_vec())));
    let unknown = WriteBlock { stage: 77, ..write_block(2, 1, &[]) };
    assert_eq!(BlockWriter::open(&cluster, &first, unknown).err(), Some((Kind::Protocol, 0)));
    let endless = write_block(3, 1, &vec![second.hop(); 100]);
    assert_eq!(BlockWriter::open(&cluster, &first, endless).err(), Some((Kind::Protocol, 0)));
}

#[test]
fn a_disk_without_room_is_named() {
    let cluster = Cluster::new();
    let first = cluster.worker(1);
    let store = StoreOptions { reserve_bytes: u64::MAX / 2 };
    let full = cluster.worker_of(2, super::cluster::quick(), store);
    let opened = BlockWriter::open(&cluster, &first, write_block(1, 1, &[full.hop()]));
    assert_eq!(opened.err(), Some((Kind::Disk, 2)));
    assert_eq!(BlockWriter::open(&cluster, &full, write_block(2, 1, &[])).err(), Some((Kind::Disk, 0)));
}
