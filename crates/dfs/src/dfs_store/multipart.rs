//! Objects in parts that come in any order: each part is a hidden file, and their blocks are joined at the end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error, MultipartId, MultipartUpload, PutMultipartOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::object::{about, check_attributes, generic};
use super::put::put_result;
use super::{DIRECTORY_MODE, DfsStore};
use crate::client::RenameMode;

/// As S3 has it. The names of all parts fit into one call many times.
const PARTS_MAX: usize = 10_000;

#[async_trait::async_trait]
impl MultipartStore for DfsStore {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.create_multipart_opts(path, PutMultipartOptions::default()).await
    }

    async fn create_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<MultipartId> {
        check_attributes(&options.attributes)?;
        let directory = self.hidden_path().await.map_err(about(path))?;
        let made = self.client.make_directory_async(&directory, false, DIRECTORY_MODE).await;
        made.map_err(about(path))?;
        let id = directory.rsplit_once('/').map_or(directory.as_str(), |(_, id)| id);
        Ok(id.to_owned())
    }

    /// The answer names the file, and says how long it is: empty parts are left out at the end.
    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part: usize,
        payload: PutPayload,
    ) -> Result<PartId> {
        if part >= PARTS_MAX {
            return Err(generic(format!("part {part} of {path}, of at most {PARTS_MAX}")));
        }
        let directory = self.upload_directory(id)?;
        let content_id = format!("{part}-{}-{}", self.client.unique_name(), payload.content_length());
        let file = format!("{directory}/{content_id}");
        let written = self.blocking(move |store| store.write_pieces(&file, payload.into_iter()));
        written.await.map_err(about(path))?;
        Ok(PartId { content_id })
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let directory = self.upload_directory(id)?;
        let names = parts.iter().map(|part| checked_name(&part.content_id));
        let names = names.collect::<Result<Vec<&str>>>()?;
        // An object of no bytes needs one part all the same.
        let mut files: Vec<String> = names
            .iter()
            .filter(|name| !name.ends_with("-0"))
            .map(|name| format!("{directory}/{name}"))
            .collect();
        if files.is_empty() {
            let empty = format!("{directory}/empty");
            files.push(empty.clone());
            let written = self.blocking(move |store| store.write_pieces(&empty, std::iter::empty()));
            written.await.map_err(about(path))?;
        }
        let first = files.remove(0);
        if !files.is_empty() {
            self.client.concat_async(&first, files).await.map_err(about(path))?;
        }
        let entry = self.publish(&first, path, RenameMode::Overwrite).await?;
        self.delete_hidden(&directory).await;
        Ok(put_result(&entry))
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let directory = self.upload_directory(id)?;
        self.client.delete_async(&directory, true, true).await.map_err(about(path))?;
        Ok(())
    }
}

impl DfsStore {
    fn upload_directory(&self, id: &str) -> Result<String> {
        Ok(format!("{}/{}", self.staging(), checked_name(id)?))
    }
}

/// Ids come back from outside: they are names that this store gave, and no paths.
fn checked_name(name: &str) -> Result<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !name.is_empty() && name.bytes().all(plain) {
        Ok(name)
    } else {
        Err(generic(format!("{name:?} is no id of an upload or part")))
    }
}

/// An upload of this process. Dropped without an end, its parts are deleted.
pub(super) struct Upload {
    store: DfsStore,
    location: Path,
    id: MultipartId,
    /// What is written of them. A part whose future was dropped never comes to be.
    parts: Arc<Mutex<Vec<Option<PartId>>>>,
    ended: bool,
}

impl Upload {
    pub(super) async fn begin(
        store: &DfsStore,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Upload> {
        let id = store.create_multipart_opts(location, options).await?;
        Ok(Upload {
            store: store.clone(),
            location: location.clone(),
            id,
            parts: Arc::default(),
            ended: false,
        })
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({} to {} as {})", self.location, self.store, self.id)
    }
}

#[async_trait::async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let number = {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.push(None);
            parts.len() - 1
        };
        let (store, location, id) = (self.store.clone(), self.location.clone(), self.id.clone());
        let parts = self.parts.clone();
        Box::pin(async move {
            let part = store.put_part(&location, &id, number, payload).await?;
            parts.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(part);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let count = parts.len();
        let parts: Option<Vec<PartId>> = parts.into_iter().collect();
        let parts = parts.ok_or_else(|| incomplete(&self.location, count))?;
        let done = self.store.complete_multipart(&self.location, &self.id, parts).await?;
        self.ended = true;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.abort_multipart(&self.location, &self.id).await?;
        self.ended = true;
        Ok(())
    }
}

fn incomplete(location: &Path, count: usize) -> Error {
    generic(format!("{location}: not all of {count} parts were written"))
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (store, id) = (self.store.clone(), self.id.clone());
        self.store.client.handle().spawn(async move {
            // The id is the store's own.
            if let Ok(directory) = store.upload_directory(&id) {
                store.delete_hidden(&directory).await;
            }
        });
    }
}
