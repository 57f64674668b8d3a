//! One output of this machine while it is being written.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::publication::{Filled, Place, move_error};
use super::staging_directory::{StagingDirectory, gone, sweep, warn};
use crate::staged_name;
use crate::store::{Existing, StageError, StagedFile, StagedWriter, Staging};
use crate::uri::Uri;

/// An output in its staging directory.
#[derive(Debug)]
pub(super) struct LocalStaging {
    place: Place,
    existing: Existing,
    job_id: String,
    /// Held while a file is created, so none is created behind an abort's back.
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Staging(StagingDirectory),
    /// The output is visible; the directory holds what it replaced.
    Published(StagingDirectory, Filled),
    /// Aborted or concluded.
    Ended,
}

impl LocalStaging {
    pub(super) fn begin(output: &Uri, job_id: &str, existing: Existing) -> Result<LocalStaging, StageError> {
        staged_name::check_part(job_id)?;
        let place = Place::of(output)?;
        let home = place.home()?;
        place.check(existing)?;
        sweep(home);
        let state = Mutex::new(State::Staging(StagingDirectory::make(home, job_id, output)?));
        Ok(LocalStaging { place, existing, job_id: job_id.to_owned(), state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked left at worst a file that nobody will publish.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> StageError {
        StageError::Ended { output: self.place.output().clone() }
    }

    /// The directory, unless the output is published or ended.
    fn directory<'s>(&self, state: &'s State) -> Result<&'s StagingDirectory, StageError> {
        match state {
            State::Staging(directory) => Ok(directory),
            State::Published(..) | State::Ended => Err(self.ended()),
        }
    }

    /// Gathers the winners in one tree, and returns where it is.
    fn assemble(
        &self,
        staging: &StagingDirectory,
        files: &[StagedFile],
        manifest: &[u8],
    ) -> Result<PathBuf, StageError> {
        let whole = staging.out();
        let mut names = HashSet::new();
        create_directory(&whole)?;
        for file in files {
            if !names.insert(file.name.as_str()) {
                let (output, name) = (self.place.output().clone(), file.name.clone());
                return Err(StageError::DuplicateName { output, name });
            }
            let (from, to) = (path_of(staging, &file.attempt, &file.name)?, whole.join(&file.name));
            create_parent(&to)?;
            fs::rename(&from, &to).map_err(|source| move_error(&from, &to, source))?;
        }
        let success = whole.join(staged_name::success_file(self.existing, &self.job_id));
        fs::write(&success, manifest).map_err(|source| create_error(&success, source))?;
        Ok(whole)
    }
}

impl Staging for LocalStaging {
    fn create(&self, attempt: &str, name: &str) -> Result<Box<dyn StagedWriter>, StageError> {
        let state = self.state();
        let path = path_of(self.directory(&state)?, attempt, name)?;
        create_parent(&path)?;
        let file = File::create_new(&path).map_err(|source| create_error(&path, source))?;
        let staged = StagedFile {
            attempt: attempt.to_owned(),
            name: name.to_owned(),
            bytes: 0,
            receipt: String::new(),
        };
        Ok(Box::new(LocalWriter::new(file, path, staged)))
    }

    fn discard(&self, file: &StagedFile) -> Result<(), StageError> {
        let state = self.state();
        let path = path_of(self.directory(&state)?, &file.attempt, &file.name)?;
        gone(fs::remove_file(&path), &path)
    }

    fn publish(&self, files: &[StagedFile], manifest: &[u8]) -> Result<(), StageError> {
        let mut state = self.state();
        let directory = self.directory(&state)?;
        let whole = self.assemble(directory, files, manifest)?;
        let filled = self.place.fill(&whole, &directory.old(), self.existing)?;
        *state = match std::mem::replace(&mut *state, State::Ended) {
            State::Staging(directory) => State::Published(directory, filled),
            other => other,
        };
        Ok(())
    }

    fn retract(&self) -> Result<(), StageError> {
        let mut state = self.state();
        let State::Published(directory, filled) = &*state else { return Err(self.ended()) };
        self.place.empty(&directory.out(), &directory.old(), filled, &self.job_id)?;
        *state = match std::mem::replace(&mut *state, State::Ended) {
            State::Published(directory, _) => State::Staging(directory),
            other => other,
        };
        Ok(())
    }

    fn conclude(&self) -> Result<(), StageError> {
        let mut state = self.state();
        let State::Published(directory, _) = &*state else { return Err(self.ended()) };
        directory.remove()?;
        *state = State::Ended;
        Ok(())
    }

    fn abort(&self) -> Result<(), StageError> {
        let mut state = self.state();
        if let State::Staging(directory) = &*state {
            directory.remove()?;
            *state = State::Ended;
        }
        Ok(())
    }
}

impl Drop for LocalStaging {
    fn drop(&mut self) {
        let published = matches!(*self.state(), State::Published(..));
        warn(if published { self.conclude() } else { self.abort() });
    }
}

pub(super) struct LocalWriter {
    file: File,
    path: PathBuf,
    staged: StagedFile,
    finished: bool,
}

impl LocalWriter {
    pub(super) fn new(file: File, path: PathBuf, staged: StagedFile) -> LocalWriter {
        LocalWriter { file, path, staged, finished: false }
    }
}

impl Write for LocalWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.staged.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StagedWriter for LocalWriter {
    fn finish(mut self: Box<Self>) -> Result<StagedFile, StageError> {
        self.finished = true;
        Ok(self.staged.clone())
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if !self.finished {
            warn(gone(fs::remove_file(&self.path), &self.path));
        }
    }
}

/// Where an attempt's file is; never outside the attempt's own directory, whatever the names are.
fn path_of(staging: &StagingDirectory, attempt: &str, name: &str) -> Result<PathBuf, StageError> {
    staged_name::check(attempt, name)?;
    Ok(staging.attempt(attempt).join(name))
}

fn create_parent(path: &Path) -> Result<(), StageError> {
    path.parent()
        .map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(|source| create_error(parent, source)))
}

fn create_directory(path: &Path) -> Result<(), StageError> {
    fs::create_dir(path).map_err(|source| create_error(path, source))
}

pub(super) fn create_error(path: &Path, source: io::Error) -> StageError {
    StageError::Create { uri: Uri::local(path), source }
}
