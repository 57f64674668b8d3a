//! A disk in memory that remembers what is durable, fails when it is told to, and loses power.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// Writes are torn at multiples of this.
const SECTOR_BYTES: usize = 512;

/// Shared by the store that writes it and the story that pulls the plug.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As the store sees it.
    now: Vec<u8>,
    /// As of the last sync.
    durable: Vec<u8>,
    /// Since then, in order.
    unsynced: Vec<Change>,
    /// Changes and syncs so far,
    steps: u64,
    /// and which of them were syncs.
    syncs: Vec<u64>,
    fault: Option<Fault>,
    faults: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Resize(u64),
}

/// When steps fail: from one on for ever, or one only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) step: u64,
    pub(crate) for_ever: bool,
}

/// A small random number generator, the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

impl Disk {
    /// A disk with these bytes, all durable.
    pub(crate) fn of(bytes: Vec<u8>) -> Disk {
        let state = State { now: bytes.clone(), durable: bytes, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    /// What there is, all of it durable, on a disk of its own.
    pub(crate) fn copy(&self) -> Disk {
        Disk::of(self.0.lock().unwrap().now.clone())
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.0.lock().unwrap().fault = fault;
    }

    /// How many changes and syncs there were.
    pub(crate) fn steps(&self) -> u64 {
        self.0.lock().unwrap().steps
    }

    /// Which of them were syncs.
    #[allow(dead_code, reason = "of those that include this file, one asks")]
    pub(crate) fn syncs(&self) -> Vec<u64> {
        self.0.lock().unwrap().syncs.clone()
    }

    /// How many of them failed.
    pub(crate) fn faults(&self) -> u64 {
        self.0.lock().unwrap().faults
    }

    /// What is left after the power went: all that was synced, and of the rest what the dice say, torn or whole. A
    /// failed sync may have written anything.
    pub(crate) fn after_power_loss(&self, dice: &mut Dice) -> Disk {
        let state = self.0.lock().unwrap();
        let mut bytes = state.durable.clone();
        let keep_of_ten = dice.below(11);
        for change in &state.unsynced {
            if dice.below(10) >= keep_of_ten {
                continue;
            }
            match change {
                Change::Write(offset, data) if dice.below(4) == 0 => {
                    let sectors = data.len().div_ceil(SECTOR_BYTES) as u64;
                    let end = (dice.below(sectors + 1) as usize * SECTOR_BYTES).min(data.len());
                    apply(&mut bytes, &Change::Write(*offset, data[..end].to_vec()));
                }
                change => apply(&mut bytes, change),
            }
        }
        Disk::of(bytes)
    }
}

impl State {
    /// One more step, which may be the one that fails.
    fn step(&mut self) -> io::Result<()> {
        let step = self.steps;
        self.steps += 1;
        match self.fault {
            Some(fault) if step == fault.step || fault.for_ever && step > fault.step => {
                self.faults += 1;
                Err(io::Error::other("the disk fails"))
            }
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + out.len();
        let bytes = state.now.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Resize(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let step = state.steps;
        state.syncs.push(step);
        state.step()?;
        let changes = std::mem::take(&mut state.unsynced);
        changes.iter().for_each(|change| apply(&mut state.durable, change));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }
}

impl Disk {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let failed = state.step();
        if failed.is_ok() {
            apply(&mut state.now, &change);
        }
        // A write that failed may have reached the disk, in part.
        state.unsynced.push(change);
        failed
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Resize(len) => bytes.resize(*len as usize, 0),
        Change::Write(offset, data) => {
            let end = *offset as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(data);
        }
    }
}
