//! The two times of a namenode: one for deciding, one for showing.

use std::time::Instant;

/// Reads both clocks. Decisions (leases, heartbeats, time-outs) rest on the monotonic one only, so that a jump of
/// the machine's date neither ends a lease early nor makes it last for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    /// Milliseconds since the namenode started: monotonic.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Milliseconds since 1970, for modification times and the expiry of tokens. Before 1970 it stands at 0.
    pub(crate) fn wall_ms(&self) -> u64 {
        gristmill_proto::wall_clock::now_ms()
    }
}
