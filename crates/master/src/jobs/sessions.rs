//! The open streams of workers, as the thread of turns sees them: what waits to be told to each.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_proto::ids::{Epoch, WorkerId};
use gristmill_proto::task::order::Order as Kind;
use gristmill_proto::task::{Order, Refused, ToWorker, refused};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use crate::core::SessionId;

/// Messages that wait for one worker. One that is this far behind has its stream closed: it registers again, and is
/// told what it missed. A turn makes few messages a worker, so this is minutes of a busy cluster.
const MESSAGES_WAITING_MAX: usize = 1024;
/// Bytes that wait for one worker, for the same reason: a few of the largest messages, which hold cuts.
const BYTES_WAITING_MAX: usize = 64 << 20;
/// Orders go together up to about this size, below what gRPC takes in one message.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Orders of one message, so that the first of them does not wait for long.
const ORDERS_MAX: usize = 512;

/// The way to one worker: messages, and what of them waits.
pub(super) struct Outgoing {
    messages: mpsc::Sender<ToWorker>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Dropped with this: whoever reads the worker's notices stops.
    _open: oneshot::Sender<Infallible>,
}

/// The worker's side of it.
pub(super) struct Incoming {
    pub(super) messages: mpsc::Receiver<ToWorker>,
    pub(super) waiting_bytes: Arc<AtomicUsize>,
    /// Ends when the way is closed.
    pub(super) closed: oneshot::Receiver<Infallible>,
}

/// A way to a worker.
pub(super) fn outgoing() -> (Outgoing, Incoming) {
    let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
    let (open, closed) = oneshot::channel();
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let outgoing = Outgoing { messages: sender, waiting_bytes: waiting_bytes.clone(), _open: open };
    (outgoing, Incoming { messages, waiting_bytes, closed })
}

impl Outgoing {
    /// Puts a message into the queue; false: the worker is too slow, or gone.
    fn send(&self, message: ToWorker) -> bool {
        let bytes = message.encoded_len();
        if self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > BYTES_WAITING_MAX {
            return false;
        }
        self.messages.try_send(message).is_ok()
    }
}

struct Session {
    outgoing: Outgoing,
    /// Once it is welcome.
    worker: Option<WorkerId>,
    /// Of this turn.
    orders: Vec<Order>,
    /// A heartbeat came in this turn: the worker is told that it was heard, even if there is nothing to do.
    heard: bool,
}

/// All open streams.
pub(super) struct Sessions {
    epoch: Epoch,
    open: HashMap<SessionId, Session>,
    by_worker: HashMap<WorkerId, SessionId>,
    /// Those with something to be told, in the order in which it came up.
    touched: Vec<SessionId>,
}

impl Sessions {
    pub(super) fn new(epoch: Epoch) -> Sessions {
        Sessions { epoch, open: HashMap::new(), by_worker: HashMap::new(), touched: Vec::new() }
    }

    pub(super) fn open(&mut self, id: SessionId, outgoing: Outgoing) {
        self.open.insert(id, Session { outgoing, worker: None, orders: Vec::new(), heard: false });
    }

    pub(super) fn is_open(&self, id: SessionId) -> bool {
        self.open.contains_key(&id)
    }

    /// Whose stream it is.
    pub(super) fn worker(&self, id: SessionId) -> Option<WorkerId> {
        self.open.get(&id)?.worker
    }

    /// The worker's stream is this one. An earlier one ends: nothing more of it reaches the core.
    pub(super) fn welcome(&mut self, id: SessionId, worker: WorkerId) {
        if let Some(earlier) = self.by_worker.insert(worker, id).filter(|&earlier| earlier != id) {
            self.refuse(
                earlier,
                refused::Reason::Replaced,
                "the worker has opened another stream".to_owned(),
            );
        }
        self.by_worker.insert(worker, id);
        if let Some(session) = self.open.get_mut(&id) {
            session.worker = Some(worker);
        }
    }

    /// Something to be told at the end of the turn. To a stream that has ended nothing is told.
    pub(super) fn tell(&mut self, id: SessionId, order: Kind) -> bool {
        let Some(session) = self.open.get_mut(&id) else {
            return false;
        };
        if session.orders.is_empty() && !session.heard {
            self.touched.push(id);
        }
        session.orders.push(Order { order: Some(order) });
        true
    }

    /// A heartbeat is to be answered at the end of the turn.
    pub(super) fn heard(&mut self, id: SessionId) {
        if let Some(session) = self.open.get_mut(&id) {
            if session.orders.is_empty() && !session.heard {
                self.touched.push(id);
            }
            session.heard = true;
        }
    }

    /// Says why, and ends the stream.
    pub(super) fn refuse(&mut self, id: SessionId, reason: refused::Reason, detail: String) {
        self.tell(id, Kind::Refused(Refused { reason: reason.into(), detail }));
        if let Some(mut session) = self.remove(id)
            && !send_all(self.epoch, &mut session)
        {
            tracing::debug!(session = id.0, "its stream ends without a word");
        }
    }

    /// Tells every worker that the cluster has ended.
    pub(super) fn dismiss(&mut self) {
        for id in self.open.keys().copied().collect::<Vec<SessionId>>() {
            self.refuse(id, refused::Reason::Ended, "the cluster has ended".to_owned());
        }
    }

