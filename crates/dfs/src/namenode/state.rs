//! What all parts of a running namenode share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Orders, Refused};
use gristmill_proto::auth::{BLOCK_TOKEN_LIFETIME_MS, BlockKey, Secret};
use gristmill_proto::ids::{ClientId, Epoch, WorkerId};
use gristmill_proto::messages::BlockToken;
use tokio::sync::{mpsc, watch};

use super::NamenodeOptions;
use super::blocks::{self, Attendant, Blocks, Decision, Outbox};
use super::clock::Clock;
use super::leases::Leases;
use super::namespace::{LeaseClock, Namespace};

/// Orders that wait for one worker. A worker that is this far behind has its stream closed: it registers again and
/// reports in full, which repairs whatever it missed.
const ORDERS_WAITING_MAX: usize = 4096;

/// Operation bits of a block token (docs/protocol.md).
pub(crate) const READ: u32 = 1;
pub(crate) const WRITE: u32 = 2;

/// Lock order: `blocks`, then `connections`; `leases` and `decisions` are taken alone and briefly.
pub(crate) struct State {
    pub(crate) options: NamenodeOptions,
    pub(crate) namespace: Namespace,
    pub(crate) secret: Option<Secret>,
    pub(crate) clock: Clock,
    block_key: BlockKey,
    blocks: Mutex<Blocks>,
    leases: Mutex<Leases>,
    connections: Mutex<HashMap<WorkerId, Connection>>,
    decisions: Mutex<VecDeque<Decision>>,
    failure: watch::Sender<Option<String>>,
    read_only: AtomicBool,
}

/// The open stream to one worker.
struct Connection {
    from: Attendant,
    orders: mpsc::Sender<Orders>,
}

impl State {
    pub(crate) fn new(
        options: NamenodeOptions,
        namespace: Namespace,
        blocks: Blocks,
        secret: Option<Secret>,
        open_key: BlockKey,
        clock: Clock,
    ) -> State {
        let block_key = match &secret {
            Some(secret) => BlockKey::from_secret(secret, namespace.cluster()),
            None => open_key,
        };
        State {
            options,
            namespace,
            secret,
            clock,
            block_key,
            blocks: Mutex::new(blocks),
            leases: Mutex::default(),
            connections: Mutex::default(),
            decisions: Mutex::default(),
            failure: watch::Sender::new(None),
            read_only: AtomicBool::new(false),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.namespace.epoch()
    }

    /// The block side. Held for short, bounded work only.
    pub(crate) fn blocks(&self) -> MutexGuard<'_, Blocks> {
        lock(&self.blocks)
    }

    /// Copies of a block where a file does not say: as set, or by the number of live workers.
    pub(crate) fn default_replication(&self) -> u32 {
        self.options.replication.unwrap_or_else(|| blocks::default_replication(self.blocks().live_workers()))
    }

    pub(crate) fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    /// Whether the disk under the namespace is nearly full, as was last seen.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }

    /// The key of block tokens, for workers of a cluster without a secret. With a secret they make it themselves.
    pub(crate) fn open_key(&self) -> Vec<u8> {
        if self.secret.is_some() { Vec::new() } else { self.block_key.to_wire() }
    }

    /// A token that lets its bearer do `operations` with one block.
    pub(crate) fn token(&self, block: u64, generation: u64, operations: u32, user: &str) -> Vec<u8> {
        self.block_key.sign(&BlockToken {
            cluster_id: self.namespace.cluster().0.to_vec().into(),
            epoch: self.epoch().0,
            block,
            generation,
            operations,
            expires_ms: self.clock.wall_ms() + BLOCK_TOKEN_LIFETIME_MS,
            user: user.to_owned(),
        })
    }

    /// Opens the way for orders to a worker. An earlier way is closed.
    pub(crate) fn connect(&self, from: Attendant) -> mpsc::Receiver<Orders> {
        let (orders, receiver) = mpsc::channel(ORDERS_WAITING_MAX);
        lock(&self.connections).insert(from.worker, Connection { from, orders });
        receiver
    }

