//! Orders of the master, carried out by threads of their own: a slow disk or copy never stands before a heartbeat.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use gristmill_process::listener::THREAD_STACK_BYTES;
use gristmill_process::sentence;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{CheckReplica, ReplicaInfo, Settle, StopWriter, Stopped};
use gristmill_proto::ids::{BlockId, Epoch, Generation};

use super::copy::{Pace, copy};
use super::news::News;
use super::server::Service;

/// Threads for orders about this worker's own replicas: they wait for the disk, mostly.
const DISK_THREADS: usize = 2;
/// Orders that wait for a thread. The master gives an order again that was not carried out in time.
const WAITING_MAX: usize = 4_096;

/// Takes orders, and has threads that carry them out. They end with it.
pub(crate) struct Orders {
    disk: SyncSender<(Epoch, Order)>,
    copies: SyncSender<(Epoch, Order)>,
}

/// What the threads share.
struct Desk {
    service: Arc<Service>,
    news: Arc<News>,
    pace: Pace,
}

impl Orders {
    pub(crate) fn start(service: Arc<Service>, news: Arc<News>) -> io::Result<Orders> {
        let copy_threads = service.options.copies_max.max(1) as usize;
        let pace = Pace::new(service.options.copy_bytes_per_s);
        let desk = Arc::new(Desk { service, news, pace });
        let disk = start_threads("orders", DISK_THREADS, &desk)?;
        let copies = start_threads("copies", copy_threads, &desk)?;
        Ok(Orders { disk, copies })
    }

    /// Takes an order of `epoch`. Never waits: without room it is dropped, and said so.
    pub(crate) fn take(&self, epoch: Epoch, order: Order) {
        let queue = if matches!(order, Order::Replicate(_)) { &self.copies } else { &self.disk };
        match queue.try_send((epoch, order)) {
            Ok(()) => {}
            Err(TrySendError::Full((_, order))) => {
                tracing::warn!(?order, "{WAITING_MAX} orders wait already: one is dropped");
            }
            Err(TrySendError::Disconnected((_, order))) => tracing::error!(?order, "no thread takes orders"),
        }
    }
}

fn start_threads(name: &str, threads: usize, desk: &Arc<Desk>) -> io::Result<SyncSender<(Epoch, Order)>> {
    let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..threads {
        let (desk, receiver) = (Arc::clone(desk), Arc::clone(&receiver));
        let body = move || {
            while let Some((epoch, order)) = next(&receiver) {
                desk.carry_out(epoch, &order);
            }
        };
        Builder::new().name(name.to_owned()).stack_size(THREAD_STACK_BYTES).spawn(body)?;
    }
    Ok(sender)
}

fn next(receiver: &Mutex<Receiver<(Epoch, Order)>>) -> Option<(Epoch, Order)> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl Desk {
    fn carry_out(&self, epoch: Epoch, order: &Order) {
        // A later master may have come while it waited.
        let highest = self.service.standing.epoch();
        if epoch < highest || self.service.guests.is_ending() {
            tracing::warn!(%epoch, %highest, ?order, "dropped an order");
            return;
        }
        match order {
            Order::Delete(delete) => delete.replicas.iter().for_each(|replica| self.delete(replica)),
            Order::StopWriter(stop) => self.stop_writer(epoch, stop),
            Order::Settle(settle) => self.settle(settle),
            Order::Replicate(replicate) => {
                if let Err(error) = copy(&self.service, &self.pace, replicate) {
                    let block = BlockId(replicate.block);
                    tracing::warn!(%block, error = %sentence(&error), "a replica is not copied");
                }
            }
            Order::CheckReplica(check) => self.check(check),
            Order::Welcome(_) | Order::Refused(_) | Order::SendReport(_) => {
                unreachable!("the session keeps these")
            }
        }
    }

    /// A client met it bad. It is read from the disk now; what is wrong with it the store announces.
    fn check(&self, check: &CheckReplica) {
        let (block, generation) = (BlockId(check.block), Generation(check.generation));
        match self.service.store.check(block, generation) {
            Ok(replica) => {
                tracing::info!(%block, bytes = replica.bytes, "a replica that a client met bad is good here")
            }
            Err(error) => tracing::warn!(error = %sentence(&error), "a replica that a client met bad"),
        }
    }

    fn delete(&self, replica: &ReplicaInfo) {
        let (block, generation) = (BlockId(replica.block), Generation(replica.generation));
        // The store announces it, also if there was none.
        if let Err(error) = self.service.store.delete(block, generation) {
            tracing::warn!(error = %sentence(&error), "a replica is not deleted");
        }
    }

    fn stop_writer(&self, epoch: Epoch, stop: &StopWriter) {
        let (block, generation) = (BlockId(stop.block), Generation(stop.generation));
        let answer =
            Stopped { epoch: epoch.0, block: block.0, generation: generation.0, ..Stopped::default() };
        match self.service.store.stop_writer(block, generation) {
            Ok(Some(stopped)) => self.news.stopped(Stopped {
                generation_before: stopped.generation_before.0,
                bytes: stopped.bytes,
                found: true,
                ..answer
            }),
            Ok(None) => self.news.stopped(answer),
            // No answer: the master must not take a disk that fails for a replica that is not there.
            Err(error) => tracing::warn!(error = %sentence(&error), "a writer is not stopped"),
        }
    }

    fn settle(&self, settle: &Settle) {
        let (block, generation) = (BlockId(settle.block), Generation(settle.generation));
        // The store announces it as finished.
        if let Err(error) = self.service.store.settle(block, generation, settle.bytes) {
            tracing::warn!(error = %sentence(&error), "a replica is not settled");
        }
    }
}
