//! The client of one bucket, and the runtime that serves all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use object_store::aws::{AmazonS3, AmazonS3ConfigKey};
use object_store::path::Path;
use tokio::runtime::{Builder, Runtime};

use super::settings;
use super::signing::{NOWHERE, SigningConnector, signatures};
use crate::file_system::{Cause, FsError};
use crate::uri::{Place, Uri, UriError};

/// Threads that move bytes for the whole process; requests in flight are tasks on them.
const THREADS: usize = 2;
/// Threads that wait for signatures, and for names of hosts.
const BLOCKING_THREADS_MAX: usize = 16;

/// A bucket and how to reach it.
pub(crate) struct S3Client {
    pub(super) bucket: Arc<str>,
    pub(super) s3: AmazonS3,
    pub(super) region: String,
}

/// The runtime of all clients.
pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("s3")
            .enable_all()
            .build()
            .expect("a process that cannot start threads cannot go on")
    })
}

/// Waits for a request. Never on a thread of a runtime.
pub(super) fn wait<F: Future>(request: F) -> F::Output {
    runtime().block_on(request)
}

impl S3Client {
    /// The client of a bucket; all of one process share it.
    pub(crate) fn of(bucket: &Arc<str>) -> Result<Arc<S3Client>, UriError> {
        static CLIENTS: Mutex<Option<HashMap<Arc<str>, Arc<S3Client>>>> = Mutex::new(None);
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = clients.get_or_insert_default();
        if let Some(client) = clients.get(bucket) {
            return Ok(client.clone());
        }
        let client = Arc::new(S3Client::build(bucket)?);
        clients.insert(bucket.clone(), client.clone());
        Ok(client)
    }

    fn build(bucket: &Arc<str>) -> Result<S3Client, UriError> {
        let builder = match signatures() {
            None => settings::builder(bucket)?,
            Some(signatures) => settings::plain(bucket)
                .with_endpoint(NOWHERE)
                .with_allow_http(true)
                .with_skip_signature(true)
                .with_http_connector(SigningConnector(signatures.clone())),
        };
        let uri = format!("s3://{bucket}");
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_default();
        let built = builder.build();
        let s3 = built.map_err(|error| UriError::S3Settings { uri, reason: error.to_string() })?;
        Ok(S3Client { bucket: bucket.clone(), s3, region })
    }

    /// The URI of an object.
    pub(super) fn uri(&self, key: &str) -> Uri {
        Uri::of(Place::S3 { bucket: self.bucket.clone() }, key)
    }
}

/// The name of the object that a URI names; of a bucket, the empty one.
pub(super) fn key_of(operation: &'static str, uri: &Uri) -> Result<Path, FsError> {
    let text = uri.path().to_str();
    let path = text.ok_or_else(|| "object names are UTF-8".to_owned());
    let path = path.and_then(|text| Path::parse(text).map_err(|error| error.to_string()));
    path.map_err(|reason| FsError::new(operation, uri, Cause::InvalidName(reason)))
}
