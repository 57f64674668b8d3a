//! Safe mode: after a start nothing is deleted, copied, or called missing, until the workers have reported.

use gristmill_proto::namespace;

use super::Blocks;

#[derive(Debug)]
pub(super) struct Safety {
    on: bool,
    by_hand: bool,
    /// Complete blocks as the namespace counted them, until all of them are in the map.
    promised: Option<u64>,
    /// Since when enough blocks are reported.
    reached_ms: Option<u64>,
}

impl Safety {
    pub(super) fn new(total: u64) -> Safety {
        Safety { on: total > 0, by_hand: false, promised: Some(total), reached_ms: None }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    pub(super) fn expected_all(&mut self) {
        self.promised = None;
    }

    /// A block became complete.
    pub(super) fn add(&mut self) {
        self.promised = self.promised.map(|total| total + 1);
    }

    /// A complete block was forgotten, or opened again.
    pub(super) fn subtract(&mut self) {
        self.promised = self.promised.map(|total| total.saturating_sub(1));
    }
}

impl Blocks {
    /// By hand: on until it is switched off by hand; off at once.
    pub fn set_safe_mode(&mut self, on: bool) {
        if on {
            (self.safety.on, self.safety.by_hand) = (true, true);
        } else if self.safety.on {
            self.leave_safe_mode();
        }
    }

    /// Whether it is on, and how far the reports are.
    pub fn safe_mode(&self) -> namespace::SafeMode {
        namespace::SafeMode {
            on: self.safety.on,
            by_hand: self.safety.by_hand,
            blocks: self.total_blocks(),
            reported: self.map.reported(),
        }
    }

    pub(super) fn total_blocks(&self) -> u64 {
        self.safety.promised.unwrap_or(self.map.len())
    }

    pub(super) fn watch_safe_mode(&mut self) {
        if !self.safety.on || self.safety.by_hand {
            return;
        }
        let wanted = u128::from(self.total_blocks()) * u128::from(self.options.safe_mode_permille);
        if u128::from(self.map.reported()) * 1000 < wanted {
            self.safety.reached_ms = None;
            return;
        }
        let reached_ms = *self.safety.reached_ms.get_or_insert(self.now_ms);
        if self.now_ms >= reached_ms + self.options.safe_mode_grace_ms {
            self.leave_safe_mode();
        }
    }

    fn leave_safe_mode(&mut self) {
        (self.safety.on, self.safety.by_hand, self.safety.reached_ms) = (false, false, None);
        // While it was on, blocks were not looked at.
        self.sweep.want();
    }
}
