//! An output of this machine that several processes write.
//!
//! `manifest` in the staging directory says what `_SUCCESS` of the output holds once it is published; so the output has
//! appeared if it does. Removal begins with `shared`, and ends with `manifest`: what is half removed shows as that.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gristmill_proto::ids::JobId;

use super::appending::remove_own;
use super::publication::{Filled, How, Place, move_error, remove_parents};
use super::staging::{LocalWriter, create_error};
use super::staging_directory::{OLD, OUT, PREFIX, gone, sweep};
use super::{changes, is_absence};
use crate::shared_outputs::{Numbered, Progress, SharedStaging};
use crate::staged_name;
use crate::store::{Existing, StageError, StagedFile, StagedWriter, Staging};
use crate::uri::Uri;

const SHARED: &str = "shared";
const ENDED: &str = "ended";
const MANIFEST: &str = "manifest";
const MANIFEST_TO_BE: &str = "manifest.new";

/// A group of one output: this machine publishes one at a time.
#[derive(Debug)]
pub(crate) struct SharedLocal {
    output: Numbered,
    job: JobId,
    existing: Existing,
}

impl SharedLocal {
    pub(crate) fn new(output: Numbered, job: JobId, existing: Existing) -> SharedLocal {
        SharedLocal { output, job, existing }
    }

    fn place(&self) -> Result<Place, StageError> {
        Place::of(&self.output.uri)
    }

    fn directory_in(&self, home: &Path) -> PathBuf {
        home.join(format!("{PREFIX}{}-{}", self.job, self.output.number))
    }

    /// The staging directory. It was made in the nearest directory there was then.
    fn find(&self) -> Result<Option<PathBuf>, StageError> {
        for home in self.place()?.above() {
            let directory = self.directory_in(home);
            if exists(&directory)? {
                return Ok(Some(directory));
            }
        }
        Ok(None)
    }

    fn expect(&self) -> Result<PathBuf, StageError> {
        let (output, job) = (self.output.uri.clone(), self.job.to_string());
        self.find()?.ok_or(StageError::NotStaged { output, job })
    }

    fn success_file(&self) -> String {
        staged_name::success_file(self.existing, &self.job.to_string())
    }

    /// Whether the output has appeared, as the staging directory and the output itself say.
    fn has_appeared(&self, directory: &Path) -> Result<bool, StageError> {
        match read(&directory.join(MANIFEST))? {
            Some(manifest) => self.shows(&manifest),
            None => Ok(false),
        }
    }

    /// Of an output that has not appeared: puts back what was there, and removes directories made above it.
    fn restore(&self, directory: &Path) -> Result<(), StageError> {
        let (place, old) = (self.place()?, directory.join(OLD));
        if exists(&old)? && !exists(place.path())? {
            changes::rename(&old, place.path()).map_err(|source| move_error(&old, place.path(), source))?;
        }
        if exists(&directory.join(MANIFEST))? {
            if self.existing == Existing::Append {
                let whole = directory.join(OUT);
                let before = [&old, &whole].into_iter().find(|tree| tree.is_dir());
                remove_own(place.path(), &self.job.to_string(), before.map(PathBuf::as_path))?;
            }
            let made = made_parents(&place, directory);
            remove_parents(&made)?;
        }
        Ok(())
    }
}

impl SharedStaging for SharedLocal {
    fn begin(&self) -> Result<(), StageError> {
        let place = self.place()?;
        let directory = match self.find()? {
            Some(directory) => directory,
            None => {
                let home = place.home()?;
                place.check(self.existing)?;
                sweep(home);
                let directory = self.directory_in(home);
                changes::create_directory(&directory).map_err(|source| StageError::Unwritable {
                    output: self.output.uri.clone(),
                    directory: Uri::local(home),
                    source,
                })?;
                directory
            }
        };
        if exists(&directory.join(MANIFEST))? {
            return Ok(());
        }
        make(&directory.join(SHARED))
    }

    fn join(&self, _: usize) -> Result<Box<dyn Staging>, StageError> {
        let shared = self.expect()?.join(SHARED);
        Ok(Box::new(JoinedLocal { output: self.output.uri.clone(), shared, attempts: Mutex::default() }))
    }

    fn progress(&self) -> Result<Progress, StageError> {
        let Some(directory) = self.find()? else { return Ok(Progress::Absent) };
        let is_shared = exists(&directory.join(SHARED))?;
        Ok(match self.has_appeared(&directory)? {
            true if is_shared => Progress::Filled,
            true => Progress::Ending,
            // What a removal has left at its very end.
            false if fs::read_dir(&directory).is_ok_and(|mut left| left.next().is_none()) => Progress::Absent,
            false => Progress::Staged,
        })
    }

    fn shows(&self, manifest: &[u8]) -> Result<bool, StageError> {
        let found = read(&self.place()?.path().join(self.success_file()))?;
        Ok(found.is_some_and(|found| found == manifest))
    }

