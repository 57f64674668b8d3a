//! Readers on the worker's machine get the files themselves.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use gristmill_dfs::datanode::block_store::ReplicaReader;
use gristmill_dfs::datanode::{LocalSocket, LocalSocketError, SOCKET_PATH_BYTES_MAX};
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::handover::{self, ReplicaFiles};
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{OpenLocal, ReadBlock, Reply, Request};

use super::client::{BlockWriter, write_block, write_whole};
use super::cluster::{Cluster, PATIENCE, content};

struct Local(UnixStream);

impl Local {
    fn connect(socket: &LocalSocket) -> Local {
        let stream = UnixStream::connect(socket.path()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Local(stream)
    }

    fn ask(&mut self, token: Bytes, operation: Operation) -> Result<(Reply, ReplicaFiles), Kind> {
        let request = Request { token, operation: Some(operation) };
        bulk::write_frame(&mut self.0, FrameKind::Request, 3, &request, &[]).expect("it is sent");
        let mut scratch = Vec::new();
        let head = bulk::read_frame_head(&mut self.0, &mut scratch).expect("a frame").expect("not the end");
        assert_eq!((head.kind, head.request_id), (FrameKind::Reply, 3));
        let reply: Reply = head.header().expect("a reply");
        match &reply.failure {
            Some(failure) => Err(failure.kind()),
            None => Ok((reply, handover::receive_files(&self.0).expect("two files"))),
        }
    }
}

#[test]
fn files_are_handed_over_to_who_may_read_them() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    let data = content(50_000);
    write_whole(&cluster, 1, 4, &[&worker], &data);
    let socket = LocalSocket::start(worker.path(), &worker.server).expect("a socket");
    let mode = fs::metadata(socket.path()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut local = Local::connect(&socket);
    let open = Operation::OpenLocal(OpenLocal { block: 1, generation: 4 });
    for _ in 0..2 {
        let (reply, files) = local.ask(cluster.read_token(1), open.clone()).expect("files");
        assert_eq!(reply.bytes, data.len() as u64);
        let reader =
            ReplicaReader::from_files(BlockId(1), Generation(4), reply.bytes, files.data, files.sums)
                .expect("a replica");
        let mut bytes = vec![0; data.len()];
        reader.read_data(0, &mut bytes).expect("a read");
        assert_eq!(bytes, data);
        // Nobody writes through them.
        assert!(reader.data_file().write_at(b"x", 0).is_err());
        assert!(reader.sum_file().write_at(b"x", 0).is_err());
    }
    assert_eq!(local.ask(Bytes::new(), open.clone()).err(), Some(Kind::Token));
    assert_eq!(local.ask(cluster.write_token(1, 4), open.clone()).err(), Some(Kind::Token));
    assert_eq!(local.ask(cluster.read_token(2), open).err(), Some(Kind::Token));
    let nothing = Operation::OpenLocal(OpenLocal { block: 2, generation: 4 });
    assert_eq!(local.ask(cluster.read_token(2), nothing).err(), Some(Kind::NotFound));
    // It does nothing else.
    let read = Operation::ReadBlock(ReadBlock { block: 1, generation: 4, offset: 0, bytes: 1 });
    assert_eq!(local.ask(cluster.read_token(1), read).err(), Some(Kind::Protocol));

    let path = socket.path().to_owned();
    socket.stop().expect("it stops");
    assert!(!path.exists());
}

#[test]
fn a_replica_that_grows_is_not_handed_over() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    let socket = LocalSocket::start(worker.path(), &worker.server).expect("a socket");
    let mut writer = BlockWriter::open(&cluster, &worker, write_block(1, 1, &[])).expect("a pipeline");
    let mut local = Local::connect(&socket);
    // Also where its length is one of whole chunks.
    for bytes in [100, 16 << 10] {
        assert_eq!(writer.write(0, &content(bytes), 1 << 20, false).1, None);
        let open = Operation::OpenLocal(OpenLocal { block: 1, generation: 1 });
        assert_eq!(local.ask(cluster.read_token(1), open).err(), Some(Kind::BusyReplica), "{bytes} bytes");
    }
}

#[test]
fn nonsense_on_the_socket_ends_one_connection() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    write_whole(&cluster, 1, 1, &[&worker], b"well");
    let socket = LocalSocket::start(worker.path(), &worker.server).expect("a socket");
    for garbage in [&b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n"[..], &[0xff; 100], b"GMB\x01"] {
        let mut local = Local::connect(&socket);
        std::io::Write::write_all(&mut local.0, garbage).expect("it is sent");
        local.0.shutdown(std::net::Shutdown::Write).expect("a socket");
        let mut answer = Vec::new();
        // A reset is an end as well.
        std::io::Read::read_to_end(&mut local.0, &mut answer).unwrap_or(0);
    }
    let open = Operation::OpenLocal(OpenLocal { block: 1, generation: 1 });
    assert!(Local::connect(&socket).ask(cluster.read_token(1), open).is_ok());
}

#[test]
fn a_dead_socket_is_replaced_and_a_long_path_is_refused() {
    let cluster = Cluster::new();
    let worker = cluster.worker(1);
    let dead = LocalSocket::start(worker.path(), &worker.server).expect("a socket");
    let again = LocalSocket::start(worker.path(), &worker.server).expect("a socket in its place");
    assert_eq!(dead.path(), again.path());
    let long = worker.path().join("d".repeat(SOCKET_PATH_BYTES_MAX));
    let refused = LocalSocket::start(&long, &worker.server).err();
    assert!(matches!(refused, Some(LocalSocketError::PathTooLong { .. })));
}
