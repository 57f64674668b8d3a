//! One thread for what may wait for disks, in order: removing, and reading logs.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use gristmill_proto::ids::{AttemptId, JobId};
use gristmill_proto::task::{LogPage, ReadLog};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::attempt::{Event, LogSlice, Workplace};
use crate::reap;

/// Chores that wait.
const CHORES_WAITING: usize = 4096;
/// Of a page of a log.
const PAGE_BYTES: u64 = 256 << 10;
/// Of a log read by one order, where it does not say: all that is ever kept.
const LOG_BYTES_MAX: u64 = 1 << 20;
const STACK_BYTES: usize = 256 << 10;

/// A thing to do.
pub(super) enum Chore {
    /// Everything of a job; `files` are its job files, by sum. Of one that has ended nothing is taken any more.
    RemoveJob {
        job: JobId,
        files: Vec<Vec<u8>>,
        has_ended: bool,
    },
    /// A map output.
    DropOutput(AttemptId),
    /// All of them.
    DropAllOutputs,
    ReadLog(ReadLog),
    /// Logs that are old enough.
    ForgetLogs,
}

/// The thread. It ends with this.
pub(super) struct Housekeeper {
    workplace: Arc<Workplace>,
    chores: Option<SyncSender<Chore>>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeper {
    pub(super) fn start(workplace: Arc<Workplace>, events: mpsc::Sender<Event>) -> io::Result<Housekeeper> {
        let (chores, queue) = sync_channel(CHORES_WAITING);
        let thread = Builder::new().name("housekeeper".to_owned()).stack_size(STACK_BYTES);
        let place = Arc::clone(&workplace);
        let thread = thread.spawn(move || keep_house(&place, &queue, &events))?;
        Ok(Housekeeper { workplace, chores: Some(chores), thread: Some(thread) })
    }

    /// Has it done. When far too much waits already, the caller does it, but for logs, which are refused. The caller must
    /// not wait for the housekeeper, who may be waiting for it to take an event.
    pub(super) fn give(&self, chore: Chore) -> Option<Event> {
        let chores = self.chores.as_ref().expect("it runs until this is dropped");
        match chores.try_send(chore) {
            Ok(()) => None,
            Err(TrySendError::Full(chore) | TrySendError::Disconnected(chore)) => {
                tidy(&self.workplace, chore)
            }
        }
    }
}

impl Drop for Housekeeper {
    /// What was given is done first.
    fn drop(&mut self) {
        drop(self.chores.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the housekeeper panicked");
        }
    }
}

/// Nobody listens any more.
#[derive(Debug, Error)]
#[error("the worker has ended")]
struct Gone;

fn tell(events: &mpsc::Sender<Event>, event: Event) -> Result<(), Gone> {
    events.blocking_send(event).map_err(|_unheard| Gone)
}

fn keep_house(workplace: &Workplace, chores: &Receiver<Chore>, events: &mpsc::Sender<Event>) {
    for chore in chores {
        let told = match chore {
            Chore::ReadLog(order) => read_log(workplace, &order, events),
            chore => tidy(workplace, chore).map_or(Ok(()), |event| tell(events, event)),
        };
        if let Err(ended) = told {
            tracing::debug!(%ended, "tidied up for nobody");
        }
    }
}

/// Does anything but read logs: that is refused.
fn tidy(workplace: &Workplace, chore: Chore) -> Option<Event> {
    match chore {
        Chore::RemoveJob { job, files, has_ended } => {
            if has_ended {
                workplace.store.end_job(job);
            }
            remove_job(workplace, job, &files);
            return Some(Event::Tidied);
        }
        Chore::DropAllOutputs => {
            workplace.store.list().into_iter().for_each(|attempt| drop_output(workplace, attempt));
            return Some(Event::Tidied);
        }
        Chore::DropOutput(attempt) => drop_output(workplace, attempt),
        Chore::ForgetLogs => {
            if let Err(error) = workplace.logs.forget(Instant::now()) {
                tracing::warn!(%error, "old logs cannot be removed");
            }
        }
        Chore::ReadLog(order) => {
            return Some(refusal(order.request, "this worker has too much to tidy up: try again"));
        }
    }
    None
}

fn refusal(request: u64, reason: impl Into<String>) -> Event {
    Event::Log(LogPage { request, last: true, failure: reason.into(), ..LogPage::default() })
}

fn drop_output(workplace: &Workplace, attempt: AttemptId) {
    if let Err(error) = workplace.store.remove(attempt) {
        tracing::warn!(%attempt, error = &error as &dyn std::error::Error, "a map output cannot be removed");
    }
}

fn remove_job(workplace: &Workplace, job: JobId, files: &[Vec<u8>]) {
    // A program may have left a process that nothing but its mark tells of.
    let marked: io::Result<usize> =
        workplace.scratch.job_dirs(job).iter().map(|dir| reap::kill_marked(dir)).sum();
    match marked {
        Ok(0) => {}
        Ok(killed) => tracing::warn!(%job, killed, "ended processes that outlived their job"),
        Err(error) => tracing::warn!(%job, %error, "what outlived the job cannot be ended"),
    }
    let removed = workplace.scratch.remove_job(job);
    if let Err(error) = removed {
        tracing::warn!(%job, error = &error as &dyn std::error::Error, "scratch cannot be removed");
    }
    if let Err(error) = workplace.store.remove_job(job) {
        tracing::warn!(%job, error = &error as &dyn std::error::Error, "map outputs cannot be removed");
    }
    for sha256 in files {
        if let Err(error) = workplace.job_files.remove(sha256) {
            tracing::warn!(%job, error = &error as &dyn std::error::Error, "the job's file cannot be removed");
        }
    }
    workplace.logs.end_job(Instant::now(), job);
    tracing::info!(%job, "job has ended here");
}

/// Answers in pages.
fn read_log(workplace: &Workplace, order: &ReadLog, events: &mpsc::Sender<Event>) -> Result<(), Gone> {
    let request = order.request;
    let found = order.attempt.as_ref().and_then(|id| AttemptId::from_wire(id).ok());
    let Some(logs) = found.and_then(|attempt| workplace.logs.find(attempt)) else {
        let reason = "this worker has no log of the attempt: it is too old, or the worker was started anew";
        return tell(events, refusal(request, reason));
    };
    let capture = if order.stderr { &logs.stderr } else { &logs.stdout };
    let wanted = if order.bytes_max == 0 { LOG_BYTES_MAX } else { order.bytes_max.min(LOG_BYTES_MAX) };
    let (mut offset, mut left) = (order.offset, wanted);
    loop {
        let (page, last) = match capture.read(offset, left.min(PAGE_BYTES)) {
            Ok(LogSlice { bytes, dropped_bytes, last }) => {
                offset += dropped_bytes + bytes.len() as u64;
                left -= bytes.len() as u64;
                let last = last || left == 0;
                let bytes = Bytes::from(bytes);
                (Event::Log(LogPage { request, bytes, last, dropped_bytes, failure: String::new() }), last)
            }
            Err(error) => (refusal(request, format!("the log cannot be read: {error}")), true),
        };
        tell(events, page)?;
        if last {
            return Ok(());
        }
    }
}
