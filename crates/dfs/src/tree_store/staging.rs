//! One output while it is being written, in a hidden directory beside it:
//!
//! ```text
//! .gristmill-<job id>-<output name>/
//!     lock                 open while the process that stages lives
//!     attempts/<attempt>/  what attempts write
//!     out/                 the winners, about to appear as the output
//!     old/                 the output they replaced
//! ```

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::file_system::{Cause, CreateOptions, DeleteOptions, FileWriter, FsError, Publish};
use crate::staged_name::{self, is_of_job};
use crate::store::{Existing, StageError, StagedFile, StagedWriter, Staging};
use crate::uri::Uri;

pub(super) const PREFIX: &str = ".gristmill-";
const LOCK: &str = "lock";
const ATTEMPTS: &str = "attempts";
pub(super) const OUT: &str = "out";
pub(super) const OLD: &str = "old";

/// One transaction of the file system moves at most so many files: larger ones would keep others waiting.
pub(super) const MOVES_MAX: usize = 1000;

/// Gone for good with all below it: nobody wants staged files in the trash.
pub(super) const FOR_GOOD: DeleteOptions = DeleteOptions { recursive: true, skip_trash: true };

/// An output in its staging directory.
pub(super) struct TreeStaging<F: Publish + 'static> {
    fs: Arc<F>,
    output: Uri,
    directory: Uri,
    existing: Existing,
    job_id: String,
    /// Held for reading while a file is created, so none is created behind an abort's back.
    state: RwLock<State>,
    /// Says that this process lives as long as it is open.
    lock: Mutex<Option<Box<dyn FileWriter>>>,
}

enum State {
    Staging,
    /// The output is visible; the staging directory holds what it replaced.
    Published {
        how: Filled,
        /// Directories made above it, the lowest first.
        parents: Vec<Uri>,
    },
    /// Aborted or concluded.
    Ended,
}

/// How an output took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// Nothing was there, or an empty directory.
    Fresh,
    /// What was there is in the staging directory.
    Replaced,
    /// What was there, if anything, is there still, and the new files with it.
    Appended,
}

