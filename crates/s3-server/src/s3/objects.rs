//! Objects: put, got, copied, deleted.

use std::ops::Range;

use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::answer::{self, length};
use super::body::{self, BODY_BYTES_MAX, Received, Said, Sending, announced};
use super::conditions::{ReadConditions, modified, put_condition};
use super::{Answer, Service, now_s};
use crate::store::{Checksums, DataReader, Headers, ObjectRecord, PutCondition, Removal};

/// Keys of one request to delete, as in S3.
const DELETES_MAX: usize = 1000;
/// Bytes of a key, as in S3.
const KEY_BYTES_MAX: usize = 1024;

impl Service {
    pub(super) async fn put(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (announced, trailer) = announced(&request.headers, request.input.content_length)?;
        let input = request.input;
        let condition = put_condition(input.if_match, input.if_none_match)?;
        let headers = answer::headers(
            input.cache_control,
            input.content_disposition,
            input.content_encoding,
            input.content_language,
            input.content_type,
            input.expires,
            input.metadata,
        )?;
        self.bucket_exists(&input.bucket)?;
        let said = Said {
            bytes: announced,
            md5: input.content_md5,
            checksums: Checksums {
                crc32: input.checksum_crc32,
                crc32c: input.checksum_crc32c,
                crc64nvme: input.checksum_crc64nvme,
                sha1: input.checksum_sha1,
                sha256: input.checksum_sha256,
            },
            trailer,
            trailing: request.trailing_headers,
        };
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody, "the body is missing"))?;
        let received = body::receive(&self.store, body, said).await?;
        let record = self.put_received((input.bucket, input.key), headers, received, condition).await?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(record.etag)),
            checksum_crc32: record.checksums.crc32,
            checksum_crc32c: record.checksums.crc32c,
            checksum_crc64nvme: record.checksums.crc64nvme,
            checksum_sha1: record.checksums.sha1,
            checksum_sha256: record.checksums.sha256,
            ..PutObjectOutput::default()
        }))
    }

    async fn put_received(
        &self,
        place: (String, String),
        headers: Headers,
        Received { file, digested }: Received,
        condition: PutCondition,
    ) -> S3Result<ObjectRecord> {
        let data = file.data();
        let record = ObjectRecord {
            bytes: data.bytes,
            etag: digested.etag(),
            modified_s: now_s(),
            headers,
            checksums: digested.checksums,
            data: vec![data],
            multipart: false,
        };
        self.store.put_object(place, record.clone(), file, condition).await?;
        Ok(record)
    }

    pub(super) async fn get(&self, input: GetObjectInput) -> Answer<GetObjectOutput> {
        answer::no_version(input.version_id.as_deref())?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        let asked = Asked { range: input.range, part: input.part_number };
        let (record, chosen, reader) = self
            .store
            .open_object(input.bucket, input.key, move |record| {
                conditions.check(record)?;
                let chosen = asked.choose(record)?;
                Ok::<_, S3Error>((chosen.range.clone(), chosen))
            })
            .await?;
        let count = chosen.range.end - chosen.range.start;
        let checksums = chosen.checksums(&record, input.checksum_mode.as_ref());
        let metadata = answer::metadata(&record.headers);
        let expires = answer::expires(&record.headers)?;
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::new(Sending::new(reader, count))),
            cache_control: record.headers.cache_control,
            checksum_crc32: checksums.crc32,
            checksum_crc32c: checksums.crc32c,
            checksum_crc64nvme: checksums.crc64nvme,
            checksum_sha1: checksums.sha1,
            checksum_sha256: checksums.sha256,
            content_disposition: record.headers.content_disposition,
            content_encoding: record.headers.content_encoding,
            content_language: record.headers.content_language,
            content_length: Some(length(count)?),
            content_range: chosen.content_range(record.bytes),
            content_type: record.headers.content_type,
            e_tag: Some(ETag::Strong(record.etag)),
            expires,
            last_modified: Some(modified(record.modified_s)),
            metadata,
            parts_count: chosen.parts,
            ..GetObjectOutput::default()
        }))
    }

    pub(super) async fn head(&self, input: HeadObjectInput) -> Answer<HeadObjectOutput> {
        answer::no_version(input.version_id.as_deref())?;
        let record = self.store.object(input.bucket, input.key).await?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&record)?;
        let chosen = Asked { range: input.range, part: input.part_number }.choose(&record)?;
        let checksums = chosen.checksums(&record, input.checksum_mode.as_ref());
        let metadata = answer::metadata(&record.headers);
        let expires = answer::expires(&record.headers)?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: record.headers.cache_control,
            checksum_crc32: checksums.crc32,
            checksum_crc32c: checksums.crc32c,
            checksum_crc64nvme: checksums.crc64nvme,
            checksum_sha1: checksums.sha1,
            checksum_sha256: checksums.sha256,
            content_disposition: record.headers.content_disposition,
            content_encoding: record.headers.content_encoding,
            content_language: record.headers.content_language,
            content_length: Some(length(chosen.range.end - chosen.range.start)?),
            content_range: chosen.content_range(record.bytes),
            content_type: record.headers.content_type,
            e_tag: Some(ETag::Strong(record.etag)),
            expires,
            last_modified: Some(modified(record.modified_s)),
            metadata,
            parts_count: chosen.parts,
            ..HeadObjectOutput::default()
        }))
    }

    pub(super) async fn copy(&self, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let destination = |name: &str| {
            let header =
                request.headers.get(name).map(|value| ETagCondition::parse_http_header(value.as_bytes()));
            header.transpose().map_err(|_| s3_error!(InvalidArgument, "the header {name} is not a condition"))
        };
        let condition = put_condition(destination("if-match")?, destination("if-none-match")?)?;
        let input = request.input;
        let (bucket, key) = source(&input.copy_source)?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let is_replaced = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
            None | Some(MetadataDirective::COPY) => false,
            Some(MetadataDirective::REPLACE) => true,
            Some(_) => return Err(s3_error!(InvalidArgument, "x-amz-metadata-directive is COPY or REPLACE")),
        };
        if !is_replaced && (&bucket, &key) == (&input.bucket, &input.key) {
            return Err(s3_error!(InvalidRequest, "a copy onto itself must replace the metadata"));
        }
        let replaced = answer::headers(
            input.cache_control,
            input.content_disposition,
            input.content_encoding,
            input.content_language,
            input.content_type,
            input.expires,
            input.metadata,
        )?;
        self.bucket_exists(&input.bucket)?;
        let (record, bytes, reader) =
            self.open_source(bucket, key, conditions, |record| Ok(0..record.bytes)).await?;
        let headers = if is_replaced { replaced } else { record.headers };
        let received = self.copied(reader, bytes).await?;
        let record = self.put_received((input.bucket, input.key), headers, received, condition).await?;
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(record.etag)),
            last_modified: Some(modified(record.modified_s)),
            checksum_crc32c: record.checksums.crc32c,
            ..CopyObjectResult::default()
        };
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..CopyObjectOutput::default()
        }))
    }

    /// Opens what is to be copied of an object.
    pub(super) async fn open_source(
        &self,
        bucket: String,
        key: String,
        conditions: ReadConditions,
        choose: impl FnOnce(&ObjectRecord) -> S3Result<Range<u64>> + Send + 'static,
    ) -> S3Result<(ObjectRecord, u64, DataReader)> {
        let check = move |record: &ObjectRecord| {
            conditions.check_source(record)?;
            let range = choose(record)?;
            let bytes = range.end - range.start;
            if bytes > BODY_BYTES_MAX {
                return Err(s3_error!(
                    InvalidRequest,
                    "{BODY_BYTES_MAX} bytes are copied at once; copy in parts"
                ));
            }
            Ok::<_, S3Error>((range, bytes))
        };
        self.store.open_object(bucket, key, check).await
    }

    /// Copies through the same door through which bodies come.
    pub(super) async fn copied(&self, reader: DataReader, bytes: u64) -> S3Result<Received> {
        let said = Said { bytes: Some(length(bytes)?), ..Said::default() };
        body::receive(&self.store, StreamingBlob::new(Sending::new(reader, bytes)), said).await
    }

    pub(super) async fn delete(&self, input: DeleteObjectInput) -> Answer<DeleteObjectOutput> {
        answer::no_version(input.version_id.as_deref())?;
        if input.if_match_size.is_some() || input.if_match_last_modified_time.is_some() {
            return Err(s3_error!(NotImplemented, "on deletes the only condition is If-Match"));
        }
        let removal = Removal { key: input.key, condition: put_condition(input.if_match, None)? };
        let outcomes = self.store.remove_objects(input.bucket, vec![removal]).await?;
        outcomes.into_iter().try_for_each(|(_, outcome)| outcome)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    pub(super) async fn delete_many(&self, input: DeleteObjectsInput) -> Answer<DeleteObjectsOutput> {
        let objects = input.delete.objects;
        if objects.is_empty() || objects.len() > DELETES_MAX {
            return Err(s3_error!(MalformedXML, "one request deletes 1 to {DELETES_MAX} keys"));
        }
        let mut removals = Vec::with_capacity(objects.len());
        for object in objects {
            answer::no_version(object.version_id.as_deref())?;
            if object.key.is_empty() || object.key.len() > KEY_BYTES_MAX {
                return Err(s3_error!(KeyTooLongError, "a key has 1 to {KEY_BYTES_MAX} bytes"));
            }
            if object.size.is_some() || object.last_modified_time.is_some() {
                return Err(s3_error!(NotImplemented, "on deletes the only condition is the ETag"));
            }
            let condition = put_condition(object.e_tag.map(ETagCondition::ETag), None)?;
            removals.push(Removal { key: object.key, condition });
        }
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (key, outcome) in self.store.remove_objects(input.bucket, removals).await? {
            match outcome {
                Ok(()) => deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() }),
                Err(refusal) => {
                    let refused = S3Error::from(refusal);
                    let code = Some(refused.code().as_str().to_owned());
                    let message = refused.message().map(str::to_owned);
                    errors.push(Error { key: Some(key), code, message, version_id: None });
                }
            }
        }
        let is_quiet = input.delete.quiet == Some(true);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!is_quiet).then_some(deleted),
            errors: Some(errors),
            request_charged: None,
        }))
    }
}

