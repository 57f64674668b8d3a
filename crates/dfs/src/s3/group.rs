//! Outputs of one bucket that appear by one decision: from the claim to the tombstone (docs/commit.md).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};

use super::failure::S3Error;
use super::layout::{self, Layout};
use super::objects::{Created, Found, Objects, Open};
use super::owner::Owner;
use super::publication::{AT_ONCE, Answer, Command, Publication, PublicationError};
use super::records::{self, Claim, Commit, Decision, File, Receipt, Upload, Verdict};
use crate::staged_name::success_file;
use crate::store::{Existing, SUCCESS_FILE, StagedFile};

/// The random part of a token: nobody else has the same.
const TOKEN_BYTES: usize = 16;

/// Outputs of one staging.
#[derive(Clone)]
pub(super) struct Group {
    objects: Arc<dyn Objects>,
    layout: Layout,
    staging: String,
    /// Their names, without a slash at the end.
    outputs: Vec<String>,
    existing: Existing,
    /// The name of the file that says that an output is whole, if it is not the usual one.
    success: Option<String>,
    owner: Option<Owner>,
}

/// How far a staging is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing of it is there, or it was aborted.
    Absent,
    /// It has its claims, or a decision that is not carried out.
    Staged,
    /// It has appeared for good.
    Done,
}

