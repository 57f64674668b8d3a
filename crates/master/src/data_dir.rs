//! The master's directory: its namespace, and a lock that only one master holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gristmill_proto::auth::BlockKey;
use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "lock";
const NAMESPACE: &str = "namespace.redb";
const ADDRESS: &str = "address";
const OPEN_KEY: &str = "block.key";

/// A master's directory, held until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The lock goes with the process, however that ends.
    _lock: File,
}

/// Why a directory cannot be a master's.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made.
    #[error("cannot make the data directory {}: {source}", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The key of block tokens is damaged.
    #[error("cannot use the key {}: it does not have 32 bytes; without it a new one is made", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// Another master has it.
    #[error("cannot use the data directory {}: another master is running on it", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

impl DataDir {
    /// Makes the directory if need be, and locks it.
    pub(crate) fn lock(path: &Path) -> Result<DataDir, DataDirError> {
        fs::create_dir_all(path).map_err(|source| DataDirError::Make { path: path.to_owned(), source })?;
        let name = path.join(LOCK);
        let write = |source| DataDirError::Write { path: name.clone(), source };
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(write)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DataDir { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(errno) => Err(write(errno.into())),
        }
    }

    /// Where the namespace is stored.
    pub(crate) fn namespace(&self) -> PathBuf {
        self.path.join(NAMESPACE)
    }

    /// The key of block tokens for a cluster without a secret: made once, and read by its owner alone.
    pub(crate) fn open_key(&self) -> Result<BlockKey, DataDirError> {
        let path = self.path.join(OPEN_KEY);
        match fs::read(&path) {
            Ok(bytes) => BlockKey::from_wire(&bytes).ok_or(DataDirError::Key { path }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => self.make_open_key(&path),
            Err(source) => Err(DataDirError::Write { path, source }),
        }
    }

    /// The key appears whole or not at all.
    fn make_open_key(&self, path: &Path) -> Result<BlockKey, DataDirError> {
        let key = BlockKey::random();
        let draft = self.path.join("block.key.draft");
        let write = |source| DataDirError::Write { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)
            .map_err(write)?;
        file.write_all(&key.to_wire()).map_err(write)?;
        file.sync_all().map_err(write)?;
        fs::rename(&draft, path).map_err(write)?;
        Ok(key)
    }

    /// Says in the file `address` where this master listens: scripts that let the system choose a port read it. It
    /// appears whole, and only once calls are taken.
    pub(crate) fn announce(&self, address: SocketAddr) -> Result<(), DataDirError> {
        let path = self.path.join(ADDRESS);
        let draft = self.path.join("address.draft");
        let write = |source| DataDirError::Write { path: path.clone(), source };
        fs::write(&draft, format!("{address}\n")).map_err(write)?;
        fs::rename(&draft, &path).map_err(write)
    }

    /// Removes the address of a former life, which nobody should find.
    pub(crate) fn retract(&self) -> Result<(), DataDirError> {
        let path = self.path.join(ADDRESS);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(DataDirError::Write { path, source })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_master_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::lock(dir.path()).unwrap();
        let refused = DataDir::lock(dir.path()).unwrap_err();
        assert!(matches!(refused, DataDirError::InUse { .. }));
        assert!(refused.to_string().contains("another master is running on it"));
        drop(first);
        DataDir::lock(dir.path()).unwrap();
    }

    #[test]
    fn the_address_appears_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(dir.path()).unwrap();
        data_dir.retract().unwrap();
        data_dir.announce("127.0.0.1:7070".parse().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(ADDRESS)).unwrap(), "127.0.0.1:7070\n");
        data_dir.retract().unwrap();
        assert!(!dir.path().join(ADDRESS).exists());
    }

    #[test]
    fn the_key_stays_the_same_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let first = data_dir.open_key().unwrap();
        assert_eq!(data_dir.open_key().unwrap().to_wire(), first.to_wire());
        fs::write(dir.path().join(OPEN_KEY), "short").unwrap();
        assert!(matches!(data_dir.open_key(), Err(DataDirError::Key { .. })));
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(DataDir::lock(&file), Err(DataDirError::Make { .. })));
    }
}
