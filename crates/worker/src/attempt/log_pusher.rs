//! Logs of attempts on their way to where they outlive the worker: the cluster's `--log-uri`, if it has one.
//!
//! ```text
//!   LOG_URI/<cluster id>/jobs/<job id>/<attempt>.stdout, .stderr     if it printed something
//! ```
//!
//! They are pushed when their attempt has ended, by threads of their own: no slot waits for a store. What cannot be
//! pushed is said in the worker's log, and is still here for `gristmill job logs`.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gristmill_dfs::file_system::{Access, CreateOptions, FsError};
use gristmill_dfs::{Uri, UriError};
use gristmill_process::sentence;
use gristmill_proto::ids::AttemptId;

use super::logs::{AttemptLogs, Capture};

/// Logs that are pushed at a time: a store takes some tens of milliseconds for one.
const THREADS: usize = 4;
/// Attempts whose logs wait: some hundred bytes each.
const WAITING_MAX: usize = 10_000;
/// Read at a time.
const PIECE_BYTES: u64 = 256 << 10;
/// Between two looks at threads that are to end.
const POLL: Duration = Duration::from_millis(10);

/// Why a log is not where it was to be.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error(transparent)]
    FileSystem(#[from] FsError),
    #[error("cannot read the log")]
    Read(#[source] io::Error),
    #[error("cannot write {uri}")]
    Write {
        uri: Uri,
        #[source]
        source: io::Error,
    },
}

type Waiting = (AttemptId, Arc<AttemptLogs>);

/// See the top of the file.
#[derive(Default)]
pub(crate) struct LogPusher {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: Option<SyncSender<Waiting>>,
    threads: Vec<JoinHandle<()>>,
    has_ended: bool,
}

impl LogPusher {
    /// Where the cluster's records are, as the master has said; empty: nowhere. It never changes.
    pub(crate) fn set_place(&self, place: &str) -> Result<(), io::Error> {
        let mut state = self.state();
        if place.is_empty() || state.queue.is_some() || state.has_ended {
            return Ok(());
        }
        let (queue, waiting) = sync_channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let (place, waiting) = (place.to_owned(), Arc::clone(&waiting));
            let thread = thread::Builder::new().name("logs".to_owned());
            state.threads.push(thread.spawn(move || push_all(&place, &waiting))?);
        }
        state.queue = Some(queue);
        Ok(())
    }

    /// An attempt has ended.
    pub(crate) fn push(&self, attempt: AttemptId, logs: Arc<AttemptLogs>) {
        let state = self.state();
        let Some(queue) = &state.queue else { return };
        match queue.try_send((attempt, logs)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(%attempt, "too many logs wait to be pushed: this one is not");
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::warn!(%attempt, "nobody pushes logs any more: this one is not");
            }
        }
    }

    /// The worker ends: what waits gets a moment.
    pub(crate) fn finish(&self, patience: Duration) {
        let threads = {
            let mut state = self.state();
            state.has_ended = true;
            state.queue = None;
            std::mem::take(&mut state.threads)
        };
        let started = Instant::now();
        while !threads.iter().all(JoinHandle::is_finished) {
            if started.elapsed() > patience {
                tracing::warn!(?patience, "ends before all logs of attempts are pushed");
                return;
            }
            thread::sleep(POLL);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push_all(place: &str, waiting: &Mutex<Receiver<Waiting>>) {
    loop {
        // One waits for the next, the others wait for that one.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // Nobody sends any more.
        let Ok((attempt, logs)) = next else { return };
        for (capture, stream) in [(&logs.stdout, "stdout"), (&logs.stderr, "stderr")] {
            if let Err(error) = push(place, attempt, capture, stream) {
                tracing::warn!(%attempt, stream, error = sentence(&error), "the log of an attempt is not pushed");
            }
        }
    }
}

fn push(place: &str, attempt: AttemptId, capture: &Capture, stream: &str) -> Result<(), PushError> {
    let mut slice = capture.read(0, PIECE_BYTES).map_err(PushError::Read)?;
    if slice.last && slice.bytes.is_empty() {
        return Ok(());
    }
    let name = format!("jobs/{}/{}.{stream}", attempt.task.job, attempt.name());
    let uri = Uri::parse(place)?.join(name);
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let mut writer = Access::from_environment().file_system(&uri)?.create(&uri, &options)?;
    let mut offset = 0;
    loop {
        let written = write_slice(&mut writer, slice.dropped_bytes, &slice.bytes);
        written.map_err(|source| PushError::Write { uri: uri.clone(), source })?;
        if slice.last {
            return Ok(writer.finish()?);
        }
        offset += slice.dropped_bytes + slice.bytes.len() as u64;
        slice = capture.read(offset, PIECE_BYTES).map_err(PushError::Read)?;
    }
}

fn write_slice(to: &mut impl Write, dropped_bytes: u64, bytes: &[u8]) -> io::Result<()> {
    if dropped_bytes > 0 {
        write!(to, "\n[{dropped_bytes} bytes were not kept]\n")?;
    }
    to.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gristmill_proto::ids::{JobId, TaskId};

    use super::super::logs::Logs;
    use super::*;

    #[test]
    fn what_an_attempt_printed_is_where_it_stays_and_what_it_did_not_print_is_not() {
        let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let attempt = TaskId { job: JobId([7; 16]), stage: 0, task: 3 }.attempt(1);
        let logs = Logs::new(dir.path().to_owned()).begin(attempt).unwrap();
        logs.stderr.write(b"the disk is on fire\n").unwrap();
        let pusher = LogPusher::default();
        pusher.push(attempt, Arc::clone(&logs));
        pusher.set_place(&format!("file://{}", place.path().display())).unwrap();
        pusher.push(attempt, logs);
        pusher.finish(Duration::from_secs(60));
        let below = place.path().join(format!("jobs/{}", JobId([7; 16])));
        let names: Vec<_> = fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["s0-t00003-a1.stderr"], "nothing was printed to stdout");
        assert_eq!(fs::read(below.join("s0-t00003-a1.stderr")).unwrap(), b"the disk is on fire\n");
    }

    #[test]
    fn a_gap_is_named() {
        let mut text = Vec::new();
        write_slice(&mut text, 0, b"head").unwrap();
        write_slice(&mut text, 9, b"tail").unwrap();
        assert_eq!(text, b"head\n[9 bytes were not kept]\ntail");
    }
}
