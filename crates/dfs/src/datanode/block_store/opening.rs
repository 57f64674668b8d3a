//! How a store is opened, and whose it is.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread;

use gristmill_proto::ids::BlockId;

use super::announcer::Announcer;
use super::error::{AdoptError, StoreOpenError};
use super::gates::Gates;
use super::index::{Entry, Index};
use super::recovery::{Scan, scan};
use super::version::Version;
use super::volume::Volume;
use super::{BlockStore, Identity, Inner, Recovery, StoreOptions};

impl BlockStore {
    /// Opens the volumes in `directories`, or makes them where there are none, and finds out what replicas they have:
    /// all at once, each by a thread of its own. Finished replicas cost their names; unfinished ones are read, and have
    /// as many bytes as their sums prove.
    ///
    /// A directory that cannot be read or written is a failed volume, if there is one that works. All else that is
    /// wrong with one fails the opening: it may be another process's, or another cluster's.
    pub fn open(directories: &[PathBuf], options: StoreOptions) -> Result<BlockStore, StoreOpenError> {
        let volumes = open_volumes(directories, &options)?;
        let identity = agree(&volumes)?;
        let volumes: Vec<Arc<Volume>> = volumes.into_iter().map(|(volume, _)| Arc::new(volume)).collect();
        let scans: Vec<Option<Scan>> = thread::scope(|scope| {
            let scans: Vec<_> = volumes.iter().map(|volume| scope.spawn(|| scan_or_fail(volume))).collect();
            // A panic of a thread is a bug, and goes on here.
            scans
                .into_iter()
                .map(|scan| scan.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let (mut index, mut recovery) = (Index::default(), Recovery::default());
        for scan in scans.into_iter().flatten() {
            recovery.add(&scan.recovery);
            for (block, entry) in scan.entries {
                enter(&mut index, &volumes, block, entry, &mut recovery);
            }
        }
        tracing::info!("{} volumes: {recovery}", volumes.len());
        let inner = Inner {
            volumes,
            identity: Mutex::new(identity),
            index: Mutex::new(index),
            gates: Gates::default(),
            announcer: Announcer::default(),
            turn: AtomicU64::new(0),
            recovery,
        };
        Ok(BlockStore { inner: Arc::new(inner) })
    }

    /// Makes the store part of a cluster, for ever. Nothing happens if it is already.
    pub fn adopt(&self, wanted: Identity) -> Result<(), AdoptError> {
        let mut identity = self.inner.identity();
        match *identity {
            Some(has) if has != wanted => return Err(AdoptError::Differs { has, wanted }),
            Some(_) => return Ok(()),
            None => {}
        }
        for volume in self.inner.volumes.iter().filter(|volume| !volume.failed()) {
            if let Some(id) = volume.id() {
                Version { volume: id, identity: Some(wanted) }.write(&volume.root)?;
            }
        }
        *identity = Some(wanted);
        Ok(())
    }
}

fn open_volumes(
    directories: &[PathBuf],
    options: &StoreOptions,
) -> Result<Vec<(Volume, Option<Version>)>, StoreOpenError> {
    let mut volumes = Vec::new();
    let mut first_error = None;
    if directories.len() > usize::from(u16::MAX) {
        return Err(StoreOpenError::TooMany { directories: directories.len() });
    }
    for (number, directory) in directories.iter().enumerate() {
        let number = number as u16;
        match Volume::open(directory, number, options.reserve_bytes) {
            Ok((volume, version)) => volumes.push((volume, Some(version))),
            Err(StoreOpenError::Disk(error)) => {
                tracing::error!("the volume {} has failed: {error}", directory.display());
                volumes.push((Volume::absent(directory, number, options.reserve_bytes), None));
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    if volumes.iter().all(|(volume, _)| volume.failed()) {
        return Err(first_error.map_or(StoreOpenError::NoDirectory, StoreOpenError::Disk));
    }
    Ok(volumes)
}

/// The identity that all volumes have in common. New ones take it on.
fn agree(volumes: &[(Volume, Option<Version>)]) -> Result<Option<Identity>, StoreOpenError> {
    let known = |(volume, version): &(Volume, Option<Version>)| {
        Some((volume.root.clone(), version.as_ref()?.identity?))
    };
    let mut identities = volumes.iter().filter_map(known);
    let Some(one) = identities.next() else { return Ok(None) };
    if let Some(other) = identities.find(|other| other.1 != one.1) {
        return Err(StoreOpenError::Differ { one: Box::new(one), other: Box::new(other) });
    }
    for (volume, version) in volumes {
        if let Some(version) = version.filter(|version| version.identity.is_none()) {
            Version { identity: Some(one.1), ..version }.write(&volume.root)?;
        }
    }
    Ok(Some(one.1))
}

fn scan_or_fail(volume: &Arc<Volume>) -> Option<Scan> {
    if volume.failed() {
        return None;
    }
    match scan(volume) {
        Ok(scan) => Some(scan),
        Err(error) => {
            tracing::error!("the volume {} has failed: {error}", volume.root.display());
            volume.set_failed();
            None
        }
    }
}

/// Enters a replica that was found; of two on two volumes the better one.
fn enter(index: &mut Index, volumes: &[Arc<Volume>], block: BlockId, found: Entry, recovery: &mut Recovery) {
    let known = index.get(block);
    let worse = match known {
        Some(known) if known.name() >= found.name() => Some(found),
        known => {
            volumes[usize::from(found.volume())].count_used(0, found.bytes());
            index.insert(block, found);
            known.inspect(|known| volumes[usize::from(known.volume())].count_used(known.bytes(), 0))
        }
    };
    let Some(worse) = worse else { return };
    let volume = &volumes[usize::from(worse.volume())];
    for path in [volume.sums_path(block, worse.name()), volume.data_path(block)] {
        match volume.set_aside(&path) {
            Ok(to) => {
                tracing::warn!("a second replica of {block} was moved to {}", to.display());
                recovery.set_aside += 1;
            }
            Err(error) => tracing::warn!("a second replica of {block} is left: {error}"),
        }
    }
}
