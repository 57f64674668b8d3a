//! Volumes: full, read-only, gone, somebody else's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::slice::from_ref;

use gristmill_dfs::datanode::block_store::{
    AdoptError, BlockStore, Change, Identity, ReplicaError, StoreOpenError, StoreOptions, WriteStage,
};
use gristmill_proto::ids::{ClusterId, WorkerId};
use gristmill_proto::messages::bulk_failure::Kind;

use crate::replicas::*;

const MIB: u64 = 1 << 20;

/// A file system of a few MiB, in memory; unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// None, and it is said why, where this process may not mount.
    fn mount(path: PathBuf, mib: u64) -> Option<SmallDisk> {
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "gristmill-test"]).arg(&path).output();
        let said = match mounted {
            Ok(output) if output.status.success() => return Some(SmallDisk { path }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("skipped, no disk can be mounted here: {said}");
        None
    }

    fn make_read_only(&self) {
        let mounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.path).status();
        assert!(mounted.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.path.display());
        }
    }
}

/// So much is under a failing disk.
const UNDER_MIB: u64 = 24;

/// A disk that promises more than is under it: it takes all that is written, and in the end cannot keep it.
struct FailingDisk {
    path: PathBuf,
    /// Unmounted after it.
    _under: SmallDisk,
}

impl FailingDisk {
    /// None, and it is said why, where this process may not mount.
    fn mount(home: &std::path::Path) -> Option<FailingDisk> {
        let under = SmallDisk::mount(home.join("under"), UNDER_MIB)?;
        let (image, path) = (under.path.join("image"), home.join("failing"));
        fs::create_dir_all(&path).unwrap();
        fs::File::create(&image).unwrap().set_len(5 * UNDER_MIB * MIB).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal"]).arg(&image).output();
        let mounted =
            made.and_then(|_| Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path).output());
        match mounted {
            Ok(output) if output.status.success() => return Some(FailingDisk { path, _under: under }),
            Ok(output) => {
                eprintln!("skipped, no image can be mounted: {}", String::from_utf8_lossy(&output.stderr))
            }
            Err(error) => eprintln!("skipped, no image can be made and mounted: {error}"),
        }
        None
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.path.display());
        }
    }
}

fn open(directories: &[PathBuf]) -> BlockStore {
    open_soon(directories, OPTIONS).unwrap()
}

fn refused(directories: &[PathBuf]) -> String {
    open_soon(directories, OPTIONS).err().expect("it should be refused").to_string()
}

fn identity(worker: u64) -> Identity {
    Identity { cluster: ClusterId([1; 16]), worker: WorkerId(worker) }
}

fn failed(store: &BlockStore) -> Vec<bool> {
    store.volumes().iter().map(|volume| volume.failed).collect()
}

#[test]
fn replicas_are_spread_over_volumes_and_found_again() {
    let home = Home::with_volumes(3);
    let store = home.open();
    for id in 1..=60 {
        finished(&store, id, 1, 100);
    }
    let used: Vec<u64> = store.volumes().iter().map(|volume| volume.used_bytes).collect();
    assert_eq!(used.iter().sum::<u64>(), 6000);
    assert!(used.iter().all(|bytes| *bytes >= 1000), "{used:?}");
    drop(store);
    let store = home.open();
    assert_eq!(store.replicas_after(block(0), 100).len(), 60);
    (1..=60).for_each(|id| assert_holds(&store, id, 1, 100));
    assert_eq!(store.volumes().iter().map(|volume| volume.used_bytes).collect::<Vec<_>>(), used);
}

#[test]
fn a_full_volume_takes_no_more_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), 4) else { return };
    let store = open_soon(from_ref(&disk.path), StoreOptions { reserve_bytes: 0 }).unwrap();
    finished(&store, 1, 1, 10 * CHUNK);
    let mut writer = create(&store, 2, 1);
    let mut written = 0;
    let full = loop {
        match extend(&mut writer, written + 5 * CHUNK + 1) {
            Ok(()) => written += 5 * CHUNK + 1,
            Err(error) => break error,
        }
        assert!((written as u64) < 4 * MIB);
    };
    assert!(matches!(&full, ReplicaError::Full { volume, .. } if *volume == disk.path), "{full}");
    assert!(full.to_string().contains("No space left on device"), "{full}");
    // What was acked is readable, and nothing is broken.
    assert_eq!(writer.bytes(), written as u64);
    assert_holds(&store, 2, 1, written);
    assert_eq!(failed(&store), [false]);
    let another = store.create(block(3), generation(1), WriteStage::Create, MIB);
    assert_eq!(said(another), "none of the 1 volumes that work has room for block-3");
    drop(writer);
    drop(store);
    let store = open(from_ref(&disk.path));
    assert_holds(&store, 2, 1, written);
    // Room comes back with a deletion; then the rest can be written.
    store.delete(block(1), generation(1)).unwrap();
    let mut writer = store.reopen(block(2), generation(1), generation(2), written as u64, 0).unwrap();
    extend(&mut writer, written + CHUNK).unwrap();
    writer.finish().unwrap();
    assert_holds(&store, 2, 2, written + CHUNK);
    drop(store);
}

