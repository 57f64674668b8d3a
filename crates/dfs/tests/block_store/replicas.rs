//! Stores to try things with, and replicas of which every byte is known.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_dfs::datanode::block_store::{
    BlockStore, Change, ReplicaError, ReplicaReader, ReplicaWriter, StoreOpenError, StoreOptions, WriteStage,
};
use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::chunks::{CHUNK_BYTES, append_sums, verify};
use gristmill_proto::ids::{BlockId, Generation};
use tempfile::TempDir;

pub(crate) const CHUNK: usize = CHUNK_BYTES as usize;

/// Small volumes do.
pub(crate) const OPTIONS: StoreOptions = StoreOptions { reserve_bytes: 0 };

/// A store on volumes of its own.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) volumes: usize,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home::with_volumes(1)
    }

    /// In memory, for tests that make very many and need no disk.
    pub(crate) fn in_memory() -> Home {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Home { dir: dir.unwrap(), volumes: 1 }
    }

    pub(crate) fn with_volumes(volumes: usize) -> Home {
        Home { dir: tempfile::tempdir().unwrap(), volumes }
    }

    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        (0..self.volumes).map(|n| self.dir.path().join(format!("v{n}"))).collect()
    }

    pub(crate) fn open(&self) -> BlockStore {
        open_soon(&self.directories(), OPTIONS).unwrap()
    }

    /// The data file of a block on the first volume.
    pub(crate) fn data_path(&self, id: u64) -> PathBuf {
        directory_of(&self.directories()[0], id).join(id.to_string())
    }

    /// The checksum file of a block on the first volume, whatever its state.
    pub(crate) fn sums_path(&self, id: u64) -> PathBuf {
        let names = names_of(&self.directories()[0], id);
        let sums: Vec<&String> = names.iter().filter(|name| name.contains('_')).collect();
        assert_eq!(sums.len(), 1, "{names:?}");
        directory_of(&self.directories()[0], id).join(sums[0])
    }

    /// Names of all files of a block on the first volume, sorted.
    pub(crate) fn names(&self, id: u64) -> Vec<String> {
        names_of(&self.directories()[0], id)
    }
}

/// Opens a store that was open a moment ago. Another test may just be starting a process, which has this process's locks
/// until it is its own program.
pub(crate) fn open_soon(
    directories: &[PathBuf],
    options: StoreOptions,
) -> Result<BlockStore, StoreOpenError> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match BlockStore::open(directories, options) {
            Err(StoreOpenError::Locked { .. }) if Instant::now() < deadline => thread::yield_now(),
            opened => return opened,
        }
    }
}

pub(crate) fn directory_of(volume: &Path, id: u64) -> PathBuf {
    volume.join("blocks").join(format!("{:02x}", id as u8))
}

fn names_of(volume: &Path, id: u64) -> Vec<String> {
    let listed = std::fs::read_dir(directory_of(volume, id)).unwrap();
    let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let own = |name: &String| name.split(['_', '.']).next() == Some(&id.to_string());
    let mut names: Vec<String> = names.filter(own).collect();
    names.sort();
    names
}

/// What the listener heard.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<Change>>>);

impl Heard {
    pub(crate) fn from(store: &BlockStore) -> Heard {
        let heard = Heard::default();
        let into = heard.clone();
        store.set_listener(Box::new(move |change| into.0.lock().unwrap().push(change)));
        heard
    }

    /// All since the last time.
    pub(crate) fn take(&self) -> Vec<Change> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(crate) fn block(id: u64) -> BlockId {
    BlockId(id)
}

pub(crate) fn generation(number: u64) -> Generation {
    Generation(number)
}

pub(crate) fn info(block: u64, generation: u64, bytes: usize) -> ReplicaInfo {
    ReplicaInfo { block, generation, bytes: bytes as u64 }
}

/// The bytes of a block from `start` to `end`: others for each block, and each its own.
pub(crate) fn bytes_of(block: u64, start: usize, end: usize) -> Vec<u8> {
    (start..end)
        .map(|at| ((at as u64 ^ block << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
        .collect()
}

pub(crate) fn sums_of(data: &[u8]) -> Vec<u8> {
    let mut sums = Vec::new();
    append_sums(data, &mut sums);
    sums
}

/// Writes on until the replica has `end` bytes, in one packet.
pub(crate) fn extend(writer: &mut ReplicaWriter, end: usize) -> Result<(), ReplicaError> {
    let start = writer.bytes() as usize / CHUNK * CHUNK;
    let data = bytes_of(writer.block().0, start, end);
    writer.write(start as u64, &data, &sums_of(&data))
}

pub(crate) fn create(store: &BlockStore, id: u64, generation: u64) -> ReplicaWriter {
    store.create(BlockId(id), Generation(generation), WriteStage::Create, 0).unwrap()
}

/// A replica of `bytes` bytes, written in packets of five chunks.
pub(crate) fn finished(store: &BlockStore, id: u64, generation: u64, bytes: usize) -> ReplicaInfo {
    let mut writer = create(store, id, generation);
    for end in (5 * CHUNK..bytes).step_by(5 * CHUNK).chain([bytes]) {
        extend(&mut writer, end).unwrap();
    }
    writer.finish().unwrap()
}

/// Reads and verifies as a client does: chunk by chunk with the sums that came along.
pub(crate) fn contents(reader: &ReplicaReader) -> Result<Vec<u8>, ReplicaError> {
    let mut data = vec![0; reader.bytes() as usize];
    reader.read_data(0, &mut data)?;
    let mut sums = Vec::new();
    reader.read_sums(0, reader.bytes().div_ceil(CHUNK_BYTES), &mut sums)?;
    let path = PathBuf::from("as a client sees it");
    verify(&data, &sums).map_err(|bad| ReplicaError::Corrupt {
        block: reader.block(),
        generation: reader.generation(),
        path,
        fault: gristmill_dfs::datanode::block_store::Fault::Chunk { chunk: bad.index },
    })?;
    Ok(data)
}

/// Asserts that the replica has exactly these bytes, each of them right.
pub(crate) fn assert_holds(store: &BlockStore, id: u64, generation: u64, bytes: usize) {
    let reader = store.read(BlockId(id), Generation(generation)).unwrap();
    assert_eq!((reader.generation(), reader.bytes()), (Generation(generation), bytes as u64), "block {id}");
    assert!(contents(&reader).unwrap() == bytes_of(id, 0, bytes), "block {id} has other bytes");
}

/// What went wrong, in words.
pub(crate) fn said<T>(result: Result<T, ReplicaError>) -> String {
    result.err().expect("it should have failed").to_string()
}

/// Numbers that look random, the same for each seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % sides
    }
}