impl<F: Publish + 'static> TreeStaging<F> {
    pub(super) fn begin(
        fs: Arc<F>,
        output: &Uri,
        job_id: &str,
        existing: Existing,
    ) -> Result<TreeStaging<F>, StageError> {
        staged_name::check_part(job_id)?;
        let nameless = || StageError::NamelessOutput { output: output.clone() };
        let home = nearest_directory(&*fs, output, &output.parent().ok_or_else(nameless)?)?;
        if existing == Existing::Refuse && is_occupied(&*fs, output)? {
            return Err(StageError::OutputExists { output: output.clone() });
        }
        refuse_no_directory(&*fs, output, existing)?;
        sweep(&*fs, &home);
        let mut name = OsString::from(format!("{PREFIX}{job_id}-"));
        name.push(output.name());
        let directory = home.join(name);
        fs.make_directory(&directory, false).map_err(|error| match error.cause {
            Cause::AlreadyExists => StageError::InUse { output: output.clone(), staging: directory.clone() },
            cause => StageError::Unwritable { output: output.clone(), directory: home, source: cause.into() },
        })?;
        let lock = directory.join(LOCK);
        match fs.create(&lock, &CreateOptions::default()) {
            Ok(lock) => {
                let (output, state) = (output.clone(), RwLock::new(State::Staging));
                let (job_id, lock) = (job_id.to_owned(), Mutex::new(Some(lock)));
                Ok(TreeStaging { fs, output, directory, existing, job_id, state, lock })
            }
            Err(error) => {
                warn(gone(fs.delete(&directory, FOR_GOOD)));
                Err(StageError::Lock { uri: lock, source: error.into() })
            }
        }
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        // Whoever panicked left at worst a file that nobody will publish.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> StageError {
        StageError::Ended { output: self.output.clone() }
    }

    fn check_staging(&self, state: &State) -> Result<(), StageError> {
        if matches!(state, State::Staging) { Ok(()) } else { Err(self.ended()) }
    }

    fn attempt_file(&self, attempt: &str, name: &str) -> Result<Uri, StageError> {
        staged_name::check(attempt, name)?;
        Ok(self.directory.join(ATTEMPTS).join(attempt).join(name))
    }

    /// Gathers the winners in one tree.
    fn assemble(&self, files: &[StagedFile], manifest: &[u8]) -> Result<Uri, StageError> {
        let whole = self.directory.join(OUT);
        let mut names = HashSet::new();
        let mut moves = Vec::with_capacity(files.len());
        for file in files {
            if !names.insert(file.name.as_str()) {
                let (output, name) = (self.output.clone(), file.name.clone());
                return Err(StageError::DuplicateName { output, name });
            }
            moves.push((self.attempt_file(&file.attempt, &file.name)?, whole.join(&file.name)));
        }
        for some in moves.chunks(MOVES_MAX) {
            self.fs.publish(some).map_err(|error| move_error(&error.uri.clone(), &whole, error))?;
        }
        let success = whole.join(staged_name::success_file(self.existing, &self.job_id));
        let failed = |source| StageError::Create { uri: success.clone(), source };
        let mut writer =
            self.fs.create(&success, &CreateOptions::default()).map_err(|error| failed(error.into()))?;
        writer.write_all(manifest).map_err(failed)?;
        writer.finish().map_err(|error| failed(error.into()))?;
        Ok(whole)
    }

    /// Moves the finished tree to its place by one call.
    fn fill(&self, whole: &Uri) -> Result<Filled, StageError> {
        let old = self.directory.join(OLD);
        let in_place = (whole.clone(), self.output.clone());
        let (filled, how) = match self.fs.stat(&self.output) {
            Err(error) if error.is_absence() => (self.fs.publish(&[in_place]), Filled::Fresh),
            Err(error) => return Err(StageError::Look { uri: self.output.clone(), source: error.into() }),
            Ok(there) if there.is_directory() && !is_occupied(&*self.fs, &self.output)? => {
                (self.fs.rename(whole, &self.output, true), Filled::Fresh)
            }
            Ok(_) if self.existing == Existing::Refuse => {
                return Err(StageError::OutputExists { output: self.output.clone() });
            }
            Ok(_) if self.existing == Existing::Append => {
                (self.fs.publish(&moves_of(&*self.fs, whole, &self.output, |_| true)?), Filled::Appended)
            }
            Ok(_) => (self.fs.publish(&[(self.output.clone(), old), in_place]), Filled::Replaced),
        };
        let how = if self.existing == Existing::Append { Filled::Appended } else { how };
        filled.map(|()| how).map_err(|error| match error.cause {
            Cause::AlreadyExists | Cause::NotEmpty => {
                StageError::OutputExists { output: self.output.clone() }
            }
            _ => move_error(whole, &self.output, error),
        })
    }

    /// The directories above the output that are missing, the lowest first.
    fn missing_parents(&self) -> Vec<Uri> {
        let above = std::iter::successors(self.output.parent(), Uri::parent);
        above.take_while(|parent| self.fs.stat(parent).is_err_and(|error| error.is_absence())).collect()
    }

    fn remove(&self) -> Result<(), StageError> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = lock.map(FileWriter::finish) {
            // Somebody has removed it: so much the better.
            tracing::debug!(%error, "the lock of a staging directory could not be closed");
        }
        gone(self.fs.delete(&self.directory, FOR_GOOD))
    }
}

impl<F: Publish + 'static> Staging for TreeStaging<F> {
    fn create(&self, attempt: &str, name: &str) -> Result<Box<dyn StagedWriter>, StageError> {
        let state = self.read_state();
        self.check_staging(&state)?;
        let uri = self.attempt_file(attempt, name)?;
        let created = self.fs.create(&uri, &CreateOptions::default());
        let file = created.map_err(|error| StageError::Create { uri: uri.clone(), source: error.into() })?;
        let staged = StagedFile {
            attempt: attempt.to_owned(),
            name: name.to_owned(),
            bytes: 0,
            receipt: String::new(),
        };
        Ok(Box::new(TreeWriter::new(self.fs.clone(), uri, file, staged)))
    }

    fn discard(&self, file: &StagedFile) -> Result<(), StageError> {
        let state = self.read_state();
        self.check_staging(&state)?;
        gone(self.fs.delete(&self.attempt_file(&file.attempt, &file.name)?, FOR_GOOD))
    }

    fn publish(&self, files: &[StagedFile], manifest: &[u8]) -> Result<(), StageError> {
        let mut state = self.write_state();
        self.check_staging(&state)?;
        let whole = self.assemble(files, manifest)?;
        let parents = self.missing_parents();
        let how = self.fill(&whole)?;
        *state = State::Published { how, parents };
        Ok(())
    }

    fn retract(&self) -> Result<(), StageError> {
        let mut state = self.write_state();
        let State::Published { how, parents } = &*state else { return Err(self.ended()) };
        let (out, output) = (self.directory.join(OUT), &self.output);
        let moves = match how {
            Filled::Fresh => vec![(output.clone(), out)],
            Filled::Replaced => vec![(output.clone(), out), (self.directory.join(OLD), output.clone())],
            Filled::Appended => moves_of(&*self.fs, output, &out, |name| is_of_job(name, &self.job_id))?,
        };
        self.fs.publish(&moves).map_err(|error| move_error(&self.output, &self.directory, error))?;
        if *how == Filled::Appended {
            remove_empty(&*self.fs, &self.directory.join(OUT), &self.output)?;
        }
        for parent in parents {
            match self.fs.delete(parent, DeleteOptions { recursive: false, skip_trash: true }) {
                // Somebody has come to use it.
                Err(FsError { cause: Cause::NotEmpty, .. }) => break,
                deleted => warn(gone(deleted)),
            }
        }
        *state = State::Staging;
        Ok(())
    }

    fn conclude(&self) -> Result<(), StageError> {
        let mut state = self.write_state();
        let State::Published { .. } = &*state else { return Err(self.ended()) };
        self.remove()?;
        *state = State::Ended;
        Ok(())
    }

    fn abort(&self) -> Result<(), StageError> {
        let mut state = self.write_state();
        if let State::Staging = &*state {
            self.remove()?;
            *state = State::Ended;
        }
        Ok(())
    }
}

