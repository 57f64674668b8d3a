//! How far an attempt is: written by its thread, read at each heartbeat.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use gristmill_proto::ids::AttemptId;
use gristmill_proto::task::AttemptProgress;

/// The progress of one attempt.
#[derive(Debug)]
pub(crate) struct ProgressCell {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    records: u64,
    bytes: u64,
    advanced: Instant,
}

impl ProgressCell {
    /// Of an attempt that begins now.
    pub(crate) fn new(now: Instant) -> ProgressCell {
        ProgressCell { state: Mutex::new(State { records: 0, bytes: 0, advanced: now }) }
    }

    /// The attempt says how far it is. What does not advance is no sign of life.
    pub(crate) fn set(&self, now: Instant, records: u64, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if records > state.records || bytes > state.bytes {
            *state = State { records, bytes, advanced: now };
        }
    }

    /// As a heartbeat says it.
    pub(crate) fn tell(&self, now: Instant, attempt: AttemptId) -> AttemptProgress {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let silent_ms = now.saturating_duration_since(state.advanced).as_millis() as u64;
        AttemptProgress {
            attempt: Some(attempt.to_wire()),
            records: state.records,
            bytes: state.bytes,
            silent_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::ids::{JobId, TaskId};
    use std::time::Duration;

    #[test]
    fn only_what_advances_breaks_the_silence() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let attempt = TaskId { job: JobId([1; 16]), stage: 0, task: 0 }.attempt(0);
        let cell = ProgressCell::new(start);
        cell.set(start + second, 5, 0);
        cell.set(start + second * 2, 5, 0);
        cell.set(start + second * 3, 4, 0);
        let told = cell.tell(start + second * 4, attempt);
        assert_eq!((told.records, told.silent_ms), (5, 3000));
    }
}
