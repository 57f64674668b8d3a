//! Listings of objects, both versions.

use s3s::dto::*;
use s3s::{S3Response, S3Result, s3_error};

use super::answer::length;
use super::conditions::modified;
use super::{Answer, Service};
use crate::digest::hex;
use crate::store::{Entry, ObjectSummary, Page, Query};

/// Entries on a page, whatever is asked for, as in S3.
const PAGE_ENTRIES_MAX: usize = 1000;

impl Service {
    pub(super) async fn list_v1(&self, input: ListObjectsInput) -> Answer<ListObjectsOutput> {
        let shown = Shown::new(input.encoding_type.as_ref())?;
        let max = page_size("max-keys", input.max_keys)?;
        let query = query(input.prefix.as_ref(), input.delimiter.as_ref(), input.marker.clone(), max);
        let page = self.store.list_objects(input.bucket.clone(), query).await?;
        let last = page.entries.last().filter(|_| page.truncated && input.delimiter.is_some());
        let next_marker = last.map(|last| shown.text(last.name()));
        let is_truncated = page.truncated;
        let (contents, common_prefixes) = shown.entries(page)?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(shown.text(input.prefix.as_deref().unwrap_or_default())),
            marker: Some(shown.text(input.marker.as_deref().unwrap_or_default())),
            max_keys: Some(shown_max(max)),
            is_truncated: Some(is_truncated),
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            delimiter: input.delimiter.as_deref().map(|text| shown.text(text)),
            next_marker,
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    pub(super) async fn list_v2(&self, input: ListObjectsV2Input) -> Answer<ListObjectsV2Output> {
        let shown = Shown::new(input.encoding_type.as_ref())?;
        let max = page_size("max-keys", input.max_keys)?;
        let after = match &input.continuation_token {
            Some(token) => Some(untoken(token)?),
            None => input.start_after.clone(),
        };
        let query = query(input.prefix.as_ref(), input.delimiter.as_ref(), after, max);
        let page = self.store.list_objects(input.bucket.clone(), query).await?;
        let next = page.entries.last().filter(|_| page.truncated).map(|last| token(last.name()));
        let (is_truncated, count) = (page.truncated, shown_max(page.entries.len()));
        let (contents, common_prefixes) = shown.entries(page)?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(shown.text(input.prefix.as_deref().unwrap_or_default())),
            max_keys: Some(shown_max(max)),
            key_count: Some(count),
            continuation_token: input.continuation_token,
            is_truncated: Some(is_truncated),
            next_continuation_token: next,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            delimiter: input.delimiter.as_deref().map(|text| shown.text(text)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.as_deref().map(|text| shown.text(text)),
            request_charged: None,
        }))
    }
}

fn query(prefix: Option<&String>, delimiter: Option<&String>, after: Option<String>, max: usize) -> Query {
    Query {
        prefix: prefix.cloned().unwrap_or_default(),
        delimiter: delimiter.filter(|delimiter| !delimiter.is_empty()).cloned(),
        after: after.filter(|after| !after.is_empty()),
        max,
    }
}

/// How many entries a page has, from what a request asks for.
pub(super) fn page_size(name: &str, asked: Option<i32>) -> S3Result<usize> {
    let Some(asked) = asked else { return Ok(PAGE_ENTRIES_MAX) };
    match usize::try_from(asked) {
        Ok(asked) => Ok(asked.min(PAGE_ENTRIES_MAX)),
        Err(_) => Err(s3_error!(InvalidArgument, "{name} is negative")),
    }
}

pub(super) fn shown_max(max: usize) -> i32 {
    i32::try_from(max).unwrap_or(i32::MAX)
}

/// A token says what the page before ended with, and is opaque to clients.
pub(super) fn token(last: &str) -> String {
    hex(last.as_bytes())
}

pub(super) fn untoken(token: &str) -> S3Result<String> {
    let invalid = || s3_error!(InvalidArgument, "the continuation token is not one of this server");
    let digits = token.as_bytes().chunks(2).map(|pair| {
        let is_hex = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(pair).ok().filter(|_| is_hex)?;
        u8::from_str_radix(text, 16).ok()
    });
    let bytes: Option<Vec<u8>> = digits.collect();
    String::from_utf8(bytes.ok_or_else(invalid)?).map_err(|_| invalid())
}

/// How keys are written in an answer: as they are, or such that XML can have all of them.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    is_encoded: bool,
}

impl Shown {
    pub(super) fn new(encoding: Option<&EncodingType>) -> S3Result<Shown> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Shown { is_encoded: false }),
            Some(EncodingType::URL) => Ok(Shown { is_encoded: true }),
            Some(_) => Err(s3_error!(InvalidArgument, "encoding-type is url or nothing")),
        }
    }

    pub(super) fn text(self, text: &str) -> String {
        if self.is_encoded { url_encoded(text) } else { text.to_owned() }
    }

    fn entries(self, page: Page<ObjectSummary>) -> S3Result<(Vec<Object>, Vec<CommonPrefix>)> {
        let (mut contents, mut common_prefixes) = (Vec::new(), Vec::new());
        for entry in page.entries {
            match entry {
                Entry::CommonPrefix(prefix) => {
                    common_prefixes.push(CommonPrefix { prefix: Some(self.text(&prefix)) });
                }
                Entry::Key(key, summary) => contents.push(Object {
                    key: Some(self.text(&key)),
                    e_tag: Some(ETag::Strong(summary.etag)),
                    last_modified: Some(modified(summary.modified_s)),
                    size: Some(length(summary.bytes)?),
                    storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                    ..Object::default()
                }),
            }
        }
        Ok((contents, common_prefixes))
    }
}

/// As S3 does it: what a URL can have stays, and so do slashes.
fn url_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_say_what_they_were_told_and_refuse_all_else() {
        for last in ["", "a", "a/b c", "ü\0\u{10ffff}"] {
            assert_eq!(untoken(&token(last)).unwrap(), last);
        }
        for other in ["6", "zz", "+1", "ff", "é"] {
            assert_eq!(untoken(other).unwrap_err().code(), &s3s::S3ErrorCode::InvalidArgument, "{other}");
        }
    }

    #[test]
    fn encoded_keys_have_no_character_that_xml_cannot_have() {
        assert_eq!(url_encoded("a/b c\u{1}+ü&"), "a/b%20c%01%2B%C3%BC%26");
    }
}
