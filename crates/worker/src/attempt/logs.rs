//! What attempts print: two files for each, of bounded size.
//!
//! ```text
//!   bytes printed   0 ......... 64 KiB ........................... end
//!   kept            |   head    |      dropped      |  last 960 KiB  |
//!   in the file     |   head    |  a ring of 960 KiB               |
//! ```
//!
//! So an attempt that prints gigabytes costs 1 MiB. Logs live until their job has ended and an hour more; the next start
//! of the worker removes them.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gristmill_proto::ids::{AttemptId, JobId};

/// Of the beginning: what a program says when it starts is often why it fails.
const HEAD_BYTES: u64 = 64 << 10;
/// Of the end.
const RING_BYTES: u64 = 960 << 10;
/// The logs of a job are kept for so long after its end,
const KEPT: Duration = Duration::from_secs(3600);
/// for so many ended jobs,
const ENDED_JOBS_MAX: usize = 100;
/// and of so many attempts in all.
const ATTEMPTS_MAX: usize = 10_000;

/// One stream of one attempt.
#[derive(Debug)]
pub(crate) struct Capture {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Made with the first byte.
    file: Option<File>,
    printed: u64,
}

/// A piece of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSlice {
    pub(crate) bytes: Vec<u8>,
    /// Between the offset asked for and the first byte, cut out by the cap.
    pub(crate) dropped_bytes: u64,
    /// Nothing was printed after it.
    pub(crate) last: bool,
}

impl Capture {
    fn new(path: PathBuf) -> Capture {
        Capture { path, state: Mutex::default() }
    }

    /// Adds what was printed.
    pub(crate) fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.file.is_none() {
            let mut options = File::options();
            options.read(true).write(true).create_new(true).mode(0o600);
            state.file = Some(options.open(&self.path)?);
        }
        let State { file: Some(file), printed } = &mut *state else { return Ok(()) };
        while !bytes.is_empty() {
            let (place, room) = place(*printed);
            let now = bytes.len().min(room as usize);
            file.write_all_at(&bytes[..now], place)?;
            *printed += now as u64;
            bytes = &bytes[now..];
        }
        Ok(())
    }

    /// At most `bytes_max` bytes from `offset`, which counts what was printed.
    pub(crate) fn read(&self, offset: u64, bytes_max: u64) -> io::Result<LogSlice> {
        let state = self.state();
        let Some(file) = &state.file else { return Ok(LogSlice { last: true, ..LogSlice::default() }) };
        let ring = state.printed.saturating_sub(RING_BYTES).max(HEAD_BYTES);
        let mut from = if (HEAD_BYTES..ring).contains(&offset) { ring } else { offset };
        let dropped_bytes = from - offset;
        let mut slice = LogSlice { bytes: Vec::new(), dropped_bytes, last: false };
        while from < state.printed && (slice.bytes.len() as u64) < bytes_max {
            // The head and the ring are not read across: what lies between them may be dropped.
            if from == HEAD_BYTES && from != ring && !slice.bytes.is_empty() {
                break;
            }
            let (place, room) = place(from);
            let now = room.min(state.printed - from).min(bytes_max - slice.bytes.len() as u64);
            let start = slice.bytes.len();
            slice.bytes.resize(start + now as usize, 0);
            file.read_exact_at(&mut slice.bytes[start..], place)?;
            from += now;
        }
        slice.last = from >= state.printed;
        Ok(slice)
    }

    /// The last bytes printed, from the beginning of a line if there is one among them.
    pub(crate) fn tail(&self, bytes_max: u64) -> io::Result<String> {
        let printed = self.state().printed;
        let from = printed.saturating_sub(bytes_max);
        let mut bytes = self.read(from, bytes_max)?.bytes;
        if from > 0
            && let Some(line) = bytes.iter().position(|byte| *byte == b'\n')
            && line + 1 < bytes.len()
        {
            bytes.drain(..=line);
        }
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a byte goes, and how many may follow it there.
fn place(offset: u64) -> (u64, u64) {
    if offset < HEAD_BYTES {
        return (offset, HEAD_BYTES - offset);
    }
    let in_ring = (offset - HEAD_BYTES) % RING_BYTES;
    (HEAD_BYTES + in_ring, RING_BYTES - in_ring)
}

/// Both streams of an attempt.
#[derive(Debug)]
pub(crate) struct AttemptLogs {
    pub(crate) stdout: Capture,
    pub(crate) stderr: Capture,
}

/// The logs of this worker.
#[derive(Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    logs: HashMap<AttemptId, Arc<AttemptLogs>>,
    /// Oldest first.
    order: VecDeque<AttemptId>,
    /// Jobs that have ended, and when.
    ended: VecDeque<(Instant, JobId)>,
}

impl Logs {
    /// In a directory that is there, and empty.
    pub(crate) fn new(dir: PathBuf) -> Logs {
        Logs { dir, index: Mutex::default() }
    }

