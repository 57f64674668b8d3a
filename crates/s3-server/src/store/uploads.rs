//! Uploads in parts: begun, filled, listed, and completed or aborted.
//!
//! Completing moves no byte: the object's record names the files of its parts.

use prost::Message;

use super::committer::Freed;
use super::failure::{Failure, Refusal};
use super::files::NewFile;
use super::objects::put;
use super::records::{Checksums, ObjectRecord, PartRecord, UploadRecord};
use super::tables::{self, Tables};
use super::{PutCondition, Store};
use crate::digest;

/// The highest number of a part, as in S3.
pub(crate) const PART_NUMBER_MAX: u32 = 10_000;
/// The least that a part has which is not the last, as in S3.
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// The most that an object has, as in S3.
const OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;

/// What an upload is to become.
#[derive(Clone, Debug)]
pub(crate) struct Assembly {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) upload: String,
    /// In order; never none.
    pub(crate) parts: Vec<NamedPart>,
    pub(crate) condition: PutCondition,
    pub(crate) modified_s: u64,
    /// What the client expects of the whole, where it says so.
    pub(crate) bytes: Option<u64>,
    pub(crate) crc32c: Option<u32>,
}

/// A part as the client knows it.
#[derive(Clone, Debug)]
pub(crate) struct NamedPart {
    pub(crate) number: u32,
    pub(crate) etag: String,
    /// Those that the client gives again.
    pub(crate) checksums: Checksums,
}

/// Which uploads to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct UploadQuery {
    pub(crate) prefix: String,
    pub(crate) delimiter: Option<String>,
    /// Only after this key, or, with an upload id, after that upload of this key.
    pub(crate) after: Option<(String, Option<String>)>,
    pub(crate) max: usize,
}

/// Uploads in the order of their keys, then of their beginning.
#[derive(Debug, Default)]
pub(crate) struct UploadPage {
    /// Key, id, record.
    pub(crate) uploads: Vec<(String, String, UploadRecord)>,
    pub(crate) common_prefixes: Vec<String>,
    /// What is last on this page, if there are more: a key and an upload id, or a common prefix.
    pub(crate) next: Option<(String, Option<String>)>,
}

/// Parts of an upload, and whether there are more.
#[derive(Debug)]
pub(crate) struct PartPage {
    pub(crate) parts: Vec<(u32, PartRecord)>,
    pub(crate) truncated: bool,
}

