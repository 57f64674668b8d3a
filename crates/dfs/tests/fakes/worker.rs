//! The fake worker: bulk frames over TCP and a Unix socket, and the ways in which it fails.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gristmill_dfs::datanode::block_store::SUMS_START;
use gristmill_proto::bulk::{FrameKind, read_body, read_frame_head, write_frame};
use gristmill_proto::chunks::{self, CHUNK_BYTES};
use gristmill_proto::handover;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::*;
use tempfile::TempDir;

use super::replicas::Replicas;

/// How the worker fails. Counted by [`FakeWorker::fired`] when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Takes connections and closes them, from now on.
    Down,
    /// Refuses every request, from now on.
    Refuse(Kind),
    /// Closes the connection instead of writing the packet with this index in its pipeline. Once.
    CloseAtPacket(u64),
    /// Writes the packet, and closes instead of acknowledging it. Once.
    CloseAfterPacket(u64),
    /// Says nothing more from this packet on. Once.
    SilentAtPacket(u64),
    /// Answers the packet with a failure. Once.
    FailAtPacket(u64, Kind),
    /// Writes the last packet of a block, and closes instead of acknowledging it. Once.
    CloseAfterLast,
    /// Flips a bit in the first byte of every read, from now on.
    CorruptReads,
    /// Closes after so many bytes of data of a read, from now on.
    CutReads(usize),
    /// Replies to a read and sends nothing, from now on.
    SilentReads,
    /// Ends a read with Broken, from now on.
    BrokenReads(Kind),
}

/// What the threads of a worker share.
#[derive(Clone)]
pub struct Shared {
    pub id: u64,
    pub replicas: Replicas,
    fault: Arc<Mutex<Option<Fault>>>,
    fired: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
    pub remote_reads: Arc<AtomicUsize>,
    pub local_opens: Arc<AtomicUsize>,
    pub stopped: Arc<AtomicBool>,
    directory: PathBuf,
}

pub struct FakeWorker {
    pub shared: Shared,
    pub address: String,
    pub socket: String,
    _directory: TempDir,
}

impl FakeWorker {
    pub fn start(id: u64) -> FakeWorker {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let socket = directory.path().join("socket");
        let local = UnixListener::bind(&socket).expect("a socket");
        let shared = Shared {
            id,
            replicas: Replicas::default(),
            fault: Arc::default(),
            fired: Arc::default(),
            connections: Arc::default(),
            remote_reads: Arc::default(),
            local_opens: Arc::default(),
            stopped: Arc::default(),
            directory: directory.path().to_owned(),
        };
        let (remote, near) = (shared.clone(), shared.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = remote.clone();
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        std::thread::spawn(move || {
            for stream in local.incoming().flatten() {
                serve_local(&near, stream);
            }
        });
        let socket = socket.to_string_lossy().into_owned();
        FakeWorker { shared, address, socket, _directory: directory }
    }

    pub fn break_with(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some(fault);
    }

    pub fn mend(&self) {
        *self.shared.fault.lock().unwrap() = None;
    }

    pub fn fired(&self) -> usize {
        self.shared.fired.load(Ordering::Relaxed)
    }

    pub fn replicas(&self) -> &Replicas {
        &self.shared.replicas
    }
}

impl Shared {
    /// Whether this fault is set; counts it. One that happens once is taken away.
    fn fails(&self, matches: impl Fn(Fault) -> bool, once: bool) -> Option<Fault> {
        let mut fault = self.fault.lock().unwrap();
        let set = fault.filter(|fault| matches(*fault))?;
        self.fired.fetch_add(1, Ordering::Relaxed);
        if once {
            *fault = None;
        }
        Some(set)
    }

