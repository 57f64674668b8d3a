//! How buckets are reached: what the environment of AWS says.
//!
//! Keys come from the first of: the environment, the profile (AWS_PROFILE or `default`), a web identity or container
//! role that the environment names, the metadata service of the instance. AWS_SKIP_SIGNATURE=true asks as nobody.

use std::env;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};

use super::profile::Profile;
use crate::uri::UriError;

/// A request is tried again so often; with pauses that grow to `PAUSE_MAX`, about half a minute of trouble is sat out.
const RETRIES_MAX: usize = 8;
/// From the first try of a request to the last.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// Of one try, with its bytes: 8 MiB at 1 Mbit/s.
const REQUEST_TIMEOUT: &str = "90 seconds";
const CONNECT_TIMEOUT: &str = "5 seconds";

/// Variables that say where keys come from, other than a profile.
const KEY_SOURCES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// What builds a client of `bucket`.
pub(super) fn builder(bucket: &str) -> Result<AmazonS3Builder, UriError> {
    let uri = || format!("s3://{bucket}");
    let bad = |reason: String| UriError::S3Settings { uri: uri(), reason };
    let mut builder = plain(bucket);
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let profile = Profile::from_environment().map_err(|error| bad(error.to_string()))?;
    let anonymous = env::var("AWS_SKIP_SIGNATURE").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let of_profile = [
        ("region", AmazonS3ConfigKey::Region),
        ("endpoint_url", AmazonS3ConfigKey::Endpoint),
        ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId),
        ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
        ("aws_session_token", AmazonS3ConfigKey::Token),
    ];
    let elsewhere = KEY_SOURCES.iter().any(|name| is_set(name));
    for (name, key) in of_profile {
        let is_key = name.starts_with("aws_");
        if let Some(value) = profile.get(name).filter(|_| !(is_key && elsewhere)) {
            builder = builder.with_config(key, value);
        }
    }
    let has_keys = elsewhere || profile.get("aws_access_key_id").is_some();
    let disabled =
        env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if !has_keys && !anonymous && disabled {
        let reason = "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or \
                      AWS_SKIP_SIGNATURE=true to ask as nobody";
        return Err(bad(reason.to_owned()));
    }
    for (name, value) in env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        // Compatible tools know the endpoint of S3 alone by this name.
        let name = if name == "AWS_ENDPOINT_URL_S3" { "AWS_ENDPOINT_URL" } else { name };
        if name.starts_with("AWS_")
            && !value.is_empty()
            && let Ok(key) = name.to_ascii_lowercase().parse()
        {
            builder = builder.with_config(key, value);
        }
    }
    // Whoever writes http:// means it.
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    Ok(builder.with_bucket_name(bucket))
}

/// A builder without keys and endpoint.
pub(super) fn plain(bucket: &str) -> AmazonS3Builder {
    let backoff = BackoffConfig { max_backoff: PAUSE_MAX, ..BackoffConfig::default() };
    AmazonS3Builder::new()
        .with_retry(RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT })
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_TIMEOUT)
        .with_bucket_name(bucket)
}