    /// For an attempt that begins.
    pub(crate) fn begin(&self, attempt: AttemptId) -> io::Result<Arc<AttemptLogs>> {
        let dir = self.dir.join(attempt.task.job.to_string());
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let capture = |stream: &str| Capture::new(dir.join(format!("{}.{stream}", attempt.name())));
        let logs = Arc::new(AttemptLogs { stdout: capture("stdout"), stderr: capture("stderr") });
        let mut index = self.index();
        index.logs.insert(attempt, Arc::clone(&logs));
        index.order.push_back(attempt);
        let oldest = (index.order.len() > ATTEMPTS_MAX).then(|| index.order.pop_front()).flatten();
        let oldest = oldest.and_then(|attempt| index.logs.remove(&attempt));
        drop(index);
        if let Some(oldest) = oldest {
            remove(&oldest.stdout.path)?;
            remove(&oldest.stderr.path)?;
        }
        Ok(logs)
    }

    /// Those of an attempt, if they are kept.
    pub(crate) fn find(&self, attempt: AttemptId) -> Option<Arc<AttemptLogs>> {
        self.index().logs.get(&attempt).cloned()
    }

    /// The job has ended: its logs are kept for a while. Returns what is to be forgotten now.
    pub(crate) fn end_job(&self, now: Instant, job: JobId) {
        self.index().ended.push_back((now, job));
    }

    /// Removes the logs of jobs that ended long ago.
    pub(crate) fn forget(&self, now: Instant) -> io::Result<()> {
        while let Some(job) = self.forgotten(now) {
            match fs::remove_dir_all(self.dir.join(job.to_string())) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn forgotten(&self, now: Instant) -> Option<JobId> {
        let mut index = self.index();
        let (since, job) = *index.ended.front()?;
        if now.saturating_duration_since(since) < KEPT && index.ended.len() <= ENDED_JOBS_MAX {
            return None;
        }
        index.ended.pop_front();
        index.logs.retain(|attempt, _| attempt.task.job != job);
        index.order.retain(|attempt| attempt.task.job != job);
        Some(job)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::ids::TaskId;

    /// Byte number `n` of what is printed, in lines.
    fn byte(n: u64) -> u8 {
        if n % 100 == 99 { b'\n' } else { b'a' + (n / 100 % 26) as u8 }
    }

    fn capture(printed: u64) -> (tempfile::TempDir, Capture) {
        let directory = tempfile::tempdir().expect("a directory");
        let capture = Capture::new(directory.path().join("log"));
        let bytes: Vec<u8> = (0..printed).map(byte).collect();
        bytes.chunks(10_007).for_each(|piece| capture.write(piece).expect("written"));
        (directory, capture)
    }

    /// All that is kept, and how much is missing in it, as a reader gets it.
    fn all(capture: &Capture) -> (Vec<u8>, u64) {
        let (mut bytes, mut dropped, mut offset) = (Vec::new(), 0, 0);
        loop {
            let slice = capture.read(offset, 100_000).expect("read");
            assert!(slice.bytes.len() <= 100_000);
            offset += slice.dropped_bytes + slice.bytes.len() as u64;
            dropped += slice.dropped_bytes;
            bytes.extend(slice.bytes);
            if slice.last {
                return (bytes, dropped);
            }
        }
    }

    #[test]
    fn what_fits_is_kept_whole() {
        for printed in [0, 1, HEAD_BYTES, HEAD_BYTES + 1, HEAD_BYTES + RING_BYTES] {
            let (_directory, capture) = capture(printed);
            let whole: Vec<u8> = (0..printed).map(byte).collect();
            assert_eq!(all(&capture), (whole, 0), "{printed}");
        }
    }

    #[test]
    fn of_more_the_beginning_and_the_end_are_kept() {
        for beyond in [1, 5_000, RING_BYTES, 3 * RING_BYTES + 77] {
            let printed = HEAD_BYTES + RING_BYTES + beyond;
            let (directory, capture) = capture(printed);
            let kept: Vec<u8> = (0..HEAD_BYTES).chain(printed - RING_BYTES..printed).map(byte).collect();
            let (bytes, dropped) = all(&capture);
            assert_eq!((bytes == kept, dropped), (true, beyond));
            let size = fs::metadata(directory.path().join("log")).expect("a file").len();
            assert_eq!(size, HEAD_BYTES + RING_BYTES, "{beyond}");
        }
    }

    #[test]
    fn a_tail_begins_with_a_line() {
        let (_directory, capture) = capture(1_000_000);
        let tail = capture.tail(250).expect("read");
        assert_eq!((tail.len(), tail.lines().count()), (199, 2));
        let (_directory, empty) = self::capture(0);
        assert_eq!(empty.tail(250).expect("read"), "");
    }

    #[test]
    fn logs_outlive_their_job_for_an_hour() {
        let directory = tempfile::tempdir().expect("a directory");
        let logs = Logs::new(directory.path().to_owned());
        let attempt = TaskId { job: JobId([3; 16]), stage: 0, task: 1 }.attempt(2);
        logs.begin(attempt).expect("begun").stderr.write(b"oops\n").expect("written");
        let now = Instant::now();
        logs.end_job(now, attempt.task.job);
        logs.forget(now + KEPT / 2).expect("nothing to do");
        let found = logs.find(attempt).expect("still there");
        assert_eq!(found.stderr.tail(100).expect("read"), "oops");
        logs.forget(now + KEPT).expect("removed");
        assert!(logs.find(attempt).is_none());
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0);
    }
}
