//! Outputs that several processes write, on a file system with atomic publication: all appear in one transaction.
//!
//! In the same transaction `shared` becomes `ended`. So a staging directory with `shared` is of outputs that are
//! invisible, one without of outputs that have appeared.

use std::collections::HashSet;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_proto::ids::JobId;

use super::staging::{
    FOR_GOOD, MOVES_MAX, OLD, OUT, PREFIX, TreeWriter, gone, is_occupied, move_error, moves_of,
    nearest_directory, refuse_no_directory, remove_empty,
};
use crate::file_system::{Cause, CreateOptions, DeleteOptions, FsError, Publish};
use crate::shared_outputs::{Numbered, Progress, SharedStaging};
use crate::staged_name::{self, is_of_job};
use crate::store::{Existing, StageError, StagedFile, StagedWriter, Staging};
use crate::uri::Uri;

const SHARED: &str = "shared";
const ENDED: &str = "ended";

/// A group of outputs on one file system.
pub(crate) struct SharedTree<F> {
    fs: Arc<F>,
    outputs: Vec<Numbered>,
    job: JobId,
    existing: Existing,
}

/// Renames of one transaction.
type Moves = Vec<(Uri, Uri)>;

impl<F: Publish + 'static> SharedTree<F> {
    pub(crate) fn new(fs: F, outputs: Vec<Numbered>, job: JobId, existing: Existing) -> SharedTree<F> {
        SharedTree { fs: Arc::new(fs), outputs, job, existing }
    }

    fn success_file(&self) -> String {
        staged_name::success_file(self.existing, &self.job.to_string())
    }

    fn directory_in(&self, home: &Uri, output: &Numbered) -> Uri {
        home.join(format!("{PREFIX}{}-{}", self.job, output.number))
    }

    /// The staging directory of an output. It was made in the nearest directory there was then.
    fn find(&self, output: &Numbered) -> Result<Option<Uri>, StageError> {
        for home in std::iter::successors(output.uri.parent(), Uri::parent) {
            let directory = self.directory_in(&home, output);
            if self.exists(&directory)? {
                return Ok(Some(directory));
            }
        }
        Ok(None)
    }

    fn expect(&self, output: &Numbered) -> Result<Uri, StageError> {
        let (job, uri) = (self.job, &output.uri);
        self.find(output)?.ok_or_else(|| StageError::NotStaged { output: uri.clone(), job: job.to_string() })
    }

    fn exists(&self, uri: &Uri) -> Result<bool, StageError> {
        match self.fs.stat(uri) {
            Ok(_) => Ok(true),
            Err(error) if error.is_absence() => Ok(false),
            Err(error) => Err(StageError::Look { uri: uri.clone(), source: error.into() }),
        }
    }

    /// Whether `file` holds exactly `bytes`.
    fn holds(&self, file: &Uri, bytes: &[u8]) -> Result<bool, StageError> {
        let failed = |source| StageError::Look { uri: file.clone(), source };
        let status = match self.fs.stat(file) {
            Err(error) if error.is_absence() => return Ok(false),
            status => status.map_err(|error| failed(error.into()))?,
        };
        if !status.is_file() || status.under_construction || status.bytes != bytes.len() as u64 {
            return Ok(false);
        }
        let reader = self.fs.open(file).map_err(|error| failed(error.into()))?;
        let (mut found, mut filled) = (vec![0; bytes.len()], 0);
        while filled < found.len() {
            match reader.read_at(&mut found[filled..], filled as u64).map_err(failed)? {
                0 => return Ok(false),
                count => filled += count,
            }
        }
        Ok(found == bytes)
    }

    fn begin_one(&self, output: &Numbered) -> Result<(), StageError> {
        let uri = &output.uri;
        let nameless = || StageError::NamelessOutput { output: uri.clone() };
        let parent = uri.parent().ok_or_else(nameless)?;
        if self.find(output)?.is_some() {
            return Ok(());
        }
        let home = nearest_directory(&*self.fs, uri, &parent)?;
        if self.existing == Existing::Refuse && is_occupied(&*self.fs, uri)? {
            return Err(StageError::OutputExists { output: uri.clone() });
        }
        refuse_no_directory(&*self.fs, uri, self.existing)?;
        let shared = self.directory_in(&home, output).join(SHARED);
        self.fs.make_directory(&shared, true).map_err(|error| StageError::Unwritable {
            output: uri.clone(),
            directory: home,
            source: error.into(),
        })
    }

    fn assemble_one(
        &self,
        output: &Numbered,
        files: &[StagedFile],
        manifest: &[u8],
    ) -> Result<(), StageError> {
        let directory = self.expect(output)?;
        let (shared, out) = (directory.join(SHARED), directory.join(OUT));
        let goes_on = self.exists(&out)?;
        for some in files.chunks(MOVES_MAX) {
            // A transaction moves all of them or none.
            if goes_on && self.exists(&out.join(&some[0].name))? {
                continue;
            }
            let step =
                |file: &StagedFile| (shared.join(&file.attempt).join(&file.name), out.join(&file.name));
            let moves: Moves = some.iter().map(step).collect();
            self.fs.publish(&moves).map_err(|error| move_error(&error.uri.clone(), &out, error))?;
        }
        let success = out.join(self.success_file());
        if goes_on {
            // A dead process may have begun it.
            gone(self.fs.delete(&success, FOR_GOOD))?;
        }
        let failed = |source| StageError::Create { uri: success.clone(), source };
        let created = self.fs.create(&success, &CreateOptions::default());
        let mut writer = created.map_err(|error| failed(error.into()))?;
        writer.write_all(manifest).map_err(failed)?;
        writer.finish().map_err(|error| failed(error.into()))
    }

    /// What lets an output appear.
    fn appearance(&self, output: &Numbered) -> Result<Moves, StageError> {
        let (uri, directory) = (&output.uri, self.expect(output)?);
        let (out, ended) = (directory.join(OUT), (directory.join(SHARED), directory.join(ENDED)));
        if self.existing == Existing::Append && is_occupied(&*self.fs, uri)? {
            let mut moves = moves_of(&*self.fs, &out, uri, |_| true)?;
            moves.push(ended);
            return Ok(moves);
        }
        let mut moves = Vec::new();
        if self.exists(uri)? {
            if self.existing == Existing::Refuse && is_occupied(&*self.fs, uri)? {
                return Err(StageError::OutputExists { output: uri.clone() });
            }
            moves.push((uri.clone(), directory.join(OLD)));
        }
        moves.push((out, uri.clone()));
        moves.push(ended);
        Ok(moves)
    }

    /// What lets it vanish again.
    fn disappearance(&self, output: &Numbered, directory: &Uri) -> Result<Moves, StageError> {
        let (uri, old, out) = (&output.uri, directory.join(OLD), directory.join(OUT));
        let job = self.job.to_string();
        if self.existing == Existing::Append {
            let mut moves = moves_of(&*self.fs, uri, &out, |name| is_of_job(name, &job))?;
            moves.push((directory.join(ENDED), directory.join(SHARED)));
            return Ok(moves);
        }
        let mut moves = vec![(uri.clone(), out)];
        if self.exists(&old)? {
            moves.push((old, uri.clone()));
        }
        moves.push((directory.join(ENDED), directory.join(SHARED)));
        Ok(moves)
    }

    fn move_all(&self, moves: &[(Uri, Uri)]) -> Result<(), StageError> {
        self.fs.publish(moves).map_err(|error| match error.cause {
            Cause::AlreadyExists => StageError::OutputExists { output: error.uri },
            _ => move_error(&moves[0].0, &moves[0].1, error),
        })
    }

    fn remove_one(&self, output: &Numbered) -> Result<(), StageError> {
        let Some(directory) = self.find(output)? else { return Ok(()) };
        let out = directory.join(OUT);
        if self.exists(&directory.join(SHARED))? && self.exists(&out)? {
            if self.existing == Existing::Append {
                remove_empty(&*self.fs, &out, &output.uri)?;
            }
            self.remove_parents(output, &directory)?;
        }
        gone(self.fs.delete(&directory, FOR_GOOD))
    }

    /// Removes the directories that a publication made above an output that is not there, unless somebody uses them.
    fn remove_parents(&self, output: &Numbered, directory: &Uri) -> Result<(), StageError> {
        let home = directory.parent();
        for parent in std::iter::successors(output.uri.parent(), Uri::parent) {
            if Some(&parent) == home.as_ref() {
                break;
            }
            match self.fs.delete(&parent, DeleteOptions { recursive: false, skip_trash: true }) {
                Err(FsError { cause: Cause::NotEmpty, .. }) => break,
                deleted => gone(deleted)?,
            }
        }
        Ok(())
    }
}

