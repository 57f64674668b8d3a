//! Uploads in parts.

use std::time::{SystemTime, UNIX_EPOCH};

use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::answer::{self, length};
use super::body::{self, Received, Said, announced};
use super::conditions::{ReadConditions, modified, put_condition};
use super::listings::{Shown, page_size, shown_max};
use super::objects::source;
use super::{Answer, Service, now_s};
use crate::digest;
use crate::store::{Assembly, Checksums, NamedPart, PART_NUMBER_MAX, PartRecord, UploadQuery, UploadRecord};

impl Service {
    pub(super) async fn begin_upload(
        &self,
        input: CreateMultipartUploadInput,
    ) -> Answer<CreateMultipartUploadOutput> {
        let headers = answer::headers(
            input.cache_control,
            input.content_disposition,
            input.content_encoding,
            input.content_language,
            input.content_type,
            input.expires,
            input.metadata,
        )?;
        let upload = new_upload_id()?;
        let record = UploadRecord { initiated_s: now_s(), headers };
        self.store.create_upload((input.bucket.clone(), input.key.clone()), upload.clone(), record).await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn put_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let (announced, trailer) = announced(&request.headers, request.input.content_length)?;
        let input = request.input;
        let number = part_number(input.part_number)?;
        let place = (input.bucket, input.key);
        self.store.check_upload(place.clone(), input.upload_id.clone()).await?;
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
        let part = self.add_part(place, (input.upload_id, number), received).await?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag)),
            checksum_crc32: part.checksums.crc32,
            checksum_crc32c: part.checksums.crc32c,
            checksum_crc64nvme: part.checksums.crc64nvme,
            checksum_sha1: part.checksums.sha1,
            checksum_sha256: part.checksums.sha256,
            ..UploadPartOutput::default()
        }))
    }

    async fn add_part(
        &self,
        place: (String, String),
        part: (String, u32),
        Received { file, digested }: Received,
    ) -> S3Result<PartRecord> {
        let record = PartRecord {
            data: file.data(),
            etag: digested.etag(),
            modified_s: now_s(),
            crc32c: digested.crc32c,
            checksums: digested.checksums,
        };
        self.store.put_part(place, part, record.clone(), file).await?;
        Ok(record)
    }

    pub(super) async fn copy_part(&self, input: UploadPartCopyInput) -> Answer<UploadPartCopyOutput> {
        let number = part_number(input.part_number)?;
        let place = (input.bucket, input.key);
        self.store.check_upload(place.clone(), input.upload_id.clone()).await?;
        let (bucket, key) = source(&input.copy_source)?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let asked = input.copy_source_range.as_deref().map(s3s::dto::Range::parse).transpose();
        let asked =
            asked.map_err(|_| s3_error!(InvalidArgument, "x-amz-copy-source-range is bytes=FIRST-LAST"))?;
        let choose = move |record: &crate::store::ObjectRecord| match asked {
            Some(range) => range.check(record.bytes).map_err(|_| answer::invalid_range(record.bytes)),
            None => Ok(0..record.bytes),
        };
        let (_, bytes, reader) = self.open_source(bucket, key, conditions, choose).await?;
        let received = self.copied(reader, bytes).await?;
        let part = self.add_part(place, (input.upload_id, number), received).await?;
        let result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.etag)),
            last_modified: Some(modified(part.modified_s)),
            checksum_crc32c: part.checksums.crc32c,
            ..CopyPartResult::default()
        };
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..UploadPartCopyOutput::default()
        }))
    }

    pub(super) async fn complete(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let others =
            [&input.checksum_crc32, &input.checksum_crc64nvme, &input.checksum_sha1, &input.checksum_sha256];
        if others.iter().any(|checksum| checksum.is_some()) {
            return Err(s3_error!(NotImplemented, "the only checksum of all parts together is CRC-32C"));
        }
        let invalid = || s3_error!(InvalidRequest, "x-amz-checksum-crc32c is not the base 64 of four bytes");
        let crc32c = input.checksum_crc32c.as_deref();
        let crc32c = crc32c.map(|text| digest::crc32c_from_base64(text).ok_or_else(invalid)).transpose()?;
        let bytes = input.mpu_object_size.map(u64::try_from).transpose();
        let assembly = Assembly {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            upload: input.upload_id,
            parts: named_parts(input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default())?,
            condition: put_condition(input.if_match, input.if_none_match)?,
            modified_s: now_s(),
            bytes: bytes.map_err(|_| s3_error!(InvalidArgument, "x-amz-mp-object-size is negative"))?,
            crc32c,
        };
        let record = self.store.complete_upload(assembly).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(record.etag)),
            checksum_crc32c: record.checksums.crc32c,
            checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn abort(&self, input: AbortMultipartUploadInput) -> Answer<AbortMultipartUploadOutput> {
        if input.if_match_initiated_time.is_some() {
            return Err(s3_error!(NotImplemented, "aborts take no condition"));
        }
        self.store.abort_upload((input.bucket, input.key), input.upload_id).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(super) async fn parts(&self, input: ListPartsInput) -> Answer<ListPartsOutput> {
        let max = page_size("max-parts", input.max_parts)?;
        let after = u32::try_from(input.part_number_marker.unwrap_or(0));
        let after = after.map_err(|_| s3_error!(InvalidArgument, "part-number-marker is negative"))?;
        let place = (input.bucket.clone(), input.key.clone());
        let page = self.store.list_parts(place, input.upload_id.clone(), after, max).await?;
        let mut parts = Vec::with_capacity(page.parts.len());
        for (number, part) in page.parts {
            parts.push(Part {
                part_number: Some(i32::try_from(number).map_err(S3Error::internal_error)?),
                e_tag: Some(ETag::Strong(part.etag)),
                last_modified: Some(modified(part.modified_s)),
                size: Some(length(part.data.bytes)?),
                checksum_crc32: part.checksums.crc32,
                checksum_crc32c: part.checksums.crc32c,
                checksum_crc64nvme: part.checksums.crc64nvme,
                checksum_sha1: part.checksums.sha1,
                checksum_sha256: part.checksums.sha256,
            });
        }
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(page.truncated),
            max_parts: Some(shown_max(max)),
            part_number_marker: Some(input.part_number_marker.unwrap_or(0)),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            parts: Some(parts),
            ..ListPartsOutput::default()
        }))
    }

    pub(super) async fn uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> Answer<ListMultipartUploadsOutput> {
        let shown = Shown::new(input.encoding_type.as_ref())?;
        let max = page_size("max-uploads", input.max_uploads)?;
        let id_marker = input.upload_id_marker.clone().filter(|marker| !marker.is_empty());
        let query = UploadQuery {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
            after: input.key_marker.clone().filter(|marker| !marker.is_empty()).map(|key| (key, id_marker)),
            max,
        };
        let page = self.store.list_uploads(input.bucket.clone(), query).await?;
        let uploads = page.uploads.into_iter().map(|(key, id, record)| MultipartUpload {
            key: Some(shown.text(&key)),
            upload_id: Some(id),
            initiated: Some(modified(record.initiated_s)),
            ..MultipartUpload::default()
        });
        let common_prefixes =
            page.common_prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(shown.text(prefix)) });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            uploads: Some(uploads.collect()),
            common_prefixes: Some(common_prefixes.collect()),
            is_truncated: Some(page.next.is_some()),
            max_uploads: Some(shown_max(max)),
            next_key_marker: page.next.as_ref().map(|(key, _)| shown.text(key)),
            next_upload_id_marker: page.next.and_then(|(_, id)| id),
            key_marker: input.key_marker.as_deref().map(|text| shown.text(text)),
            upload_id_marker: input.upload_id_marker,
            prefix: input.prefix.as_deref().map(|text| shown.text(text)),
            delimiter: input.delimiter.as_deref().map(|text| shown.text(text)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }
}

