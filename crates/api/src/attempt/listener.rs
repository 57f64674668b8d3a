//! Hears what the worker says while the task runs.

use super::channel::{Channel, ChannelError};
use super::failure::Failure;
use super::signatures::WorkerSignatures;
use gristmill_dataflow::shuffle::Sources;
use gristmill_dfs::s3::use_signatures;
use gristmill_proto::attempt::to_attempt::Message;
use gristmill_proto::ids::JobId;
use gristmill_proto::task::attempt_failure::Kind;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

/// After it was told to stop, the task has so long to notice; an author's function may never.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// The process ends while its task still runs.
const EXIT_STOPPED: i32 = 1;

/// What was heard. Clones share it.
#[derive(Clone)]
pub(super) struct Listener {
    /// Where map outputs are.
    pub(super) sources: Sources,
    /// Signed requests that somebody waits for.
    pub(super) signatures: Arc<WorkerSignatures>,
    /// The task is to stop.
    pub(super) cancel: Arc<AtomicBool>,
    /// Why.
    reason: Arc<OnceLock<String>>,
}

/// Listens from now on, on a thread of its own.
pub(super) fn start(channel: &Arc<Channel>, job: JobId) -> Result<Listener, Failure> {
    let signatures = Arc::new(WorkerSignatures::new(channel));
    use_signatures(signatures.clone());
    let (cancel, reason) = (Arc::default(), Arc::default());
    let listener = Listener { sources: Sources::new(), signatures, cancel, reason };
    let (channel, hears) = (channel.clone(), listener.clone());
    let listen = move || {
        let reason = hears.listen(&channel, job);
        hears.stop(reason);
        thread::sleep(STOP_GRACE);
        std::process::exit(EXIT_STOPPED);
    };
    let started = thread::Builder::new().name("listener".to_owned()).spawn(listen);
    started.map_err(|error: io::Error| {
        Failure::new(Kind::Program, format!("cannot start a thread to hear the worker: {error}"))
    })?;
    Ok(listener)
}

impl Listener {
    /// Why the task was stopped, if it was.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Returns why the task is to stop.
    fn listen(&self, channel: &Channel, job: JobId) -> String {
        loop {
            match channel.hear().map(|heard| heard.message) {
                Ok(Some(Message::Outputs(news))) if JobId::from_wire(&news.job) == Some(job) => {
                    self.sources.learn(&news);
                }
                Ok(Some(Message::Outputs(_) | Message::Begin(_))) => {
                    return "the worker sent what belongs to another attempt".to_owned();
                }
                Ok(Some(Message::Signed(signed))) => self.signatures.answer(signed),
                Ok(Some(Message::Stop(stop))) => return stop.reason,
                // Of a later version: not meant for this one.
                Ok(None) => {}
                Err(ChannelError::Closed) => return "the worker is gone".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    fn stop(&self, reason: String) {
        self.reason.get_or_init(|| reason);
        self.cancel.store(true, Ordering::Relaxed);
        self.sources.close();
        self.signatures.close();
    }
}
