//! Messages over the socket of an attempt: a length (u32, little endian), then the message. What the child sends is not
//! trusted: a frame is capped, and takes memory only as its bytes arrive.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use bytes::{BufMut, Bytes, BytesMut};
use gristmill_proto::attempt::{FromAttempt, ToAttempt};
use prost::Message;
use thiserror::Error;

/// Of a message. Both sides keep to it.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;
/// Frames for a child that does not read them: as many as a mailbox holds, twice.
pub(crate) const FRAMES_WAITING_MAX: usize = 8192;
/// Read at once; more when the loop comes round, so that a child that never stops sending is not the only one heard.
const READ_BYTES: usize = 256 << 10;
const LENGTH_BYTES: usize = 4;

/// What is wrong with what the child sent.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("a frame of {bytes} bytes, of at most {FRAME_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("a frame that is no message")]
    Decode(#[source] prost::DecodeError),
    #[error("a message of no kind that this worker knows")]
    Unknown,
    #[error("a broken connection")]
    Socket(#[source] io::Error),
}

/// The frame of a message.
pub(crate) fn frame(message: &ToAttempt) -> Result<Bytes, FrameError> {
    let bytes = message.encoded_len();
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { bytes });
    }
    let mut frame = BytesMut::with_capacity(LENGTH_BYTES + bytes);
    frame.put_u32_le(bytes as u32);
    frame.put_slice(&message.encode_to_vec());
    Ok(frame.freeze())
}

/// What comes from the child.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    buffer: BytesMut,
}

/// What there was to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Bytes; perhaps there are more.
    Some,
    /// Nothing now.
    Nothing,
    /// The other side has closed.
    Closed,
}

impl Inbound {
    /// Reads what is there, up to a limit, without waiting.
    pub(crate) fn fill(&mut self, mut socket: &UnixStream) -> Result<Filled, FrameError> {
        let mut piece = [0; 16 << 10];
        let mut filled = Filled::Nothing;
        let mut taken = 0;
        while taken < READ_BYTES {
            match socket.read(&mut piece) {
                Ok(0) => return Ok(if taken > 0 { filled } else { Filled::Closed }),
                Ok(bytes) => {
                    self.buffer.extend_from_slice(&piece[..bytes]);
                    taken += bytes;
                    filled = Filled::Some;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What a process leaves that ends with unread messages.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Filled::Closed),
                Err(error) => return Err(FrameError::Socket(error)),
            }
        }
        Ok(filled)
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Result<Option<FromAttempt>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes });
        }
        if self.buffer.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        let frame = self.buffer.split_to(LENGTH_BYTES + bytes).freeze();
        let message = FromAttempt::decode(frame.slice(LENGTH_BYTES..)).map_err(FrameError::Decode)?;
        if message.message.is_none() {
            return Err(FrameError::Unknown);
        }
        Ok(Some(message))
    }
}

/// What waits for the child to take it.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    frames: VecDeque<Bytes>,
}

impl Outbound {
    /// False if too much waits already: the child does not read.
    pub(crate) fn push(&mut self, frame: Bytes) -> bool {
        self.frames.push_back(frame);
        self.frames.len() <= FRAMES_WAITING_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Nobody will read them.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
    }

    /// Writes what the socket takes, without waiting.
    pub(crate) fn flush(&mut self, mut socket: &UnixStream) -> io::Result<()> {
        while let Some(frame) = self.frames.front_mut() {
            match socket.write(frame) {
                Ok(bytes) => {
                    let _written = frame.split_to(bytes);
                    if frame.is_empty() {
                        self.frames.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::attempt::from_attempt::Message as Said;
    use gristmill_proto::attempt::{Progress, Stop, to_attempt};

    fn sockets() -> (UnixStream, UnixStream) {
        let pair = UnixStream::pair().expect("sockets");
        pair.0.set_nonblocking(true).expect("set");
        pair
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u32).to_le_bytes(), message].concat()
    }

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let (ours, mut theirs) = sockets();
        let progress = Said::Progress(Progress { records: 3, bytes: 70 });
        let bytes = framed(&FromAttempt { message: Some(progress.clone()) }.encode_to_vec());
        let mut inbound = Inbound::default();
        assert_eq!(inbound.fill(&ours).expect("read"), Filled::Nothing);
        for byte in &bytes {
            assert_eq!(inbound.next().expect("no error"), None);
            theirs.write_all(&[*byte]).expect("written");
            assert_eq!(inbound.fill(&ours).expect("read"), Filled::Some);
        }
        assert_eq!(inbound.next().expect("whole").expect("a message").message, Some(progress));
        drop(theirs);
        assert_eq!(inbound.fill(&ours).expect("read"), Filled::Closed);
    }

    #[test]
    fn nonsense_is_refused_and_takes_no_memory() {
        let read = |bytes: &[u8]| {
            let (ours, mut theirs) = sockets();
            theirs.write_all(bytes).expect("written");
            let mut inbound = Inbound::default();
            inbound.fill(&ours).expect("read");
            let next = inbound.next();
            assert!(inbound.buffer.capacity() < 1 << 20);
            next
        };
        assert!(matches!(read(&u32::MAX.to_le_bytes()), Err(FrameError::TooLong { bytes: 4_294_967_295 })));
        assert!(matches!(read(&framed(b"\xff\xff garbage")), Err(FrameError::Decode(_))));
        assert!(matches!(read(&framed(b"")), Err(FrameError::Unknown)));
        assert!(matches!(read(&(FRAME_BYTES_MAX as u32).to_le_bytes()), Ok(None)));
    }

    #[test]
    fn a_child_that_does_not_read_is_noticed() {
        let (ours, mut theirs) = sockets();
        let stop = to_attempt::Message::Stop(Stop { reason: "enough".to_owned() });
        let stop = frame(&ToAttempt { message: Some(stop) }).expect("small");
        let mut outbound = Outbound::default();
        let pushed = (0..=FRAMES_WAITING_MAX).map(|_| outbound.push(stop.clone()));
        assert_eq!(pushed.filter(|pushed| !pushed).count(), 1);
        let mut whole = vec![0; stop.len() * (FRAMES_WAITING_MAX + 1)];
        let reader = std::thread::spawn(move || theirs.read_exact(&mut whole).map(|()| whole));
        while !outbound.is_empty() {
            outbound.flush(&ours).expect("written");
            std::thread::yield_now();
        }
        let whole = reader.join().expect("no panic").expect("all of it");
        assert!(whole.chunks(stop.len()).all(|frame| frame == &stop[..]));
    }
}