    fn refusal(&self) -> Option<BulkFailure> {
        match self.fails(|fault| matches!(fault, Fault::Refuse(_)), false)? {
            Fault::Refuse(kind) => Some(failure(kind)),
            _ => None,
        }
    }
}

fn failure(kind: Kind) -> BulkFailure {
    BulkFailure { kind: kind.into(), detail: "as the story says".to_owned() }
}

/// Serves the requests of one connection. Its errors are the peer's going away.
fn serve(shared: &Shared, stream: TcpStream) {
    if shared.fails(|fault| fault == Fault::Down, false).is_some() {
        return;
    }
    stream.set_nodelay(true).expect("a socket");
    let mut scratch = Vec::new();
    while let Ok(Some(head)) = read_frame_head(&mut &stream, &mut scratch) {
        let id = head.request_id;
        let request: Request = head.header().expect("a request");
        let reply = |reply: &Reply| write_frame(&mut &stream, FrameKind::Reply, id, reply, &[]);
        if let Some(failure) = shared.refusal() {
            reply(&Reply { failure: Some(failure), ..Reply::default() }).expect("the peer listens");
            continue;
        }
        let served = match request.operation.expect("an operation") {
            Operation::WriteBlock(write) => serve_write(shared, &stream, id, &request.token, write),
            Operation::ReadBlock(read) => serve_read(shared, &stream, id, &request.token, &read),
            _ => panic!("not over TCP, or not of a block"),
        };
        if served.is_err() {
            return;
        }
    }
}

fn serve_write(
    shared: &Shared,
    stream: &TcpStream,
    id: u64,
    token: &[u8],
    write: WriteBlock,
) -> io::Result<()> {
    assert_eq!(token, write_token(write.block, write.generation), "the token of another block");
    let opened = shared.replicas.open(&write).err().map(|kind| (failure(kind), 0));
    let (next, failed) = match opened {
        Some(failed) => (None, Some(failed)),
        None => match open_next(&write, token) {
            Ok(next) => (next, None),
            Err(failed) => (None, Some(failed)),
        },
    };
    if let Some((failure, failed_worker)) = failed {
        let reply = Reply { failure: Some(failure), failed_worker, ..Reply::default() };
        return write_frame(&mut &*stream, FrameKind::Reply, id, &reply, &[]);
    }
    write_frame(&mut &*stream, FrameKind::Reply, id, &Reply::default(), &[])?;
    let (mut scratch, mut body) = (Vec::new(), Vec::new());
    for index in 0.. {
        let head = read_frame_head(&mut &*stream, &mut scratch).map_err(io::Error::other)?;
        let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
        assert_eq!(head.request_id, id);
        let (packet, sums_bytes) = head.packet().expect("a packet");
        body.resize(head.body_bytes as usize, 0);
        read_body(&mut &*stream, &mut body).map_err(io::Error::other)?;
        let (sums, data) = body.split_at(sums_bytes as usize);
        chunks::verify(data, sums).expect("sums of the writer");
        let mut failed = None;
        match faulty_packet(shared, index, packet.last) {
            Some(Fault::CloseAtPacket(_)) => return Err(io::ErrorKind::Other.into()),
            Some(Fault::SilentAtPacket(_)) => return be_silent(stream),
            Some(Fault::FailAtPacket(_, kind)) => failed = Some((failure(kind), shared.id)),
            Some(Fault::CloseAfterPacket(_) | Fault::CloseAfterLast) => {
                shared.replicas.write(write.block, write.generation, &packet, data).expect("a good packet");
                return Err(io::ErrorKind::Other.into());
            }
            _ => {}
        }
        if failed.is_none() {
            let written = shared.replicas.write(write.block, write.generation, &packet, data);
            failed = written.err().map(|kind| (failure(kind), shared.id));
        }
        if failed.is_none() {
            failed = next.as_ref().and_then(|(worker, next)| forward(*worker, next, &packet, &body));
        }
        let failed_worker = failed.as_ref().map_or(0, |failed| failed.1);
        let failure = failed.map(|failed| failed.0);
        let ack = Ack { sequence: packet.sequence, failure, failed_worker, ..Ack::default() };
        write_frame(&mut &*stream, FrameKind::Ack, id, &ack, &[])?;
        if ack.failure.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        if packet.last {
            break;
        }
    }
    Ok(())
}

fn faulty_packet(shared: &Shared, index: u64, last: bool) -> Option<Fault> {
    let now = |fault| match fault {
        Fault::CloseAtPacket(at) | Fault::CloseAfterPacket(at) | Fault::SilentAtPacket(at) => at == index,
        Fault::FailAtPacket(at, _) => at == index,
        Fault::CloseAfterLast => last,
        _ => false,
    };
    shared.fails(now, true)
}

/// Until the peer gives up.
fn be_silent(stream: &TcpStream) -> io::Result<()> {
    io::copy(&mut &*stream, &mut io::sink())?;
    Err(io::ErrorKind::Other.into())
}

/// The connection to the next worker, or whose failure it is that there is none.
fn open_next(write: &WriteBlock, token: &[u8]) -> Result<Option<(u64, TcpStream)>, (BulkFailure, u64)> {
    let Some((next, rest)) = write.next.split_first() else { return Ok(None) };
    let lost = |_| (failure(Kind::Hop), next.worker);
    let stream = TcpStream::connect(&next.address).map_err(lost)?;
    stream.set_nodelay(true).expect("a socket");
    let onward = WriteBlock { next: rest.to_vec(), ..write.clone() };
    let request = Request { token: token.to_vec().into(), operation: Some(Operation::WriteBlock(onward)) };
    write_frame(&mut &stream, FrameKind::Request, 1, &request, &[]).map_err(lost)?;
    let mut scratch = Vec::new();
    let head = read_frame_head(&mut &stream, &mut scratch).ok().flatten();
    let head = head.ok_or_else(|| (failure(Kind::Hop), next.worker))?;
    let reply: Reply = head.header().expect("a reply");
    match reply.failure {
        Some(failure) if reply.failed_worker == 0 => Err((failure, next.worker)),
        Some(failure) => Err((failure, reply.failed_worker)),
        None => Ok(Some((next.worker, stream))),
    }
}

fn forward(worker: u64, next: &TcpStream, packet: &Packet, body: &[u8]) -> Option<(BulkFailure, u64)> {
    let mut scratch = Vec::new();
    let sent = write_frame(&mut &*next, FrameKind::Packet, 1, packet, &[body]);
    let head = sent.ok().and_then(|()| read_frame_head(&mut &*next, &mut scratch).ok().flatten());
    let Some(head) = head else { return Some((failure(Kind::Hop), worker)) };
    let ack: Ack = head.header().expect("an ack");
    assert_eq!(ack.sequence, packet.sequence);
    ack.failure.map(|failure| (failure, if ack.failed_worker == 0 { worker } else { ack.failed_worker }))
}

fn serve_read(
    shared: &Shared,
    stream: &TcpStream,
    id: u64,
    token: &[u8],
    read: &ReadBlock,
) -> io::Result<()> {
    let packet_bytes: usize = 1 << 20;
    assert_eq!(token, read_token(read.block), "the token of another block");
    shared.remote_reads.fetch_add(1, Ordering::Relaxed);
    let replica = shared.replicas.get(read.block).filter(|replica| replica.generation >= read.generation);
    let Some(replica) = replica else {
        let reply = Reply { failure: Some(failure(Kind::NotFound)), ..Reply::default() };
        return write_frame(&mut &*stream, FrameKind::Reply, id, &reply, &[]);
    };
    let start = read.offset - read.offset % CHUNK_BYTES;
    let end = (read.offset + read.bytes).next_multiple_of(CHUNK_BYTES).min(replica.data.len() as u64);
    let reply =
        Reply { offset: start, bytes: end - start, chunk_bytes: CHUNK_BYTES as u32, ..Reply::default() };
    write_frame(&mut &*stream, FrameKind::Reply, id, &reply, &[])?;
    if shared.fails(|fault| fault == Fault::SilentReads, false).is_some() {
        return be_silent(stream);
    }
    let mut sent = 0;
    for (sequence, data) in replica.data[start as usize..end as usize].chunks(packet_bytes).enumerate() {
        let mut sums = Vec::new();
        chunks::append_sums(data, &mut sums);
        let mut data = data.to_vec();
        if shared.fails(|fault| fault == Fault::CorruptReads, false).is_some() {
            data[0] ^= 1;
        }
        let offset = start + (sequence * packet_bytes) as u64;
        if let Some(Fault::BrokenReads(kind)) =
            shared.fails(|fault| matches!(fault, Fault::BrokenReads(_)), false)
        {
            let broken = Broken { failure: Some(failure(kind)), offset };
            return write_frame(&mut &*stream, FrameKind::Broken, id, &broken, &[]);
        }
        let last = offset + data.len() as u64 == end;
        let packet =
            Packet { sequence: sequence as u64, offset, bytes: data.len() as u32, last, sync: false };
        let cut = |fault| matches!(fault, Fault::CutReads(after) if sent + data.len() > after);
        if let Some(Fault::CutReads(after)) = shared.fails(cut, false) {
            let mut wire = Vec::new();
            write_frame(&mut wire, FrameKind::Packet, id, &packet, &[&sums, &data])?;
            io::Write::write_all(&mut &*stream, &wire[..wire.len() - (sent + data.len() - after)])?;
            return Err(io::ErrorKind::Other.into());
        }
        write_frame(&mut &*stream, FrameKind::Packet, id, &packet, &[&sums, &data])?;
        sent += data.len();
    }
    Ok(())
}

fn serve_local(shared: &Shared, stream: UnixStream) {
    let mut scratch = Vec::new();
    let Ok(Some(head)) = read_frame_head(&mut &stream, &mut scratch) else { return };
    let request: Request = head.header().expect("a request");
    let Some(Operation::OpenLocal(open)) = request.operation else { panic!("only files are to be had here") };
    assert_eq!(request.token, read_token(open.block));
    let id = head.request_id;
    let replica = shared.replicas.get(open.block).filter(|replica| replica.finished);
    let Some(replica) = replica else {
        let reply = Reply { failure: Some(failure(Kind::NotFound)), ..Reply::default() };
        write_frame(&mut &stream, FrameKind::Reply, id, &reply, &[]).expect("the peer listens");
        return;
    };
    let path = |name: &str| shared.directory.join(format!("{name}-{}", open.block));
    let mut sums = vec![0; SUMS_START as usize];
    chunks::append_sums(&replica.data, &mut sums);
    let mut data = replica.data.clone();
    if shared.fails(|fault| fault == Fault::CorruptReads, false).is_some() {
        data[0] ^= 1;
    }
    std::fs::write(path("data"), &data).expect("room");
    std::fs::write(path("sums"), &sums).expect("room");
    shared.local_opens.fetch_add(1, Ordering::Relaxed);
    let bytes = replica.data.len() as u64;
    let reply = Reply { bytes, chunk_bytes: CHUNK_BYTES as u32, ..Reply::default() };
    write_frame(&mut &stream, FrameKind::Reply, id, &reply, &[]).expect("the peer listens");
    let open = |name| std::fs::File::open(path(name)).expect("it was just written");
    let (data, sums) = (open("data"), open("sums"));

    handover::send_files(&stream, data.as_fd(), sums.as_fd()).expect("the peer takes them");
}

/// Not signed: who may do what is another story.
pub fn write_token(block: u64, generation: u64) -> Vec<u8> {
    format!("write {block} {generation}").into_bytes()
}

pub fn read_token(block: u64) -> Vec<u8> {
    format!("read {block}").into_bytes()
}
