//! A client of the bulk protocol, simple and exact: what it is told is what a test can look at.

use std::io::Write;
use std::net::TcpStream;

use bytes::Bytes;
use gristmill_proto::bulk::{self, FrameError, FrameKind};
use gristmill_proto::chunks;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::write_block::Stage;
use gristmill_proto::messages::{Ack, Broken, Hop, Packet, ReadBlock, Reply, Request, WriteBlock};

use super::cluster::{Cluster, PATIENCE, Worker};

const REQUEST_ID: u64 = 7;

/// A connection to a worker.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    scratch: Vec<u8>,
}

/// What came of a failure: its kind, and whose.
pub(crate) type Blame = (Kind, u64);

impl Client {
    pub(crate) fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Client { stream, scratch: Vec::new() }
    }

    pub(crate) fn send(&mut self, token: Bytes, operation: Operation) {
        let request = Request { token, operation: Some(operation) };
        bulk::write_frame(&mut self.stream, FrameKind::Request, REQUEST_ID, &request, &[])
            .expect("it is sent");
    }

    /// The next frame must be a reply. `None`: the connection has ended.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let head = bulk::read_frame_head(&mut self.stream, &mut self.scratch).ok()??;
        assert_eq!(head.kind, FrameKind::Reply);
        Some(head.header().expect("a reply"))
    }

    pub(crate) fn ask(&mut self, token: Bytes, operation: Operation) -> Result<Reply, Blame> {
        self.send(token, operation);
        let reply = self.reply().expect("an answer");
        match &reply.failure {
            None => Ok(reply),
            Some(failure) => Err((failure.kind(), reply.failed_worker)),
        }
    }

    pub(crate) fn packet(&mut self, packet: &Packet, data: &[u8]) -> std::io::Result<()> {
        let mut sums = Vec::new();
        chunks::append_sums(data, &mut sums);
        bulk::write_frame(&mut self.stream, FrameKind::Packet, REQUEST_ID, packet, &[&sums, data])
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next ack; `None` if the connection has ended.
    pub(crate) fn ack(&mut self) -> Option<Ack> {
        match bulk::read_frame_head(&mut self.stream, &mut self.scratch) {
            Ok(Some(head)) => {
                assert_eq!((head.kind, head.request_id), (FrameKind::Ack, REQUEST_ID));
                Some(head.header().expect("an ack"))
            }
            Ok(None) | Err(FrameError::Io(_) | FrameError::Truncated { .. }) => None,
            Err(error) => panic!("no ack: {error}"),
        }
    }

    /// Reads what the reply promised. Each packet is verified.
    pub(crate) fn packets(&mut self, reply: &Reply) -> Result<Vec<u8>, Broken> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < reply.bytes {
            let head = bulk::read_frame_head(&mut self.stream, &mut self.scratch).expect("a frame");
            let head = head.expect("not the end");
            if head.kind == FrameKind::Broken {
                return Err(head.header().expect("a broken read"));
            }
            let (packet, sums_bytes) = head.packet().expect("a packet");
            assert!(packet.bytes <= 1 << 20);
            assert_eq!(packet.offset, reply.offset + bytes.len() as u64);
            let mut body = vec![0; head.body_bytes as usize];
            bulk::read_body(&mut self.stream, &mut body).expect("a body");
            let (sums, data) = body.split_at(sums_bytes as usize);
            chunks::verify(data, sums).expect("good data");
            bytes.extend_from_slice(data);
            assert_eq!(packet.last, bytes.len() as u64 == reply.bytes);
        }
        Ok(bytes)
    }

    /// Reads a range and cuts it to what was asked for.
    pub(crate) fn read(&mut self, token: Bytes, read: ReadBlock) -> Result<Vec<u8>, Blame> {
        let reply = self.ask(token, Operation::ReadBlock(read))?;
        let bytes = self.packets(&reply).expect("a whole read");
        let skip = ((read.offset - reply.offset) as usize).min(bytes.len());
        let end = bytes.len().min(skip.saturating_add(read.bytes as usize));
        Ok(bytes[skip..end].to_vec())
    }
}

/// A write of one block through a pipeline.
pub(crate) struct BlockWriter {
    pub(crate) client: Client,
    sequence: u64,
    acked: u64,
    /// Ends of the packets sent.
    ends: Vec<u64>,
}

/// What to write, as a client asks the first worker.
pub(crate) fn write_block(block: u64, generation: u64, next: &[Hop]) -> WriteBlock {
    WriteBlock { block, generation, next: next.to_vec(), block_bytes: 1 << 20, ..WriteBlock::default() }
}

/// The same for a pipeline that goes on under a new generation.
pub(crate) fn rebuild(block: u64, before: u64, generation: u64, offset: u64, next: &[Hop]) -> WriteBlock {
    WriteBlock {
        stage: Stage::Rebuild as i32,
        generation_before: before,
        offset,
        ..write_block(block, generation, next)
    }
}

impl BlockWriter {
    pub(crate) fn open(cluster: &Cluster, first: &Worker, write: WriteBlock) -> Result<BlockWriter, Blame> {
        BlockWriter::open_on(Client::connect(&first.address()), cluster, write)
    }

    pub(crate) fn open_on(
        mut client: Client,
        cluster: &Cluster,
        write: WriteBlock,
    ) -> Result<BlockWriter, Blame> {
        let token = cluster.write_token(write.block, write.generation);
        let reply = client.ask(token, Operation::WriteBlock(write))?;
        assert_eq!(u64::from(reply.chunk_bytes), chunks::CHUNK_BYTES);
        Ok(BlockWriter { client, sequence: 0, acked: 0, ends: Vec::new() })
    }

    /// Sends a packet; false if the connection takes no more.
    pub(crate) fn send(&mut self, offset: u64, data: &[u8], last: bool) -> bool {
        let bytes = data.len() as u32;
        let packet = Packet { sequence: self.sequence, offset, bytes, last, sync: false };
        self.sequence += 1;
        self.ends.push(offset + u64::from(bytes));
        self.client.packet(&packet, data).is_ok()
    }

    /// Sends and waits for all acks, in packets of `packet_bytes`. Returns how much is acked, and what failed.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        packet_bytes: usize,
        last: bool,
    ) -> (u64, Option<Blame>) {
        let mut at = 0;
        loop {
            let end = data.len().min(at + packet_bytes);
            let ends = end == data.len();
            if !self.send(offset + at as u64, &data[at..end], last && ends) {
                break;
            }
            at = end;
            if ends {
                break;
            }
        }
        self.wait_acks()
    }

    pub(crate) fn wait_acks(&mut self) -> (u64, Option<Blame>) {
        let mut acked_bytes = 0;
        while self.acked < self.sequence {
            let Some(ack) = self.client.ack() else { return (acked_bytes, Some((Kind::Unspecified, 0))) };
            if let Some(failure) = &ack.failure {
                return (acked_bytes, Some((failure.kind(), ack.failed_worker)));
            }
            assert_eq!(ack.sequence, self.acked, "acks come in order");
            acked_bytes = self.ends[self.acked as usize];
            self.acked += 1;
        }
        (acked_bytes, None)
    }
}

/// Writes a whole block, which must succeed.
pub(crate) fn write_whole(cluster: &Cluster, block: u64, generation: u64, pipeline: &[&Worker], data: &[u8]) {
    let next: Vec<Hop> = pipeline[1..].iter().map(|worker| worker.hop()).collect();
    let mut writer =
        BlockWriter::open(cluster, pipeline[0], write_block(block, generation, &next)).expect("a pipeline");
    assert_eq!(writer.write(0, data, 1 << 20, true), (data.len() as u64, None));
}
