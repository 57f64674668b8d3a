//! The master's directory: its namespace, its jobs, its keys, and a lock that only one master holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gristmill_proto::auth::{BlockKey, Secret, TaskKey};
use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "lock";
const NAMESPACE: &str = "namespace.redb";
const JOBS: &str = "jobs.redb";
const STEPS: &str = "steps.redb";
const STEP_DIRECTORIES: &str = "steps";
const CLUSTER_END: &str = "cluster-end.json";
const ADDRESS: &str = "address";
const HTTP_ADDRESS: &str = "http-address";
const HTTP_TOKEN: &str = "http-token";
const OPEN_KEY: &str = "block.key";
const OPEN_TASK_KEY: &str = "task.key";

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
    /// A key of tokens is damaged.
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

    /// Where jobs are stored.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.path.join(JOBS)
    }

    /// Where steps are stored.
    pub(crate) fn steps(&self) -> PathBuf {
        self.path.join(STEPS)
    }

    /// Where steps work: by its one true name, as their processes are found by it.
    pub(crate) fn step_directories(&self) -> Result<PathBuf, DataDirError> {
        let make = |source| DataDirError::Make { path: self.path.clone(), source };
        Ok(self.path.canonicalize().map_err(make)?.join(STEP_DIRECTORIES))
    }

    /// Says how the cluster ended, in the file `cluster-end.json`: it appears whole.
    pub(crate) fn say_end(&self, record: &str) -> Result<(), DataDirError> {
        self.write_private(CLUSTER_END, record.as_bytes())
    }

    /// The key of block tokens for a cluster without a secret: made once, and read by its owner alone.
    pub(crate) fn open_key(&self) -> Result<BlockKey, DataDirError> {
        let bytes = self.key(OPEN_KEY, || BlockKey::random().to_wire())?;
        BlockKey::from_wire(&bytes).ok_or_else(|| DataDirError::Key { path: self.path.join(OPEN_KEY) })
    }

    /// The key of shuffle tokens for a cluster without a secret, and its bytes: made once, as tokens outlive a master.
    pub(crate) fn open_task_key(&self) -> Result<(TaskKey, Vec<u8>), DataDirError> {
        let bytes = self.key(OPEN_TASK_KEY, || TaskKey::open_random().1)?;
        let key = TaskKey::from_open(&bytes);
        let key = key.ok_or_else(|| DataDirError::Key { path: self.path.join(OPEN_TASK_KEY) })?;
        Ok((key, bytes))
    }

    /// The bytes of a key that is made when it is not there.
    fn key(&self, name: &str, make: impl Fn() -> Vec<u8>) -> Result<Vec<u8>, DataDirError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                let bytes = make();
                self.write_private(name, &bytes)?;
                Ok(bytes)
            }
            read => read.map_err(|source| DataDirError::Write { path, source }),
        }
    }

    /// Puts the token of the HTTP port where its operator finds it; without a secret there is none.
    pub(crate) fn keep_http_token(&self, secret: Option<&Secret>) -> Result<(), DataDirError> {
        match secret {
            Some(secret) => self.write_private(HTTP_TOKEN, format!("{}\n", secret.http_token()).as_bytes()),
            None => self.remove(HTTP_TOKEN),
        }
    }

    /// A file for its owner alone: it appears whole or not at all.
    fn write_private(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        let draft = self.path.join(format!("{name}.draft"));
        let write = |source| DataDirError::Write { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)
            .map_err(write)?;
        file.write_all(bytes).map_err(write)?;
        file.sync_all().map_err(write)?;
        fs::rename(&draft, &path).map_err(write)
    }

    /// Says in the file `address` where this master listens: scripts that let the system choose a port read it. It
    /// appears whole, and only once calls are taken.
    pub(crate) fn announce(&self, address: SocketAddr) -> Result<(), DataDirError> {
        self.say(ADDRESS, address)
    }

    /// The same for pages, in the file `http-address`.
    pub(crate) fn announce_http(&self, address: SocketAddr) -> Result<(), DataDirError> {
        self.say(HTTP_ADDRESS, address)
    }

    fn say(&self, name: &str, address: SocketAddr) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        let draft = self.path.join(format!("{name}.draft"));
        let write = |source| DataDirError::Write { path: path.clone(), source };
        fs::write(&draft, format!("{address}\n")).map_err(write)?;
        fs::rename(&draft, &path).map_err(write)
    }

    /// Removes the addresses of a former life, which nobody should find.
    pub(crate) fn retract(&self) -> Result<(), DataDirError> {
        self.remove(ADDRESS)?;
        self.remove(HTTP_ADDRESS)
    }

    fn remove(&self, name: &str) -> Result<(), DataDirError> {
        let path = self.path.join(name);
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
        data_dir.announce_http("127.0.0.1:7080".parse().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(HTTP_ADDRESS)).unwrap(), "127.0.0.1:7080\n");
        data_dir.retract().unwrap();
        assert!(!dir.path().join(ADDRESS).exists());
        assert!(!dir.path().join(HTTP_ADDRESS).exists());
    }

    #[test]
    fn the_key_stays_the_same_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let first = data_dir.open_key().unwrap();
        assert_eq!(data_dir.open_key().unwrap().to_wire(), first.to_wire());
        fs::write(dir.path().join(OPEN_KEY), "short").unwrap();
        assert!(matches!(data_dir.open_key(), Err(DataDirError::Key { .. })));
        let (_, first) = data_dir.open_task_key().unwrap();
        assert_eq!(data_dir.open_task_key().unwrap().1, first);
        fs::write(dir.path().join(OPEN_TASK_KEY), "short").unwrap();
        assert!(matches!(data_dir.open_task_key(), Err(DataDirError::Key { .. })));
    }

    #[test]
    fn the_token_of_pages_is_for_its_owner_alone_and_goes_with_the_secret() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(dir.path()).unwrap();
        let secret = Secret::from_bytes(&[b's'; 32]).unwrap();
        data_dir.keep_http_token(Some(&secret)).unwrap();
        let path = dir.path().join(HTTP_TOKEN);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(secret.is_http_token(fs::read_to_string(&path).unwrap().trim_end()));
        data_dir.keep_http_token(None).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(DataDir::lock(&file), Err(DataDirError::Make { .. })));
    }
}