    fn assemble(&self, files: &[Vec<StagedFile>], manifest: &[u8]) -> Result<(), StageError> {
        let directory = self.expect()?;
        let (whole, to_be) = (directory.join(OUT), directory.join(MANIFEST_TO_BE));
        make(&whole)?;
        changes::write(&to_be, manifest).map_err(|source| create_error(&to_be, source))?;
        let named = directory.join(MANIFEST);
        changes::rename(&to_be, &named).map_err(|source| move_error(&to_be, &named, source))?;
        for file in files.iter().flatten() {
            let from = directory.join(SHARED).join(&file.attempt).join(&file.name);
            let to = make_above(&whole, &file.name)?;
            match changes::rename(&from, &to) {
                // A dead process has moved it.
                Err(absent) if is_absence(&absent) && exists(&to)? => {}
                moved => moved.map_err(|source| move_error(&from, &to, source))?,
            }
        }
        let success = whole.join(self.success_file());
        changes::write(&success, manifest).map_err(|source| create_error(&success, source))
    }

    fn fill(&self) -> Result<(), StageError> {
        let directory = self.expect()?;
        self.place()?.fill(&directory.join(OUT), &directory.join(OLD), self.existing).map(drop)
    }

    fn retract(&self) -> Result<(), StageError> {
        let (place, directory) = (self.place()?, self.expect()?);
        let (whole, old) = (directory.join(OUT), directory.join(OLD));
        let how = match (exists(&whole)?, exists(&old)?, self.existing) {
            (_, _, Existing::Append) => How::Appended,
            (false, false, _) => How::Renamed,
            (true, ..) => How::Exchanged,
            (false, true, _) => How::MovedAside,
        };
        let parents = made_parents(&place, &directory).into_iter().map(Path::to_path_buf).collect();
        place.empty(&whole, &old, &Filled { how, parents }, &self.job.to_string())
    }

    fn remove(&self) -> Result<(), StageError> {
        let Some(directory) = self.find()? else { return Ok(()) };
        if !self.has_appeared(&directory)? {
            self.restore(&directory)?;
        }
        // What writes late finds no place, and what it wrote is removed: nothing can be added while that goes on.
        let (shared, ended) = (directory.join(SHARED), directory.join(ENDED));
        remove_whatever(&ended)?;
        match changes::rename(&shared, &ended) {
            Err(absent) if is_absence(&absent) => {}
            renamed => renamed.map_err(|source| move_error(&shared, &ended, source))?,
        }
        for name in [ENDED, OUT, OLD, MANIFEST_TO_BE, MANIFEST] {
            remove_whatever(&directory.join(name))?;
        }
        gone(changes::remove_directory(&directory), &directory)
    }
}

/// An output as an attempt uses it.
struct JoinedLocal {
    output: Uri,
    shared: PathBuf,
    /// Those whose directories this process made.
    attempts: Mutex<HashSet<String>>,
}

impl JoinedLocal {
    /// Makes the directory of an attempt, which nobody has made before.
    fn enter(&self, attempt: &str) -> Result<PathBuf, StageError> {
        let directory = self.shared.join(attempt);
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if !attempts.contains(attempt) {
            changes::create_directory(&directory).map_err(|source| create_error(&directory, source))?;
            attempts.insert(attempt.to_owned());
        }
        Ok(directory)
    }

    fn ended<T>(&self) -> Result<T, StageError> {
        Err(StageError::Ended { output: self.output.clone() })
    }
}

impl Staging for JoinedLocal {
    fn create(&self, attempt: &str, name: &str) -> Result<Box<dyn StagedWriter>, StageError> {
        staged_name::check(attempt, name)?;
        let path = make_above(&self.enter(attempt)?, name)?;
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
        staged_name::check(&file.attempt, &file.name)?;
        let path = self.shared.join(&file.attempt).join(&file.name);
        gone(changes::remove_file(&path), &path)
    }

    fn publish(&self, _: &[StagedFile], _: &[u8]) -> Result<(), StageError> {
        self.ended()
    }

    fn retract(&self) -> Result<(), StageError> {
        self.ended()
    }

    fn conclude(&self) -> Result<(), StageError> {
        self.ended()
    }

    fn abort(&self) -> Result<(), StageError> {
        self.ended()
    }
}

/// The directories between the staging directory and the place of its output, topmost first.
fn made_parents<'p>(place: &'p Place, directory: &Path) -> Vec<&'p Path> {
    let mut between: Vec<&Path> =
        place.above().take_while(|above| Some(*above) != directory.parent()).collect();
    between.reverse();
    between
}

/// Makes a directory in one that is there.
fn make(directory: &Path) -> Result<(), StageError> {
    match changes::create_directory(directory) {
        Err(there) if there.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|source| create_error(directory, source)),
    }
}

/// Makes the directories between `directory` and `name` below it, which is then the answer.
fn make_above(directory: &Path, name: &str) -> Result<PathBuf, StageError> {
    let mut path = directory.to_path_buf();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        if parts.peek().is_some() {
            make(&path)?;
        }
    }
    Ok(path)
}

fn exists(path: &Path) -> Result<bool, StageError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(absent) if is_absence(&absent) => Ok(false),
        Err(source) => Err(StageError::Look { uri: Uri::local(path), source }),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StageError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(absent) if is_absence(&absent) => Ok(None),
        Err(source) => Err(StageError::Look { uri: Uri::local(path), source }),
    }
}

fn remove_whatever(path: &Path) -> Result<(), StageError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => gone(changes::remove_tree(path), path),
        Ok(_) => gone(changes::remove_file(path), path),
        Err(source) => gone(Err(source), path),
    }
}
