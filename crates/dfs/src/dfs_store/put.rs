//! Writing, copying, moving and deleting objects.

use bytes::Bytes;
use gristmill_proto::namespace::Entry;
use gristmill_proto::namespace::failure::Kind;
use object_store::path::Path;
use object_store::{Error, PutMode, PutPayload, PutResult, Result};

use super::object::{about, e_tag, generic, not_found, parse_e_tag};
use super::{DIRECTORY_MODE, DfsStore, STAGING_MODE};
use crate::client::{CreateOptions, DfsError, FileWriter, RenameMode};

/// Bytes of a copy in memory.
const COPY_BYTES: usize = 1 << 20;

impl DfsStore {
    pub(super) async fn put(&self, location: &Path, payload: PutPayload, mode: PutMode) -> Result<PutResult> {
        let mode = rename_mode(mode, location)?;
        let hidden = self.hidden_path().await.map_err(about(location))?;
        let written = hidden.clone();
        let write = self.blocking(move |store| store.write_pieces(&written, payload.into_iter()));
        write.await.map_err(about(location))?;
        let entry = self.publish(&hidden, location, mode).await?;
        Ok(put_result(&entry))
    }

    pub(super) async fn copy(&self, from: &Path, to: &Path, mode: PutMode) -> Result<()> {
        let mode = rename_mode(mode, to)?;
        let hidden = self.hidden_path().await.map_err(about(to))?;
        let (source, written) = (self.path_of(from), hidden.clone());
        let copy = self.blocking(move |store| {
            let mut reader = store.client.open(&source)?;
            if reader.entry().is_directory {
                let detail = String::new();
                return Err(DfsError::Refused { kind: Kind::NotFound, path: source, detail });
            }
            store.write_hidden(&written, |writer| {
                let mut left = reader.file_bytes();
                let mut piece = vec![0; COPY_BYTES.min(left as usize)];
                while left > 0 {
                    let bytes = left.min(piece.len() as u64) as usize;
                    reader.read_piece(&mut piece[..bytes])?;
                    writer.write_whole(&piece[..bytes])?;
                    left -= bytes as u64;
                }
                Ok(())
            })
        });
        copy.await.map_err(about(from))?;
        self.publish(&hidden, to, mode).await.map(|_| ())
    }

    pub(super) async fn move_object(&self, from: &Path, to: &Path, mode: PutMode) -> Result<()> {
        let source = self.path_of(from);
        let entry = self.client.stat_async(&source).await.map_err(about(from))?;
        if entry.is_directory {
            return Err(not_found(from));
        }
        match mode {
            PutMode::Overwrite if from == to => return Ok(()),
            mode => self.rename_to(&source, to, rename_mode(mode, to)?).await.map_err(about(to))?,
        };
        Ok(())
    }

    pub(super) async fn delete_one(&self, location: &Path) -> Result<()> {
        match self.client.delete_async(&self.path_of(location), false, true).await {
            Ok(deleted) if deleted.found => Ok(()),
            // What is there is a directory: no object.
            Ok(_) | Err(DfsError::Refused { kind: Kind::NotEmpty, .. }) => Err(not_found(location)),
            Err(error) => Err(about(location)(error)),
        }
    }

    /// A new name below the hidden directory, which is made if it is not there.
    pub(super) async fn hidden_path(&self) -> Result<String, DfsError> {
        let staging = self.staging();
        match self.client.stat_async(&staging).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                self.client.make_directory_async(&staging, true, STAGING_MODE).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(format!("{staging}/{}", self.client.unique_name()))
    }

    /// Writes pieces to a hidden file. Of one that cannot be finished nothing stays.
    pub(super) fn write_pieces(
        &self,
        path: &str,
        pieces: impl Iterator<Item = Bytes>,
    ) -> Result<(), DfsError> {
        self.write_hidden(path, |writer| {
            for piece in pieces {
                writer.write_whole(&piece)?;
            }
            Ok(())
        })
    }

    fn write_hidden(
        &self,
        path: &str,
        write: impl FnOnce(&mut FileWriter) -> Result<(), DfsError>,
    ) -> Result<(), DfsError> {
        // Its directory is there: one that was deleted with its upload does not come back.
        let mut writer = self.client.create(path, CreateOptions::default())?;
        let written = write(&mut writer).and_then(|()| writer.finish());
        if written.is_err()
            && let Err(error) = self.client.delete(path, false, true)
        {
            tracing::warn!(%error, "an unfinished object was left behind");
        }
        written.map(|_| ())
    }

    /// Gives a hidden file its name, or deletes it.
    pub(super) async fn publish(&self, hidden: &str, location: &Path, mode: RenameMode) -> Result<Entry> {
        let renamed = self.rename_to(hidden, location, mode).await;
        if renamed.is_err() {
            self.delete_hidden(hidden).await;
        }
        renamed.map_err(|error| match (error.kind(), mode) {
            // What was to be there, to be replaced, is not even a file.
            (Some(Kind::NotFound | Kind::IsADirectory | Kind::NotADirectory), RenameMode::IfSame { .. }) => {
                Error::Precondition { path: location.to_string(), source: error.into() }
            }
            (Some(Kind::IsADirectory | Kind::NotEmpty), _) => generic(error),
            _ => about(location)(error),
        })
    }

    pub(super) async fn delete_hidden(&self, hidden: &str) {
        if let Err(error) = self.client.delete_async(hidden, true, true).await {
            tracing::warn!(%error, "an unfinished object was left behind");
        }
    }

    /// Renames a file that is surely there. Directories above its new name are made, and an empty one in its place, of
    /// which a store knows nothing, gives way.
    async fn rename_to(&self, from: &str, to: &Path, mode: RenameMode) -> Result<Entry, DfsError> {
        let path = self.path_of(to);
        let refused = match self.client.rename_async(from, &path, mode).await {
            Err(error) => error,
            renamed => return renamed,
        };
        match (refused.kind(), mode) {
            (_, RenameMode::IfSame { .. }) => return Err(refused),
            (Some(Kind::NotFound), _) => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                if !parent.is_empty() {
                    self.client.make_directory_async(parent, true, DIRECTORY_MODE).await?;
                }
            }
            (Some(Kind::AlreadyExists | Kind::IsADirectory | Kind::NotEmpty), _) => {
                let there = self.client.stat_async(&path).await?;
                if !there.is_directory {
                    return Err(refused);
                }
                self.client.delete_async(&path, false, true).await?;
            }
            _ => return Err(refused),
        }
        self.client.rename_async(from, &path, mode).await
    }
}

pub(super) fn put_result(entry: &Entry) -> PutResult {
    PutResult { e_tag: Some(e_tag(entry)), version: None, extensions: Default::default() }
}

fn rename_mode(mode: PutMode, location: &Path) -> Result<RenameMode> {
    match mode {
        PutMode::Overwrite => Ok(RenameMode::Overwrite),
        PutMode::Create => Ok(RenameMode::Refuse),
        PutMode::Update(expected) => {
            let e_tag = expected.e_tag.as_deref();
            let e_tag = e_tag.ok_or_else(|| generic("a conditional put needs an ETag"))?;
            let (inode, version) = parse_e_tag(e_tag).ok_or_else(|| Error::Precondition {
                path: location.to_string(),
                source: format!("{e_tag:?} is no ETag of this store").into(),
            })?;
            Ok(RenameMode::IfSame { inode, version })
        }
    }
}
