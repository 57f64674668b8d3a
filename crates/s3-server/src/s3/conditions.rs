//! Conditions on reads, which HTTP orders, and on writes, which the store decides.

use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::answer;
use crate::store::{ObjectRecord, PutCondition};

/// The conditions of a read.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadConditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// Fails with 412 or 304 if a condition does not hold (RFC 9110, 13.2.2).
    pub(super) fn check(&self, object: &ObjectRecord) -> S3Result<()> {
        let modified = modified(object.modified_s);
        let etag = ETag::Strong(object.etag.clone());
        let is_expected = match (&self.if_match, &self.if_unmodified_since) {
            (Some(ETagCondition::Any), _) => true,
            (Some(ETagCondition::ETag(wanted)), _) => wanted.strong_cmp(&etag),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !is_expected {
            return Err(s3_error!(PreconditionFailed, "the object is not as the condition asks"));
        }
        let is_new = match (&self.if_none_match, &self.if_modified_since) {
            (Some(ETagCondition::Any), _) => false,
            (Some(ETagCondition::ETag(known)), _) => !known.weak_cmp(&etag),
            (None, Some(since)) => modified > *since,
            (None, None) => true,
        };
        if is_new { Ok(()) } else { Err(not_modified(object)) }
    }

    /// For the source of a copy, nothing is fresh enough to be left out: all is 412.
    pub(super) fn check_source(&self, object: &ObjectRecord) -> S3Result<()> {
        self.check(object).map_err(|error| match error.code() {
            S3ErrorCode::NotModified => {
                s3_error!(PreconditionFailed, "the source is as the condition forbids")
            }
            _ => error,
        })
    }
}

fn not_modified(object: &ObjectRecord) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    error.set_headers(answer::validators(object));
    error
}

pub(super) fn modified(modified_s: u64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_secs(modified_s))
}

/// The condition of a write, from its two headers.
pub(super) fn put_condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<PutCondition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(PutCondition::None),
        (None, Some(ETagCondition::Any)) => Ok(PutCondition::Absent),
        (Some(ETagCondition::Any), None) => Ok(PutCondition::Present),
        (Some(ETagCondition::ETag(ETag::Strong(etag))), None) => Ok(PutCondition::Match(etag)),
        (Some(ETagCondition::ETag(ETag::Weak(_))), None) => {
            Err(s3_error!(InvalidArgument, "If-Match takes no weak ETag on writes"))
        }
        (None, Some(ETagCondition::ETag(_))) => {
            Err(s3_error!(NotImplemented, "on writes If-None-Match takes * only"))
        }
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "If-Match and If-None-Match exclude each other")),
    }
}