#[test]
fn a_writer_goes_on_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), 3) else { return };
    let store = open(from_ref(&disk.path));
    let ballast = disk.path.join("ballast");
    fs::write(&ballast, vec![0; MIB as usize]).unwrap();
    let mut writer = create(&store, 1, 1);
    let end = 150 * CHUNK + 77;
    assert!(matches!(extend(&mut writer, end), Err(ReplicaError::Full { .. })));
    fs::remove_file(ballast).unwrap();
    extend(&mut writer, 100 * CHUNK + 5).unwrap();
    // It finishes with less than the write that failed left in the file.
    writer.finish().unwrap();
    assert_holds(&store, 1, 1, 100 * CHUNK + 5);
    assert_eq!(fs::metadata(directory_of(&disk.path, 1).join("1")).unwrap().len(), 100 * CHUNK as u64 + 5);
    store.check(block(1), generation(1)).unwrap();
    drop(store);
}

#[test]
fn the_reserve_and_what_is_promised_are_not_given_away() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), 8) else { return };
    let store = open_soon(from_ref(&disk.path), StoreOptions { reserve_bytes: 2 * MIB }).unwrap();
    let promised = |id, bytes| store.create(block(id), generation(1), WriteStage::Create, bytes);
    let remaining = || store.volumes()[0].remaining_bytes;
    let before = remaining();
    assert!((5 * MIB..=6 * MIB).contains(&before), "{before}");
    let mut one = promised(1, 2 * MIB).unwrap();
    let two = promised(2, 2 * MIB).unwrap();
    assert_eq!(remaining(), before - 4 * MIB);
    let third = promised(3, 2 * MIB).map(drop);
    assert!(matches!(third, Err(ReplicaError::NoRoom { volumes: 1, .. })), "{third:?}");
    // A block that is small by its file's will finds the room that is left.
    drop(promised(4, MIB).unwrap());
    extend(&mut one, CHUNK).unwrap();
    drop(two);
    assert!(remaining() >= before - 2 * MIB - CHUNK as u64, "{}", remaining());
    drop(promised(3, 2 * MIB).unwrap());
    extend(&mut one, CHUNK + 5).unwrap();
    // One that is opened again has what it lacks kept for it, and no more than there is.
    let (before, lacks) = (remaining(), 2 * MIB - CHUNK as u64);
    let again = store.reopen(block(1), generation(1), generation(2), CHUNK as u64, 2 * MIB).unwrap();
    assert!(remaining() <= before - lacks, "{} of {before}", remaining());
    drop(again);
    let greedy = store.reopen(block(1), generation(2), generation(3), CHUNK as u64, u64::MAX).unwrap();
    assert_eq!(remaining(), 0);
    drop(greedy);
    assert!(remaining() > MIB, "{}", remaining());
    drop(one);
    drop(store);
}

#[test]
fn a_full_volume_passes_new_replicas_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), 2) else { return };
    let other = dir.path().join("other");
    let store = open_soon(&[disk.path.clone(), other.clone()], StoreOptions { reserve_bytes: 0 }).unwrap();
    for id in 1..=8 {
        let mut writer = store.create(block(id), generation(1), WriteStage::Create, 4 * MIB).unwrap();
        extend(&mut writer, 100).unwrap();
        writer.finish().unwrap();
    }
    assert_eq!(store.volumes().iter().map(|volume| volume.used_bytes).collect::<Vec<_>>(), [0, 800]);
    drop(store);
}

#[test]
fn a_volume_that_turns_read_only_fails_with_all_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), 4) else { return };
    let other = dir.path().join("other");
    let store = open(&[disk.path.clone(), other]);
    let heard = Heard::from(&store);
    let mut there = Vec::new();
    for id in 1..=20 {
        finished(&store, id, 1, 100);
        if directory_of(&disk.path, id).join(id.to_string()).exists() {
            there.push(id);
        }
    }
    assert!(!there.is_empty() && there.len() < 20, "{there:?}");
    heard.take();
    disk.make_read_only();
    // The first to notice is whoever changes something there.
    let refused = store.delete(block(there[0]), generation(1)).unwrap_err();
    assert!(
        matches!(&refused, ReplicaError::VolumeFailed { volume, source: Some(_) } if *volume == disk.path),
        "{refused}"
    );
    assert_eq!(failed(&store), [true, false]);
    let bad: Vec<Change> = there.iter().map(|id| Change::Bad(info(*id, 1, 100))).collect();
    assert_eq!(heard.take(), bad);
    assert!(matches!(store.read(block(there[0]), generation(1)), Err(ReplicaError::NotFound { .. })));
    // The other one serves what it has, and takes all that comes.
    for id in 1..=40 {
        if there.contains(&id) || id > 20 {
            finished(&store, id, 2, 50);
        } else {
            assert_holds(&store, id, 1, 100);
        }
    }
    drop(store);
}

