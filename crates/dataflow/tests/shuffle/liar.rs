//! A listener that answers as a test says, and a client that asks for what the test then spoils.

use crate::cluster::token;
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{Reply, Request, RunBytes};
use prost::Message;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes for a request: its number over all connections, its id, and what it asks for. Then the connection ends.
type Script = dyn Fn(u64, u64, &Request) -> Vec<u8> + Send + Sync;

/// Listens until the test is over.
pub(crate) struct Liar {
    pub(crate) address: String,
}

impl Liar {
    pub(crate) fn start(script: impl Fn(u64, u64, &Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (script, numbers): (Arc<Script>, _) = (Arc::new(script), Arc::new(AtomicU64::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, numbers) = (script.clone(), numbers.clone());
                let stream = stream.expect("a connection");
                std::thread::spawn(move || answer(&stream, &*script, &numbers));
            }
        });
        Self { address }
    }
}

fn answer(mut stream: &TcpStream, script: &Script, numbers: &AtomicU64) {
    let mut scratch = Vec::new();
    let Ok(Some(head)) = bulk::read_frame_head(&mut stream, &mut scratch) else { return };
    let request: Request = head.header().expect("a request");
    let lie = script(numbers.fetch_add(1, Ordering::Relaxed), head.request_id, &request);
    // Who was lied to may have gone.
    drop(stream.write_all(&lie));
    drop(stream.shutdown(std::net::Shutdown::Write));
    while let Ok(Some(_more)) = bulk::read_frame_head(&mut stream, &mut scratch) {}
}

pub(crate) fn frame(kind: FrameKind, id: u64, header: &impl Message, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    bulk::write_frame(&mut wire, kind, id, header, &[body]).expect("it fits");
    wire
}

/// An answer to a FetchPart as it came.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) data: Vec<u8>,
}

impl Answer {
    /// What a worker answers.
    pub(crate) fn of(address: &str, operation: Operation) -> Self {
        let mut client = Client::connect(address);
        client.ask(token(), operation);
        let reply: Reply = client.reply();
        let bytes = reply.part.as_ref().map_or(0, |part| part.bytes);
        let mut data = Vec::new();
        while (data.len() as u64) < bytes {
            data.extend(client.run_bytes());
        }
        Self { reply, data }
    }

    pub(crate) fn frames(&self, id: u64) -> Vec<u8> {
        let mut wire = frame(FrameKind::Reply, id, &self.reply, &[]);
        let offset = self.reply.part.as_ref().map_or(0, |part| part.offset);
        wire.extend(frame(FrameKind::RunBytes, id, &RunBytes { offset, last: true }, &self.data));
        wire
    }
}

/// A client that follows no rules.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    asked: u64,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).expect("a connection"), asked: 0 }
    }

    pub(crate) fn ask(&mut self, token: Vec<u8>, operation: Operation) {
        self.asked += 1;
        let request = Request { token: token.into(), operation: Some(operation) };
        self.send(&frame(FrameKind::Request, self.asked, &request, &[]));
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it is taken");
    }

    /// The header of the next frame, whatever its kind.
    pub(crate) fn reply<M: Message + Default>(&mut self) -> M {
        let mut scratch = Vec::new();
        let head = bulk::read_frame_head(&mut self.stream, &mut scratch).expect("a frame").expect("a frame");
        head.header().expect("a header")
    }

    /// Whether the other side has ended the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut scratch = Vec::new();
        matches!(bulk::read_frame_head(&mut self.stream, &mut scratch), Ok(None) | Err(_))
    }

    fn run_bytes(&mut self) -> Vec<u8> {
        let mut scratch = Vec::new();
        let head = bulk::read_frame_head(&mut self.stream, &mut scratch).expect("a frame").expect("a frame");
        let mut body = vec![0; head.body_bytes as usize];
        bulk::read_body(&mut self.stream, &mut body).expect("a body");
        body
    }
}
