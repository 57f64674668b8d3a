//! Open files handed over a Unix socket: how a client on the worker's machine reads a replica without the worker.
//!
//! After a `Reply` to `OpenLocal` without a failure one byte follows, [`MARK`], with two descriptors as its ancillary
//! data (`SCM_RIGHTS`): the data file, then the checksum file. Whoever reads the reply must not read ahead, as a
//! buffered reader does: with the byte the descriptors would be lost. [`crate::bulk::read_frame_head`] does not.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::OFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use thiserror::Error;

/// The byte that carries the descriptors.
pub const MARK: u8 = b'F';

/// The two files of a replica, open for reading.
#[derive(Debug)]
pub struct ReplicaFiles {
    /// The bytes of the block.
    pub data: File,
    /// Their checksums, in the worker's own format.
    pub sums: File,
}

/// Why files could not be handed over or taken. The connection is of no use after that.
#[derive(Debug, Error)]
pub enum HandoverError {
    /// The socket failed, or its time-out passed.
    #[error("cannot hand over files on a Unix socket")]
    Io(#[from] io::Error),
    /// The other side closed the socket first.
    #[error("the Unix socket was closed before the files came")]
    Closed,
    /// A byte that is not [`MARK`].
    #[error("byte {found:#04x} came where files were to come")]
    NoMark {
        /// The byte.
        found: u8,
    },
    /// Not two descriptors. Those that came are closed.
    #[error("{found} files came, not 2")]
    WrongCount {
        /// How many came, at least.
        found: usize,
    },
    /// A directory, a pipe, or a file that could be written through the descriptor.
    #[error("the {which} file is not a regular file open for reading only")]
    WrongFile {
        /// Data or checksum.
        which: &'static str,
    },
}

/// Sends both files of a replica. They must be regular and open for reading only: a descriptor carries its rights along.
pub fn send_files(socket: &UnixStream, data: BorrowedFd, sums: BorrowedFd) -> Result<(), HandoverError> {
    check_file(data, "data")?;
    check_file(sums, "checksum")?;
    let files = [data, sums];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)), "there is space for two");
    let byte = [MARK];
    let send = || rustix::net::sendmsg(socket, &[IoSlice::new(&byte)], &mut ancillary, SendFlags::NOSIGNAL);
    // One byte is sent or it is not.
    rustix::io::retry_on_intr(send).map_err(io::Error::from)?;
    Ok(())
}

/// Takes both files of a replica, next after the reply. They are closed when this process starts another.
pub fn receive_files(socket: &UnixStream) -> Result<ReplicaFiles, HandoverError> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let receive = || {
        let mut into = [IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    };
    let received = rustix::io::retry_on_intr(receive).map_err(io::Error::from)?;
    let mut files: Vec<OwnedFd> = Vec::with_capacity(2);
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors);
        }
    }
    if received.bytes == 0 {
        return Err(HandoverError::Closed);
    }
    if byte != [MARK] {
        return Err(HandoverError::NoMark { found: byte[0] });
    }
    // More than there was space for: the system has closed the rest.
    let cut = usize::from(received.flags.contains(ReturnFlags::CTRUNC));
    let found = files.len() + cut;
    let [data, sums] = <[OwnedFd; 2]>::try_from(files).map_err(|_| HandoverError::WrongCount { found })?;
    if cut > 0 {
        return Err(HandoverError::WrongCount { found });
    }
    check_file(data.as_fd(), "data")?;
    check_file(sums.as_fd(), "checksum")?;
    Ok(ReplicaFiles { data: data.into(), sums: sums.into() })
}