impl Store {
    pub(crate) async fn create_upload(
        &self,
        (bucket, key): (String, String),
        upload: String,
        record: UploadRecord,
    ) -> Result<(), Failure> {
        let decide = move |tables: &mut Tables<'_>, _: &mut Freed| {
            tables.check_bucket(&bucket)?;
            let place = (bucket.as_str(), key.as_str(), upload.as_str());
            tables.uploads.insert(place, record.encode_to_vec().as_slice())?;
            Ok(())
        };
        self.committer.change(Vec::new(), decide).await
    }

    /// Adds a part to an upload, or replaces it.
    pub(crate) async fn put_part(
        &self,
        (bucket, key): (String, String),
        (upload, number): (String, u32),
        record: PartRecord,
        file: NewFile,
    ) -> Result<(), Failure> {
        let decide = move |tables: &mut Tables<'_>, freed: &mut Freed| {
            tables.check_bucket(&bucket)?;
            tables::upload(&tables.uploads, &bucket, &key, &upload)?;
            let before = tables::parts(&tables.parts, &upload, number - 1, 1)?;
            freed.extend(
                before.into_iter().filter(|(found, _)| *found == number).map(|(_, part)| vec![part.data]),
            );
            tables.parts.insert((upload.as_str(), number), record.encode_to_vec().as_slice())?;
            Ok(())
        };
        self.committer.change(vec![file], decide).await
    }

    /// Fails if there is no such upload: its parts need not come.
    pub(crate) async fn check_upload(
        &self,
        (bucket, key): (String, String),
        upload: String,
    ) -> Result<(), Failure> {
        self.look(move |snapshot| {
            snapshot.check_bucket(&bucket)?;
            tables::upload(&snapshot.uploads, &bucket, &key, &upload)?;
            Ok(())
        })
        .await
    }

    /// Makes an object of an upload, if all is as the client says and the condition holds.
    pub(crate) async fn complete_upload(&self, assembly: Assembly) -> Result<ObjectRecord, Failure> {
        let decide = move |tables: &mut Tables<'_>, freed: &mut Freed| {
            let Assembly { bucket, key, upload, .. } = &assembly;
            tables.check_bucket(bucket)?;
            let begun = tables::upload(&tables.uploads, bucket, key, upload)?;
            let parts = tables::parts(&tables.parts, upload, 0, PART_NUMBER_MAX as usize)?;
            let (chosen, others) = choose(&assembly.parts, &parts)?;
            let record = assemble(&assembly, begun, &chosen)?;
            put(tables, freed, (bucket, key), &record, &assembly.condition)?;
            freed.extend(others.into_iter().map(|part| vec![part.data.clone()]));
            forget(tables, (bucket, key), upload, &parts)?;
            Ok(record)
        };
        self.committer.change(Vec::new(), decide).await
    }

    pub(crate) async fn abort_upload(
        &self,
        (bucket, key): (String, String),
        upload: String,
    ) -> Result<(), Failure> {
        let decide = move |tables: &mut Tables<'_>, freed: &mut Freed| {
            tables.check_bucket(&bucket)?;
            tables::upload(&tables.uploads, &bucket, &key, &upload)?;
            let parts = tables::parts(&tables.parts, &upload, 0, PART_NUMBER_MAX as usize)?;
            forget(tables, (&bucket, &key), &upload, &parts)?;
            freed.extend(parts.into_iter().map(|(_, part)| vec![part.data]));
            Ok(())
        };
        self.committer.change(Vec::new(), decide).await
    }

    pub(crate) async fn list_parts(
        &self,
        (bucket, key): (String, String),
        upload: String,
        after: u32,
        max: usize,
    ) -> Result<PartPage, Failure> {
        self.look(move |snapshot| {
            snapshot.check_bucket(&bucket)?;
            tables::upload(&snapshot.uploads, &bucket, &key, &upload)?;
            let mut parts = tables::parts(&snapshot.parts, &upload, after, max + 1)?;
            let truncated = parts.len() > max;
            parts.truncate(max);
            Ok(PartPage { parts, truncated })
        })
        .await
    }

    pub(crate) async fn list_uploads(
        &self,
        bucket: String,
        query: UploadQuery,
    ) -> Result<UploadPage, Failure> {
        self.look(move |snapshot| {
            snapshot.check_bucket(&bucket)?;
            let from = query.after.as_ref().map_or("", |(key, _)| key).max(&query.prefix).to_owned();
            let mut page = UploadPage::default();
            for upload in snapshot.uploads.range((bucket.as_str(), from.as_str(), "")..)? {
                let (place, record) = upload?;
                let (of, key, id) = place.value();
                if of != bucket || !key.starts_with(&query.prefix) {
                    break;
                }
                let record = || tables::decode(|| format!("upload {id}"), record.value());
                if page.is_full_with(&query, key, id, record)? {
                    break;
                }
            }
            Ok(page)
        })
        .await
    }
}

