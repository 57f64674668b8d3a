//! What is said of an object, in headers.

use hyper::HeaderMap;
use hyper::header::{CONTENT_RANGE, ETAG, HeaderValue, LAST_MODIFIED};
use s3s::dto::{Metadata, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::conditions::modified;
use crate::store::{Headers, ObjectRecord};

/// User metadata of an object, names and values together, as in S3.
const METADATA_BYTES_MAX: usize = 2048;

/// The headers of an object from those of the request that makes it.
pub(super) fn headers(
    cache_control: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
    content_language: Option<String>,
    content_type: Option<String>,
    expires: Option<Timestamp>,
    metadata: Option<Metadata>,
) -> S3Result<Headers> {
    let metadata = metadata.unwrap_or_default();
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(s3_error!(
            MetadataTooLarge,
            "metadata has {bytes} bytes; {METADATA_BYTES_MAX} is the most"
        ));
    }
    Ok(Headers {
        cache_control,
        content_disposition,
        content_encoding: content_encoding.and_then(|encoding| without_transfer(&encoding)),
        content_language,
        content_type,
        expires: expires.map(|expires| http_date(&expires)).transpose()?,
        metadata: metadata.into_iter().collect(),
    })
}

/// `aws-chunked` is how a body came, not what it is.
fn without_transfer(encoding: &str) -> Option<String> {
    let kept = encoding.split(',').map(str::trim).filter(|token| !token.eq_ignore_ascii_case("aws-chunked"));
    let kept: Vec<&str> = kept.filter(|token| !token.is_empty()).collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) fn metadata(headers: &Headers) -> Option<Metadata> {
    let all = headers.metadata.iter().map(|(name, value)| (name.clone(), value.clone()));
    (!headers.metadata.is_empty()).then(|| all.collect())
}

pub(super) fn expires(headers: &Headers) -> S3Result<Option<Timestamp>> {
    let parse = |text: &String| Timestamp::parse(TimestampFormat::HttpDate, text);
    headers.expires.as_ref().map(parse).transpose().map_err(S3Error::internal_error)
}

fn http_date(time: &Timestamp) -> S3Result<String> {
    let mut text = Vec::new();
    time.format(TimestampFormat::HttpDate, &mut text).map_err(S3Error::internal_error)?;
    String::from_utf8(text).map_err(S3Error::internal_error)
}

/// What a 304 says of the object.
pub(super) fn validators(object: &ObjectRecord) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let etag = HeaderValue::from_str(&format!("\"{}\"", object.etag));
    headers.extend(etag.ok().map(|etag| (ETAG, etag)));
    let date = http_date(&modified(object.modified_s)).ok();
    headers.extend(date.and_then(|date| HeaderValue::from_str(&date).ok()).map(|date| (LAST_MODIFIED, date)));
    headers
}

/// Says how long the object is of which a range was asked for that it does not have.
pub(super) fn invalid_range(bytes: u64) -> S3Error {
    let mut error =
        S3Error::with_message(S3ErrorCode::InvalidRange, format!("the range is not in the {bytes} bytes"));
    let mut headers = HeaderMap::new();
    let range = HeaderValue::from_str(&format!("bytes */{bytes}"));
    headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
    error.set_headers(headers);
    error
}

/// A length as S3's numbers have it.
pub(super) fn length(bytes: u64) -> S3Result<i64> {
    i64::try_from(bytes).map_err(S3Error::internal_error)
}

/// There are no versions but the one that unversioned buckets have.
pub(super) fn no_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "there are no versions of objects here")),
    }
}
