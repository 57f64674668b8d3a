//! One directory of replicas: its files, its room, its health.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gristmill_proto::attendance;
use gristmill_proto::ids::{BlockId, VolumeId};
use rustix::fs::{FlockOperation, flock, statvfs};

use super::StoreOpenError;
use super::broken_disk::{Access, heed};
use super::error::DiskError;
use super::names::{SumName, directory_named, directory_of};
use super::version::{Version, sync_directory};

/// How long the answer of the file system about its room is taken for true, bytes written since taken off.
const ROOM_KEPT: Duration = Duration::from_secs(1);
/// Names that a directory may have that is to become a volume: what mkfs leaves, and our own first steps.
const FIRST_NAMES: [&str; 3] = ["lost+found", "lock", "VERSION.new"];
/// A process id has at most so many digits.
const HOLDER_BYTES_MAX: u64 = 20;
/// More names than this under which a file set aside is looked for a free one are never taken.
const ASIDE_TRIES: u32 = 1000;

/// A directory of replicas, locked for this process.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) root: PathBuf,
    /// Its place among the volumes of the store.
    pub(super) number: u16,
    /// None: it failed before it could be read.
    id: Option<VolumeId>,
    /// Held, and with it the lock, as long as the store is open.
    _lock: Option<File>,
    reserve_bytes: u64,
    failed: AtomicBool,
    /// Bytes of all replicas.
    used: AtomicU64,
    /// Bytes that live writers may still write.
    promised: AtomicU64,
    /// Bytes written since `space` was asked for.
    written: AtomicU64,
    space: Mutex<Option<Space>>,
}

#[derive(Clone, Copy, Debug)]
struct Space {
    at: Instant,
    capacity_bytes: u64,
    available_bytes: u64,
}

impl Volume {
    /// Opens or makes the volume in `root`.
    pub(super) fn open(
        root: &Path,
        number: u16,
        reserve_bytes: u64,
    ) -> Result<(Volume, Version), StoreOpenError> {
        fs::create_dir_all(root).map_err(DiskError::on("create", root))?;
        let lock = lock(root)?;
        let version = match Version::read(root)? {
            Some(version) => version,
            None => {
                refuse_strange(root)?;
                let version = Version { volume: VolumeId::random(), identity: None };
                version.write(root)?;
                version
            }
        };
        let volume = Volume {
            id: Some(version.volume),
            _lock: Some(lock),
            ..Volume::absent(root, number, reserve_bytes)
        };
        volume.failed.store(false, Ordering::Release);
        volume.make_directories()?;
        Ok((volume, version))
    }

    /// A volume that could not be opened.
    pub(super) fn absent(root: &Path, number: u16, reserve_bytes: u64) -> Volume {
        Volume {
            root: root.to_owned(),
            number,
            id: None,
            _lock: None,
            reserve_bytes,
            failed: AtomicBool::new(true),
            used: AtomicU64::new(0),
            promised: AtomicU64::new(0),
            written: AtomicU64::new(0),
            space: Mutex::new(None),
        }
    }

