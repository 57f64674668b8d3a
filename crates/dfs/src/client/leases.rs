//! Keeps the leases of this client alive while it has files open for writing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gristmill_proto::namespace::RenewLeases;
use gristmill_proto::namespace::call::Request;

use super::Inner;

/// A third of the soft limit: two renewals may get lost.
const RENEWALS_PER_LIMIT: u32 = 3;
/// A soft limit of zero in a greeting must not make the client spin.
const RENEWAL_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// How many files are open for writing.
#[derive(Clone, Default)]
pub(crate) struct OpenWriters(Arc<AtomicUsize>);

/// One open file; dropped when it is closed.
pub(crate) struct OpenWriter(Arc<AtomicUsize>);

impl OpenWriters {
    pub(crate) fn open(&self) -> OpenWriter {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenWriter(self.0.clone())
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for OpenWriter {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Renews while there are open files, until the client is gone. Opening one was itself a sign of life.
pub(crate) async fn renew(client: Weak<Inner>) {
    loop {
        let Some(interval) = client.upgrade().map(|client| interval(&client)) else { return };
        tokio::time::sleep(interval).await;
        let Some(client) = client.upgrade() else { return };
        if client.open_writers.any() {
            let renewed = client.connection.clone().call(Request::RenewLeases(RenewLeases {}));
            // Not waited for with the client in hand for longer than a call may take; the next round tries again.
            if let Err(error) = renewed.await {
                tracing::warn!(%error, "the leases of this client could not be renewed");
            }
        }
    }
}

fn interval(client: &Inner) -> Duration {
    let limit_ms = client.connection.welcome().map_or(0, |welcome| welcome.lease_soft_limit_ms);
    (Duration::from_millis(limit_ms) / RENEWALS_PER_LIMIT).max(RENEWAL_INTERVAL_MIN)
}