impl UploadPage {
    /// Adds an upload, or what stands for it. Says whether the page ends before it.
    fn is_full_with<E>(
        &mut self,
        query: &UploadQuery,
        key: &str,
        id: &str,
        record: impl FnOnce() -> Result<UploadRecord, E>,
    ) -> Result<bool, E> {
        let rest = &key[query.prefix.len()..];
        let end =
            query.delimiter.as_deref().and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
        let common = end.map(|end| &key[..query.prefix.len() + end]);
        let is_shown = match (&query.after, common) {
            (None, _) => true,
            (Some((after, _)), Some(common)) => common > after.as_str(),
            (Some((after, None)), None) => key > after.as_str(),
            (Some((after, Some(after_id))), None) => (key, id) > (after.as_str(), after_id.as_str()),
        };
        let is_repeated = common.is_some() && self.common_prefixes.last().map(String::as_str) == common;
        if !is_shown || is_repeated {
            return Ok(false);
        }
        if self.uploads.len() + self.common_prefixes.len() == query.max {
            self.next = self.last();
            return Ok(true);
        }
        match common {
            Some(common) => self.common_prefixes.push(common.to_owned()),
            None => self.uploads.push((key.to_owned(), id.to_owned(), record()?)),
        }
        Ok(false)
    }

    fn last(&self) -> Option<(String, Option<String>)> {
        let upload = self.uploads.last().map(|(key, id, _)| (key.clone(), Some(id.clone())));
        let common = self.common_prefixes.last().map(|common| (common.clone(), None));
        upload.max(common)
    }
}

type Chosen<'p> = Vec<(u32, &'p PartRecord)>;

/// The parts that the client names, which must be as it says; and the others.
fn choose<'p>(
    named: &[NamedPart],
    parts: &'p [(u32, PartRecord)],
) -> Result<(Chosen<'p>, Vec<&'p PartRecord>), Refusal> {
    let mut chosen = Chosen::with_capacity(named.len());
    let mut others = Vec::new();
    let mut named = named.iter().peekable();
    for (number, part) in parts {
        let Some(wanted) = named.next_if(|wanted| wanted.number == *number) else {
            others.push(part);
            continue;
        };
        if wanted.etag != part.etag || !digest::agree(&wanted.checksums, &part.checksums) {
            return Err(Refusal::InvalidPart { number: *number });
        }
        chosen.push((*number, part));
    }
    match named.next() {
        Some(missing) => Err(Refusal::InvalidPart { number: missing.number }),
        None => Ok((chosen, others)),
    }
}

fn assemble(
    assembly: &Assembly,
    begun: UploadRecord,
    parts: &[(u32, &PartRecord)],
) -> Result<ObjectRecord, Refusal> {
    let whole = parts.split_last().map_or(parts, |(_, before)| before);
    if let Some((number, part)) = whole.iter().find(|(_, part)| part.data.bytes < PART_BYTES_MIN) {
        let bytes = part.data.bytes;
        return Err(Refusal::PartTooSmall { number: *number, bytes, min: PART_BYTES_MIN });
    }
    let bytes = parts.iter().map(|(_, part)| part.data.bytes).sum();
    if bytes > OBJECT_BYTES_MAX {
        return Err(Refusal::TooLarge { bytes, max: OBJECT_BYTES_MAX });
    }
    if let Some(said) = assembly.bytes.filter(|said| *said != bytes) {
        return Err(Refusal::WrongSize { bytes, said });
    }
    let crc32c = digest::combined_crc32c(parts.iter().map(|(_, part)| (part.crc32c, part.data.bytes)));
    if assembly.crc32c.is_some_and(|said| said != crc32c) {
        return Err(Refusal::WrongChecksum);
    }
    let checksums = Checksums { crc32c: Some(digest::crc32c_base64(crc32c)), ..Checksums::default() };
    Ok(ObjectRecord {
        bytes,
        etag: digest::multipart_etag(parts.iter().map(|(_, part)| part.etag.as_str())),
        modified_s: assembly.modified_s,
        headers: begun.headers,
        checksums,
        data: parts.iter().map(|(_, part)| part.data.clone()).collect(),
        multipart: true,
    })
}

/// Takes an upload and its parts out of the index.
fn forget(
    tables: &mut Tables<'_>,
    (bucket, key): (&str, &str),
    upload: &str,
    parts: &[(u32, PartRecord)],
) -> Result<(), Failure> {
    tables.uploads.remove((bucket, key, upload))?;
    for (number, _) in parts {
        tables.parts.remove((upload, *number))?;
    }
    Ok(())
}
