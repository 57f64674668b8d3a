//! The connections of one server: how many there may be, and how they are told to leave.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::inbound::Stop;

/// How long connections may take to notice that they are to stop in the middle of their work.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct GuestLimits {
    /// All together.
    pub connections_max: u32,
    /// Of them from one address: nobody takes all.
    pub peer_connections_max: u32,
}

/// The connections open now. When the server ends, idle ones leave at once, and those at work when they are told to stop.
#[derive(Debug)]
pub struct Guests {
    limits: GuestLimits,
    seats: Mutex<Seats>,
    /// Told when a guest leaves.
    left: Condvar,
    ending: AtomicBool,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Seats {
    total: u32,
    by_peer: HashMap<Option<IpAddr>, u32>,
}

impl Guests {
    /// None yet.
    pub fn new(limits: GuestLimits) -> Arc<Guests> {
        Arc::new(Guests {
            limits,
            seats: Mutex::default(),
            left: Condvar::new(),
            ending: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        })
    }

    /// A seat for a connection of `peer` (`None`: of this machine), or none if there are too many.
    pub fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Arc<Guest>> {
        let mut seats = self.seats();
        let of_peer = seats.by_peer.get(&peer).copied().unwrap_or(0);
        if seats.total >= self.limits.connections_max || of_peer >= self.limits.peer_connections_max {
            return None;
        }
        seats.total += 1;
        seats.by_peer.insert(peer, of_peer + 1);
        Some(Arc::new(Guest { guests: Arc::clone(self), peer, at_work: AtomicBool::new(false) }))
    }

    /// Whether nothing new may be begun.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Whether what is still under way is to be left.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Nothing new is begun from here on.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// After [`Guests::end`]: gives those at work `grace` to end, and then tells them to stop. Returns how many do not.
    pub fn see_off(&self, grace: Duration) -> u32 {
        let working = self.wait_until_empty(grace);
        self.stopped.store(true, Ordering::Release);
        if working > 0 { self.wait_until_empty(STOP_TIMEOUT) } else { 0 }
    }

    /// Waits until no connection is left, no longer than `patience`. Returns how many there are.
    fn wait_until_empty(&self, patience: Duration) -> u32 {
        let deadline = Instant::now() + patience;
        let mut seats = self.seats();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if seats.total == 0 || left.is_zero() {
                return seats.total;
            }
            seats = self.left.wait_timeout(seats, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seat of one connection, free again when it is dropped.
#[derive(Debug)]
pub struct Guest {
    guests: Arc<Guests>,
    peer: Option<IpAddr>,
    /// Whether a request is being served: then it is not left at the first word.
    at_work: AtomicBool,
}

impl Guest {
    /// Says whether a request is being served.
    pub fn set_at_work(&self, at_work: bool) {
        self.at_work.store(at_work, Ordering::Relaxed);
    }

    /// Whether this connection is to end now.
    pub fn is_to_leave(&self) -> bool {
        if self.at_work.load(Ordering::Relaxed) { self.guests.is_stopped() } else { self.guests.is_ending() }
    }

    /// For whoever waits on the connection.
    pub fn stop(self: &Arc<Self>) -> Stop {
        let guest = Arc::clone(self);
        Arc::new(move || guest.is_to_leave())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut seats = self.guests.seats();
        seats.total -= 1;
        if let Some(of_peer) = seats.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                seats.by_peer.remove(&self.peer);
            }
        }
        self.guests.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(connections_max: u32, peer_connections_max: u32) -> Arc<Guests> {
        Guests::new(GuestLimits { connections_max, peer_connections_max })
    }

    #[test]
    fn nobody_takes_all_seats_and_a_seat_is_free_again() {
        let guests = guests(3, 2);
        let (greedy, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let first = guests.admit(greedy).expect("the first");
        let _second = guests.admit(greedy).expect("the second");
        assert!(guests.admit(greedy).is_none(), "two of one address is the most");
        let _third = guests.admit(other).expect("a seat is kept for others");
        assert!(guests.admit(None).is_none(), "three is the most");
        drop(first);
        assert!(guests.admit(greedy).is_some());
    }

    #[test]
    fn the_idle_leave_at_the_first_word_and_those_at_work_at_the_second() {
        let guests = guests(2, 2);
        let (idle, working) = (guests.admit(None).expect("a seat"), guests.admit(None).expect("a seat"));
        working.set_at_work(true);
        guests.end();
        assert!(idle.is_to_leave() && !working.is_to_leave());
        drop(idle);
        // Nobody waits for longer than it takes: this one never leaves by itself.
        assert_eq!(guests.see_off(Duration::ZERO), 1);
        assert!(working.is_to_leave());
        drop(working);
        assert_eq!(guests.see_off(Duration::from_secs(60)), 0);
    }
}
