//! Reads all finished replicas again and again, slowly, to find what the disk has spoiled before a reader does (Hadoop:
//! `VolumeScanner`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::ids::{BlockId, Generation};

use super::block_store::{BlockStore, ReplicaError};

/// Replicas looked up at a time.
const BATCH: usize = 256;
/// How soon a stop is noticed.
const NAP: Duration = Duration::from_millis(50);
/// How often the place is written down: so much is read twice after a restart.
const SAVE_INTERVAL: Duration = Duration::from_secs(600);
/// How often idle volumes are tried.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// A place is some digits; more is none of ours.
const PLACE_BYTES_MAX: u64 = 64;

/// How fast to read.
#[derive(Clone, Copy, Debug)]
pub struct Scrubber {
    /// Bytes a second, of all volumes together. At least 1.
    pub bytes_per_s: u64,
    /// From the start of one lap to that of the next, if the lap does not take longer.
    pub lap_interval: Duration,
}

/// What a lap found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lap {
    /// Replicas that are well.
    pub good: u64,
    /// Replicas that are bad, and have been announced.
    pub bad: u64,
    /// Replicas that changed meanwhile, or could not be read for other reasons than their own.
    pub skipped: u64,
}

impl Default for Scrubber {
    /// A hundredth of what a disk can do, or 500 GB in 17 hours; once a day if there is less.
    fn default() -> Scrubber {
        Scrubber { bytes_per_s: 8 << 20, lap_interval: Duration::from_secs(24 * 3600) }
    }
}

impl Scrubber {
    /// Scrubs until `stop` is set; volumes are tried as well. It goes on where the last one stopped.
    pub fn run(&self, store: &BlockStore, stop: &AtomicBool) {
        let mut walk = Walk::new(self, store, stop);
        walk.after = store.home().map_or(BlockId(0), |home| load(&home));
        while !stop.load(Ordering::Acquire) {
            let started = Instant::now();
            let lap = walk.lap();
            if !stop.load(Ordering::Acquire) {
                tracing::info!("{} replicas are well, {} bad, {} skipped", lap.good, lap.bad, lap.skipped);
                walk.after = BlockId(0);
            }
            walk.save();
            walk.rest_until(started + self.lap_interval);
        }
    }

    /// Scrubs all replicas once, or until `stop` is set.
    pub fn lap(&self, store: &BlockStore, stop: &AtomicBool) -> Lap {
        Walk::new(self, store, stop).lap()
    }
}

/// A scrubber on its way.
struct Walk<'s> {
    store: &'s BlockStore,
    stop: &'s AtomicBool,
    bytes_per_s: u64,
    /// The last replica that is done.
    after: BlockId,
    /// When what was read so far is paid for.
    due: Instant,
    saved: Instant,
    probed: Instant,
}

impl<'s> Walk<'s> {
    fn new(scrubber: &Scrubber, store: &'s BlockStore, stop: &'s AtomicBool) -> Walk<'s> {
        let now = Instant::now();
        let bytes_per_s = scrubber.bytes_per_s.max(1);
        Walk { store, stop, bytes_per_s, after: BlockId(0), due: now, saved: now, probed: now }
    }

    fn lap(&mut self) -> Lap {
        let mut lap = Lap::default();
        loop {
            let replicas = self.store.replicas_after(self.after, BATCH);
            if replicas.is_empty() {
                return lap;
            }
            for replica in replicas {
                self.look_at(&replica, &mut lap);
                if self.stop.load(Ordering::Acquire) {
                    // In the middle of it, perhaps.
                    return lap;
                }
                self.after = BlockId(replica.block);
                self.chores();
            }
        }
    }

    fn look_at(&mut self, replica: &ReplicaInfo, lap: &mut Lap) {
        let (store, stop, bytes_per_s) = (self.store, self.stop, self.bytes_per_s);
        let due = &mut self.due;
        let verified = store.scrub(BlockId(replica.block), Generation(replica.generation), &mut |bytes| {
            let now = Instant::now();
            *due = (*due).max(now) + Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64);
            wait(*due, stop)
        });
        match verified {
            Ok(true) => lap.good += 1,
            // Stopped in the middle.
            Ok(false) => lap.skipped += 1,
            Err(ReplicaError::Corrupt { .. }) => lap.bad += 1,
            Err(error) => {
                tracing::debug!("not scrubbed: {error}");
                lap.skipped += 1;
            }
        }
    }

    fn chores(&mut self) {
        if self.probed.elapsed() >= PROBE_INTERVAL {
            self.store.probe_volumes();
            self.probed = Instant::now();
        }
        if self.saved.elapsed() >= SAVE_INTERVAL {
            self.save();
        }
    }

    fn rest_until(&mut self, next: Instant) {
        loop {
            let now = Instant::now();
            if now >= next || !wait(next.min(now + PROBE_INTERVAL), self.stop) {
                return;
            }
            self.chores();
        }
    }

    /// Writes down how far it came. Losing that costs no more than reading some replicas again.
    fn save(&mut self) {
        self.saved = Instant::now();
        let Some(home) = self.store.home() else { return };
        if let Err(error) = save(&home, self.after) {
            tracing::warn!("the place of the scrubber cannot be written to {}: {error}", home.display());
        }
    }
}

/// Waits until `due`; false if it was stopped before.
fn wait(due: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Acquire) {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(NAP));
    }
}

fn path_in(home: &Path) -> PathBuf {
    home.join("scrub")
}

fn save(home: &Path, after: BlockId) -> io::Result<()> {
    let new = home.join("scrub.new");
    fs::write(&new, format!("{}\n", after.0))?;
    fs::rename(&new, path_in(home))
}

/// The place written down; the start if there is none.
fn load(home: &Path) -> BlockId {
    let path = path_in(home);
    let read = fs::metadata(&path).and_then(|metadata| {
        if metadata.len() > PLACE_BYTES_MAX {
            Err(io::ErrorKind::InvalidData.into())
        } else {
            fs::read_to_string(&path)
        }
    });
    match read.map(|text| text.trim_end().parse()) {
        Ok(Ok(block)) => return BlockId(block),
        Ok(Err(error)) => tracing::warn!("{}: {error}", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("{}: {error}", path.display()),
    }
    BlockId(0)
}
