//! Output of a job on S3, as attempts write it and as the process of a whole job publishes it.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::path::Path;

use super::client::{S3Client, wait};
use super::group::{Group, GroupError};
use super::layout;
use super::records::Receipt;
use super::shared::{output_key, stage_error};
use super::upload::PartUpload;
use crate::staged_name;
use crate::store::{Existing, StageError, StagedFile, StagedWriter, Staging};
use crate::uri::Uri;

/// An output as an attempt uses it.
pub(super) struct JoinedStaging {
    client: Arc<S3Client>,
    group: Group,
    at: usize,
    output: Uri,
}

impl JoinedStaging {
    pub(super) fn new(client: &Arc<S3Client>, group: Group, at: usize, output: &Uri) -> JoinedStaging {
        JoinedStaging { client: client.clone(), group, at, output: output.clone() }
    }

    fn ended<T>(&self) -> Result<T, StageError> {
        Err(StageError::Ended { output: self.output.clone() })
    }
}

impl Staging for JoinedStaging {
    fn create(&self, attempt: &str, name: &str) -> Result<Box<dyn StagedWriter>, StageError> {
        staged_name::check(attempt, name)?;
        let key = self.group.key(self.at, name);
        let path = Path::parse(&key).map_err(|_| StageError::BadName { name: name.to_owned() })?;
        let uri = self.output.join(name);
        let begun = wait(self.group.begin_upload(attempt, &key));
        let id = begun.map_err(|error| stage_error("create", &uri, error))?;
        let file = StagedFile {
            attempt: attempt.to_owned(),
            name: name.to_owned(),
            bytes: 0,
            receipt: String::new(),
        };
        let upload = Some(PartUpload::new(&self.client, path, id));
        Ok(Box::new(UploadWriter { uri, file, buffer: Vec::new(), upload }))
    }

