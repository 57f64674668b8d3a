//! Logs of attempts on their way from a worker to whoever asked: nothing of them stays here.

use std::collections::HashMap;

use gristmill_proto::task::LogPage;
use tokio::sync::mpsc;

use crate::core::SessionId;

/// Logs that are read at a time.
const READS_MAX: usize = 256;
/// Pages that wait for one reader: a whole log, as workers keep a megabyte of each.
const PAGES_WAITING_MAX: usize = 256;

struct Reading {
    session: SessionId,
    pages: mpsc::Sender<LogPage>,
}

/// The logs that are being read.
#[derive(Default)]
pub(super) struct Logs {
    last_request: u64,
    readings: HashMap<u64, Reading>,
}

impl Logs {
    /// The number of a new request to the worker of `session`, and its pages; none if too many are open.
    pub(super) fn begin(&mut self, session: SessionId) -> Option<(u64, mpsc::Receiver<LogPage>)> {
        self.readings.retain(|_, reading| !reading.pages.is_closed());
        if self.readings.len() >= READS_MAX {
            return None;
        }
        let (pages, receiver) = mpsc::channel(PAGES_WAITING_MAX);
        self.last_request += 1;
        self.readings.insert(self.last_request, Reading { session, pages });
        Some((self.last_request, receiver))
    }

    /// A page has come. Those of requests that nobody waits for, or of another worker, are dropped.
    pub(super) fn take(&mut self, session: SessionId, page: LogPage) {
        let request = page.request;
        let Some(reading) = self.readings.get(&request).filter(|reading| reading.session == session) else {
            tracing::debug!(session = session.0, request, "a page of a log that nobody reads");
            return;
        };
        let over = page.last || !page.failure.is_empty();
        if reading.pages.try_send(page).is_err() || over {
            self.readings.remove(&request);
        }
    }

    /// The stream has ended, and with it all pages.
    pub(super) fn closed(&mut self, session: SessionId) {
        self.readings.retain(|_, reading| reading.session != session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_reach_who_asked_and_come_from_who_was_asked() {
        let mut logs = Logs::default();
        let (request, mut pages) = logs.begin(SessionId(1)).unwrap();
        let page = |last| LogPage { request, last, bytes: "text".into(), ..LogPage::default() };
        logs.take(SessionId(2), page(false));
        assert!(pages.try_recv().is_err(), "another worker was not asked");
        logs.take(SessionId(1), page(false));
        logs.take(SessionId(1), page(true));
        logs.take(SessionId(1), page(true));
        assert_eq!(pages.try_recv().unwrap(), page(false));
        assert_eq!(pages.try_recv().unwrap(), page(true));
        assert_eq!(pages.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn they_end_with_the_stream_and_there_is_a_limit() {
        let mut logs = Logs::default();
        let mut open: Vec<_> = (0..READS_MAX).map(|_| logs.begin(SessionId(1)).unwrap()).collect();
        assert!(logs.begin(SessionId(1)).is_none());
        open.pop();
        open.push(logs.begin(SessionId(2)).unwrap());
        logs.closed(SessionId(1));
        assert_eq!(open[0].1.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(open[READS_MAX - 1].1.try_recv(), Err(mpsc::error::TryRecvError::Empty));
    }
}
