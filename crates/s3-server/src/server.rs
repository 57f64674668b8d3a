//! The server: connections to its store.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_RANGE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::credentials::Credentials;
use crate::s3::Service;
use crate::s3::access::{Keys, Rules};
use crate::store::{OpenError, Store};

/// Connections at a time; more wait in the system's backlog.
const CONNECTIONS_MAX: usize = 512;
/// All headers of a request, with its first line: a presigned URL has 2 KiB, metadata as much.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 128;
/// How long the headers of a request may take. A connection that is idle for this long is closed, too.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest XML that is taken: 1,000 keys to delete, of 1,024 bytes that each need five to be written.
pub(crate) const XML_BYTES_MAX: usize = 8 * 1024 * 1024;
/// HTML forms are refused; this is what is read of one before.
const FORM_BYTES_MAX: usize = 64 * 1024;
/// How far the clocks of clients may be wrong, as in S3.
const CLOCK_SKEW_S: u32 = 15 * 60;
/// How long accepting pauses when the process is out of descriptors: it cannot take more now, and must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests may keep a server that was told to end.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why a server ends that was not told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A change could not be written.
    #[error("the server ended because its index failed: {0}")]
    Store(String),
}

/// A server of the buckets in a directory.
pub struct S3Server {
    store: Arc<Store>,
    service: S3Service,
}

impl S3Server {
    /// Opens a directory, made if need be. No other server can have it as long as this one lives.
    pub fn open(directory: &Path, credentials: Credentials) -> Result<S3Server, OpenError> {
        let store = Arc::new(Store::open(directory)?);
        let mut builder = S3ServiceBuilder::new(Service::new(Arc::clone(&store)));
        builder.set_auth(Keys(credentials));
        builder.set_access(Rules);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(limits()))));
        Ok(S3Server { store, service: builder.build() })
    }

    /// Serves until `stop` is done, or the store fails. Requests that have begun get a moment to end.
    pub async fn serve(
        &self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let (ending, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        let outcome = tokio::select! {
            () = self.accept(&listener, ended, &mut connections) => Ok(()),
            () = stop => Ok(()),
            reason = self.store.failed() => Err(ServeError::Store(reason)),
        };
        drop(listener);
        ending.send_replace(true);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE, all_ended).await.is_err() {
            tracing::warn!("ends in the middle of requests");
            connections.shutdown().await;
        }
        outcome
    }

    async fn accept(
        &self,
        listener: &TcpListener,
        ended: watch::Receiver<bool>,
        connections: &mut JoinSet<()>,
    ) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => {
                    let (service, ended) = (self.service.clone(), ended.clone());
                    connections.spawn(async move {
                        converse(stream, service, ended).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

/// One request after the other, until the client or the server ends.
async fn converse(stream: TcpStream, service: S3Service, mut ended: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
    http.max_buf_size(HEADER_BYTES_MAX).max_headers(HEADERS_MAX);
    let answer = service_fn(move |request| answer(service.clone(), request));
    let connection = http.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        // Whether it was told so or the sender is gone: the server ends.
        _ = async { ended.wait_for(|ended| *ended).await.is_ok() } => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection broke");
    }
}

async fn answer(service: S3Service, request: Request<Incoming>) -> Result<HttpResponse, HttpError> {
    let is_head = request.method() == Method::HEAD;
    let mut response = service.call(request.map(Body::from)).await?;
    // `s3s` knows it of GET only.
    if is_head && response.status() == StatusCode::OK && response.headers().contains_key(CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn limits() -> S3Config {
    let mut limits = S3Config::default();
    limits.xml_max_body_size = XML_BYTES_MAX;
    limits.post_object_max_file_size = FORM_BYTES_MAX as u64;
    limits.form_max_field_size = FORM_BYTES_MAX;
    limits.form_max_fields_size = FORM_BYTES_MAX;
    limits.presigned_url_max_skew_time_secs = CLOCK_SKEW_S;
    limits
}

/// Makes a listener; says where it really listens.
pub(crate) fn bind(listen: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
