//! One output of this machine while it is being written.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::publication::{Place, move_error};
use super::staging_directory::{StagingDirectory, gone, sweep, warn};
use crate::store::{Existing, SUCCESS_FILE, StageError, StagedFile, StagedWriter, Staging};
use crate::uri::Uri;

/// An output in its staging directory.
#[derive(Debug)]
pub(super) struct LocalStaging {
    place: Place,
    existing: Existing,
    /// `None` once published or aborted. Held while a file is created, so none is created behind an abort's back.
    directory: Mutex<Option<StagingDirectory>>,
}

impl LocalStaging {
    pub(super) fn begin(output: &Uri, job_id: &str, existing: Existing) -> Result<LocalStaging, StageError> {
        check_part(job_id)?;
        let place = Place::of(output)?;
        let home = place.home()?;
        place.check(existing)?;
        sweep(home);
        let directory = Mutex::new(Some(StagingDirectory::make(home, job_id, output)?));
        Ok(LocalStaging { place, existing, directory })
    }

    fn directory(&self) -> MutexGuard<'_, Option<StagingDirectory>> {
        // Whoever panicked left at worst a file that nobody will publish.
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> StageError {
        StageError::Ended { output: self.place.output().clone() }
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
        let success = whole.join(SUCCESS_FILE);
        fs::write(&success, manifest).map_err(|source| create_error(&success, source))?;
        Ok(whole)
    }
}

impl Staging for LocalStaging {
    fn create(&self, attempt: &str, name: &str) -> Result<Box<dyn StagedWriter>, StageError> {
        let directory = self.directory();
        let staging = directory.as_ref().ok_or_else(|| self.ended())?;
        let path = path_of(staging, attempt, name)?;
        create_parent(&path)?;
        let file = File::create_new(&path).map_err(|source| create_error(&path, source))?;
        let staged = StagedFile { attempt: attempt.to_owned(), name: name.to_owned(), bytes: 0 };
        Ok(Box::new(LocalWriter { file, path, staged, finished: false }))
    }

    fn discard(&self, file: &StagedFile) -> Result<(), StageError> {
        let directory = self.directory();
        let path = path_of(directory.as_ref().ok_or_else(|| self.ended())?, &file.attempt, &file.name)?;
        gone(fs::remove_file(&path), &path)
    }

    fn publish(&self, files: &[StagedFile], manifest: &[u8]) -> Result<(), StageError> {
        let mut directory = self.directory();
        let staging = directory.as_ref().ok_or_else(|| self.ended())?;
        let whole = self.assemble(staging, files, manifest)?;
        self.place.fill(&whole, &staging.old(), self.existing)?;
        // The output is there: that something else could not be removed must not look like a failure.
        warn(staging.remove());
        *directory = None;
        Ok(())
    }

    fn abort(&self) -> Result<(), StageError> {
        let mut directory = self.directory();
        if let Some(staging) = directory.as_ref() {
            staging.remove()?;
        }
        *directory = None;
        Ok(())
    }
}

impl Drop for LocalStaging {
    fn drop(&mut self) {
        warn(self.abort());
    }
}

struct LocalWriter {
    file: File,
    path: PathBuf,
    staged: StagedFile,
    finished: bool,
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
    check_part(attempt)?;
    name.split('/').try_for_each(|part| check_part(part).map_err(|_| bad_name(name)))?;
    if name.split('/').next() == Some(SUCCESS_FILE) {
        return Err(bad_name(name));
    }
    Ok(staging.attempt(attempt).join(name))
}

/// Refuses what is not the name of one entry of a directory.
fn check_part(part: &str) -> Result<(), StageError> {
    if matches!(part, "" | "." | "..") || part.contains(['/', '\0']) {
        return Err(bad_name(part));
    }
    Ok(())
}

fn bad_name(name: &str) -> StageError {
    StageError::BadName { name: name.to_owned() }
}

fn create_parent(path: &Path) -> Result<(), StageError> {
    path.parent()
        .map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(|source| create_error(parent, source)))
}

fn create_directory(path: &Path) -> Result<(), StageError> {
    fs::create_dir(path).map_err(|source| create_error(path, source))
}

fn create_error(path: &Path, source: io::Error) -> StageError {
    StageError::Create { uri: Uri::local(path), source }
}
