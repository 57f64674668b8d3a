//! The HTTP port: pages for operators and for what collects metrics. It reads, and changes nothing.
//!
//! ```text
//!   GET /metrics     Prometheus' text format        GET /jobs        all jobs that are known, latest first, JSON
//!   GET /status      the cluster, JSON              GET /jobs/<id>   one job, JSON
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use gristmill_proto::ids::JobId;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tonic::Status;

use super::shared::{LOOK_JOBS_MAX, Shared};
use super::{metrics, pages};

/// Connections at a time: a few collectors and people. More wait in the system's backlog.
const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take, and an idle connection may stay.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may live at all: one that does not read its answer ends with that. Collectors connect again.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// The head of a request: a path and a token are short.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Lines of the head.
const HEADERS_MAX: usize = 64;
/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Jobs of the page of all.
const JOBS_MAX: usize = 1000;

const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// Serves pages until the runtime ends.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    connection(stream, shared).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for pages");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, &request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIFE, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for pages broke"),
        Err(_) => tracing::debug!("a connection for pages has lived long enough"),
    }
}

/// The page that is asked for. The body of a request is not read.
async fn answer(shared: &Shared, request: &Request<Incoming>) -> Answer {
    if !may_read(shared, request) {
        let mut answer = plain(
            StatusCode::UNAUTHORIZED,
            "this cluster has a secret: show the token of the file http-token\n",
        );
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return answer;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "pages can only be read\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match page(shared, request.uri().path()).await {
        Ok(Some((kind, text))) => page_of(StatusCode::OK, kind, text),
        Ok(None) => {
            plain(StatusCode::NOT_FOUND, "no such page: there are /metrics, /status, /jobs and /jobs/<id>\n")
        }
        Err(status) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{}\n", status.message())),
    }
}

fn may_read(shared: &Shared, request: &Request<Incoming>) -> bool {
    let Some(secret) = &shared.secret else {
        return true; // On loopback only.
    };
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    shown.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|token| secret.is_http_token(token))
}

async fn page(shared: &Shared, path: &str) -> Result<Option<(&'static str, String)>, Status> {
    Ok(match path {
        "/metrics" => {
            let status = shared.cluster_status().await?;
            let counts = shared.read(|core, _| core.counts()).await?;
            Some((PROMETHEUS, metrics::text(&status, &counts, shared.gateway.figures())))
        }
        "/status" => Some((JSON, pages::cluster(&shared.cluster_status().await?))),
        "/jobs" => Some((JSON, jobs(shared).await?)),
        path => match path.strip_prefix("/jobs/").and_then(JobId::from_text) {
            None => None,
            Some(job) => {
                let status = shared.read(move |core, _| core.status(job)).await?;
                status.map(|status| (JSON, pages::job(&status)))
            }
        },
    })
}

async fn jobs(shared: &Shared) -> Result<String, Status> {
    let mut jobs = shared.read(|core, _| core.jobs()).await?;
    jobs.truncate(JOBS_MAX);
    let mut rows = Vec::with_capacity(jobs.len());
    for some in jobs.chunks(LOOK_JOBS_MAX) {
        rows.extend(shared.statuses(some.to_vec()).await?.iter().map(pages::job_row));
    }
    Ok(pages::jobs(rows))
}

fn plain(status: StatusCode, text: &str) -> Answer {
    page_of(status, TEXT, text.to_owned())
}

fn page_of(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