/// Why a group cannot do something.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    #[error("{0}")]
    Request(#[from] S3Error),
    #[error("{0} is damaged: {1}")]
    Record(String, #[source] serde_json::Error),
    #[error("it exists")]
    Exists { output: String },
    #[error("job {staging} writes it")]
    Claimed { output: String, staging: String, owner: Option<Owner> },
    #[error("the bucket does not keep conditions of puts")]
    NoConditions,
    #[error("it is decided already")]
    Decided,
    #[error("the manifest is no text")]
    Manifest,
    #[error("{name} of attempt {attempt} has no receipt")]
    Receipt { attempt: String, name: String },
    #[error(transparent)]
    Publication(#[from] PublicationError),
}

type Result<T> = std::result::Result<T, GroupError>;

pub(super) fn token() -> String {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    layout::hex(&bytes)
}

impl Group {
    pub(super) fn new(
        objects: Arc<dyn Objects>,
        staging: &str,
        outputs: Vec<String>,
        existing: Existing,
    ) -> Group {
        let (layout, staging) = (Layout::new(staging), staging.to_owned());
        Group { objects, layout, staging, outputs, existing, success: None, owner: None }
    }

    /// Of `job`, in whose name files are appended.
    pub(super) fn of_job(self, job: &str) -> Group {
        let success = (self.existing == Existing::Append).then(|| success_file(self.existing, job));
        Group { success, ..self }
    }

    /// Its claims say that they are void when this process has ended.
    pub(super) fn of_this_process(self) -> Group {
        Group { owner: Owner::of_this_process(), ..self }
    }

    pub(super) fn key(&self, at: usize, name: &str) -> String {
        format!("{}/{name}", self.outputs[at])
    }

    // ---- the beginning ----

    /// Claims the outputs. Doing it again does nothing.
    pub(super) async fn begin(&self) -> Result<()> {
        self.probe().await?;
        for (at, output) in self.outputs.iter().enumerate() {
            let claimed = self.claim(output).await;
            let occupied = match claimed {
                Ok(()) => self.existing == Existing::Refuse && self.is_occupied(output).await?,
                Err(error) => {
                    self.release(&self.outputs[..=at]).await?;
                    return Err(error);
                }
            };
            if occupied {
                self.release(&self.outputs[..=at]).await?;
                return Err(GroupError::Exists { output: output.clone() });
            }
        }
        Ok(())
    }

    /// Whether of two conditional puts the second is refused: everything rests on it.
    async fn probe(&self) -> Result<()> {
        let (key, body) = (layout::probe(&token()), Bytes::from_static(b"first"));
        self.objects.create(&key, body.clone()).await?;
        let second = self.objects.create(&key, Bytes::from_static(b"second")).await?;
        let found = self.objects.get(&key).await?;
        self.objects.delete(vec![key]).await?;
        if second == Created::Exists && found == Some(body) { Ok(()) } else { Err(GroupError::NoConditions) }
    }

    async fn claim(&self, output: &str) -> Result<()> {
        let (key, ours) = (layout::claim(output), Claim::new(output, &self.staging, self.owner.as_ref()));
        let body = Bytes::from(records::encode(&ours));
        // What a put did whose answer was lost is seen by reading.
        let created = self.objects.create(&key, body.clone()).await;
        match self.record::<Claim>(&key).await? {
            Some(found) if found.staging == ours.staging => Ok(()),
            Some(Claim { staging, owner, .. }) => {
                Err(GroupError::Claimed { output: output.to_owned(), staging, owner })
            }
            None => match created? {
                // Somebody who left again was first (409).
                Created::Exists => {
                    let staging = String::new();
                    Err(GroupError::Claimed { output: output.to_owned(), staging, owner: None })
                }
                Created::New => Err(GroupError::NoConditions),
            },
        }
    }

    async fn is_occupied(&self, output: &str) -> Result<bool> {
        Ok(self.objects.look(output).await?.is_some() || !self.objects.list(output).await?.is_empty())
    }

    async fn record<R: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<R>> {
        let Some(text) = self.objects.get(key).await? else { return Ok(None) };
        records::decode(&text).map(Some).map_err(|error| GroupError::Record(key.to_owned(), error))
    }

    // ---- attempts ----

    /// Begins the upload of a file of an attempt; its id. It is on record before it can hold a byte.
    pub(super) async fn begin_upload(&self, attempt: &str, key: &str) -> Result<String> {
        let record = self.layout.upload(attempt, key);
        let body = |id: Option<&str>| Bytes::from(records::encode(&Upload::new(key, id)));
        self.objects.put(&record, body(None)).await?;
        let id = self.objects.begin_upload(key).await?;
        self.objects.put(&record, body(Some(&id))).await?;
        // Whoever decided before this record was there has not seen it.
        if self.objects.get(&self.layout.decision()).await?.is_some() {
            self.objects.abort_upload(key, &id).await?;
            return Err(GroupError::Decided);
        }
        Ok(id)
    }

    /// Aborts the upload of a file that lost.
    pub(super) async fn discard(&self, key: &str, receipt: &Receipt) -> Result<()> {
        Ok(self.objects.abort_upload(key, &receipt.id).await?)
    }

    // ---- the decision ----

    pub(super) async fn decision(&self) -> Result<Option<Decision>> {
        self.record(&self.layout.decision()).await
    }

    /// Reads all that tells it at once: a publication begins with this, and takes no longer than its slowest request.
    pub(super) async fn standing(&self) -> Result<Standing> {
        let done = self.layout.done();
        let claims =
            futures::stream::iter(&self.outputs).map(|output| self.has_claim(output)).buffered(AT_ONCE);
        let (done, decision, claims) =
            futures::try_join!(self.look(&done), self.decision(), claims.try_collect::<Vec<bool>>())?;
        Ok(match decision {
            _ if done.is_some() => Standing::Done,
            Some(decision) if decision.commit().is_some() => Standing::Staged,
            Some(_) => Standing::Absent,
            None if claims.into_iter().all(|is_ours| is_ours) => Standing::Staged,
            None => Standing::Absent,
        })
    }

    async fn look(&self, key: &str) -> Result<Option<Found>> {
        Ok(self.objects.look(key).await?)
    }

    async fn has_claim(&self, output: &str) -> Result<bool> {
        let claim: Option<Claim> = self.record(&layout::claim(output)).await?;
        Ok(claim.is_some_and(|claim| claim.staging == self.staging))
    }

    /// What a publication of these files decides.
    pub(super) async fn commit_of(&self, files: &[Vec<StagedFile>], manifest: &[u8]) -> Result<Commit> {
        let manifest = String::from_utf8(manifest.to_vec()).map_err(|_| GroupError::Manifest)?;
        let mut committed = Vec::new();
        for (at, files) in files.iter().enumerate() {
            for file in files {
                let receipt = serde_json::from_str(&file.receipt).map_err(|_| GroupError::Receipt {
                    attempt: file.attempt.clone(),
                    name: file.name.clone(),
                })?;
                committed.push(File { key: self.key(at, &file.name), bytes: file.bytes, receipt });
            }
        }
        let replaced =
            if self.existing == Existing::Overwrite { self.replaced(&committed).await? } else { Vec::new() };
        let (outputs, success) = (self.outputs.clone(), self.success.clone());
        Ok(Commit { files: committed, replaced, outputs, manifest, success })
    }

    /// Objects of a former output that no new one takes the place of; `_SUCCESS` first.
    async fn replaced(&self, files: &[File]) -> Result<Vec<String>> {
        let kept: HashSet<&str> = files.iter().map(|file| file.key.as_str()).collect();
        let mut replaced = Vec::new();
        for (at, output) in self.outputs.iter().enumerate() {
            let mut old: Vec<String> =
                self.objects.list(output).await?.into_iter().map(|found| found.key).collect();
            old.extend(self.objects.look(output).await?.map(|found| found.key));
            old.retain(|key| !kept.contains(key.as_str()));
            old.sort_by_key(|key| *key != self.key(at, SUCCESS_FILE));
            replaced.extend(old);
        }
        Ok(replaced)
    }

    /// Decides on `commit`, unless it was decided before, and carries out what is decided.
    pub(super) async fn publish(&self, commit: Commit) -> Result<()> {
        self.carry_out(Decision::new(&token(), Verdict::Commit(commit))).await.map(drop)
    }

    async fn carry_out(&self, decision: Decision) -> Result<Decision> {
        let mut publication = Publication::new(decision);
        let mut on_the_way = FuturesUnordered::new();
        loop {
            while let Some(command) = publication.next() {
                let request = self.request(command.clone(), publication.decision().clone_for(&command));
                on_the_way.push(async move { (command, request.await) });
            }
            let Some((command, answer)) = on_the_way.next().await else { break };
            self.tell(&command, &answer);
            publication.answer(command, answer);
        }
        drop(on_the_way);
        Ok(publication.ended()?)
    }

    /// The two moments that count.
    fn tell(&self, command: &Command, answer: &Answer) {
        match (command, answer) {
            (Command::Decide, Answer::Decided(Created::New)) => {
                tracing::debug!(staging = self.staging, "decided");
            }
            (Command::Succeed(at), Answer::Done) => {
                tracing::debug!(staging = self.staging, output = self.outputs[*at], "an output is whole");
            }
            _ => {}
        }
    }

    /// Does what is to be done. `step` is what the decision says of it.
    async fn request(&self, command: Command, step: Step) -> Answer {
        let objects = &self.objects;
        let done = match (&command, step) {
            (Command::Decide, Step::Put(body)) => {
                objects.create(&self.layout.decision(), body).await.map(Answer::Decided)
            }
            (Command::ReadDecision, _) => match self.decision().await {
                Ok(decision) => Ok(Answer::Decision(decision)),
                Err(GroupError::Request(error)) => Err(error),
                Err(error) => Err(S3Error::damaged(&error)),
            },
            (Command::Delete(keys), _) => objects.delete(keys.clone()).await.map(|()| Answer::Done),
            (Command::Complete(_), Step::File(file)) => {
                let Receipt { id, tags } = &file.receipt;
                objects.complete(&file.key, id, tags).await.map(Answer::Completed)
            }
            (Command::Look(_), Step::File(file)) => objects.look(&file.key).await.map(Answer::Looked),
            (Command::Succeed(at), Step::Success(name, body)) => {
                objects.put(&self.key(*at, &name), body).await.map(|()| Answer::Done)
            }
            (Command::Mark, _) => objects.put(&self.layout.done(), Bytes::new()).await.map(|()| Answer::Done),
            (command, _) => unreachable!("{command:?} has another step"),
        };
        done.unwrap_or_else(Answer::Failed)
    }

    // ---- the end ----

    /// Decides on an abort, unless it was decided before. True: nothing of it will ever appear.
    pub(super) async fn abort(&self) -> Result<bool> {
        let decision = self.carry_out(Decision::new(&token(), Verdict::Abort)).await?;
        Ok(decision.commit().is_none())
    }

    /// Removes what a decided staging leaves: uploads of losers, records, claims. The decision stays.
    pub(super) async fn clean_up(&self) -> Result<()> {
        let Some(decision) = self.decision().await? else { return Ok(()) };
        let committed: HashSet<&str> = decision
            .commit()
            .iter()
            .flat_map(|commit| &commit.files)
            .map(|file| file.receipt.id.as_str())
            .collect();
        let found = self.objects.list(&self.layout.uploads()).await?;
        let paths: Vec<String> = found.into_iter().map(|found| found.key).collect();
        let mut records: Vec<Upload> = Vec::new();
        let mut reads =
            futures::stream::iter(&paths).map(|path| self.record::<Upload>(path)).buffer_unordered(AT_ONCE);
        while let Some(record) = reads.next().await {
            records.extend(record?);
        }
        drop(reads);
        let mut lost: HashSet<(String, String)> = HashSet::new();
        for record in &records {
            if let Some(id) = record.id.as_ref().filter(|id| !committed.contains(id.as_str())) {
                lost.insert((record.key.clone(), id.clone()));
            }
        }
        lost.extend(self.unrecorded(&records, &committed).await?);
        let mut aborts = futures::stream::iter(lost)
            .map(async |(key, id)| self.objects.abort_upload(&key, &id).await)
            .buffer_unordered(AT_ONCE);
        while let Some(aborted) = aborts.next().await {
            aborted?;
        }
        drop(aborts);
        self.objects.delete(paths).await?;
        self.release(&self.outputs).await
    }

    /// Uploads whose ids nobody noted: of an attempt that ended before it could, or of a client that asked again when no answer
    /// came, and so has begun two and knows one. They hold nothing, and stay open for ever. Only as long as the output is
    /// ours: afterwards an open upload is the next job's.
    async fn unrecorded(
        &self,
        records: &[Upload],
        committed: &HashSet<&str>,
    ) -> Result<Vec<(String, String)>> {
        let keys: HashSet<&str> = records.iter().map(|record| record.key.as_str()).collect();
        let mut found = Vec::new();
        for output in &self.outputs {
            if !self.has_claim(output).await? {
                continue;
            }
            let open = self.objects.open_uploads(&format!("{output}/")).await?;
            let is_ours =
                |open: &Open| keys.contains(open.key.as_str()) && !committed.contains(open.id.as_str());
            found.extend(open.into_iter().filter(is_ours).map(|open| (open.key, open.id)));
        }
        Ok(found)
    }

    /// Gives back the claims on `outputs` that are ours.
    async fn release(&self, outputs: &[String]) -> Result<()> {
        for output in outputs {
            if self.has_claim(output).await? {
                self.objects.delete(vec![layout::claim(output)]).await?;
            }
        }
        Ok(())
    }
}

/// What a request needs of the decision.
enum Step {
    Nothing,
    File(File),
    Put(Bytes),
    /// A file's name and its body.
    Success(String, Bytes),
}

impl Decision {
    fn clone_for(&self, command: &Command) -> Step {
        match (command, self.commit()) {
            (Command::Decide, _) => Step::Put(Bytes::from(records::encode(self))),
            (Command::Complete(number) | Command::Look(number), Some(commit)) => {
                Step::File(commit.files[*number].clone())
            }
            (Command::Succeed(_), Some(commit)) => {
                let name = commit.success.clone().unwrap_or_else(|| SUCCESS_FILE.to_owned());
                Step::Success(name, Bytes::from(commit.manifest.clone()))
            }
            _ => Step::Nothing,
        }
    }
}

/// A commit between its preparation and its publication.
#[derive(Default)]
pub(super) struct Prepared(Mutex<Option<Commit>>);

impl Prepared {
    pub(super) fn set(&self, commit: Commit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(commit);
    }

    pub(super) fn take(&self) -> Option<Commit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