impl<F: Publish + 'static> SharedStaging for SharedTree<F> {
    fn begin(&self) -> Result<(), StageError> {
        self.outputs.iter().try_for_each(|output| self.begin_one(output))
    }

    fn join(&self, at: usize) -> Result<Box<dyn Staging>, StageError> {
        let output = &self.outputs[at];
        let shared = self.expect(output)?.join(SHARED);
        let (fs, output) = (self.fs.clone(), output.uri.clone());
        Ok(Box::new(JoinedTree { fs, output, shared, attempts: Mutex::default() }))
    }

    fn progress(&self) -> Result<Progress, StageError> {
        let mut ended = 0;
        for output in &self.outputs {
            let Some(directory) = self.find(output)? else { continue };
            if self.exists(&directory.join(SHARED))? {
                return Ok(Progress::Staged);
            }
            ended += 1;
        }
        Ok(match ended {
            0 => Progress::Absent,
            all if all == self.outputs.len() => Progress::Filled,
            _ => Progress::Ending,
        })
    }

    fn shows(&self, manifest: &[u8]) -> Result<bool, StageError> {
        for output in &self.outputs {
            if !self.holds(&output.uri.join(self.success_file()), manifest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn assemble(&self, files: &[Vec<StagedFile>], manifest: &[u8]) -> Result<(), StageError> {
        let mut each = self.outputs.iter().zip(files);
        each.try_for_each(|(output, files)| self.assemble_one(output, files, manifest))
    }

    fn fill(&self) -> Result<(), StageError> {
        let appear = || {
            let moves = self.outputs.iter().map(|output| self.appearance(output));
            self.move_all(&moves.collect::<Result<Vec<_>, _>>()?.concat())
        };
        match appear() {
            // Another job has appended, where nothing was, just now.
            Err(StageError::OutputExists { .. }) if self.existing == Existing::Append => appear(),
            appeared => appeared,
        }
    }

    fn retract(&self) -> Result<(), StageError> {
        let (mut moves, mut found) = (Vec::new(), Vec::new());
        for output in &self.outputs {
            let directory = self.expect(output)?;
            moves.extend(self.disappearance(output, &directory)?);
            found.push((output, directory));
        }
        self.move_all(&moves)?;
        found.iter().try_for_each(|(output, directory)| self.remove_parents(output, directory))
    }

    fn remove(&self) -> Result<(), StageError> {
        self.outputs.iter().try_for_each(|output| self.remove_one(output))
    }
}

/// An output as an attempt uses it.
struct JoinedTree<F> {
    fs: Arc<F>,
    output: Uri,
    shared: Uri,
    /// Those whose directories this process made.
    attempts: Mutex<HashSet<String>>,
}

impl<F: Publish + 'static> JoinedTree<F> {
    /// Makes the directory of an attempt, which nobody has made before.
    fn enter(&self, attempt: &str) -> Result<Uri, StageError> {
        let directory = self.shared.join(attempt);
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if !attempts.contains(attempt) {
            self.make(&directory)?;
            attempts.insert(attempt.to_owned());
        }
        Ok(directory)
    }

    fn make(&self, directory: &Uri) -> Result<(), StageError> {
        let made = self.fs.make_directory(directory, false);
        made.map_err(|error| StageError::Create { uri: directory.clone(), source: error.into() })
    }

    fn ended<T>(&self) -> Result<T, StageError> {
        Err(StageError::Ended { output: self.output.clone() })
    }
}

impl<F: Publish + 'static> Staging for JoinedTree<F> {
    fn create(&self, attempt: &str, name: &str) -> Result<Box<dyn StagedWriter>, StageError> {
        staged_name::check(attempt, name)?;
        let mut uri = self.enter(attempt)?;
        let (above, last) = name.rsplit_once('/').map_or((None, name), |(above, last)| (Some(above), last));
        for part in above.iter().flat_map(|above| above.split('/')) {
            uri = uri.join(part);
            match self.make(&uri) {
                Err(StageError::Create { source, .. })
                    if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        let uri = uri.join(last);
        let options = CreateOptions { parent_exists: true, ..CreateOptions::default() };
        let created = self.fs.create(&uri, &options);
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
        staged_name::check(&file.attempt, &file.name)?;
        gone(self.fs.delete(&self.shared.join(&file.attempt).join(&file.name), FOR_GOOD))
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

impl<F> std::fmt::Debug for SharedTree<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedTree({} of {:?})", self.job, self.outputs)
    }
}
