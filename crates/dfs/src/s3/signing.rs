//! Requests of a process that has no keys: somebody else signs each of them.
//!
//! An attempt's client asks for `http://s3.invalid/BUCKET/KEY?QUERY`, as S3 with the path style has it. Before a request
//! leaves, its worker turns that into a URL that is signed, at the endpoint of the worker's environment, or refuses.
//! The signed URL is seen by nobody but the HTTP client: errors name the unsigned one.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpService, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};

use super::client::{S3Client, wait};
use super::failure::S3Error;
use crate::uri::UriError;

/// Where unsigned requests go, were they sent.
pub(super) const NOWHERE: &str = "http://s3.invalid";
/// A signed URL is used at once; what is in flight may be tried again with a new one.
const VALID_FOR: Duration = Duration::from_secs(15 * 60);

/// A request before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedRequest {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Of what.
    pub bucket: String,
    /// The object's name; empty for the bucket's own.
    pub key: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
}

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Whoever signs refuses it, or cannot: a sentence.
    #[error("{0}")]
    Refused(String),
    /// It has a method or a name that no request of a client has.
    #[error("no request of an S3 client")]
    Malformed,
    /// The bucket cannot be reached.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The keys cannot be had.
    #[error("cannot sign a request: {0}")]
    Sign(#[from] S3Error),
}

/// Whoever signs requests for this process.
pub trait Signatures: Send + Sync {
    /// The signed URL of a request. Called from threads that may wait.
    fn sign(&self, request: &UnsignedRequest) -> Result<String, SignError>;
}

static SIGNATURES: OnceLock<Arc<dyn Signatures>> = OnceLock::new();

/// From now on this process has all its requests to S3 signed by `signatures`, whatever its environment says. Once a
/// process, before it uses `s3://` for the first time; a second call does nothing.
pub fn use_signatures(signatures: Arc<dyn Signatures>) {
    SIGNATURES.get_or_init(|| signatures);
}

pub(super) fn signatures() -> Option<&'static Arc<dyn Signatures>> {
    SIGNATURES.get()
}

impl UnsignedRequest {
    /// Signs it with the keys of this process's environment.
    pub fn sign(&self) -> Result<String, SignError> {
        let client = S3Client::of(&Arc::from(self.bucket.as_str()))?;
        let path = Path::parse(&self.key).map_err(|_| SignError::Malformed)?;
        let method = self.method.parse().map_err(|_| SignError::Malformed)?;
        let options = SignedUrlOptions::default()
            .with_query(self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let signed = wait(client.s3.signed_url_opts(method, &path, VALID_FOR, &options));
        Ok(signed.map_err(S3Error::from)?.to_string())
    }

    fn of(request: &HttpRequest) -> Result<UnsignedRequest, SignError> {
        let uri = request.uri();
        let path = uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let key = Path::from_url_path(key).map_err(|_| SignError::Malformed)?.to_string();
        let url = reqwest::Url::parse(&uri.to_string()).map_err(|_| SignError::Malformed)?;
        let query = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        Ok(UnsignedRequest { method: request.method().to_string(), bucket: bucket.to_owned(), key, query })
    }
}

/// Connects as usual, and has every request signed.
pub(super) struct SigningConnector(pub(super) Arc<dyn Signatures>);

impl HttpConnector for SigningConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(SigningService { inner, signatures: self.0.clone() }))
    }
}

struct SigningService {
    inner: HttpClient,
    signatures: Arc<dyn Signatures>,
}

#[async_trait]
impl HttpService for SigningService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let unsigned = UnsignedRequest::of(&request).map_err(refused)?;
        let signatures = self.signatures.clone();
        let signed = tokio::task::spawn_blocking(move || signatures.sign(&unsigned)).await;
        let signed =
            signed.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?.map_err(refused)?;
        *request.uri_mut() = signed.parse().map_err(|_| refused(SignError::Malformed))?;
        self.inner.execute(request).await
    }
}

fn refused(error: SignError) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, error)
}

impl fmt::Debug for SigningConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningConnector")
    }
}

impl fmt::Debug for SigningService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningService")
    }
}
