//! When each client last gave a sign of life. Pure: time comes in.
//!
//! Who writes which file is in the namespace and survives the master; when a client was last heard is not. After a
//! start every client counts as heard at that moment, so nobody loses a lease because the master was away.

use std::collections::HashMap;

use gristmill_proto::ids::ClientId;

/// Signs of life, by client.
#[derive(Debug, Default)]
pub struct Leases {
    heard_ms: HashMap<ClientId, u64>,
}

impl Leases {
    /// `client` is alive at `now_ms`.
    pub fn heard(&mut self, client: ClientId, now_ms: u64) {
        let last = self.heard_ms.entry(client).or_insert(now_ms);
        *last = now_ms.max(*last);
    }

    /// How long `client` has been silent. Who was never heard is silent since the start.
    pub fn idle_ms(&self, client: ClientId, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.heard_ms.get(&client).copied().unwrap_or(0))
    }

    /// Forgets who has been silent for longer than `limit_ms`: an unknown client is no less silent. Keeps the map
    /// as large as the number of clients of the last `limit_ms`.
    pub fn forget_silent(&mut self, limit_ms: u64, now_ms: u64) {
        self.heard_ms.retain(|_, heard| now_ms.saturating_sub(*heard) <= limit_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientId = ClientId([1; 16]);

    #[test]
    fn silence_is_counted_from_the_last_sign() {
        let mut leases = Leases::default();
        assert_eq!(leases.idle_ms(CLIENT, 70), 70, "never heard: since the start");
        leases.heard(CLIENT, 100);
        assert_eq!(leases.idle_ms(CLIENT, 160), 60);
        leases.heard(CLIENT, 90);
        assert_eq!(leases.idle_ms(CLIENT, 160), 60, "a late sign takes nothing away");
    }

    #[test]
    fn the_silent_are_forgotten_and_stay_silent() {
        let mut leases = Leases::default();
        leases.heard(CLIENT, 100);
        leases.forget_silent(50, 150);
        assert_eq!(leases.heard_ms.len(), 1);
        leases.forget_silent(50, 151);
        assert!(leases.heard_ms.is_empty());
        assert!(leases.idle_ms(CLIENT, 151) > 50);
    }
}
