//! Who may do what: whoever has signed (version 4) may do all that is built. Nothing is ignored that matters.

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use crate::credentials::Credentials;
use crate::server::XML_BYTES_MAX;

/// Headers that would make an object another than it would become here.
const REFUSED_HEADERS: [&str; 10] = [
    "x-amz-mfa",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
];
/// What has a body that is not held in memory.
const DATA_OPERATIONS: [&str; 2] = ["PutObject", "UploadPart"];
/// The one storage class there is.
const STORAGE_CLASS: &str = "STANDARD";

/// The one key pair.
pub(crate) struct Keys(pub(crate) Credentials);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0.access_key {
            return Ok(SecretKey::from(self.0.secret_key.as_str()));
        }
        Err(s3_error!(InvalidAccessKeyId, "the access key is not that of this server"))
    }
}

/// Refuses what is not signed, or asks for what is not built.
pub(crate) struct Rules;

#[async_trait::async_trait]
impl S3Access for Rules {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "the request is not signed"));
        }
        let headers = context.headers();
        let length =
            headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let is_data = DATA_OPERATIONS.contains(&context.s3_op().name());
        if !is_data && length.is_some_and(|length| length > XML_BYTES_MAX as u64) {
            return Err(s3_error!(MaxMessageLengthExceeded, "the body has more than {XML_BYTES_MAX} bytes"));
        }
        let authorization = headers.get("authorization").map(|value| value.as_bytes());
        let is_presigned = context.uri().query().is_some_and(|query| query.contains("X-Amz-Signature="));
        if !is_presigned && !authorization.is_some_and(|value| value.starts_with(b"AWS4-HMAC-SHA256")) {
            return Err(s3_error!(AccessDenied, "only signatures of version 4 are taken"));
        }
        if let Some(name) = REFUSED_HEADERS.iter().find(|name| headers.contains_key(**name)) {
            return Err(s3_error!(NotImplemented, "the header {name} is not implemented"));
        }
        if headers.get("x-amz-storage-class").is_some_and(|class| class != STORAGE_CLASS) {
            return Err(s3_error!(InvalidStorageClass, "the only storage class here is {STORAGE_CLASS}"));
        }
        Ok(())
    }
}
