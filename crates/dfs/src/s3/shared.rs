//! Outputs of one job in one bucket that several processes write: they appear by one decision.

use std::sync::Arc;

use gristmill_proto::ids::JobId;

use super::client::{S3Client, key_of, wait};
use super::failure::S3Error;
use super::group::{Group, GroupError, Prepared, Standing};
use super::staging::JoinedStaging;
use crate::shared_outputs::{Numbered, Progress, SharedStaging};
use crate::store::{Existing, StageError, StagedFile, Staging};
use crate::uri::Uri;

/// A group of outputs.
pub(crate) struct SharedS3 {
    client: Arc<S3Client>,
    group: Group,
    uris: Vec<Uri>,
    job: String,
    prepared: Prepared,
}

impl SharedS3 {
    pub(crate) fn new(
        bucket: &Arc<str>,
        outputs: Vec<Numbered>,
        job: JobId,
        existing: Existing,
    ) -> Result<SharedS3, StageError> {
        let client = S3Client::of(bucket)?;
        let (uris, job) = (outputs.into_iter().map(|output| output.uri).collect::<Vec<_>>(), job.to_string());
        let names = uris.iter().map(output_key).collect::<Result<_, _>>()?;
        let group = Group::new(client.clone(), &job, names, existing).of_job(&job);
        Ok(SharedS3 { client, group, uris, job, prepared: Prepared::default() })
    }

    fn failed(&self, operation: &'static str) -> impl Fn(GroupError) -> StageError {
        let output = self.uris[0].clone();
        move |error| stage_error(operation, &output, error)
    }
}

/// The name of an output's objects, without a slash at the end.
pub(super) fn output_key(uri: &Uri) -> Result<String, StageError> {
    let nameless = || StageError::NamelessOutput { output: uri.clone() };
    let key = key_of("write", uri).map_err(|_| nameless())?.to_string();
    if key.is_empty() { Err(nameless()) } else { Ok(key) }
}

/// What a group says of `output`, which is one of it.
pub(super) fn stage_error(operation: &'static str, output: &Uri, error: GroupError) -> StageError {
    let named = |key: &str| Uri::of(output.place().clone(), key);
    match error {
        GroupError::Exists { output } => StageError::OutputExists { output: named(&output) },
        GroupError::Claimed { output, staging, .. } => {
            StageError::Claimed { output: named(&output), job: staging }
        }
        GroupError::NoConditions => StageError::NoConditions { output: output.clone() },
        GroupError::Decided => StageError::Ended { output: output.clone() },
        GroupError::Request(error) => {
            StageError::S3 { operation, output: output.clone(), source: S3Error::into(error) }
        }
        error => StageError::S3 { operation, output: output.clone(), source: std::io::Error::other(error) },
    }
}

impl SharedStaging for SharedS3 {
    fn begin(&self) -> Result<(), StageError> {
        wait(self.group.begin()).map_err(self.failed("write"))
    }

    fn join(&self, at: usize) -> Result<Box<dyn Staging>, StageError> {
        // That the job has ended is seen when a file is begun: an attempt may be without the right to look here.
        Ok(Box::new(JoinedStaging::new(&self.client, self.group.clone(), at, &self.uris[at])))
    }

    fn progress(&self) -> Result<Progress, StageError> {
        let standing = wait(self.group.standing()).map_err(self.failed("look at"))?;
        Ok(match standing {
            Standing::Absent => Progress::Absent,
            Standing::Staged => Progress::Staged,
            Standing::Done => Progress::Filled,
        })
    }

    fn shows(&self, _: &[u8]) -> Result<bool, StageError> {
        // What has appeared says so for ever.
        Ok(self.progress()? == Progress::Filled)
    }

    fn assemble(&self, files: &[Vec<StagedFile>], manifest: &[u8]) -> Result<(), StageError> {
        let commit = wait(self.group.commit_of(files, manifest)).map_err(self.failed("publish"))?;
        self.prepared.set(commit);
        Ok(())
    }

    fn fill(&self) -> Result<(), StageError> {
        let missing = || StageError::NotStaged { output: self.uris[0].clone(), job: self.job.clone() };
        let commit = self.prepared.take().ok_or_else(missing)?;
        wait(self.group.publish(commit)).map_err(self.failed("publish"))
    }

    fn retract(&self) -> Result<(), StageError> {
        Err(StageError::Decided { output: self.uris[0].clone() })
    }

    fn remove(&self) -> Result<(), StageError> {
        let failed = self.failed("clean up after");
        if wait(self.group.standing()).map_err(&failed)? == Standing::Done {
            return wait(self.group.clean_up()).map_err(failed);
        }
        let aborted = wait(self.group.abort()).map_err(&failed)?;
        wait(self.group.clean_up()).map_err(failed)?;
        if aborted { Ok(()) } else { Err(StageError::Decided { output: self.uris[0].clone() }) }
    }
}
