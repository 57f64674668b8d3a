//! Replicas read over the network: finished, growing, broken.

use std::fs;
use std::path::PathBuf;

use gristmill_dfs::datanode::block_store::Change;
use gristmill_proto::messages::ReadBlock;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;

use super::client::{BlockWriter, Client, write_block, write_whole};
use super::cluster::{Cluster, Worker, content, eventually};

const CHUNK: usize = 16 << 10;

fn files_of(worker: &Worker) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![worker.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The data file (or the sums) of a block.
pub(crate) fn file_of(worker: &Worker, block: u64, sums: bool) -> PathBuf {
    let is_it = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if sums { name.starts_with(&format!("{block}_")) } else { name == block.to_string() }
    };
    files_of(worker).into_iter().find(is_it).expect("a file of the block")
}

#[test]
fn any_range_is_what_was_written() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    let data = content((2 << 20) + CHUNK + 333);
    write_whole(&cluster, 1, 3, &[&worker], &data);
    let mut client = Client::connect(&worker.address());
    let edges =
        [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 1 << 20, (1 << 20) + 1, 2 << 20, data.len() - 1, data.len()];
    for start in edges {
        for bytes in [0, 1, CHUNK, (1 << 20) + 5, data.len(), usize::MAX] {
            let read = ReadBlock { block: 1, generation: 3, offset: start as u64, bytes: bytes as u64 };
            let end = data.len().min(start.saturating_add(bytes));
            let got = client.read(cluster.read_token(1), read).expect("a read");
            assert_eq!(got, data[start..end], "{bytes} bytes at {start}");
        }
    }
}

#[test]
fn the_reply_says_what_comes() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    write_whole(&cluster, 1, 1, &[&worker], &content(2 * CHUNK + 100));
    let mut client = Client::connect(&worker.address());
    let mut promised = |offset: u64, bytes: u64| {
        let read = ReadBlock { block: 1, generation: 1, offset, bytes };
        let reply = client.ask(cluster.read_token(1), Operation::ReadBlock(read)).expect("a read");
        client.packets(&reply).expect("a whole read");
        (reply.offset, reply.bytes)
    };
    let chunk = CHUNK as u64;
    // Whole chunks, as far as there are any.
    assert_eq!(promised(5, 1), (0, chunk));
    assert_eq!(promised(chunk, chunk), (chunk, chunk));
    assert_eq!(promised(chunk + 1, chunk), (chunk, chunk + 100));
    assert_eq!(promised(2 * chunk + 99, 1 << 63), (2 * chunk, 100));
    // Nothing, where nothing is wanted or nothing is.
    assert_eq!(promised(2 * chunk + 100, 1), (2 * chunk, 0));
    assert_eq!(promised(chunk + 9, 0), (chunk, 0));
    let behind = ReadBlock { block: 1, generation: 1, offset: 1 << 63, bytes: 1 << 63 };
    assert_eq!(client.read(cluster.read_token(1), behind), Err((Kind::NotFound, 0)));
}

#[test]
fn generations_that_are_not_here_are_refused() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    write_whole(&cluster, 1, 4, &[&worker], b"under four");
    let mut client = Client::connect(&worker.address());
    let mut read = |block, generation| {
        client.read(cluster.read_token(block), ReadBlock { block, generation, offset: 0, bytes: 100 })
    };
    assert_eq!(read(1, 4), Ok(b"under four".to_vec()));
    assert_eq!(read(1, 3), Ok(b"under four".to_vec()));
    assert_eq!(read(1, 5), Err((Kind::StaleGeneration, 0)));
    assert_eq!(read(2, 1), Err((Kind::NotFound, 0)));
}

#[test]
fn a_growing_replica_shows_what_is_acked() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let data = content(3 * CHUNK);
    let mut writer =
        BlockWriter::open(&cluster, &first, write_block(1, 1, &[second.hop()])).expect("a pipeline");
    let mut clients = [&first, &second].map(|worker| Client::connect(&worker.address()));
    for end in [1, 777, CHUNK, CHUNK + 9, 3 * CHUNK] {
        let start = (end - 1) / CHUNK * CHUNK;
        let start = if end == 3 * CHUNK { CHUNK } else { start };
        assert_eq!(writer.write(start as u64, &data[start..end], 4 * CHUNK, false).1, None);
        for client in &mut clients {
            let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: u64::MAX };
            assert_eq!(client.read(cluster.read_token(1), read), Ok(data[..end].to_vec()), "up to {end}");
            let at_end = ReadBlock { block: 1, generation: 1, offset: end as u64, bytes: 10 };
            assert_eq!(client.read(cluster.read_token(1), at_end), Ok(Vec::new()));
        }
    }
}

#[test]
fn a_replica_that_grows_while_it_is_read_does_not_disturb_the_reader() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    let data = content(400 * 1000);
    let mut writer = BlockWriter::open(&cluster, &worker, write_block(1, 1, &[])).expect("a pipeline");
    let address = worker.address();
    let token = cluster.read_token(1);
    let expected = data.clone();
    let reader = std::thread::spawn(move || {
        let mut client = Client::connect(&address);
        let (mut reads, mut seen) = (0, 0);
        while seen < expected.len() {
            let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: u64::MAX };
            let got = client.read(token.clone(), read).expect("a read");
            assert!(got.len() >= seen, "it shrinks");
            assert_eq!(got, expected[..got.len()]);
            seen = got.len();
            reads += 1;
        }
        reads
    });
    for end in (1000..=data.len()).step_by(1000) {
        let start = (end - 1000) / CHUNK * CHUNK;
        assert_eq!(writer.write(start as u64, &data[start..end], 4 * CHUNK, false).1, None);
    }
    assert!(reader.join().expect("no panic") > 0);
}

#[test]
fn a_replica_with_a_damaged_head_is_corrupt() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    write_whole(&cluster, 1, 1, &[&worker], &content(CHUNK));
    let sums = file_of(&worker, 1, true);
    let mut bytes = fs::read(&sums).expect("it is there");
    bytes[3] ^= 1;
    fs::write(&sums, bytes).expect("it is written");
    let mut client = Client::connect(&worker.address());
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 1 };
    assert_eq!(client.read(cluster.read_token(1), read), Err((Kind::Corrupt, 0)));
    let bad = |changes: &[Change]| {
        changes.iter().any(|change| matches!(change, Change::Bad(info) if info.block == 1))
    };
    eventually("it is announced as bad", || bad(&worker.changes.lock().unwrap()));
}

#[test]
fn a_replica_that_is_cut_short_is_corrupt() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    write_whole(&cluster, 1, 1, &[&worker], &content(3 * CHUNK));
    let data = fs::OpenOptions::new().write(true).open(file_of(&worker, 1, false)).expect("it is there");
    data.set_len(CHUNK as u64 + 1).expect("it is cut");
    let mut client = Client::connect(&worker.address());
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 1 };
    assert_eq!(client.read(cluster.read_token(1), read), Err((Kind::Corrupt, 0)));
}
