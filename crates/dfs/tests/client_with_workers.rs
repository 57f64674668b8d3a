//! The client with real workers on real disks; only the master is a fake.

mod fakes;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fakes::content;
use fakes::master::FakeMaster;
use fakes::namespace::FakeNamespace;
use gristmill_dfs::client::{ClientOptions, CreateOptions, DfsClient};
use gristmill_dfs::datanode::block_store::{BlockStore, Identity, StoreOptions};
use gristmill_dfs::datanode::{BulkOptions, BulkServer, LocalSocket, Standing};
use gristmill_proto::auth::{BlockKey, Operation};
use gristmill_proto::ids::{BlockId, ClusterId, Epoch, Generation, WorkerId};
use gristmill_proto::messages::BlockToken;
use gristmill_proto::namespace::{BlockEnd, Replica};
use tempfile::TempDir;

struct Worker {
    store: BlockStore,
    server: Option<BulkServer>,
    replica: Replica,
    _local: LocalSocket,
    _directory: TempDir,
}

struct Cluster {
    workers: Vec<Worker>,
    master: FakeMaster,
}

impl Worker {
    fn start(id: u64, cluster: ClusterId, key: &BlockKey) -> Worker {
        let directory = tempfile::tempdir().expect("a directory");
        let options = StoreOptions { reserve_bytes: 0 };
        let store = BlockStore::open(&[directory.path().to_owned()], options).expect("a store");
        store.adopt(Identity { cluster, worker: WorkerId(id) }).expect("a new store is nobody's");
        let standing = Arc::new(Standing::new(Duration::from_secs(3600)));
        standing.join(cluster, WorkerId(id), key.clone());
        assert!(standing.hear(Epoch(1)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server =
            BulkServer::start(listener, store.clone(), standing, BulkOptions::default()).expect("a server");
        let local = LocalSocket::start(directory.path(), &server).expect("a socket");
        let replica = Replica {
            worker: id,
            address: server.address().to_string(),
            socket: local.path().to_string_lossy().into_owned(),
            ..Replica::default()
        };
        Worker { store, server: Some(server), replica, _local: local, _directory: directory }
    }

    /// As if its process had ended.
    fn stop(&mut self) {
        let server = self.server.take().expect("it runs");
        server.stop(Duration::ZERO).expect("stopped");
    }
}

impl Cluster {
    fn start(workers: u64) -> Cluster {
        let (cluster, key) = (ClusterId::random(), BlockKey::random());
        let workers: Vec<Worker> = (1..=workers).map(|id| Worker::start(id, cluster, &key)).collect();
        let stores: Vec<BlockStore> = workers.iter().map(|worker| worker.store.clone()).collect();
        let durable = move |end: &BlockEnd| {
            stores.iter().any(|store| {
                let replica = store.read(BlockId(end.block), Generation(end.generation));
                replica.is_ok_and(|replica| replica.is_finished() && replica.bytes() == end.bytes)
            })
        };
        let sign = move |block, generation, write| {
            let operation = if write { Operation::Write } else { Operation::Read };
            key.sign(&BlockToken {
                cluster_id: cluster.0.to_vec().into(),
                epoch: 1,
                block,
                generation: if write { generation } else { 0 },
                operations: operation.bit(),
                expires_ms: UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64 + 3_600_000,
                user: "ann".to_owned(),
            })
        };
        let replicas = workers.iter().map(|worker| worker.replica.clone()).collect();
        let namespace = FakeNamespace::of(replicas, Box::new(durable), Box::new(sign));
        let count = workers.len();
        Cluster { workers, master: FakeMaster::with(namespace, count) }
    }

    fn client(&self) -> DfsClient {
        let mut options = ClientOptions::new(self.master.address());
        options.user = "ann".to_owned();
        options.host = "here".to_owned();
        DfsClient::connect(options).expect("connected")
    }
}

fn put(client: &DfsClient, path: &str, bytes: &[u8], options: CreateOptions) {
    let mut writer = client.create(path, options).expect("created");
    writer.write_all(bytes).expect("written");
    writer.finish().expect("finished");
}

fn read(client: &DfsClient, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.open(path).expect("opened").read_to_end(&mut bytes).expect("read");
    bytes
}

#[test]
fn what_is_written_is_read_from_near_and_far() {
    let cluster = Cluster::start(3);
    let client = cluster.client();
    let bytes = content(10_000_001);
    put(&client, "/file", &bytes, CreateOptions::default());
    assert!(read(&client, "/file") == bytes, "over TCP");
    cluster.master.seen().namespace.hosts[0] = "here".to_owned();
    assert!(read(&cluster.client(), "/file") == bytes, "from its files");
    let reader = client.open("/file").expect("opened");
    for (at, length) in [(0, 1), (16_383, 2), (4 << 20, 100_000), (9_999_999, 10)] {
        let mut buffer = vec![0; length];
        let got = reader.read_at(&mut buffer, at as u64).expect("read");
        assert!(buffer[..got] == bytes[at..bytes.len().min(at + length)]);
    }
}

#[test]
fn synced_and_appended_bytes_are_there() {
    let cluster = Cluster::start(2);
    let client = cluster.client();
    let bytes = content(5_000_000);
    let mut written = 0;
    let mut writer = client.create("/log", CreateOptions::default()).expect("created");
    for piece in [100, 16_384, 50_000, 1, 2_000_000] {
        writer.write_all(&bytes[written..written + piece]).expect("written");
        written += piece;
        writer.sync().expect("synced");
        assert!(read(&client, "/log") == bytes[..written], "while it is written");
    }
    writer.finish().expect("finished");
    for piece in [7, 0, 20_000, 2_200_000, 16_384] {
        let mut writer = client.append("/log").expect("opened");
        writer.write_all(&bytes[written..written + piece]).expect("written");
        written += piece;
        writer.finish().expect("finished");
        assert!(read(&client, "/log") == bytes[..written], "after {written} bytes");
    }
}

#[test]
fn a_worker_that_ends_in_the_middle_is_left_behind() {
    for stopped in 0..3 {
        let mut cluster = Cluster::start(3);
        let client = cluster.client();
        let bytes = content(9_000_000);
        let mut writer = client.create("/file", CreateOptions::default()).expect("created");
        writer.write_all(&bytes[..1_500_000]).expect("written");
        writer.flush_visible().expect("flushed");
        cluster.workers[stopped].stop();
        writer.write_all(&bytes[1_500_000..]).expect("written");
        writer.finish().unwrap_or_else(|error| panic!("worker {stopped}: {error}"));
        assert!(read(&client, "/file") == bytes, "without worker {stopped}");
        let blocks = cluster.master.seen().namespace.node("/file").expect("there").blocks.clone();
        assert!(blocks.iter().all(|block| !block.workers.contains(&(stopped as u64 + 1))));
        assert!(blocks.iter().all(|block| block.workers.len() == 2));
    }
}

/// Not a test of anything but speed: `cargo test --release --test client_with_workers -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn bytes_per_second() {
    let cluster = Cluster::start(1);
    let client = cluster.client();
    let bytes = content(1 << 30);
    let speed = |what: &str, act: &dyn Fn()| {
        let started = Instant::now();
        act();
        println!("{what}: {:.0} MB/s", bytes.len() as f64 / 1e6 / started.elapsed().as_secs_f64());
    };
    let options = CreateOptions { block_bytes: 64 << 20, ..CreateOptions::default() };
    let plain = tempfile::tempdir().expect("a directory");
    speed("local write, checksum and fsync", &|| {
        let mut file = std::fs::File::create(plain.path().join("plain")).expect("created");
        for block in bytes.chunks(64 << 20) {
            for piece in block.chunks(1 << 20) {
                let mut sums = Vec::new();
                gristmill_proto::chunks::append_sums(piece, &mut sums);
                file.write_all(piece).expect("written");
            }
            file.sync_data().expect("synced");
        }
    });
    speed("written", &|| put(&client, "/file", &bytes, options));
    let drain = |reader: &mut dyn Read| {
        let mut buffer = vec![0; 1 << 20];
        while reader.read(&mut buffer).expect("read") > 0 {}
    };
    speed("read again from a plain file", &|| {
        drain(&mut std::fs::File::open(plain.path().join("plain")).expect("opened"));
    });
    for round in ["", ", again"] {
        speed(&format!("read over TCP{round}"), &|| drain(&mut client.open("/file").expect("opened")));
    }
    cluster.master.seen().namespace.hosts[0] = "here".to_owned();
    for round in ["", ", again"] {
        speed(&format!("read from its files{round}"), &|| drain(&mut client.open("/file").expect("opened")));
    }
}
