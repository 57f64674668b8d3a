//! What the client crate does not know: making a bucket, and listing the uploads that are open in one.

use object_store::Error;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Client, Method};
use std::time::Duration;

use super::client::S3Client;
use super::failure::S3Error;

/// Of one request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of a request that was not answered, or with 5xx.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Where a bucket is made without being told.
const HOME_REGION: &str = "us-east-1";

impl S3Client {
    /// Makes the bucket. That there is one of this name already is an error.
    pub(super) async fn make_bucket(&self) -> Result<(), S3Error> {
        let body = match self.region.as_str() {
            HOME_REGION | "" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>\
                 {region}</LocationConstraint></CreateBucketConfiguration>"
            ),
        };
        self.ask(Method::PUT, &[], body).await.map(drop)
    }

    /// Asks something of the bucket itself; the body of the answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<String, S3Error> {
        let mut pause = PAUSE;
        for _ in 1..TRIES_MAX {
            match self.ask_once(method.clone(), query, body.clone()).await {
                Err(error) if error.may_pass() => tokio::time::sleep(pause).await,
                done => return done,
            }
            pause *= 2;
        }
        self.ask_once(method, query, body).await
    }

    async fn ask_once(
        &self,
        method: Method,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<String, S3Error> {
        let options = SignedUrlOptions::default().with_query(query.iter().copied());
        let url = self.s3.signed_url_opts(method.clone(), &Path::ROOT, TIMEOUT * 2, &options).await?;
        // The URL is signed: no error may show it.
        let failed =
            |error: reqwest::Error| Error::Generic { store: "S3", source: error.without_url().into() };
        let client = Client::builder().timeout(TIMEOUT).build().map_err(failed)?;
        let mut request = client.request(method.clone(), url);
        if method == Method::PUT {
            // The client leaves it out where it is 0, and S3 insists on it.
            request = request.header(CONTENT_LENGTH, body.len());
        }
        let answer = request.body(body).send().await.map_err(failed)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed)?;
        if status.is_success() {
            return Ok(text);
        }
        let (path, source) = (format!("s3://{}", self.bucket), format!("{status}: {text}").into());
        Err(match status.as_u16() {
            404 => Error::NotFound { path, source },
            401 | 403 => Error::PermissionDenied { path, source },
            409 => Error::AlreadyExists { path, source },
            400..500 => Error::NotSupported { source },
            _ => Error::Generic { store: "S3", source },
        }
        .into())
    }
}