    fn discard(&self, file: &StagedFile) -> Result<(), StageError> {
        staged_name::check(&file.attempt, &file.name)?;
        let uri = self.output.join(&file.name);
        let damaged = |error| StageError::S3 { operation: "discard", output: uri.clone(), source: error };
        let receipt: Receipt =
            serde_json::from_str(&file.receipt).map_err(|error| damaged(io::Error::other(error)))?;
        let discarded = wait(self.group.discard(&self.group.key(self.at, &file.name), &receipt));
        discarded.map_err(|error| stage_error("discard", &uri, error))
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

/// An output of a job that runs in this process.
pub(super) struct OwnStaging {
    joined: JoinedStaging,
    /// Published or aborted; what remains is cleaning up.
    ended: AtomicBool,
}

impl OwnStaging {
    pub(super) fn begin(
        client: &Arc<S3Client>,
        output: &Uri,
        job_id: &str,
        existing: Existing,
    ) -> Result<OwnStaging, StageError> {
        staged_name::check_part(job_id)?;
        let key = output_key(output)?;
        // Each output of a job has a decision of its own.
        let staging = format!("{job_id}-{}", layout::digest(&key));
        let group = Group::new(client.clone(), &staging, vec![key.clone()], existing);
        let group = group.of_job(job_id).of_this_process();
        let begun = wait(group.begin()).or_else(|error| match error {
            GroupError::Claimed { staging: dead, owner: Some(owner), .. } if owner.is_dead() => {
                take_over(client, &dead, &key, output)?;
                wait(group.begin())
            }
            error => Err(error),
        });
        begun.map_err(|error| stage_error("write", output, error))?;
        let joined = JoinedStaging::new(client, group, 0, output);
        Ok(OwnStaging { joined, ended: AtomicBool::new(false) })
    }

    fn clean_up(&self) -> Result<(), StageError> {
        let cleaned = wait(self.joined.group.clean_up());
        cleaned.map_err(|error| stage_error("clean up after", &self.joined.output, error))
    }
}

/// Ends what a process left that is dead: aborts it, or carries out what it had decided. Were it alive, it would find the
/// decision, and fail.
fn take_over(client: &Arc<S3Client>, dead: &str, key: &str, output: &Uri) -> Result<(), GroupError> {
    let group = Group::new(client.clone(), dead, vec![key.to_owned()], Existing::Refuse);
    let end = if wait(group.abort())? { "aborted" } else { "carried out, as it had decided" };
    wait(group.clean_up())?;
    eprintln!("warning: job {dead} died while it wrote {output}: it is {end}");
    Ok(())
}

impl Staging for OwnStaging {
    fn create(&self, attempt: &str, name: &str) -> Result<Box<dyn StagedWriter>, StageError> {
        self.joined.create(attempt, name)
    }

    fn discard(&self, file: &StagedFile) -> Result<(), StageError> {
        self.joined.discard(file)
    }

    fn publish(&self, files: &[StagedFile], manifest: &[u8]) -> Result<(), StageError> {
        let JoinedStaging { group, output, .. } = &self.joined;
        if self.ended.load(Ordering::Relaxed) {
            return self.joined.ended();
        }
        let mut names = std::collections::HashSet::new();
        for file in files {
            staged_name::check(&file.attempt, &file.name)?;
            if !names.insert(file.name.as_str()) {
                return Err(StageError::DuplicateName { output: output.clone(), name: file.name.clone() });
            }
        }
        let published = wait(async {
            let commit = group.commit_of(&[files.to_vec()], manifest).await?;
            group.publish(commit).await
        });
        published.map_err(|error| stage_error("publish", output, error))?;
        self.ended.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn retract(&self) -> Result<(), StageError> {
        Err(StageError::Decided { output: self.joined.output.clone() })
    }

    fn conclude(&self) -> Result<(), StageError> {
        self.clean_up()
    }

    fn abort(&self) -> Result<(), StageError> {
        let output = &self.joined.output;
        if self.ended.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let aborted = wait(self.joined.group.abort());
        let aborted = aborted.map_err(|error| stage_error("abort", output, error))?;
        self.clean_up()?;
        if aborted { Ok(()) } else { Err(StageError::Decided { output: output.clone() }) }
    }
}

impl Drop for OwnStaging {
    fn drop(&mut self) {
        if let Err(error) = self.abort() {
            eprintln!("warning: {error}");
        }
    }
}

/// A file of an attempt: the parts of an upload that nobody completes before the job commits.
struct UploadWriter {
    uri: Uri,
    file: StagedFile,
    buffer: Vec<u8>,
    /// None once it is finished.
    upload: Option<PartUpload>,
}

impl UploadWriter {
    fn upload(&mut self) -> &mut PartUpload {
        self.upload.as_mut().expect("a file is finished once")
    }

    fn push_part(&mut self) -> io::Result<()> {
        let part = Bytes::from(mem::take(&mut self.buffer));
        Ok(self.upload().push(part)?)
    }

    fn end(&mut self) -> io::Result<Receipt> {
        // An upload has at least one part; it may be empty.
        if !self.buffer.is_empty() || self.file.bytes == 0 {
            self.push_part()?;
        }
        let tags = self.upload().finish_parts()?;
        Ok(Receipt { id: self.upload().id().to_owned(), tags })
    }
}

impl Write for UploadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part_bytes = self.upload().next_part_bytes();
        let count = bytes.len().min(part_bytes - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        self.file.bytes += count as u64;
        if self.buffer.len() >= part_bytes {
            self.push_part()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StagedWriter for UploadWriter {
    fn finish(mut self: Box<Self>) -> Result<StagedFile, StageError> {
        let ended = self.end();
        let receipt = ended.map_err(|source| {
            let output = self.uri.clone();
            StageError::S3 { operation: "write", output, source }
        })?;
        self.file.receipt = serde_json::to_string(&receipt).expect("a receipt has string keys only");
        self.upload = None;
        Ok(self.file.clone())
    }
}

impl Drop for UploadWriter {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take()
            && let Err(error) = upload.abort()
        {
            // It is on record: the end of the job aborts it.
            eprintln!("warning: cannot abort the upload of {}: {error}", self.uri);
        }
    }
}
