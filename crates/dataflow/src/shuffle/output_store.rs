//! Map outputs on a worker's scratch disks.
//!
//! ```text
//!  <disk's directory>/<job>/outputs/<attempt name>.run       whole: a file gets this name when it is complete
//!                                   <attempt name>....new    being written; swept by the next life of the daemon
//! ```

use super::index_cache::IndexCache;
use crate::run_file::{RunError, RunFileReader, RunIndex};
use crate::scratch::{self, ScratchError, UNFINISHED};
use gristmill_proto::ids::{AttemptId, JobId, TaskId};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Ends the name of a map output.
pub(super) const RUN: &str = ".run";
const OUTPUTS: &str = "outputs";
/// Ended jobs that are remembered: as many as a master remembers. What is forgotten here is removed when the worker
/// registers anew.
const ENDED_JOBS_MAX: usize = 1000;

/// Why a map output cannot be placed, found, read or removed.
#[derive(Debug, Error)]
pub enum OutputStoreError {
    /// The worker has no such disk.
    #[error("there is no scratch disk {disk}, there are {disks}")]
    NoDisk {
        /// Asked for.
        disk: usize,
        /// How many there are.
        disks: usize,
    },
    /// No such map output is here.
    #[error("the map output of {attempt} is not here")]
    Missing {
        /// Whose.
        attempt: AttemptId,
    },
    /// Nobody will read map outputs of the job any more.
    #[error("job {job} has ended")]
    Ended {
        /// Which.
        job: JobId,
    },
    /// A file or directory cannot be used.
    #[error(transparent)]
    Disk(#[from] ScratchError),
    /// The file is not as it should be.
    #[error("the map output of {attempt} cannot be read")]
    Run {
        /// Whose.
        attempt: AttemptId,
        /// Why.
        #[source]
        source: RunError,
    },
}

/// Map outputs on this worker's scratch disks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OutputStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dirs: Vec<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outputs: BTreeMap<AttemptId, Output>,
    /// Oldest first.
    ended: VecDeque<JobId>,
    indexes: IndexCache,
}

#[derive(Clone, Copy, Debug)]
struct Output {
    disk: usize,
    bytes: u64,
}

/// A map output that is open, and its index.
pub(super) struct OpenOutput {
    pub(super) file: File,
    pub(super) index: Arc<RunIndex>,
}

impl OutputStore {
    /// Finds what is there, one directory a disk: whole files. Others, which a worker that died has left, are removed, and
    /// directories in which nothing is.
    pub fn open(dirs: &[PathBuf]) -> Result<Self, OutputStoreError> {
        let mut state = State::default();
        for (disk, dir) in dirs.iter().enumerate() {
            fs::create_dir_all(dir).map_err(|source| scratch::error("create", dir, source))?;
            for path in entries(dir)? {
                if let Some(job) = name_of(&path).and_then(JobId::from_text) {
                    state.find_outputs(disk, job, &path.join(OUTPUTS))?;
                    remove_empty(&path.join(OUTPUTS))?;
                    remove_empty(&path)?;
                }
            }
        }
        Ok(Self { inner: Arc::new(Inner { dirs: dirs.to_vec(), state: Mutex::new(state) }) })
    }

    /// Where a map output of `attempt` is to be put on disk number `disk`: its directory exists then.
    pub fn place(&self, disk: usize, attempt: AttemptId) -> Result<PathBuf, OutputStoreError> {
        let path = self.path_on(disk, attempt)?;
        let dir = self.inner.dirs[disk].join(attempt.task.job.to_string()).join(OUTPUTS);
        fs::create_dir_all(&dir).map_err(|source| scratch::error("create", &dir, source))?;
        Ok(path)
    }

    /// The file at [`OutputStore::place`] is whole: it is served from now on. Returns its bytes.
    pub fn add(&self, disk: usize, attempt: AttemptId) -> Result<u64, OutputStoreError> {
        let path = self.path_on(disk, attempt)?;
        let (bytes, index) = read_index(&path, attempt)?;
        let mut state = self.lock();
        state.indexes.put(attempt, Arc::new(index));
        state.outputs.insert(attempt, Output { disk, bytes });
        Ok(bytes)
    }