impl<F: Publish + 'static> Drop for TreeStaging<F> {
    fn drop(&mut self) {
        let published = matches!(*self.read_state(), State::Published { .. });
        warn(if published { self.conclude() } else { self.abort() });
    }
}

pub(super) struct TreeWriter<F: Publish> {
    fs: Arc<F>,
    uri: Uri,
    /// Gone once it is finished.
    file: Option<Box<dyn FileWriter>>,
    staged: StagedFile,
}

impl<F: Publish> TreeWriter<F> {
    pub(super) fn new(fs: Arc<F>, uri: Uri, file: Box<dyn FileWriter>, staged: StagedFile) -> TreeWriter<F> {
        TreeWriter { fs, uri, file: Some(file), staged }
    }

    fn file(&mut self) -> io::Result<&mut Box<dyn FileWriter>> {
        self.file.as_mut().ok_or_else(|| io::Error::other("the file is finished"))
    }
}

impl<F: Publish> Write for TreeWriter<F> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file()?.write(buffer)?;
        self.staged.bytes += written as u64;
        Ok(written)
    }

    /// Staged files have no readers: what is on its way may stay there.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: Publish> StagedWriter for TreeWriter<F> {
    fn finish(mut self: Box<Self>) -> Result<StagedFile, StageError> {
        if let Some(file) = self.file.take() {
            file.finish().map_err(|error| {
                warn(gone(self.fs.delete(&self.uri, FOR_GOOD)));
                StageError::Create { uri: self.uri.clone(), source: error.into() }
            })?;
        }
        Ok(self.staged.clone())
    }
}

impl<F: Publish> Drop for TreeWriter<F> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            warn(gone(self.fs.delete(&self.uri, FOR_GOOD)));
        }
    }
}

/// The nearest directory at or above `above` that exists.
pub(super) fn nearest_directory(fs: &impl Publish, output: &Uri, above: &Uri) -> Result<Uri, StageError> {
    let mut above = above.clone();
    loop {
        let error = match fs.stat(&above) {
            Ok(status) if status.is_directory() => return Ok(above),
            Ok(_) => FsError::new("write below", &above, Cause::NotADirectory),
            Err(error) => error,
        };
        above = match (error.cause, above.parent()) {
            (Cause::NotFound, Some(parent)) => parent,
            (cause, _) => {
                let (output, source) = (output.clone(), cause.into());
                return Err(StageError::Unwritable { output, directory: above, source });
            }
        };
    }
}

/// Whether anything is at `uri` that is not an empty directory.
pub(super) fn is_occupied(fs: &impl Publish, uri: &Uri) -> Result<bool, StageError> {
    let failed = |error: FsError| StageError::Look { uri: uri.clone(), source: error.into() };
    match fs.stat(uri) {
        Err(error) if error.is_absence() => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(status) if status.is_directory() => {
            Ok(fs.list(uri).map_err(failed)?.next().transpose().map_err(failed)?.is_some())
        }
        Ok(_) => Ok(true),
    }
}

