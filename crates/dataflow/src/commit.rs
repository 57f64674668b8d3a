//! All outputs of a job: staged by attempts, published once.

use crate::memory::TaskMemory;
use crate::part::{PartError, PartFile};
use gristmill_dfs::{Existing, StageError, StagedFile, Staging, Uri, UriError};
use thiserror::Error;

/// Why outputs cannot be begun or committed.
#[derive(Debug, Error)]
pub enum CommitError {
    /// An output's URI has no store.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A store refused.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Two outputs have the same place, or one lies within the other.
    #[error("the outputs {first} and {second} overlap: give each a directory of its own")]
    Overlap {
        /// One of them.
        first: Uri,
        /// The other.
        second: Uri,
    },
}

/// The outputs of one job.
pub struct Outputs {
    stagings: Vec<Box<dyn Staging>>,
}

impl Outputs {
    /// Stages every output; nothing is visible.
    pub fn stage(uris: &[Uri], job_id: &str, existing: Existing) -> Result<Self, CommitError> {
        for (index, first) in uris.iter().enumerate() {
            if let Some(second) = uris[index + 1..].iter().find(|second| overlap(first, second)) {
                return Err(CommitError::Overlap { first: first.clone(), second: second.clone() });
            }
        }
        // If one cannot be staged, dropping the others removes what they made.
        let stage = |uri: &Uri| Ok(uri.store()?.stage(uri, job_id, existing)?);
        let stagings = uris.iter().map(stage).collect::<Result<Vec<_>, CommitError>>()?;
        Ok(Self { stagings })
    }

    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.stagings.len()
    }

    /// Whether the job has no output.
    pub fn is_empty(&self) -> bool {
        self.stagings.is_empty()
    }

    pub(crate) fn create(
        &self,
        output: usize,
        attempt: &str,
        name: &str,
        memory: TaskMemory,
    ) -> Result<PartFile, PartError> {
        let writer = self.stagings[output].create(attempt, name)?;
        Ok(PartFile::new(name.to_owned(), writer, memory))
    }

    /// Publishes `files` of the winning attempts. Each output appears whole, at one moment; several outputs
    /// appear one after the other.
    pub fn publish(&self, files: &[(usize, StagedFile)], manifest: &[u8]) -> Result<(), CommitError> {
        for (number, staging) in self.stagings.iter().enumerate() {
            let own = files.iter().filter(|(output, _)| *output == number);
            let own: Vec<StagedFile> = own.map(|(_, file)| file.clone()).collect();
            staging.publish(&own, manifest)?;
        }
        Ok(())
    }

    /// Removes everything that was staged.
    pub fn abort(&self) -> Result<(), CommitError> {
        for staging in &self.stagings {
            staging.abort()?;
        }
        Ok(())
    }
}

fn overlap(a: &Uri, b: &Uri) -> bool {
    a.path().starts_with(b.path()) || b.path().starts_with(a.path())
}
