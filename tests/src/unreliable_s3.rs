//! An S3 server as unreliable as the real one: between clients and a server that works, each request may meet a fault.
//!
//! Each bucket is a world of its own: it has its own dice, and its troubles begin and end when its story says so.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::http_message::Message;
use crate::s3_fault::{Call, KillPoint, S3Fault};
use crate::text::Dice;

/// One request in so many meets a fault, while there is trouble.
const ONE_IN: usize = 8;
/// One request in so many is preceded by one that is late.
const LANDS_ONE_IN: usize = 4;

/// What jobs of these stories write.
pub(crate) const OUTPUT: &str = "data/out";

/// How a job was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Commit,
    Abort,
}

/// The way to a server, on an address of its own.
pub struct UnreliableS3 {
    address: String,
    worlds: Arc<Worlds>,
}

struct Worlds {
    server: String,
    of_buckets: Mutex<HashMap<String, Arc<Mutex<World>>>>,
}

/// Removes a key of the bucket.
type Removal = Box<dyn Fn(&str) + Send>;

/// What happens to the requests of one bucket.
struct World {
    dice: Dice,
    is_troubled: bool,
    /// A fault that the first request that can meet it meets.
    awaited: Option<S3Fault>,
    kill: Option<KillPoint>,
    /// Nothing passes: a master is about to be killed.
    is_halted: bool,
    /// Of what a conditional put would meet.
    overwrite: Option<Removal>,
    late: Vec<Message>,
    verdict: Option<Verdict>,
    fired: BTreeMap<S3Fault, u64>,
    /// What was asked before its time.
    early: Vec<String>,
}

/// What becomes of a request.
enum Fate {
    Pass,
    Meet(S3Fault),
    /// The master that asks is killed; whether it is done before.
    Halt(bool),
}

impl UnreliableS3 {
    /// The way to the server at HOST:PORT. It ends with the process.
    pub fn before(server: &str) -> UnreliableS3 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let worlds = Arc::new(Worlds { server: server.to_owned(), of_buckets: Mutex::default() });
        let served = Arc::clone(&worlds);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, worlds) = (client.expect("a connection"), Arc::clone(&served));
                // A connection that breaks is what this is about.
                thread::spawn(move || worlds.converse(client).ok());
            }
        });
        UnreliableS3 { address, worlds }
    }

    /// HOST:PORT.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Trouble begins in a bucket: `awaited` is the first of it, and a master is killed at `kill`.
    pub(crate) fn trouble(&self, bucket: &str, seed: u64, awaited: S3Fault, kill: Option<KillPoint>) {
        self.worlds.with(bucket, |world| {
            world.dice = Dice::new(seed);
            (world.is_troubled, world.awaited, world.kill) = (true, Some(awaited), kill);
        });
    }

    /// Whatever is asked for is done.
    pub(crate) fn calm(&self, bucket: &str) {
        self.worlds.with(bucket, |world| {
            (world.is_troubled, world.awaited, world.kill) = (false, None, None);
        });
    }

    /// The bucket takes conditional puts and ignores what they say of conditions.
    pub fn ignore_conditions(&self, bucket: &str, overwrite: impl Fn(&str) + Send + 'static) {
        self.worlds.with(bucket, |world| world.overwrite = Some(Box::new(overwrite)));
    }

    /// Whether a master stands where it is to be killed.
    pub(crate) fn is_halted(&self, bucket: &str) -> bool {
        self.worlds.with(bucket, |world| world.is_halted)
    }

    /// It is dead: others may ask again.
    pub(crate) fn resume(&self, bucket: &str) {
        self.worlds.with(bucket, |world| (world.is_halted, world.kill) = (false, None));
    }

    pub(crate) fn verdict(&self, bucket: &str) -> Option<Verdict> {
        self.worlds.with(bucket, |world| world.verdict)
    }

    /// What is late arrives.
    pub(crate) fn land_all(&self, bucket: &str) {
        self.worlds.with(bucket, |world| {
            while !world.late.is_empty() {
                self.worlds.land(world);
            }
        });
    }

    /// How often each fault fired, and what was asked too early.
    pub(crate) fn seen(&self, bucket: &str) -> (BTreeMap<S3Fault, u64>, Vec<String>) {
        self.worlds.with(bucket, |world| (world.fired.clone(), world.early.clone()))
    }
}

impl Worlds {
    fn with<T>(&self, bucket: &str, look: impl FnOnce(&mut World) -> T) -> T {
        let world = {
            let mut worlds = self.of_buckets.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(worlds.entry(bucket.to_owned()).or_default())
        };
        let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
        look(&mut world)
    }

