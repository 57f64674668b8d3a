//! The master's one port: a bounded number of connections, each without delay. The first byte tells what it is for.
//!
//! ```text
//!   "P" (PRI * HTTP/2.0)  ──> gRPC          "G" (GMB, a bulk frame)  ──> gateway
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::gateway::Gateway;

/// Connections at a time: two for each of 10,000 workers, one for each client, and those through the gateway. More wait in
/// the system's backlog, so that idle strangers cost descriptors only up to here.
const CONNECTIONS_MAX: usize = 24 << 10;
/// How long accepting pauses when the process is out of descriptors: it cannot take more now, and must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who connects speaks first, and at once.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of a bulk frame. HTTP/2 begins with another.
const BULK_FIRST_BYTE: u8 = b'G';

/// Connections for gRPC as they come.
pub(crate) type Incoming = ReceiverStream<io::Result<Connection>>;

/// Accepts connections until the receiver is dropped, and gives those with bulk frames to the gateway.
pub(crate) fn accept(listener: TcpListener, gateway: Arc<Gateway>) -> Incoming {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(accept_into(listener, sender, gateway));
    ReceiverStream::new(receiver)
}

async fn accept_into(
    listener: TcpListener,
    sender: mpsc::Sender<io::Result<Connection>>,
    gateway: Arc<Gateway>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => {
                let connection = Connection { stream, _permit: permit };
                tokio::spawn(lead(connection, sender.clone(), gateway.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Leads a connection to where its first byte belongs. One that says nothing is closed.
async fn lead(
    mut connection: Connection,
    sender: mpsc::Sender<io::Result<Connection>>,
    gateway: Arc<Gateway>,
) {
    let mut first = [0];
    let peeked = tokio::time::timeout(FIRST_BYTE_TIMEOUT, connection.stream.peek(&mut first)).await;
    match peeked {
        Ok(Ok(1)) if first[0] == BULK_FIRST_BYTE => gateway.serve(&mut connection.stream).await,
        Ok(Ok(1)) => {
            if sender.send(Ok(connection)).await.is_err() {
                tracing::debug!("a connection came as the master ended");
            }
        }
        ended => {
            tracing::debug!(peer = ?connection.stream.peer_addr().ok(), ?ended, "a connection said nothing")
        }
    }
}

/// A connection that counts as one until it is dropped.
pub(crate) struct Connection {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The address that was really bound.
pub(crate) async fn bind(listen: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