    pub(super) fn id(&self) -> Option<VolumeId> {
        self.id
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Returns whether it was well until now.
    pub(super) fn set_failed(&self) -> bool {
        !self.failed.swap(true, Ordering::AcqRel)
    }

    pub(super) fn blocks(&self) -> PathBuf {
        self.root.join("blocks")
    }

    pub(super) fn directory(&self, block: BlockId) -> PathBuf {
        self.blocks().join(directory_of(block))
    }

    pub(super) fn data_path(&self, block: BlockId) -> PathBuf {
        self.directory(block).join(block.0.to_string())
    }

    pub(super) fn sums_path(&self, block: BlockId, name: SumName) -> PathBuf {
        self.directory(block).join(name.text(block))
    }

    pub(super) fn sync_directory(&self, block: BlockId) -> Result<(), DiskError> {
        sync_directory(&self.directory(block))
    }

    /// Gives a file its last name, and makes that durable. The directory is opened first: once the file has its name, only
    /// a broken disk can stand in the way.
    pub(super) fn rename(&self, block: BlockId, from: &Path, to: &Path) -> Result<(), DiskError> {
        let path = self.directory(block);
        let directory = File::open(&path).map_err(DiskError::on("open", &path))?;
        fs::rename(from, to).map_err(DiskError::on("rename to", to))?;
        directory.sync_all().map_err(DiskError::on("sync", &path))
    }

    /// Moves a file that nobody knows a use for out of the way, without losing it.
    pub(super) fn set_aside(&self, path: &Path) -> Result<PathBuf, DiskError> {
        let aside = self.root.join("aside");
        fs::create_dir_all(&aside).map_err(DiskError::on("create", &aside))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let free = (0..ASIDE_TRIES).map(|n| aside.join(format!("{name}.{n}"))).find(|to| !to.exists());
        let to = free.unwrap_or_else(|| aside.join(&name));
        fs::rename(path, &to).map_err(DiskError::on("set aside", path))?;
        Ok(to)
    }

    /// Whether the volume takes a new file and gives it back.
    pub(super) fn probe(&self) -> Result<(), DiskError> {
        let path = self.blocks().join("probe.new");
        heed(Access::Write, &path).map_err(DiskError::on("write", &path))?;
        let mut file = File::create(&path).map_err(DiskError::on("create", &path))?;
        file.write_all(b"probe").map_err(DiskError::on("write", &path))?;
        file.sync_all().map_err(DiskError::on("sync", &path))?;
        drop(file);
        fs::remove_file(&path).map_err(DiskError::on("remove", &path))
    }

    /// What the master is told.
    pub(super) fn report(&self) -> attendance::Volume {
        let id = self.id.map_or_else(|| self.root.display().to_string(), |id| id.to_string());
        let used_bytes = self.used.load(Ordering::Relaxed);
        let failed = attendance::Volume { id, used_bytes: 0, failed: true, ..Default::default() };
        if self.failed() {
            return failed;
        }
        match self.space() {
            Ok(space) => attendance::Volume {
                capacity_bytes: space.capacity_bytes,
                used_bytes,
                remaining_bytes: self.remaining(space),
                failed: false,
                ..failed
            },
            // Not to know is not to have failed: the probe decides that.
            Err(error) => {
                tracing::warn!("{error}");
                attendance::Volume { used_bytes, failed: false, ..failed }
            }
        }
    }

    /// Bytes that can still be given away: above the reserve, and not promised to a writer.
    pub(super) fn remaining_bytes(&self) -> Result<u64, DiskError> {
        self.space().map(|space| self.remaining(space))
    }

    /// The file system is asked again at the next occasion.
    pub(super) fn forget_room(&self) {
        *self.space.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn count_used(&self, before: u64, now: u64) {
        // Wrapping: the difference may be negative.
        self.used.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    fn remaining(&self, space: Space) -> u64 {
        let gone = [&self.written, &self.promised].map(|bytes| bytes.load(Ordering::Relaxed));
        gone.iter().fold(space.available_bytes.saturating_sub(self.reserve_bytes), |rest, gone| {
            rest.saturating_sub(*gone)
        })
    }

    fn space(&self) -> Result<Space, DiskError> {
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = space.filter(|space| space.at.elapsed() < ROOM_KEPT) {
            return Ok(known);
        }
        self.written.store(0, Ordering::Relaxed);
        let stat = statvfs(&self.root).map_err(io::Error::from);
        let stat = stat.map_err(DiskError::on("ask for the room of", &self.root))?;
        let now = Space {
            at: Instant::now(),
            capacity_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        };
        *space = Some(now);
        Ok(now)
    }

    fn make_directories(&self) -> Result<(), DiskError> {
        let blocks = self.blocks();
        let mut made = make_directory(&blocks)?;
        for low_byte in 0..=u8::MAX {
            made |= make_directory(&blocks.join(directory_named(low_byte)))?;
        }
        if made {
            sync_directory(&blocks)?;
            sync_directory(&self.root)?;
        }
        Ok(())
    }
}

/// Room that is kept for a writer; what is left of it is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Promise {
    volume: Arc<Volume>,
    left: u64,
}

impl Promise {
    pub(super) fn new(volume: Arc<Volume>, bytes: u64) -> Promise {
        volume.promised.fetch_add(bytes, Ordering::Relaxed);
        Promise { volume, left: bytes }
    }

    /// `bytes` more are on the disk.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.volume.written.fetch_add(bytes, Ordering::Relaxed);
        let of_promise = bytes.min(self.left);
        self.volume.promised.fetch_sub(of_promise, Ordering::Relaxed);
        self.left -= of_promise;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.volume.promised.fetch_sub(self.left, Ordering::Relaxed);
    }
}

/// Takes the volume for this process, or says who has it.
fn lock(root: &Path) -> Result<File, StoreOpenError> {
    let path = root.join("lock");
    OpenOptions::new().append(true).create(true).open(&path).map_err(DiskError::on("create", &path))?;
    let file = File::open(&path).map_err(DiskError::on("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.take(HOLDER_BYTES_MAX).read_to_string(&mut holder).map_err(DiskError::on("read", &path))?;
            return Err(StoreOpenError::Locked {
                directory: root.to_owned(),
                holder: holder.trim().to_owned(),
            });
        }
        Err(errno) => return Err(DiskError { what: "lock", path, source: errno.into() }.into()),
    }
    // For people: who has it.
    fs::write(&path, format!("{}\n", std::process::id())).map_err(DiskError::on("write", &path))?;
    Ok(file)
}

/// A directory that is no volume yet must be empty: it may be somebody else's.
fn refuse_strange(root: &Path) -> Result<(), StoreOpenError> {
    for entry in fs::read_dir(root).map_err(DiskError::on("list", root))? {
        let name = entry.map_err(DiskError::on("list", root))?.file_name();
        if !FIRST_NAMES.iter().any(|first| name == **first) {
            return Err(StoreOpenError::NotAVolume { directory: root.to_owned(), name });
        }
    }
    Ok(())
}

/// Returns whether it was not there.
fn make_directory(path: &Path) -> Result<bool, DiskError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(DiskError { what: "create", path: path.to_owned(), source }),
    }
}
