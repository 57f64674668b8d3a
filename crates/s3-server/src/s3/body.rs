//! Bodies, in and out: chunk by chunk, each on a thread that may wait for the disk.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use hyper::HeaderMap;
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};
use tokio::task::JoinHandle;

use crate::digest::{self, Digest, Digested, Wanted};
use crate::store::{Checksums, DataReader, NewFile, Store, StoreError, on_disk};

/// The longest body of an object or a part, as in S3.
pub(super) const BODY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// What is gathered of a body before it is written.
const WRITE_CHUNK_BYTES: usize = 1024 * 1024;
/// A client that sends nothing for this long has lost its request.
const BODY_IDLE: Duration = Duration::from_secs(60);

/// What a client says of a body beforehand.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) bytes: Option<i64>,
    pub(super) md5: Option<String>,
    pub(super) checksums: Checksums,
    /// The header x-amz-trailer: checksums that come after the body.
    pub(super) trailer: Option<String>,
    pub(super) trailing: Option<TrailingHeaders>,
}

/// The length and the trailers that a body has by its headers.
///
/// A body in chunks may lack its last ones without `s3s` noticing: the length that it has without the chunks' own
/// headers tells.
pub(super) fn announced(headers: &HeaderMap, length: Option<i64>) -> S3Result<(Option<i64>, Option<String>)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let decoded = text("x-amz-decoded-content-length").map(str::parse).transpose();
    let decoded =
        decoded.map_err(|_| s3_error!(InvalidRequest, "x-amz-decoded-content-length is no number"))?;
    Ok((decoded.or(length), text("x-amz-trailer").map(str::to_owned)))
}

/// A body on disk, and what it is.
pub(super) struct Received {
    pub(super) file: NewFile,
    pub(super) digested: Digested,
}

/// Writes a body to a new file, and holds it against what was said of it.
pub(super) async fn receive(store: &Arc<Store>, body: StreamingBlob, said: Said) -> S3Result<Received> {
    let announced = said.bytes.map(u64::try_from).transpose().map_err(|_| S3ErrorCode::InvalidArgument)?;
    if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let md5 = said.md5.as_deref().map(|text| digest::md5_from_base64(text).ok_or(S3ErrorCode::InvalidDigest));
    let md5 = md5.transpose()?;
    let Received { file, digested } = write(store, body, said.wanted()).await?;
    // Trailers come with the end of the body, not before.
    let trailing = said.trailing.as_ref().and_then(|trailing| trailing.read(trailing_checksums));
    let trailing = trailing.unwrap_or_default();
    let is_announced = said.trailer.as_deref().is_some_and(|names| names.contains("x-amz-checksum-"));
    if is_announced && trailing == Checksums::default() {
        return Err(s3_error!(InvalidRequest, "the checksum that x-amz-trailer announces did not come"));
    }
    if announced.is_some_and(|bytes| bytes != file.data().bytes) {
        return Err(s3_error!(IncompleteBody, "the body has {} bytes", file.data().bytes));
    }
    let agrees = [&said.checksums, &trailing].iter().all(|said| digest::agree(said, &digested.checksums));
    if !agrees || md5.is_some_and(|md5| md5 != digested.md5) {
        return Err(s3_error!(BadDigest, "a checksum or MD5 is not that of the body"));
    }
    Ok(Received { file, digested })
}

impl Said {
    fn wanted(&self) -> Wanted {
        let trailer = self.trailer.as_deref().unwrap_or_default().to_ascii_lowercase();
        let is_wanted = |said: &Option<String>, name: &str| said.is_some() || trailer.contains(name);
        Wanted {
            crc32: is_wanted(&self.checksums.crc32, "x-amz-checksum-crc32"),
            crc64nvme: is_wanted(&self.checksums.crc64nvme, "x-amz-checksum-crc64nvme"),
            sha1: is_wanted(&self.checksums.sha1, "x-amz-checksum-sha1"),
            sha256: is_wanted(&self.checksums.sha256, "x-amz-checksum-sha256"),
        }
    }
}

fn trailing_checksums(headers: &HeaderMap) -> Checksums {
    let value = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim().to_owned());
    Checksums {
        crc32: value("x-amz-checksum-crc32"),
        crc32c: value("x-amz-checksum-crc32c"),
        crc64nvme: value("x-amz-checksum-crc64nvme"),
        sha1: value("x-amz-checksum-sha1"),
        sha256: value("x-amz-checksum-sha256"),
    }
}