fn part_number(number: i32) -> S3Result<u32> {
    let number = u32::try_from(number).ok().filter(|number| (1..=PART_NUMBER_MAX).contains(number));
    number.ok_or_else(|| s3_error!(InvalidArgument, "part numbers are 1 to {PART_NUMBER_MAX}"))
}

/// The parts of a request to complete, which must be in order.
fn named_parts(parts: Vec<CompletedPart>) -> S3Result<Vec<NamedPart>> {
    if parts.is_empty() || parts.len() > PART_NUMBER_MAX as usize {
        return Err(s3_error!(MalformedXML, "an upload is completed with 1 to {PART_NUMBER_MAX} parts"));
    }
    let mut named: Vec<NamedPart> = Vec::with_capacity(parts.len());
    for part in parts {
        let missing = || s3_error!(MalformedXML, "a part has no number, or no ETag");
        let number = part_number(part.part_number.ok_or_else(missing)?)?;
        if named.last().is_some_and(|before| before.number >= number) {
            return Err(s3_error!(InvalidPartOrder, "part {number} is not in order"));
        }
        let etag = part.e_tag.ok_or_else(missing)?.into_value();
        let checksums = Checksums {
            crc32: part.checksum_crc32,
            crc32c: part.checksum_crc32c,
            crc64nvme: part.checksum_crc64nvme,
            sha1: part.checksum_sha1,
            sha256: part.checksum_sha256,
        };
        named.push(NamedPart { number, etag, checksums });
    }
    Ok(named)
}

/// An id that nobody guesses. Ids sort by their time, so that listings do.
fn new_upload_id() -> S3Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| S3Error::internal_error(std::io::Error::other(error.to_string())))?;
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    Ok(format!("{micros:016x}{}", digest::hex(&random)))
}
