//! A network that fails: a TCP relay that breaks a connection at a given byte, and remembers that it did.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What happens to the bytes, after so many of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection is cut in both directions.
    Cut(u64),
    /// One bit of this byte is flipped.
    Flip(u64),
    /// Nothing more gets through, and nobody is told.
    Swallow(u64),
}

/// A relay to one worker. Its threads end with its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    fired: Arc<AtomicBool>,
}

impl Proxy {
    /// `forth` happens to the bytes to `target`, `back` to those from it.
    pub(crate) fn start(target: String, forth: Fault, back: Fault) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let fired = Arc::new(AtomicBool::new(false));
        let remember = Arc::clone(&fired);
        std::thread::spawn(move || {
            // One connection at a time would do; a pipeline that is rebuilt may open another.
            for near in listener.incoming() {
                let near = near.expect("a connection");
                let far = TcpStream::connect(&target).expect("the worker listens");
                for (from, to, fault) in [(&near, &far, forth), (&far, &near, back)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let fired = Arc::clone(&remember);
                    std::thread::spawn(move || relay(from, to, fault, &fired));
                }
            }
        });
        Proxy { address, fired }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Whether the fault has happened.
    pub(crate) fn fired(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, fault: Fault, fired: &AtomicBool) {
    let mut buffer = [0; 16 << 10];
    let mut passed = 0;
    loop {
        let got = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let mut send = got;
        match fault {
            Fault::Cut(at) | Fault::Swallow(at) if passed + got > at => {
                fired.store(true, Ordering::Release);
                send = at.saturating_sub(passed);
            }
            Fault::Flip(at) if (passed..passed + got).contains(&at) => {
                fired.store(true, Ordering::Release);
                buffer[(at - passed) as usize] ^= 0x20;
            }
            _ => {}
        }
        passed += got;
        let sent = to.write_all(&buffer[..send as usize]);
        if matches!(fault, Fault::Cut(at) if passed > at) {
            // Both may be gone already.
            for end in [&from, &to] {
                end.shutdown(Shutdown::Both).unwrap_or(());
            }
            return;
        }
        if sent.is_err() {
            break;
        }
    }
    from.shutdown(Shutdown::Read).unwrap_or(());
    to.shutdown(Shutdown::Write).unwrap_or(());
}

/// A worker that takes connections, and as many bytes as the system does for it, and never says a word: stopped.
pub(crate) struct Stopped {
    pub(crate) address: String,
    connections: std::sync::mpsc::Receiver<TcpStream>,
}

impl Stopped {
    pub(crate) fn start() -> Stopped {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (sender, connections) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // The test is over when nobody takes it.
                if sender.send(stream.expect("a connection")).is_err() {
                    return;
                }
            }
        });
        Stopped { address, connections }
    }

    /// Whether anybody has connected.
    pub(crate) fn was_called(&self) -> bool {
        self.connections.recv_timeout(Duration::from_secs(10)).is_ok()
    }
}