/// Bucket and key of what is to be copied.
pub(super) fn source(source: &CopySource) -> S3Result<(String, String)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            answer::no_version(version_id.as_deref())?;
            Ok((bucket.to_string(), key.to_string()))
        }
        _ => Err(s3_error!(NotImplemented, "the source of a copy is a bucket and a key")),
    }
}

/// Which bytes a request asks for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    range: Option<s3s::dto::Range>,
    part: Option<i32>,
}

/// Which bytes it gets.
struct Chosen {
    range: Range<u64>,
    is_partial: bool,
    /// How many parts there are, if one was asked for.
    parts: Option<i32>,
}

impl Asked {
    fn choose(self, record: &ObjectRecord) -> S3Result<Chosen> {
        match (self.range, self.part) {
            (None, None) => Ok(Chosen { range: 0..record.bytes, is_partial: false, parts: None }),
            (Some(range), None) => {
                let range = range.check(record.bytes).map_err(|_| answer::invalid_range(record.bytes))?;
                if range.is_empty() {
                    return Err(answer::invalid_range(record.bytes));
                }
                Ok(Chosen { range, is_partial: true, parts: None })
            }
            (None, Some(part)) => part_range(record, part),
            (Some(_), Some(_)) => {
                Err(s3_error!(InvalidRequest, "a range and a part number exclude each other"))
            }
        }
    }
}

fn part_range(record: &ObjectRecord, part: i32) -> S3Result<Chosen> {
    let count = record.data.len();
    let at = usize::try_from(part).ok().and_then(|part| part.checked_sub(1)).filter(|at| *at < count);
    let at = at.ok_or_else(|| s3_error!(InvalidRange, "the object has {count} parts"))?;
    let start = record.data[..at].iter().map(|file| file.bytes).sum();
    let range = start..start + record.data[at].bytes;
    let parts =
        if record.multipart { Some(i32::try_from(count).map_err(S3Error::internal_error)?) } else { None };
    Ok(Chosen { is_partial: record.multipart && !range.is_empty(), range, parts })
}

impl Chosen {
    fn content_range(&self, bytes: u64) -> Option<String> {
        self.is_partial.then(|| format!("bytes {}-{}/{bytes}", self.range.start, self.range.end - 1))
    }

    /// Checksums are of the whole, and asked for.
    fn checksums(&self, record: &ObjectRecord, mode: Option<&ChecksumMode>) -> Checksums {
        let is_asked = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        if is_asked && !self.is_partial { record.checksums.clone() } else { Checksums::default() }
    }
}