#[test]
fn a_sync_that_failed_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = FailingDisk::mount(dir.path()) else { return };
    let store = open(from_ref(&disk.path));
    finished(&store, 1, 1, 100);
    let mut writer = create(&store, 2, 1);
    let mut synced = 0;
    let broken = loop {
        let end = synced + 128 * CHUNK;
        extend(&mut writer, end).unwrap();
        match writer.sync() {
            Ok(()) => synced = end,
            Err(error) => break error,
        }
        assert!((synced as u64) < 2 * UNDER_MIB * MIB, "more than there is under it");
    };
    // The disk took it all, and lost it when it should have been durable.
    assert!(broken.to_string().contains("cannot sync"), "{broken}");
    assert!(matches!(broken.kind(), Kind::Disk));
    // Another sync would be told that all is well. So nobody may try, or read what is only in memory.
    assert!(matches!(writer.sync(), Err(ReplicaError::Fenced { .. })));
    assert!(matches!(writer.finish(), Err(ReplicaError::Fenced { .. })));
    assert_eq!(said(store.read(block(2), generation(1))), "block-2 is not here");
    assert_eq!(store.unfinished_replicas(), []);
    assert_holds(&store, 1, 1, 100);
    drop(store);
}

#[test]
fn an_idle_volume_that_turned_read_only_is_found_by_the_probe() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), 4) else { return };
    let store = open(from_ref(&disk.path));
    store.probe_volumes();
    assert_eq!(failed(&store), [false]);
    disk.make_read_only();
    store.probe_volumes();
    assert_eq!(failed(&store), [true]);
    let created = store.create(block(1), generation(1), WriteStage::Create, 0).map(drop);
    assert_eq!(said(created), "no volume works that could take block-1");
    drop(store);
    assert!(refused(from_ref(&disk.path)).contains("Read-only file system"));
}

#[test]
fn a_volume_whose_files_vanish_fails_and_its_writers_are_fenced() {
    let home = Home::with_volumes(2);
    let store = home.open();
    let heard = Heard::from(&store);
    let lost = home.directories()[0].clone();
    let on_lost = |id: u64| directory_of(&lost, id).join(id.to_string()).exists();
    let mut writers = Vec::new();
    let mut there = Vec::new();
    for id in 1..=20 {
        if id < 10 {
            finished(&store, id, 1, 100);
        } else {
            let mut writer = create(&store, id, 1);
            extend(&mut writer, 100).unwrap();
            writers.push(writer);
        }
        if on_lost(id) {
            there.push(id);
        }
    }
    heard.take();
    fs::remove_dir_all(lost.join("blocks")).unwrap();
    let first = there[0];
    assert!(first < 10 && there[there.len() - 1] >= 10, "{there:?}");
    let error = store.read(block(first), generation(1)).unwrap_err();
    assert!(matches!(error, ReplicaError::VolumeFailed { .. }), "{error}");
    assert_eq!(failed(&store), [true, false]);
    let bad: Vec<Change> =
        there.iter().filter(|id| **id < 10).map(|id| Change::Bad(info(*id, 1, 100))).collect();
    assert_eq!(heard.take(), bad);
    for mut writer in writers {
        let id = writer.block().0;
        match extend(&mut writer, 200) {
            Ok(()) => assert!(!there.contains(&id)),
            Err(error) => {
                assert!(matches!(error, ReplicaError::VolumeFailed { source: None, .. }), "{error}");
                assert!(there.contains(&id));
            }
        }
    }
}

#[test]
fn a_directory_that_cannot_be_used_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let directories = [file.join("v0"), dir.path().join("v1")];
    let store = open(&directories);
    assert_eq!(failed(&store), [true, false]);
    finished(&store, 1, 1, 100);
    drop(store);
    assert!(refused(&directories[..1]).contains("Not a directory"));
    assert_eq!(refused(&[]), "no directory for replicas was named");
}

