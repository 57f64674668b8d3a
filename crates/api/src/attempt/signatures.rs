//! Requests to `s3://`, which the worker signs: this process has no keys.

use super::channel::Channel;
use gristmill_dfs::s3::{SignError, Signatures, UnsignedRequest};
use gristmill_proto::attempt::sign::Parameter;
use gristmill_proto::attempt::{Sign, Signed, from_attempt};
use std::collections::HashMap;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A worker that has not signed within this is as good as gone: it may have to fetch keys first.
const PATIENCE: Duration = Duration::from_secs(60);

/// The questions that wait for answers. As many as threads that ask: each waits.
pub(super) struct WorkerSignatures {
    channel: Arc<Channel>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    senders: HashMap<u64, SyncSender<Signed>>,
    closed: bool,
}

impl WorkerSignatures {
    pub(super) fn new(channel: &Arc<Channel>) -> WorkerSignatures {
        WorkerSignatures { channel: channel.clone(), waiting: Mutex::default() }
    }

    /// The worker has answered.
    pub(super) fn answer(&self, signed: Signed) {
        let sender = self.waiting(|waiting| waiting.senders.remove(&signed.request));
        // Nobody waits any more if the answer came too late.
        if let Some(sender) = sender
            && sender.send(signed).is_err()
        {
            eprintln!("warning: a signature came too late");
        }
    }

    /// The worker will not answer any more.
    pub(super) fn close(&self) {
        self.waiting(|waiting| {
            waiting.closed = true;
            waiting.senders.clear();
        });
    }

    fn waiting<T>(&self, act: impl FnOnce(&mut Waiting) -> T) -> T {
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Signatures for WorkerSignatures {
    fn sign(&self, request: &UnsignedRequest) -> Result<String, SignError> {
        let gone = || SignError::Refused("the worker is gone".to_owned());
        let (sender, answer) = mpsc::sync_channel(1);
        let number = self.waiting(|waiting| {
            waiting.next += 1;
            if !waiting.closed {
                waiting.senders.insert(waiting.next, sender);
            }
            waiting.next
        });
        let parameter =
            |(name, value): &(String, String)| Parameter { name: name.clone(), value: value.clone() };
        let sign = Sign {
            request: number,
            method: request.method.clone(),
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            query: request.query.iter().map(parameter).collect(),
        };
        self.channel.say(from_attempt::Message::Sign(sign)).map_err(|_| gone())?;
        let signed = answer.recv_timeout(PATIENCE).map_err(|_| {
            self.waiting(|waiting| waiting.senders.remove(&number));
            gone()
        })?;
        if signed.url.is_empty() { Err(SignError::Refused(signed.refusal)) } else { Ok(signed.url) }
    }
}
