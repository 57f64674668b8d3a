//! Refusals in the words of S3.

use s3s::{S3Error, S3ErrorCode, s3_error};

use crate::store::{Failure, Refusal, StoreError};

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> S3Error {
        let code = match &refusal {
            Refusal::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            Refusal::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            Refusal::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            Refusal::TooManyBuckets { .. } => S3ErrorCode::TooManyBuckets,
            Refusal::NoSuchKey => S3ErrorCode::NoSuchKey,
            Refusal::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Refusal::Precondition => S3ErrorCode::PreconditionFailed,
            Refusal::InvalidPart { .. } => S3ErrorCode::InvalidPart,
            Refusal::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
            Refusal::TooLarge { .. } => S3ErrorCode::EntityTooLarge,
            Refusal::WrongSize { .. } => S3ErrorCode::InvalidRequest,
            Refusal::WrongChecksum => S3ErrorCode::BadDigest,
        };
        S3Error::with_message(code, refusal.to_string())
    }
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> S3Error {
        tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
        // The client learns no path of this machine; the log has it.
        s3_error!(InternalError, "the server could not do it; its log says why")
    }
}

impl From<Failure> for S3Error {
    fn from(failure: Failure) -> S3Error {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Store(error) => error.into(),
        }
    }
}
