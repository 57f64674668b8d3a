//! All outputs of a job: staged by attempts, published once.

use gristmill_dfs::{
    Existing, FileInfo, ResolveError, StageError, StagedFile, StagedWriter, Staging, Uri, UriError,
};
use std::collections::HashMap;
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
    /// It cannot be found out where an output's name leads.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// One output could not be published, and another one that was could not be taken back.
    #[error("{error}; and an output that had appeared already could not be taken back: {stuck}")]
    HalfPublished {
        /// Why the one could not be published.
        #[source]
        error: Box<StageError>,
        /// Why the other could not be taken back.
        stuck: Box<StageError>,
    },
    /// Replacing an output would delete what the job reads.
    #[error("the input {input} is in the output {output}, which the job would replace")]
    InputInOutput {
        /// A file.
        input: Uri,
        /// The output.
        output: Uri,
    },
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
        refuse_overlap(uris)?;
        // If one cannot be staged, dropping the others removes what they made.
        let stage = |uri: &Uri| Ok(uri.store()?.stage(uri, job_id, existing)?);
        let stagings = uris.iter().map(stage).collect::<Result<Vec<_>, CommitError>>()?;
        Ok(Self { stagings })
    }

    /// Outputs that somebody else has begun and will publish: attempts in other processes write to them too.
    pub fn joined(stagings: Vec<Box<dyn Staging>>) -> Self {
        Self { stagings }
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
    ) -> Result<Box<dyn StagedWriter>, StageError> {
        self.stagings[output].create(attempt, name)
    }

    /// Publishes `files` of the winning attempts. Each output appears whole, at one moment; several outputs appear
    /// one after the other, and if one of them cannot, those before it vanish again. (A process that dies between
    /// two of them leaves the first.)
    pub fn publish(&self, files: &[(usize, StagedFile)], manifest: &[u8]) -> Result<(), CommitError> {
        for (number, staging) in self.stagings.iter().enumerate() {
            let own = files.iter().filter(|(output, _)| *output == number);
            let own: Vec<StagedFile> = own.map(|(_, file)| file.clone()).collect();
            if let Err(error) = staging.publish(&own, manifest) {
                return Err(self.retract(number, error));
            }
        }
        // The outputs are there: that something else could not be removed must not look like a failure.
        for error in self.stagings.iter().filter_map(|staging| staging.conclude().err()) {
            eprintln!("warning: {error}");
        }
        Ok(())
    }

    /// Takes back the first `published` outputs because of `error`.
    fn retract(&self, published: usize, error: StageError) -> CommitError {
        for staging in self.stagings[..published].iter().rev() {
            if let Err(stuck) = staging.retract() {
                return CommitError::HalfPublished { error: Box::new(error), stuck: Box::new(stuck) };
            }
        }
        error.into()
    }

    /// Removes everything that was staged.
    pub fn abort(&self) -> Result<(), CommitError> {
        for staging in &self.stagings {
            staging.abort()?;
        }
        Ok(())
    }
}

/// Refuses outputs within each other: they would publish parts of each other.
pub fn refuse_overlap(uris: &[Uri]) -> Result<(), CommitError> {
    let places = uris.iter().map(|uri| Ok(uri.store()?.resolve(uri)?));
    let places = places.collect::<Result<Vec<Uri>, CommitError>>()?;
    for (index, first) in places.iter().enumerate() {
        for (other, second) in places.iter().enumerate().skip(index + 1) {
            if first.is_within(second) || second.is_within(first) {
                return Err(CommitError::Overlap { first: uris[index].clone(), second: uris[other].clone() });
            }
        }
    }
    Ok(())
}

/// Refuses to replace an output that holds `input`, or is it.
pub fn refuse_input_in_output(inputs: &[FileInfo], outputs: &[Uri]) -> Result<(), CommitError> {
    for output in outputs {
        let place = output.store()?.resolve(output)?;
        // Inputs share directories: each is resolved once.
        let mut directories: HashMap<Uri, bool> = HashMap::new();
        for input in inputs {
            let directory = input.uri.parent().unwrap_or_else(|| input.uri.clone());
            let held = match directories.get(&directory) {
                Some(&held) => held,
                None => {
                    let held = input.uri.store()?.resolve(&input.uri)?.is_within(&place);
                    directories.insert(directory, held);
                    held
                }
            };
            if held {
                let (input, output) = (input.uri.clone(), output.clone());
                return Err(CommitError::InputInOutput { input, output });
            }
        }
    }
    Ok(())
}
