//! The outputs of one job that several processes write.
//!
//! ```text
//!   master: begin ──────────────────────────────> publish, or abort
//!   attempts:       join ─ create ─ finish ...
//! ```
//!
//! Beside where an output will be, or in the nearest directory above that exists, is its staging directory
//! `.gristmill-<job id>-<number of the output>/`:
//!
//! ```text
//!     shared/<attempt>/  what attempts write: each attempt makes its directory, and makes none above it
//!     out/               the winners, about to appear as the output
//!     old/               the output they replaced
//!     ended/             was `shared`: whoever comes late finds no place to write in
//!     manifest           this machine only: what `_SUCCESS` of the output holds once it is published
//! ```
//!
//! No process holds it and no sweep of another job removes it (it has no `lock`): only `publish` and `abort` do.
//! (On S3 there is a claim instead of a directory, and a decision instead of `out`: docs/commit.md.)
//!
//! Outputs that can appear in one transaction are one **group**; groups appear one after the other, and if one cannot,
//! those before it vanish again. What has been done is read from the directories, so after a crash anywhere the
//! same call goes on where the dead process was.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use gristmill_proto::ids::JobId;

use crate::file_system::{Access, DfsIdentity, Publish};
use crate::local::SharedLocal;
use crate::memory::MemoryFileSystem;
use crate::s3::SharedS3;
use crate::staged_name;
use crate::store::{Existing, StageError, StagedFile, Staging};
use crate::tree_store::SharedTree;
use crate::uri::{Place, Uri};

/// Outputs of one job that several processes write; nobody's death removes them.
pub struct SharedOutputs {
    outputs: Vec<Uri>,
    job: JobId,
    groups: Vec<Group>,
}

/// Outputs that appear at one moment.
struct Group {
    /// Their numbers, rising.
    outputs: Vec<usize>,
    staging: Box<dyn SharedStaging>,
}

/// An output and its number in the job.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub(crate) number: usize,
    pub(crate) uri: Uri,
}

/// How far a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not begun, or cleaned up.
    Absent,
    /// Invisible.
    Staged,
    /// Visible; what was replaced is still there, or nothing has been cleaned up.
    Filled,
    /// Visible for good: cleaning up has begun.
    Ending,
}

/// What each kind of file system does for a group. Every method may be called again after it failed half-way.
pub(crate) trait SharedStaging: Send + Sync {
    fn begin(&self) -> Result<(), StageError>;

    /// The output of this place in the group.
    fn join(&self, at: usize) -> Result<Box<dyn Staging>, StageError>;

    fn progress(&self) -> Result<Progress, StageError>;

    /// Whether `_SUCCESS` of all outputs holds `manifest`.
    fn shows(&self, manifest: &[u8]) -> Result<bool, StageError>;

    /// Gathers the winners; `files` are those of each output.
    fn assemble(&self, files: &[Vec<StagedFile>], manifest: &[u8]) -> Result<(), StageError>;

    /// The moment at which the outputs appear.
    fn fill(&self) -> Result<(), StageError>;

    /// From filled to staged.
    fn retract(&self) -> Result<(), StageError>;

    /// Removes all that is staged, and what a filled output replaced.
    fn remove(&self) -> Result<(), StageError>;
}

impl SharedOutputs {
    /// Prepares; touches nothing. Without an identity, as this process.
    pub fn new(
        uris: &[Uri],
        job: JobId,
        existing: Existing,
        identity: Option<&DfsIdentity>,
    ) -> Result<SharedOutputs, StageError> {
        let access = identity.map_or_else(Access::from_environment, |identity| Access::of(identity.clone()));
        let mut together: Vec<(Place, Vec<Numbered>)> = Vec::new();
        for (number, uri) in uris.iter().enumerate() {
            let place = access.place(uri)?;
            let output = Numbered { number, uri: uri.clone() };
            match together.iter_mut().find(|(other, _)| *other == place && place != Place::Local) {
                Some((_, outputs)) => outputs.push(output),
                None => together.push((place, vec![output])),
            }
        }
        // What cannot be taken back appears last.
        together.sort_by_key(|(place, _)| matches!(place, Place::S3 { .. }));
        let group = |(place, outputs): (Place, Vec<Numbered>)| {
            let numbers = outputs.iter().map(|output| output.number).collect();
            let staging: Box<dyn SharedStaging> = match place {
                Place::Local => Box::new(SharedLocal::new(outputs[0].clone(), job, existing)),
                Place::Memory { name } => {
                    let fs = MemoryFileSystem::named(&name, &access.user);
                    Box::new(SharedTree::new(fs, outputs, job, existing))
                }
                Place::S3 { bucket } => Box::new(SharedS3::new(&bucket, outputs, job, existing)?),
                Place::Dfs { .. } => {
                    Box::new(SharedTree::new(access.dfs(&outputs[0].uri)?, outputs, job, existing))
                }
            };
            Ok(Group { outputs: numbers, staging })
        };
        let groups = together.into_iter().map(group).collect::<Result<_, StageError>>()?;
        Ok(SharedOutputs { outputs: uris.to_vec(), job, groups })
    }