    /// All map outputs that are served.
    pub fn list(&self) -> Vec<AttemptId> {
        self.lock().outputs.keys().copied().collect()
    }

    /// Bytes of a job's map outputs that are served.
    pub fn job_bytes(&self, job: JobId) -> u64 {
        let state = self.lock();
        state
            .outputs
            .iter()
            .filter(|(attempt, _)| attempt.task.job == job)
            .map(|(_, output)| output.bytes)
            .sum()
    }

    /// The file of a map output that is served.
    pub fn path(&self, attempt: AttemptId) -> Option<PathBuf> {
        let output = self.lock().outputs.get(&attempt).copied()?;
        self.path_on(output.disk, attempt).ok()
    }

    /// Removes a map output; it may be gone already.
    pub fn remove(&self, attempt: AttemptId) -> Result<(), OutputStoreError> {
        let found = {
            let mut state = self.lock();
            state.indexes.forget(attempt);
            state.outputs.remove(&attempt)
        };
        let Some(output) = found else { return Ok(()) };
        let path = self.path_on(output.disk, attempt)?;
        Ok(unless_missing(fs::remove_file(&path))
            .map_err(|source| scratch::error("remove", &path, source))?)
    }

    /// Removes all map outputs of a job.
    pub fn remove_job(&self, job: JobId) -> Result<(), OutputStoreError> {
        {
            let mut state = self.lock();
            let State { outputs, indexes, .. } = &mut *state;
            outputs.retain(|attempt, _| {
                let stays = attempt.task.job != job;
                if !stays {
                    indexes.forget(*attempt);
                }
                stays
            });
        }
        for dir in self.job_dirs(job) {
            unless_missing(fs::remove_dir_all(&dir))
                .map_err(|source| scratch::error("remove", &dir, source))?;
            // What else is in the job's directory is not this store's.
            remove_empty(dir.parent().unwrap_or(&dir))?;
        }
        Ok(())
    }

    /// The job has ended: from now on nothing of it is taken from other workers.
    pub fn end_job(&self, job: JobId) {
        let mut state = self.lock();
        if !state.ended.contains(&job) {
            state.ended.push_back(job);
        }
        if state.ended.len() > ENDED_JOBS_MAX {
            state.ended.pop_front();
        }
    }

    /// Whether a map output of the job may be taken from another worker.
    pub(super) fn check_open(&self, job: JobId) -> Result<(), OutputStoreError> {
        if self.lock().ended.contains(&job) { Err(OutputStoreError::Ended { job }) } else { Ok(()) }
    }

    /// Directories of a job's outputs, one a disk.
    pub fn job_dirs(&self, job: JobId) -> Vec<PathBuf> {
        let of_disk = |dir: &PathBuf| dir.join(job.to_string()).join(OUTPUTS);
        self.inner.dirs.iter().map(of_disk).collect()
    }

    /// Opens a map output. Its index is kept for the next reader.
    pub(super) fn open_output(&self, attempt: AttemptId) -> Result<OpenOutput, OutputStoreError> {
        let (found, cached) = {
            let mut state = self.lock();
            (state.outputs.get(&attempt).copied(), state.indexes.get(attempt))
        };
        let output = found.ok_or(OutputStoreError::Missing { attempt })?;
        let path = self.path_on(output.disk, attempt)?;
        let file = File::open(&path).map_err(|error| missing_or(error, &path, attempt))?;
        let bytes = file.metadata().map_err(|source| scratch::error("stat", &path, source))?.len();
        if bytes != output.bytes {
            let source = RunError::Truncated { path: path.display().to_string(), offset: bytes };
            return Err(OutputStoreError::Run { attempt, source });
        }
        if let Some(index) = cached {
            return Ok(OpenOutput { file, index });
        }
        let index = Arc::new(read_index(&path, attempt)?.1);
        self.lock().indexes.put(attempt, index.clone());
        Ok(OpenOutput { file, index })
    }

