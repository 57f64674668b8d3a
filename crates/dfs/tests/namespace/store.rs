//! The file under the namespace.

use crate::story::*;
use gristmill_dfs::namenode::namespace::{CheckedPages, Namespace, NamespaceOpenError};
use redb::backends::FileBackend;
use redb::{Builder, Database, TableDefinition};
use std::fs;
use std::path::Path;

/// The store under a namespace that nobody has open.
fn store(path: &Path) -> Database {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let pages = CheckedPages::new(FileBackend::new(file).unwrap());
    Builder::new().create_with_backend(pages).unwrap()
}

#[test]
fn each_start_has_a_higher_epoch_of_the_same_cluster() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    let first = Namespace::create_or_open(&path, options()).unwrap();
    let (cluster, epoch) = (first.cluster(), first.epoch());
    drop(first);
    let second = Namespace::create_or_open(&path, options()).unwrap();
    assert_eq!((second.cluster(), second.epoch().0), (cluster, epoch.0 + 1));
    // Nothing else is left in the directory.
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let other = home.path().join("other.redb");
    assert_ne!(Namespace::create_or_open(&other, options()).unwrap().cluster(), cluster);
}

#[test]
fn a_second_master_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    let first = Namespace::create_or_open(&path, options()).unwrap();
    let epoch = first.epoch();
    let Err(refused) = Namespace::create_or_open(&path, options()) else { panic!("two masters") };
    assert!(matches!(refused, NamespaceOpenError::InUse { .. }));
    assert!(refused.to_string().contains("another master uses"), "{refused}");
    drop(first);
    assert_eq!(Namespace::create_or_open(&path, options()).unwrap().epoch().0, epoch.0 + 1);
}

#[test]
fn a_store_of_another_format_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    drop(Namespace::create_or_open(&path, options()).unwrap());
    let database = store(&path);
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 7u64.to_le_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    for _ in 0..2 {
        let Err(refused) = Namespace::create_or_open(&path, options()) else { panic!("opened") };
        assert!(matches!(refused, NamespaceOpenError::OtherFormat { found: 7, known: 2, .. }), "{refused}");
    }
}

#[test]
fn a_store_of_the_first_format_is_refused_by_its_number() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    drop(Database::create(&path).unwrap());
    let before = fs::read(&path).unwrap();
    let Err(refused) = Namespace::create_or_open(&path, options()) else { panic!("opened") };
    assert!(matches!(refused, NamespaceOpenError::OtherFormat { found: 1, known: 2, .. }), "{refused}");
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn what_is_no_store_is_refused_and_stays() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    let text = "something else entirely".repeat(1000);
    fs::write(&path, &text).unwrap();
    let Err(refused) = Namespace::create_or_open(&path, options()) else { panic!("opened") };
    assert!(matches!(refused, NamespaceOpenError::Open { .. }), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let nowhere = home.path().join("none/namespace.redb");
    assert!(Namespace::create_or_open(&nowhere, options()).is_err());
}

#[test]
fn damage_is_named_and_never_a_panic() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    drop(Namespace::create_or_open(&path, options()).unwrap());
    let database = store(&path);
    let transaction = database.begin_write().unwrap();
    let entries: TableDefinition<&[u8], u64> = TableDefinition::new("entries");
    let inodes: TableDefinition<u64, &[u8]> = TableDefinition::new("inodes");
    let key = |name: &str| [&1u64.to_be_bytes()[..], name.as_bytes()].concat();
    {
        let mut entries = transaction.open_table(entries).unwrap();
        entries.insert(key("lost").as_slice(), 700 << 1).unwrap();
        entries.insert(key("torn").as_slice(), 701 << 1).unwrap();
        entries.insert(key("kind").as_slice(), 702 << 1).unwrap();
        let mut inodes = transaction.open_table(inodes).unwrap();
        inodes.insert(701, [0xFF, 0xFF].as_slice()).unwrap();
        inodes.insert(702, [].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let namespace = Namespace::create_or_open(&path, options()).unwrap();
    let snapshot = namespace.snapshot().unwrap();
    for (path, sentence) in [
        ("/lost", "inode 700 is referred to and not there"),
        ("/torn", "inode 701 "),
        ("/kind", "inode 702 is neither a file nor a directory"),
    ] {
        let problem = snapshot.stat(&root(), path).unwrap_err().to_string();
        assert!(problem.contains("the namespace is damaged") && problem.contains(sentence), "{problem}");
    }
}

#[test]
fn what_a_dead_master_was_making_is_swept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    let id = "01234567-89ab-4def-8123-456789abcdef";
    let dead = home.path().join(format!("namespace.redb.{id}.new"));
    let kept = [
        home.path().join("namespace.redb.notes.new"),
        home.path().join(format!("other.redb.{id}.new")),
        home.path().join(format!("namespace.redb.{id}.old")),
    ];
    for _ in ["made", "opened"] {
        for file in kept.iter().chain([&dead]) {
            fs::write(file, "half").unwrap();
        }
        drop(Namespace::create_or_open(&path, options()).unwrap());
        assert!(!dead.exists());
        assert!(kept.iter().all(|file| file.exists()));
    }
    // One that is being made is locked.
    fs::write(&dead, "half").unwrap();
    let alive = fs::File::open(&dead).unwrap();
    alive.lock().unwrap();
    drop(Namespace::create_or_open(&path, options()).unwrap());
    assert!(dead.exists());
}