/// Refuses to add files to what holds none.
pub(super) fn refuse_no_directory(
    fs: &impl Publish,
    output: &Uri,
    existing: Existing,
) -> Result<(), StageError> {
    match fs.stat(output) {
        Ok(there) if existing == Existing::Append && !there.is_directory() => {
            Err(StageError::NotADirectory { output: output.clone() })
        }
        // Whoever writes there finds out.
        _ => Ok(()),
    }
}

/// What moves each file of the tree `from` whose name is wanted to the same place in the tree `to`.
pub(super) fn moves_of(
    fs: &impl Publish,
    from: &Uri,
    to: &Uri,
    is_wanted: impl Fn(&OsStr) -> bool,
) -> Result<Vec<(Uri, Uri)>, StageError> {
    let mut moves = Vec::new();
    let mut waiting = vec![(from.clone(), to.clone())];
    while let Some((directory, target)) = waiting.pop() {
        let failed = |error: FsError| StageError::Look { uri: directory.clone(), source: error.into() };
        for entry in fs.list(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let moved = target.join(entry.uri.name());
            if entry.is_directory() {
                waiting.push((entry.uri, moved));
            } else if is_wanted(entry.uri.name()) {
                moves.push((entry.uri, moved));
            }
        }
    }
    Ok(moves)
}

/// Removes the directories of the tree `output` that are in the tree `out` too, and empty.
pub(super) fn remove_empty(fs: &impl Publish, out: &Uri, output: &Uri) -> Result<(), StageError> {
    let (mut waiting, mut seen) = (vec![(out.clone(), output.clone())], Vec::new());
    while let Some((directory, target)) = waiting.pop() {
        let failed = |error: FsError| StageError::Look { uri: directory.clone(), source: error.into() };
        for entry in fs.list(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.is_directory() {
                let below = target.join(entry.uri.name());
                waiting.push((entry.uri, below));
            }
        }
        seen.push(target);
    }
    for directory in seen.iter().rev() {
        if !fs.stat(directory).is_ok_and(|status| status.is_directory()) {
            continue;
        }
        match fs.delete(directory, DeleteOptions { recursive: false, skip_trash: true }) {
            Err(FsError { cause: Cause::NotEmpty, .. }) => {}
            deleted => gone(deleted)?,
        }
    }
    Ok(())
}

/// Removes what dead processes left in `home`. Best effort: it says what it cannot remove, and goes on.
fn sweep(fs: &impl Publish, home: &Uri) {
    let failed = |error: FsError| StageError::Look { uri: home.clone(), source: error.into() };
    let entries = match fs.list(home) {
        Ok(entries) => entries,
        Err(error) => return warn(Err(failed(error))),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry.uri,
            Err(error) => return warn(Err(failed(error))),
        };
        let name = entry.name().as_bytes();
        if name.starts_with(PREFIX.as_bytes()) {
            warn(sweep_entry(fs, &entry));
        } else if name > PREFIX.as_bytes() {
            // Entries come in order: a large directory is not read to its end.
            return;
        }
    }
}

/// Removes a staging directory whose lock the file system has closed. With `old` in it, its process died while it
/// replaced an output, and that may be the only copy.
fn sweep_entry(fs: &impl Publish, directory: &Uri) -> Result<(), StageError> {
    let look = |error: FsError| StageError::Look { uri: directory.clone(), source: error.into() };
    let mut is_dead = false;
    for entry in fs.list(directory).map_err(look)? {
        let entry = entry.map_err(look)?;
        match entry.uri.name().to_str() {
            Some(LOCK) => is_dead = entry.is_file() && !entry.under_construction,
            Some(ATTEMPTS | OUT) => {}
            _ => return Ok(()),
        }
    }
    if is_dead { gone(fs.delete(directory, FOR_GOOD)) } else { Ok(()) }
}

/// Reports what has gone wrong where no caller can be told: tidying up after the result is settled.
pub(super) fn warn(tidied: Result<(), StageError>) {
    if let Err(error) = tidied {
        eprintln!("warning: {error}");
    }
}

/// A removal succeeds too when there was nothing to remove.
pub(super) fn gone(deleted: Result<Option<Uri>, FsError>) -> Result<(), StageError> {
    match deleted {
        Err(error) if !error.is_absence() => {
            Err(StageError::Remove { uri: error.uri.clone(), source: error.into() })
        }
        _ => Ok(()),
    }
}

pub(super) fn move_error(from: &Uri, to: &Uri, error: FsError) -> StageError {
    StageError::Move { from: from.clone(), to: to.clone(), source: error.into() }
}
