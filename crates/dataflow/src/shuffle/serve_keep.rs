//! Takes a map output that another worker gives away: durable before done.

use super::connection::{Connection, Next};
use super::failure::{failure, of_store};
use super::output_store::{OutputStore, OutputStoreError};
use super::run_bytes::{RunBytesError, RunBytesReader, kind_of};
use crate::block;
use crate::run_file::{RunError, RunFileReader};
use crate::scratch::{self, ScratchError, UNFINISHED};
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::ids::AttemptId;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::{Ack, BulkFailure, Reply};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// Bytes that stay free on a disk: its own attempts need them.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// Bytes taken before they are written.
const COPY_BYTES: usize = 256 << 10;

/// Numbers files that are being received: two workers may give the same one at the same time.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Why a map output is not taken.
#[derive(Debug, Error)]
enum TakeError {
    #[error("{bytes} bytes do not fit: the roomiest scratch disk has {free_bytes} bytes free")]
    Full { bytes: u64, free_bytes: u64 },
    #[error(transparent)]
    Store(#[from] OutputStoreError),
    #[error(transparent)]
    Disk(#[from] ScratchError),
    #[error("what came is not a whole run file")]
    Run(#[from] RunError),
    #[error("it does not come")]
    Stream(#[from] RunBytesError),
}

impl TakeError {
    fn failure(&self) -> BulkFailure {
        let kind = match self {
            Self::Full { .. } | Self::Disk(_) | Self::Run(RunError::Io { .. }) => Kind::Disk,
            Self::Run(_) => Kind::Corrupt,
            Self::Stream(RunBytesError::Broken(failure)) => kind_of(failure),
            Self::Stream(_) => Kind::Protocol,
            Self::Store(error) => return of_store(error),
        };
        failure(kind, self)
    }
}

/// Serves one KeepOutput whose token is checked already.
pub(super) fn serve_keep(
    connection: &mut Connection,
    request_id: u64,
    output: AttemptId,
    bytes: u64,
) -> Next {
    if connection.service.store.path(output).is_some() {
        return connection.reply(request_id, &Reply { kept: true, ..Reply::default() });
    }
    let place = match choose_place(connection, output, bytes) {
        Ok(place) => place,
        Err(error) => {
            tracing::warn!(attempt = %output, %error, "cannot keep a map output");
            return connection.refuse(request_id, error.failure());
        }
    };
    if connection.reply(request_id, &Reply::default()) == Next::Close {
        return Next::Close;
    }
    let stream = RunBytesReader::new(&mut connection.inbound, request_id, 0, bytes);
    let taken = take(stream, &place).and_then(|()| Ok(connection.service.store.add(place.disk, output)?));
    let taken = taken.and_then(|_| unless_ended(&connection.service.store, output));
    let (failure, broken) = match &taken {
        Ok(_) => (None, false),
        Err(error) => {
            tracing::warn!(attempt = %output, %error, "a map output is not kept");
            let is_whole =
                matches!(error, TakeError::Run(_) | TakeError::Store(OutputStoreError::Ended { .. }));
            (Some(error.failure()), !is_whole)
        }
    };
    let ack = Ack { failure, ..Ack::default() };
    let told = bulk::write_frame(&mut &*connection.stream, FrameKind::Ack, request_id, &ack, &[]);
    if broken {
        // What is left of the file is on its way.
        connection.drain();
    }
    if broken || told.is_err() { Next::Close } else { Next::Request }
}

struct Place {
    disk: usize,
    path: PathBuf,
    unfinished: PathBuf,
}

fn choose_place(connection: &Connection, output: AttemptId, bytes: u64) -> Result<Place, TakeError> {
    let store = &connection.service.store;
    store.check_open(output.task.job)?;
    let (disk, free_bytes) = store.roomiest()?;
    if bytes.saturating_add(FREE_BYTES_MIN) > free_bytes {
        return Err(TakeError::Full { bytes, free_bytes });
    }
    let path = store.place(disk, output)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{number}{UNFINISHED}"));
    Ok(Place { disk, path, unfinished })
}

/// A job that has ended meanwhile has been removed already, and this with it or not.
fn unless_ended(store: &OutputStore, output: AttemptId) -> Result<(), TakeError> {
    let job = output.task.job;
    let open = store.check_open(job);
    if open.is_err() {
        store.remove_job(job)?;
    }
    open.map_err(TakeError::from)
}

/// Receives, syncs and verifies; nothing is left of what fails.
fn take(stream: RunBytesReader<'_>, place: &Place) -> Result<(), TakeError> {
    let Place { path, unfinished, .. } = place;
    let taken = receive(stream, unfinished).and_then(|()| verify(unfinished)).and_then(|()| {
        fs::rename(unfinished, path).map_err(|source| scratch::error("rename", unfinished, source))?;
        sync_parent(path).map_err(TakeError::from)
    });
    if taken.is_err()
        && let Err(left) = fs::remove_file(unfinished)
        && left.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %unfinished.display(), error = %left, "cannot remove half a map output");
    }
    taken
}

fn receive(mut stream: RunBytesReader<'_>, path: &Path) -> Result<(), TakeError> {
    let failed = |source| scratch::error("write", path, source);
    let mut file = File::create_new(path).map_err(failed)?;
    let mut buffer = vec![0; COPY_BYTES];
    while stream.left() > 0 {
        let now = stream.left().min(buffer.len() as u64) as usize;
        stream.read(&mut buffer[..now])?;
        file.write_all(&buffer[..now]).map_err(failed)?;
    }
    Ok(file.sync_all().map_err(failed)?)
}

/// Whether a file is a whole run file with no block damaged.
fn verify(path: &Path) -> Result<(), TakeError> {
    let (reader, index) = RunFileReader::open(scratch::open(path)?, path.display().to_string())?;
    let mut stored = Vec::new();
    for entry in &index.blocks {
        reader.stored_block(entry, &mut stored)?;
        block::check(&stored, entry.offset).map_err(|source| reader.malformed(entry, source))?;
    }
    Ok(())
}

fn sync_parent(path: &Path) -> Result<(), ScratchError> {
    let dir = path.parent().unwrap_or(path);
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| scratch::error("sync", dir, source))
}