fn check_file(file: BorrowedFd, which: &'static str) -> Result<(), HandoverError> {
    let flags = rustix::fs::fcntl_getfl(file).map_err(io::Error::from)?;
    let status = rustix::fs::fstat(file).map_err(io::Error::from)?;
    let regular = rustix::fs::FileType::from_raw_mode(status.st_mode).is_file();
    if regular && flags & OFlags::ACCMODE == OFlags::RDONLY {
        return Ok(());
    }
    Err(HandoverError::WrongFile { which })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::{FrameKind, read_frame_head, write_frame};
    use crate::messages::Reply;
    use std::fs::{self, OpenOptions};
    use std::io::{Read, Write};

    struct Replica(tempfile::TempDir);

    impl Replica {
        fn new() -> Replica {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("data"), "bytes").unwrap();
            fs::write(directory.path().join("sums"), "sums").unwrap();
            Replica(directory)
        }

        fn open(&self, name: &str) -> File {
            File::open(self.0.path().join(name)).unwrap()
        }
    }

    fn send_raw(socket: &UnixStream, byte: u8, files: &[BorrowedFd]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(files.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(files)));
        rustix::net::sendmsg(socket, &[IoSlice::new(&[byte])], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    }

    #[test]
    fn both_files_come_after_the_reply_and_the_connection_goes_on() {
        let replica = Replica::new();
        let (mut worker, mut client) = UnixStream::pair().unwrap();
        for turn in 0..3 {
            let reply = Reply { bytes: 5, ..Reply::default() };
            write_frame(&mut worker, FrameKind::Reply, turn, &reply, &[]).unwrap();
            send_files(&worker, replica.open("data").as_fd(), replica.open("sums").as_fd()).unwrap();
        }
        worker.write_all(b"more").unwrap();
        let mut scratch = Vec::new();
        for turn in 0..3 {
            let head = read_frame_head(&mut client, &mut scratch).unwrap().unwrap();
            assert_eq!((head.request_id, head.header::<Reply>().unwrap().bytes), (turn, 5));
            let mut files = receive_files(&client).unwrap();
            let mut both = String::new();
            files.data.read_to_string(&mut both).unwrap();
            files.sums.read_to_string(&mut both).unwrap();
            assert_eq!(both, "bytessums");
            let flags = rustix::io::fcntl_getfd(&files.data).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        let mut more = [0; 4];
        client.read_exact(&mut more).unwrap();
        assert_eq!(&more, b"more");
    }

    #[test]
    fn a_file_that_can_be_written_is_not_handed_over() {
        let replica = Replica::new();
        let (worker, client) = UnixStream::pair().unwrap();
        let sums = replica.open("sums");
        let writable = OpenOptions::new().read(true).write(true).open(replica.0.path().join("data")).unwrap();
        let directory = File::open(replica.0.path()).unwrap();
        for wrong in [writable, directory] {
            let error = send_files(&worker, wrong.as_fd(), sums.as_fd()).unwrap_err();
            assert!(matches!(error, HandoverError::WrongFile { which: "data" }), "{error}");
            let error = send_files(&worker, sums.as_fd(), wrong.as_fd()).unwrap_err();
            assert!(matches!(error, HandoverError::WrongFile { which: "checksum" }), "{error}");
            send_raw(&worker, MARK, &[sums.as_fd(), wrong.as_fd()]);
            let error = receive_files(&client).unwrap_err();
            assert!(matches!(error, HandoverError::WrongFile { which: "checksum" }), "{error}");
        }
    }

    #[test]
    fn nothing_but_two_files_is_taken() {
        let replica = Replica::new();
        let (worker, client) = UnixStream::pair().unwrap();
        let file = replica.open("data");
        for count in [0, 1, 3, 8] {
            send_raw(&worker, MARK, &vec![file.as_fd(); count]);
            let error = receive_files(&client).unwrap_err();
            let HandoverError::WrongCount { found } = error else { panic!("{error}") };
            // The system cuts a message that is too long; how soon is its business.
            assert!(
                if count < 3 { found == count } else { (3..=count).contains(&found) },
                "{found} of {count}"
            );
        }
        send_raw(&worker, b'G', &[file.as_fd(), file.as_fd()]);
        let error = receive_files(&client).unwrap_err();
        assert_eq!(error.to_string(), "byte 0x47 came where files were to come");
        drop(worker);
        assert!(matches!(receive_files(&client), Err(HandoverError::Closed)));
    }
}