/// Writes a body to a new file, on disk when this is done.
async fn write(store: &Arc<Store>, mut body: StreamingBlob, wanted: Wanted) -> S3Result<Received> {
    let (mut begun, mut digest) = (None, Digest::new(wanted));
    let mut total = 0;
    loop {
        let mut is_open = true;
        let mut chunks = Vec::new();
        let mut gathered = 0;
        while gathered < WRITE_CHUNK_BYTES && is_open {
            match next(&mut body).await? {
                Some(chunk) => {
                    gathered += chunk.len();
                    chunks.push(chunk);
                }
                None => is_open = false,
            }
        }
        total += gathered as u64;
        if total > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let files = Arc::clone(store);
        // All of a small body at one go: another thread costs more than what it does for one.
        let written = on_disk(move || {
            let mut file = begun.map_or_else(|| files.create_file(), Ok)?;
            for chunk in &chunks {
                file.write(chunk)?;
                digest.update(chunk);
            }
            if !is_open {
                file.finish()?;
            }
            Ok::<_, StoreError>((file, digest))
        });
        let (file, so_far) = written.await?;
        if !is_open {
            return Ok(Received { file, digested: so_far.finish() });
        }
        (begun, digest) = (Some(file), so_far);
    }
}

async fn next(body: &mut StreamingBlob) -> S3Result<Option<Bytes>> {
    match tokio::time::timeout(BODY_IDLE, body.next()).await {
        Ok(chunk) => chunk.transpose().map_err(|error| broken_body(error.as_ref())),
        Err(_) => Err(s3_error!(RequestTimeout, "nothing came for {} s", BODY_IDLE.as_secs())),
    }
}

/// Why a body ended before its end. The types of these errors are private to `s3s`, but not their names.
fn broken_body(error: &(dyn std::error::Error + Send + Sync)) -> S3Error {
    let text = error.to_string();
    tracing::debug!(%text, "a body is broken");
    if text.contains("SignatureMismatch") {
        return s3_error!(SignatureDoesNotMatch, "the signature of a chunk does not match");
    }
    if text.contains("Sha256Mismatch") {
        return s3_error!(BadDigest, "x-amz-content-sha256 is not that of the body");
    }
    s3_error!(IncompleteBody, "the body is not as its headers say, or ended early")
}

fn too_large() -> S3Error {
    s3_error!(EntityTooLarge, "a body has {BODY_BYTES_MAX} bytes at most; upload in parts")
}

/// A part of an object on its way out. One chunk is read while the one before is sent.
pub(super) struct Sending {
    bytes_left: u64,
    reader: Option<DataReader>,
    reading: Option<JoinHandle<Read>>,
}

/// A reader comes back with what it has read.
type Read = Result<(DataReader, Option<Bytes>), StoreError>;

impl Sending {
    pub(super) fn new(reader: DataReader, bytes: u64) -> Sending {
        Sending { bytes_left: bytes, reader: Some(reader), reading: None }
    }

    /// Counts what is sent; goes on to read if that is not all.
    fn send(&mut self, chunk: Bytes) -> Bytes {
        self.bytes_left -= chunk.len() as u64;
        if self.bytes_left == 0 {
            self.reader = None;
        }
        self.read_ahead();
        chunk
    }

    fn read_ahead(&mut self) {
        if let Some(mut reader) = self.reader.take() {
            let read = move || reader.next_chunk().map(|chunk| (reader, chunk));
            self.reading = Some(tokio::task::spawn_blocking(read));
        }
    }
}

impl Stream for Sending {
    type Item = Result<Bytes, s3s::StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(ready) = self.reader.as_mut().and_then(DataReader::take_ready) {
            return Poll::Ready(Some(Ok(self.send(ready))));
        }
        self.read_ahead();
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        match read {
            Ok(Ok((reader, Some(chunk)))) => {
                self.reader = Some(reader);
                Poll::Ready(Some(Ok(self.send(chunk))))
            }
            Ok(Ok((_, None))) => Poll::Ready(None),
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an object cannot be read");
                Poll::Ready(Some(Err(Box::new(error))))
            }
            Err(error) => Poll::Ready(Some(Err(Box::new(error)))),
        }
    }
}

impl ByteStream for Sending {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.bytes_left)
            .map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}