#[test]
fn a_store_belongs_to_one_worker_of_one_cluster() {
    let home = Home::with_volumes(2);
    let store = home.open();
    assert_eq!(store.identity(), None);
    store.adopt(identity(3)).unwrap();
    store.adopt(identity(3)).unwrap();
    let refused_adoption = store.adopt(identity(4)).unwrap_err();
    assert!(matches!(refused_adoption, AdoptError::Differs { .. }));
    assert_eq!(
        refused_adoption.to_string(),
        "the replicas here belong to worker-3 of cluster 01010101-0101-0101-0101-010101010101, \
         not to worker-4 of cluster 01010101-0101-0101-0101-010101010101"
    );
    let ids: Vec<String> = store.volumes().into_iter().map(|volume| volume.id).collect();
    assert_ne!(ids[0], ids[1]);
    drop(store);
    // A new disk joins, and becomes the worker's as well.
    let more = Home { dir: home.dir, volumes: 3 };
    let store = more.open();
    assert_eq!(store.identity(), Some(identity(3)));
    assert_eq!(store.volumes()[..2].iter().map(|volume| volume.id.clone()).collect::<Vec<_>>(), ids);
    drop(store);
    assert_eq!(open(&more.directories()[2..]).identity(), Some(identity(3)));
}

#[test]
fn disks_of_different_workers_are_not_mixed() {
    let home = Home::with_volumes(2);
    let directories = home.directories();
    for (worker, directory) in (3..).zip(&directories) {
        open(from_ref(directory)).adopt(identity(worker)).unwrap();
    }
    let error = open_soon(&directories, OPTIONS).err().unwrap();
    assert!(matches!(error, StoreOpenError::Differ { .. }));
    let [one, other] = [&directories[0], &directories[1]].map(|directory| directory.display().to_string());
    let cluster = "01010101-0101-0101-0101-010101010101";
    let told =
        format!("{one} belongs to worker-3 of cluster {cluster}, {other} to worker-4 of cluster {cluster}");
    assert_eq!(error.to_string(), told);
}

#[test]
fn a_directory_of_somebody_elses_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let directory = dir.path().to_owned();
    let told = refused(from_ref(&directory));
    assert_eq!(
        told,
        format!("{} holds no replicas of ours but has \"thesis.tex\"", directory.display()).replace('"', "")
    );
    fs::remove_file(dir.path().join("thesis.tex")).unwrap();
    open(&[directory]);
}

#[test]
fn a_damaged_or_later_version_file_is_refused() {
    let home = Home::new();
    drop(home.open());
    let path = home.directories()[0].join("VERSION");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 3]).unwrap();
    assert_eq!(refused(&home.directories()), format!("{} is damaged in line 2", path.display()));
    fs::write(&path, text.replacen('1', "7", 1)).unwrap();
    assert_eq!(
        refused(&home.directories()),
        format!("{}: the volume has layout 7, this build knows 1", path.display())
    );
    fs::write(&path, &text).unwrap();
    home.open();
}

#[test]
fn strange_files_are_left_alone() {
    let home = Home::new();
    let store = home.open();
    finished(&store, 1, 1, 100);
    drop(store);
    let directory = directory_of(&home.directories()[0], 1);
    // One of nobody, and one in the wrong directory.
    for name in ["notes.txt", "2"] {
        fs::write(directory.join(name), "x").unwrap();
    }
    let store = home.open();
    assert_eq!(store.recovery().strange, 2);
    assert_holds(&store, 1, 1, 100);
    assert!(directory.join("notes.txt").exists() && directory.join("2").exists());
}

#[test]
fn of_two_replicas_of_a_block_the_later_counts_and_the_other_is_kept_aside() {
    let home = Home::with_volumes(2);
    let directories = home.directories();
    for (directory, number, bytes) in [(&directories[0], 5, 100), (&directories[1], 6, 200)] {
        let store = open(from_ref(directory));
        finished(&store, 1, number, bytes);
    }
    for order in [[0, 1], [1, 0]] {
        let store = open(&order.map(|at| directories[at].clone()));
        assert_eq!(store.replicas_after(block(0), 9), [info(1, 6, 200)]);
        assert_holds(&store, 1, 6, 200);
        assert_eq!(store.volumes().iter().map(|volume| volume.used_bytes).sum::<u64>(), 200);
    }
    assert_eq!(fs::read(directories[0].join("aside/1.0")).unwrap(), bytes_of(1, 0, 100));
}

#[test]
fn a_volume_is_used_by_one_process_and_once() {
    let home = Home::new();
    let store = home.open();
    let directory = home.directories()[0].clone();
    let told = format!("{} is in use by process {}", directory.display(), std::process::id());
    let locked =
        |directories: &[PathBuf]| BlockStore::open(directories, OPTIONS).err().map(|error| error.to_string());
    assert_eq!(locked(&home.directories()), Some(told.clone()));
    // By another process, too.
    let child = crate::crash::child("hold", &directory).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(said.contains(&told), "{said}");
    drop(store);
    home.open();
    let twice = [directory.clone(), directory];
    assert_eq!(locked(&twice), Some(told));
}