    /// One request after the other, until either end, or a fault, ends the connection.
    fn converse(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (mut requests, mut client) = (BufReader::new(client.try_clone()?), client);
        let mut server = Server::connect(&self.server)?;
        while let Some(request) = Message::read(&mut requests, |_| false)? {
            let passed = self.pass(&request, &mut server)?;
            client.write_all(&passed.bytes)?;
            if passed.is_last {
                return client.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }

    /// What the client gets for a request.
    fn pass(&self, request: &Message, server: &mut Server) -> io::Result<Passed> {
        let path = request.word(1).split('?').next().unwrap_or_default();
        let bucket = path.split('/').nth(1).unwrap_or_default();
        let call = Call::of(request);
        let fate = self.with(bucket, |world| {
            if !world.late.is_empty() && world.dice.below(LANDS_ONE_IN) == 0 {
                self.land(world);
            }
            world.fate(call, path)
        });
        match fate {
            Fate::Pass => Ok(Passed::on(self.ask(bucket, call, request, server)?.bytes())),
            Fate::Halt(is_done) => {
                if is_done {
                    self.ask(bucket, call, request, server)?;
                }
                self.with(bucket, |world| world.is_halted = true);
                Ok(Passed::no_further(&[]))
            }
            Fate::Meet(fault) => self.fail(fault, bucket, call, request, server),
        }
    }

    fn fail(
        &self,
        fault: S3Fault,
        bucket: &str,
        call: Call,
        request: &Message,
        server: &mut Server,
    ) -> io::Result<Passed> {
        let answer = if fault.is_done() { Some(self.ask(bucket, call, request, server)?) } else { None };
        match fault {
            S3Fault::ResetInRequest => server.cut_off(request)?,
            S3Fault::Late => self.with(bucket, |world| world.late.push(request.clone())),
            _ => {}
        }
        Ok(match (fault, answer, fault.answer()) {
            (S3Fault::ResetInAnswer, Some(answer), _) => {
                Passed::no_further(&answer.bytes()[..answer.bytes().len() / 2])
            }
            (_, _, Some(text)) => Passed::on(text.as_bytes()),
            _ => Passed::no_further(&[]),
        })
    }

    /// Asks the server. A decision is asked for by one at a time, so that what follows from it is never seen before it.
    fn ask(&self, bucket: &str, call: Call, request: &Message, server: &mut Server) -> io::Result<Message> {
        self.with(bucket, |world| world.note(call, request));
        if call != Call::Create {
            return server.ask(request);
        }
        self.with(bucket, |world| {
            if let Some(overwrite) = &world.overwrite {
                overwrite(request.word(1));
            }
            let answer = server.ask(request)?;
            world.hear(request, &answer);
            Ok(answer)
        })
    }

    /// The oldest of what is late arrives, on a connection of its own.
    fn land(&self, world: &mut World) {
        let request = world.late.remove(0);
        world.note(Call::of(&request), &request);
        let answer = Server::connect(&self.server).and_then(|mut server| server.ask(&request));
        world.hear(&request, &answer.expect("the server behind all this works"));
    }
}

impl Default for World {
    fn default() -> World {
        World {
            dice: Dice::new(0),
            is_troubled: false,
            awaited: None,
            kill: None,
            is_halted: false,
            overwrite: None,
            late: Vec::new(),
            verdict: None,
            fired: BTreeMap::new(),
            early: Vec::new(),
        }
    }
}

impl World {
    fn fate(&mut self, call: Call, path: &str) -> Fate {
        if self.is_halted {
            return Fate::Halt(false);
        }
        if let Some(is_done) = self.kill.and_then(|kill| kill.meets(call, path)) {
            self.kill = None;
            return Fate::Halt(is_done);
        }
        let fault = match self.awaited.filter(|fault| fault.meets(call)) {
            Some(fault) => {
                self.awaited = None;
                fault
            }
            None if self.is_troubled && self.dice.below(ONE_IN) == 0 => {
                let possible: Vec<S3Fault> =
                    S3Fault::ALL.into_iter().filter(|fault| fault.meets(call)).collect();
                possible[self.dice.below(possible.len())]
            }
            None => return Fate::Pass,
        };
        *self.fired.entry(fault).or_default() += 1;
        Fate::Meet(fault)
    }

    /// Before a commit is decided, nothing that is seen may change.
    fn note(&mut self, call: Call, request: &Message) {
        let is_seen = match call {
            Call::Complete => true,
            Call::Put | Call::Create => {
                request.word(1).contains(&format!("/{OUTPUT}/")) && !request.word(1).contains("uploadId=")
            }
            Call::Delete => request.body().contains(&format!("<Key>{OUTPUT}")),
            Call::BeginUpload | Call::AbortUpload | Call::Look => false,
        };
        if is_seen && self.is_troubled && self.verdict != Some(Verdict::Commit) {
            self.early.push(format!("{} {}", request.word(0), request.word(1)));
        }
    }

    /// What the server says to a conditional put.
    fn hear(&mut self, request: &Message, answer: &Message) {
        if request.word(1).ends_with("/decision") && answer.word(1) == "200" {
            let is_abort = request.body().contains("\"verdict\":\"abort\"");
            self.verdict = Some(if is_abort { Verdict::Abort } else { Verdict::Commit });
        }
    }
}

/// What a client gets.
struct Passed {
    bytes: Vec<u8>,
    /// The connection ends here.
    is_last: bool,
}

impl Passed {
    fn on(bytes: &[u8]) -> Passed {
        Passed { bytes: bytes.to_vec(), is_last: false }
    }

    fn no_further(bytes: &[u8]) -> Passed {
        Passed { bytes: bytes.to_vec(), is_last: true }
    }
}

/// A connection to the server that works.
struct Server {
    address: String,
    answers: BufReader<TcpStream>,
}

impl Server {
    fn connect(address: &str) -> io::Result<Server> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Server { address: address.to_owned(), answers: BufReader::new(stream) })
    }

    fn ask(&mut self, request: &Message) -> io::Result<Message> {
        self.answers.get_mut().write_all(request.bytes())?;
        let is_head = request.word(0) == "HEAD";
        let is_bare = |answer: &Message| is_head || matches!(answer.word(1), "204" | "304");
        Message::read(&mut self.answers, is_bare)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Lets the server have half of a request, and goes on with a connection that is whole.
    fn cut_off(&mut self, request: &Message) -> io::Result<()> {
        let mut broken = std::mem::replace(self, Server::connect(&self.address)?);
        let half = request.bytes().len() / 2;
        broken.answers.get_mut().write_all(&request.bytes()[..half])?;
        broken.answers.get_mut().shutdown(Shutdown::Both)
    }
}
