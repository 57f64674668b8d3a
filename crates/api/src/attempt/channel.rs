//! Messages between the worker and this process: length (u32, little endian), message.

use super::failure::Failure;
use bytes::Bytes;
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attempt::{Begin, FromAttempt, ToAttempt, from_attempt, to_attempt};
use gristmill_proto::ids::{AttemptId, JobId};
use gristmill_proto::task::attempt_failure::Kind;
use prost::Message;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;

/// Of a message; both sides keep to it.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// A worker that reads nothing for so long is gone, or as good as.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a message did not come or go.
#[derive(Debug, Error)]
pub(super) enum ChannelError {
    /// The socket is broken.
    #[error("the connection to the worker is broken: {0}")]
    Socket(#[from] io::Error),
    /// The worker has closed it.
    #[error("the worker has closed the connection")]
    Closed,
    /// Too long to be meant.
    #[error("a message of {bytes} bytes, of at most {FRAME_BYTES_MAX}")]
    TooLong {
        /// As the frame says, or as it would be.
        bytes: usize,
    },
    /// Not a message.
    #[error("the worker sent no message: {0}")]
    Decode(#[from] prost::DecodeError),
    /// Not this one.
    #[error("the worker sent another message than {wanted}")]
    Unexpected {
        /// What was due.
        wanted: &'static str,
    },
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Failure {
        Failure::new(Kind::Worker, error.to_string())
    }
}

/// The connection to the worker.
pub(super) struct Channel {
    /// None after the last message.
    writer: Mutex<Option<UnixStream>>,
    reader: Mutex<UnixStream>,
}

/// What this process is to do, checked.
pub(super) struct Beginning {
    pub(super) begin: Begin,
    pub(super) attempt: AttemptId,
}

impl Beginning {
    pub(super) fn job(&self) -> JobId {
        self.attempt.task.job
    }
}

impl Channel {
    pub(super) fn new(socket: UnixStream) -> io::Result<Channel> {
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Channel { reader: Mutex::new(socket.try_clone()?), writer: Mutex::new(Some(socket)) })
    }

    /// Waits for the first message.
    pub(super) fn begin(&self) -> Result<Beginning, Failure> {
        let Some(to_attempt::Message::Begin(begin)) = self.hear()?.message else {
            return Err(ChannelError::Unexpected { wanted: "Begin" }.into());
        };
        if begin.version != PROTOCOL_VERSION {
            let theirs = begin.version;
            let sentence = format!(
                "this program was built with a gristmill that speaks version {PROTOCOL_VERSION}, its worker speaks \
                 version {theirs}: build it anew"
            );
            return Err(Failure::new(Kind::Program, sentence));
        }
        let id = begin.attempt.as_ref().and_then(|id| AttemptId::from_wire(id).ok());
        let attempt = id.ok_or(ChannelError::Unexpected { wanted: "Begin with the id of an attempt" })?;
        Ok(Beginning { begin, attempt })
    }

    /// The next message.
    pub(super) fn hear(&self) -> Result<ToAttempt, ChannelError> {
        let mut reader = lock(&self.reader);
        let mut length = [0; 4];
        match reader.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ChannelError::Closed),
            read => read?,
        }
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(ChannelError::TooLong { bytes });
        }
        let mut frame = vec![0; bytes];
        reader.read_exact(&mut frame)?;
        Ok(ToAttempt::decode(Bytes::from(frame))?)
    }

    /// Says something, unless the last word has been said.
    pub(super) fn say(&self, message: from_attempt::Message) -> Result<(), ChannelError> {
        match &mut *lock(&self.writer) {
            Some(writer) => write(writer, message),
            None => Ok(()),
        }
    }

    /// Says the last word.
    pub(super) fn say_last(&self, message: from_attempt::Message) -> Result<(), ChannelError> {
        match lock(&self.writer).take() {
            Some(mut writer) => write(&mut writer, message),
            None => Ok(()),
        }
    }
}

fn write(writer: &mut UnixStream, message: from_attempt::Message) -> Result<(), ChannelError> {
    let message = FromAttempt { message: Some(message) };
    let bytes = message.encoded_len();
    if bytes > FRAME_BYTES_MAX {
        return Err(ChannelError::TooLong { bytes });
    }
    let mut frame = Vec::with_capacity(4 + bytes);
    frame.extend_from_slice(&(bytes as u32).to_le_bytes());
    message.encode(&mut frame).expect("a vector takes everything");
    Ok(writer.write_all(&frame)?)
}

/// A frame is written whole or the socket is broken: a panic leaves nothing half done.
fn lock<T>(socket: &Mutex<T>) -> MutexGuard<'_, T> {
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::attempt::{Hello, Stop};

    fn channel() -> (Channel, UnixStream) {
        let (worker, attempt) = UnixStream::pair().expect("sockets");
        (Channel::new(attempt).expect("a channel"), worker)
    }

    #[test]
    fn after_the_last_word_there_is_none() {
        let (channel, mut worker) = channel();
        let hello = || from_attempt::Message::Hello(Hello { version: 1, fingerprint: "f".to_owned() });
        channel.say(hello()).expect("said");
        channel.say_last(hello()).expect("said");
        channel.say(hello()).expect("not said, and no error");
        drop(channel);
        let mut heard = Vec::new();
        worker.read_to_end(&mut heard).expect("read");
        let frame = FromAttempt { message: Some(hello()) }.encode_to_vec();
        let one = [&(frame.len() as u32).to_le_bytes()[..], &frame].concat();
        assert_eq!(heard, [one.clone(), one].concat());
    }

    #[test]
    fn a_worker_that_goes_is_no_message() {
        let (channel, mut worker) = channel();
        let stop = ToAttempt { message: Some(to_attempt::Message::Stop(Stop { reason: "now".to_owned() })) };
        let frame = stop.encode_to_vec();
        worker.write_all(&(frame.len() as u32).to_le_bytes()).expect("written");
        worker.write_all(&frame).expect("written");
        assert_eq!(channel.hear().expect("a message"), stop);
        worker.write_all(&u32::MAX.to_le_bytes()).expect("written");
        assert!(matches!(channel.hear(), Err(ChannelError::TooLong { .. })));
        drop(worker);
        assert!(matches!(channel.hear(), Err(ChannelError::Closed)));
    }
}