    /// Closes the way again, if it is still that of this stream; says whether it was.
    pub(crate) fn disconnect(&self, from: Attendant) -> bool {
        let mut connections = lock(&self.connections);
        let ours = connections.get(&from.worker).is_some_and(|connection| connection.from == from);
        if ours {
            connections.remove(&from.worker);
        }
        ours
    }

    /// Sends what the block side has decided. Decisions for the namespace wait for the committer.
    pub(crate) fn dispatch(&self, outbox: Outbox) {
        if !outbox.decisions.is_empty() {
            lock(&self.decisions).extend(outbox.decisions);
        }
        let mut connections = lock(&self.connections);
        for (worker, order) in outbox.orders {
            let Some(connection) = connections.get(&worker) else {
                continue; // Not connected: its next full report starts over.
            };
            let order = self.with_token(order);
            let orders = Orders {
                epoch: self.epoch().0,
                orders: vec![gristmill_proto::attendance::Order { order: Some(order) }],
            };
            if connection.orders.try_send(orders).is_err() {
                tracing::warn!(%worker, "too many orders wait: its stream is closed, it has to register again");
                connections.remove(&worker);
            }
        }
    }

    fn with_token(&self, order: Order) -> Order {
        match order {
            Order::Replicate(mut copy) => {
                copy.token = self.token(copy.block, copy.generation, READ | WRITE, "").into();
                Order::Replicate(copy)
            }
            other => other,
        }
    }

    /// Tells a worker that it was heard, with no orders: its lease begins anew. One that does not take its orders is not
    /// told, and stops taking blocks.
    pub(crate) fn answer_heartbeat(&self, from: Attendant) {
        let connections = lock(&self.connections);
        let Some(connection) = connections.get(&from.worker).filter(|connection| connection.from == from)
        else {
            return; // Its stream was replaced, and ended with that.
        };
        if connection.orders.try_send(Orders { epoch: self.epoch().0, orders: Vec::new() }).is_err() {
            tracing::debug!(worker = %from.worker, "a heartbeat is not answered: too many orders wait");
        }
    }

    /// Ends a worker's stream, saying why.
    pub(crate) fn refuse(&self, from: Attendant, refused: Refused) {
        tracing::warn!(worker = %from.worker, reason = refused.reason, detail = %refused.detail, "a worker was refused");
        let mut connections = lock(&self.connections);
        let ours = connections.get(&from.worker).filter(|connection| connection.from == from);
        let Some(connection) = ours else {
            return; // Its stream was replaced, and ended with that.
        };
        let order = gristmill_proto::attendance::Order { order: Some(Order::Refused(refused)) };
        let orders = Orders { epoch: self.epoch().0, orders: vec![order] };
        if connection.orders.try_send(orders).is_err() {
            tracing::debug!(worker = %from.worker, "its stream ends without a word");
        }
        connections.remove(&from.worker);
    }

    /// Takes at most `limit` decisions that wait for the namespace, oldest first.
    pub(crate) fn take_decisions(&self, limit: usize) -> Vec<Decision> {
        let mut decisions = lock(&self.decisions);
        let count = decisions.len().min(limit);
        decisions.drain(..count).collect()
    }

    /// The store cannot be trusted any more: after a failed sync the page cache may differ from the disk. The
    /// process has to end; what is committed is safe.
    pub(crate) fn fail(&self, error: String) {
        tracing::error!(%error, "the namespace's store failed: the master ends");
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(error);
            }
            first
        });
    }

    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }
}

impl LeaseClock for State {
    fn idle_ms(&self, client: ClientId) -> u64 {
        self.leases().idle_ms(client, self.clock.now_ms())
    }
}

/// A poisoned lock means that a thread panicked, which is a bug: what it guarded may be half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics with a lock of the namenode")
}