    /// The same on a file system that is given: all outputs are in it, and appear at one moment.
    pub fn on(fs: impl Publish + 'static, uris: &[Uri], job: JobId, existing: Existing) -> SharedOutputs {
        let numbered = |(number, uri): (usize, &Uri)| Numbered { number, uri: uri.clone() };
        let outputs: Vec<Numbered> = uris.iter().enumerate().map(numbered).collect();
        let numbers = (0..outputs.len()).collect();
        let staging = Box::new(SharedTree::new(fs, outputs, job, existing));
        SharedOutputs { outputs: uris.to_vec(), job, groups: vec![Group { outputs: numbers, staging }] }
    }

    /// Makes the staging of every output; nothing is visible. Doing it again does nothing.
    pub fn begin(&self) -> Result<(), StageError> {
        self.groups.iter().try_for_each(|group| group.staging.begin())
    }

    /// The outputs, in order, as an attempt uses them: it may create files and discard them. To publish, retract,
    /// conclude or abort is not for it ([`StageError::Ended`]), and dropping them removes nothing. Fails when the job's
    /// outputs have not begun, or have ended.
    pub fn join(&self) -> Result<Vec<Box<dyn Staging>>, StageError> {
        let mut joined = Vec::with_capacity(self.outputs.len());
        for group in &self.groups {
            for (at, number) in group.outputs.iter().enumerate() {
                joined.push((*number, group.staging.join(at)?));
            }
        }
        joined.sort_by_key(|(number, _)| *number);
        Ok(joined.into_iter().map(|(_, staging)| staging).collect())
    }

    /// Lets the outputs appear: of each exactly its `files` (by the number of the output), and `_SUCCESS` with `manifest`
    /// as its body, which no other job's may equal. All of one cluster appear in one transaction. When this fails, no
    /// output has appeared, or one could not be taken back ([`StageError::HalfPublished`]), or all have appeared, and what
    /// was staged is still there ([`StageError::LeftOver`]).
    ///
    /// Doing it again does nothing; after a crash or a failure it does the rest.
    pub fn publish(&self, files: &[(usize, StagedFile)], manifest: &[u8]) -> Result<(), StageError> {
        let files = self.by_output(files)?;
        let mut staged = Vec::new();
        for group in &self.groups {
            match group.staging.progress()? {
                Progress::Staged => staged.push(group),
                Progress::Absent if !group.staging.shows(manifest)? => {
                    let output = self.outputs[group.outputs[0]].clone();
                    return Err(StageError::NotStaged { output, job: self.job.to_string() });
                }
                // Absent: it was cleaned up, which begins when everything is visible.
                Progress::Absent | Progress::Filled | Progress::Ending => {}
            }
        }
        for group in &staged {
            let files: Vec<_> = group.outputs.iter().map(|number| files[*number].clone()).collect();
            group.staging.assemble(&files, manifest)?;
        }
        for group in &staged {
            group.fill().map_err(|error| self.retract(error))?;
        }
        let removed: Vec<_> = self.groups.iter().map(|group| group.staging.remove()).collect();
        let removed: Result<(), StageError> = removed.into_iter().collect();
        removed.map_err(|source| StageError::LeftOver { source: Box::new(source) })
    }

    /// Removes everything that was staged. An output that appeared vanishes again, unless the publication had come to
    /// its end and only cleaning up was left. Doing it again does nothing.
    pub fn abort(&self) -> Result<(), StageError> {
        let progress: Vec<_> =
            self.groups.iter().map(|group| group.staging.progress()).collect::<Result<_, _>>()?;
        if !progress.iter().any(|group| matches!(group, Progress::Absent | Progress::Ending)) {
            self.retract_filled()?;
        }
        let removed: Vec<_> = self.groups.iter().map(|group| group.staging.remove()).collect();
        removed.into_iter().collect()
    }

    /// The files of each output, if they are plain and no two have one name.
    fn by_output(&self, files: &[(usize, StagedFile)]) -> Result<Vec<Vec<StagedFile>>, StageError> {
        let mut sorted = vec![Vec::new(); self.outputs.len()];
        let mut names = HashSet::new();
        for (number, file) in files {
            staged_name::check(&file.attempt, &file.name)?;
            let Some(output) = sorted.get_mut(*number) else {
                return Err(StageError::NoSuchOutput { number: *number, outputs: self.outputs.len() });
            };
            if !names.insert((number, file.name.as_str())) {
                return Err(StageError::DuplicateName {
                    output: self.outputs[*number].clone(),
                    name: file.name.clone(),
                });
            }
            output.push(file.clone());
        }
        Ok(sorted)
    }

    /// Nothing is to be visible, because of `error`.
    fn retract(&self, error: StageError) -> StageError {
        match self.retract_filled() {
            Ok(()) => error,
            Err(stuck) => StageError::HalfPublished { error: Box::new(error), stuck: Box::new(stuck) },
        }
    }

    fn retract_filled(&self) -> Result<(), StageError> {
        for group in self.groups.iter().rev() {
            if group.staging.progress()? == Progress::Filled {
                group.staging.retract()?;
            }
        }
        Ok(())
    }
}

impl Group {
    /// Lets the group appear; an error after which it is there is none.
    fn fill(&self) -> Result<(), StageError> {
        self.staging.fill().or_else(|error| match self.staging.progress() {
            Ok(Progress::Filled) => Ok(()),
            Ok(_) => Err(error),
            Err(unknown) => {
                Err(StageError::HalfPublished { error: Box::new(error), stuck: Box::new(unknown) })
            }
        })
    }
}
