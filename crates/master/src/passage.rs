//! One connection of a client to a worker, through this process: bytes as they are, both ways, in bounded memory.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

/// Bytes on their way in one direction: what a socket gives at a time. A slow reader slows its writer down.
const BUFFER_BYTES: usize = 64 << 10;
/// For one side to take what the other sent: as long as workers wait for a reader.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// After one side has ended: for the other to end too, and to read what was said last.
const LINGER: Duration = Duration::from_secs(5);

/// Passes bytes on until one side ends; the other is told, and gets [`LINGER`] to end as well. Adds to `passed`.
pub(crate) async fn serve(client: &mut TcpStream, worker: &mut TcpStream, passed: &AtomicU64) {
    let ((from_client, to_client), (from_worker, to_worker)) = (client.split(), worker.split());
    let up = relay(from_client, to_worker, passed);
    let down = relay(from_worker, to_client, passed);
    tokio::pin!(up, down);
    let lingered = tokio::select! {
        () = &mut up => timeout(LINGER, down).await,
        () = &mut down => timeout(LINGER, up).await,
    };
    if lingered.is_err() {
        tracing::debug!("one side of a passage did not end with the other");
    }
}

/// Passes on what `from` sends until it ends, then says so to `to`. What `to` takes no more is read and dropped: a
/// connection that is closed with bytes unread is reset, and its peer would lose what was said to it last.
async fn relay(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, passed: &AtomicU64) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut taken = true;
    loop {
        let bytes = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%error, "one side of a passage broke off");
                break;
            }
        };
        if !taken {
            continue;
        }
        passed.fetch_add(bytes as u64, Ordering::Relaxed);
        let sent = timeout(SEND_TIMEOUT, to.write_all(&buffer[..bytes])).await;
        if let Err(error) = sent.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            tracing::debug!(%error, "one side of a passage takes no more");
            taken = false;
        }
    }
    if let Err(error) = to.shutdown().await {
        tracing::debug!(%error, "the other side was gone before");
    }
}

/// Reads and drops what still comes, until the end or for `patience`.
pub(crate) async fn drain(client: &mut TcpStream, patience: Duration) {
    let mut buffer = [0; 4 << 10];
    let drained = timeout(patience, async {
        while client.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    });
    match drained.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused client broke off"),
        Err(_) => tracing::debug!("a refused client does not end"),
    }
}