    /// The disk with the most free bytes, and how many.
    pub(super) fn roomiest(&self) -> Result<(usize, u64), OutputStoreError> {
        let mut best = None;
        for (disk, dir) in self.inner.dirs.iter().enumerate() {
            let free = rustix::fs::statvfs(dir).map_err(|errno| scratch::error("stat", dir, errno.into()))?;
            let free_bytes = free.f_bavail.saturating_mul(free.f_frsize);
            if best.is_none_or(|(_, most)| free_bytes > most) {
                best = Some((disk, free_bytes));
            }
        }
        best.ok_or(OutputStoreError::NoDisk { disk: 0, disks: 0 })
    }

    fn path_on(&self, disk: usize, attempt: AttemptId) -> Result<PathBuf, OutputStoreError> {
        let disks = self.inner.dirs.len();
        let dir = self.inner.dirs.get(disk).ok_or(OutputStoreError::NoDisk { disk, disks })?;
        let dir = dir.join(attempt.task.job.to_string()).join(OUTPUTS);
        Ok(dir.join(attempt.name() + RUN))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find_outputs(&mut self, disk: usize, job: JobId, dir: &Path) -> Result<(), OutputStoreError> {
        if !dir.is_dir() {
            return Ok(());
        }
        for path in entries(dir)? {
            let attempt = name_of(&path).and_then(|name| attempt_of(job, name));
            match attempt.map(|attempt| (attempt, read_index(&path, attempt))) {
                Some((attempt, Ok((bytes, _)))) => {
                    self.outputs.insert(attempt, Output { disk, bytes });
                }
                Some((attempt, Err(error))) => {
                    tracing::warn!(%attempt, %error, "removes a map output that is not whole");
                    remove_debris(&path)?;
                }
                None if name_of(&path).is_some_and(|name| name.ends_with(UNFINISHED)) => {
                    remove_debris(&path)?
                }
                None => tracing::warn!(path = %path.display(), "a file that is no map output"),
            }
        }
        Ok(())
    }
}

fn read_index(path: &Path, attempt: AttemptId) -> Result<(u64, RunIndex), OutputStoreError> {
    let file = scratch::open(path).map_err(|error| missing_or(error.source, path, attempt))?;
    let bytes = file.bytes();
    let (_, index) = RunFileReader::open(file, path.display().to_string())
        .map_err(|source| OutputStoreError::Run { attempt, source })?;
    Ok((bytes, index))
}

fn missing_or(error: io::Error, path: &Path, attempt: AttemptId) -> OutputStoreError {
    match error.kind() {
        io::ErrorKind::NotFound => OutputStoreError::Missing { attempt },
        _ => OutputStoreError::Disk(scratch::error("open", path, error)),
    }
}

/// The attempt whose map output has this name.
fn attempt_of(job: JobId, name: &str) -> Option<AttemptId> {
    let (stage, rest) = name.strip_suffix(RUN)?.strip_prefix('s')?.split_once("-t")?;
    let (task, number) = rest.split_once("-a")?;
    let task = TaskId { job, stage: stage.parse().ok()?, task: task.parse().ok()? };
    let attempt = task.attempt(number.parse().ok()?);
    (attempt.name() + RUN == name).then_some(attempt)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, ScratchError> {
    let failed = |source| scratch::error("list", dir, source);
    let entries = fs::read_dir(dir).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

fn remove_debris(path: &Path) -> Result<(), ScratchError> {
    fs::remove_file(path).map_err(|source| scratch::error("remove", path, source))
}

/// Removes a directory unless something is in it.
fn remove_empty(dir: &Path) -> Result<(), ScratchError> {
    if !dir.is_dir() {
        return Ok(());
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => unless_missing(removed).map_err(|source| scratch::error("remove", dir, source)),
    }
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