    /// Ends the stream; says whether it was open.
    pub(super) fn close(&mut self, id: SessionId) -> bool {
        self.remove(id).is_some()
    }

    /// Sends what was told in this turn. Streams that do not take it are closed, and returned.
    pub(super) fn flush(&mut self) -> Vec<SessionId> {
        let mut cut = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(session) = self.open.get_mut(&id) else {
                continue; // It ended in this turn.
            };
            session.heard = false;
            if !send_all(self.epoch, session) {
                let worker = session.worker.map(tracing::field::display);
                tracing::warn!(
                    worker,
                    session = id.0,
                    "too much waits for a worker: its stream is closed, it has to register again"
                );
                cut.push(id);
            }
        }
        cut.retain(|&id| self.close(id));
        cut
    }

    fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.open.remove(&id)?;
        if let Some(worker) = session.worker
            && self.by_worker.get(&worker) == Some(&id)
        {
            self.by_worker.remove(&worker);
        }
        Some(session)
    }
}

/// Sends the orders of a session in messages of a bounded size; without orders one empty message, which says that the
/// worker was heard. False: the queue is full.
fn send_all(epoch: Epoch, session: &mut Session) -> bool {
    let mut message = ToWorker { epoch: epoch.0, orders: Vec::new() };
    let mut bytes = 0;
    for order in session.orders.drain(..) {
        let length = order.encoded_len();
        if !message.orders.is_empty()
            && (bytes + length > MESSAGE_BYTES_MAX || message.orders.len() == ORDERS_MAX)
        {
            let full = std::mem::replace(&mut message, ToWorker { epoch: epoch.0, orders: Vec::new() });
            if !session.outgoing.send(full) {
                return false;
            }
            bytes = 0;
        }
        bytes += length;
        message.orders.push(order);
    }
    session.outgoing.send(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::task::{Drain, Launch, ReadLog};

    fn one() -> (Sessions, SessionId, Incoming) {
        let mut sessions = Sessions::new(Epoch(3));
        let (outgoing, incoming) = outgoing();
        sessions.open(SessionId(1), outgoing);
        sessions.welcome(SessionId(1), WorkerId(7));
        (sessions, SessionId(1), incoming)
    }

    fn large() -> Kind {
        Kind::ReadLog(ReadLog { attempt: None, request: u64::MAX, ..ReadLog::default() })
    }

    #[test]
    fn orders_of_a_turn_go_together_and_in_order() {
        let (mut sessions, id, mut incoming) = one();
        assert!(sessions.tell(id, Kind::Drain(Drain { undo: true })));
        assert!(sessions.tell(id, Kind::Launch(Launch::default())));
        assert_eq!(sessions.flush(), []);
        let message = incoming.messages.try_recv().unwrap();
        assert_eq!((message.epoch, message.orders.len()), (3, 2));
        assert!(matches!(message.orders[0].order, Some(Kind::Drain(_))));
        assert!(incoming.messages.try_recv().is_err());
        assert!(!sessions.tell(SessionId(2), Kind::Drain(Drain { undo: true })), "nobody has this stream");
    }

    #[test]
    fn a_heartbeat_is_answered_though_there_is_nothing_to_do() {
        let (mut sessions, id, mut incoming) = one();
        sessions.heard(id);
        sessions.heard(id);
        assert_eq!(sessions.flush(), []);
        assert_eq!(incoming.messages.try_recv().unwrap().orders, []);
        assert!(incoming.messages.try_recv().is_err(), "once a turn");
    }

    #[test]
    fn many_orders_are_split_and_a_worker_that_takes_none_is_cut_off() {
        let (mut sessions, id, mut incoming) = one();
        for _ in 0..ORDERS_MAX + 1 {
            sessions.tell(id, large());
        }
        assert_eq!(sessions.flush(), []);
        assert_eq!(incoming.messages.try_recv().unwrap().orders.len(), ORDERS_MAX);
        assert_eq!(incoming.messages.try_recv().unwrap().orders.len(), 1);
        for turn in 0..=MESSAGES_WAITING_MAX {
            sessions.tell(id, large());
            let cut = sessions.flush();
            assert_eq!(cut.is_empty(), turn < MESSAGES_WAITING_MAX, "after {turn} messages");
        }
        assert!(!sessions.is_open(id));
        assert!(incoming.closed.try_recv().is_err(), "its reader learns of it");
    }

    #[test]
    fn a_worker_that_comes_again_replaces_its_earlier_stream() {
        let (mut sessions, id, mut incoming) = one();
        let (outgoing, _later) = outgoing();
        sessions.open(SessionId(2), outgoing);
        sessions.welcome(SessionId(2), WorkerId(7));
        assert!(!sessions.is_open(id));
        let message = incoming.messages.try_recv().unwrap();
        let Some(Kind::Refused(refused)) = &message.orders[0].order else { panic!("{message:?}") };
        assert_eq!(refused.reason(), refused::Reason::Replaced);
        assert_eq!(sessions.worker(SessionId(2)), Some(WorkerId(7)));
    }
}
