//! What is known of a cluster: `cluster.json` in its directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::ClusterError;
use crate::processes::{ProcessId, boot_id};
use crate::spec::{ClusterSpec, ProviderKind};

/// Of the record.
const VERSION: u32 = 2;
/// Names in the cluster's directory: of the record,
pub(crate) const RECORD: &str = "cluster.json";
/// of the secret,
pub(crate) const SECRET: &str = "secret";
/// and of what members are given.
pub(crate) const CLUSTER_FILE: &str = "cluster.toml";
pub(crate) const BOOTSTRAP: &str = "bootstrap";
pub(crate) const STORE_KEYS: &str = "aws-credentials";
/// Of what the master leaves in its data directory when its cluster has ended by itself.
pub(crate) const END_FILE: &str = "cluster-end.json";

/// A cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    pub(crate) version: u32,
    /// Its name.
    pub name: String,
    /// What no other cluster has, whatever its name; nothing as long as there is nothing of it.
    pub id: String,
    /// Who owns its file system.
    pub user: String,
    /// How it was wanted, with nothing left open.
    pub spec: ClusterSpec,
    /// Who makes it or has made it.
    pub(crate) creator: ProcessId,
    /// Of which time since the machine started the processes are.
    pub(crate) boot: String,
    /// Whether it was ready once.
    pub(crate) ready: bool,
    /// When it was made, since 1970.
    pub created_ms: u64,
    /// Where its processes keep what they have; where its record is, if it has none on this machine.
    pub data_dir: PathBuf,
    /// HOST:PORT of the master, once that listens.
    pub master: Option<String>,
    /// HOST:PORT of its metrics and status.
    pub http: Option<String>,
    /// The file with its secret, if it has one.
    pub secret_file: Option<PathBuf>,
    /// The process of this machine that removes it when it is over.
    pub(crate) custodian: Option<ProcessId>,
    /// First the master, then the workers.
    pub members: Vec<Member>,
    /// Where this record is.
    #[serde(skip)]
    pub(crate) home: PathBuf,
}

/// One daemon of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// `master`, `core-1`, `task-2`: also the name of its data directory or volume.
    pub role: String,
    /// Where it runs.
    pub place: Place,
}

/// Where a member runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// It is a process of this machine.
    Process(ProcessId),
    /// It is a container of this name.
    Container(String),
}

impl Member {
    /// Its process, if it is one of this machine.
    pub fn process(&self) -> Option<ProcessId> {
        match self.place {
            Place::Process(process) => Some(process),
            Place::Container(_) => None,
        }
    }
}

impl Cluster {
    /// One that this process is about to make in `home`.
    pub(crate) fn new(
        name: &str,
        home: &Path,
        spec: ClusterSpec,
        created_ms: u64,
    ) -> Result<Cluster, ClusterError> {
        let path = "/proc/self".into();
        let creator =
            ProcessId::own().map_err(|source| ClusterError::File { action: "read", path, source })?;
        Ok(Cluster { spec, created_ms, ..Cluster::made_by(creator, name, home) })
    }

    /// What is known of one whose maker did not get to write a record.
    pub(crate) fn nothing_yet(name: &str, home: &Path) -> Cluster {
        Cluster::made_by(ProcessId { pid: 0, started_ticks: 0 }, name, home)
    }

    fn made_by(creator: ProcessId, name: &str, home: &Path) -> Cluster {
        Cluster {
            version: VERSION,
            name: name.to_owned(),
            id: String::new(),
            user: String::new(),
            // Nothing is made before the record says of what.
            spec: ClusterSpec::new(ProviderKind::Processes, PathBuf::new()),
            creator,
            boot: boot_id(),
            ready: false,
            created_ms: 0,
            data_dir: home.to_owned(),
            master: None,
            http: None,
            secret_file: None,
            custodian: None,
            members: Vec::new(),
            home: home.to_owned(),
        }
    }

    /// Reads the record in `home`; `None` if none was written yet.
    pub(crate) fn read(home: &Path) -> Result<Option<Cluster>, ClusterError> {
        let path = home.join(RECORD);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ClusterError::File { action: "read", path, source }),
        };
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |source| ClusterError::Damaged { path: path.clone(), source };
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version != VERSION {
            return Err(ClusterError::Version { path, version, known: VERSION });
        }
        let cluster: Cluster = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(Some(Cluster { home: home.to_owned(), ..cluster }))
    }

    /// Writes the record: whole, or not at all.
    pub(crate) fn write(&self) -> Result<(), ClusterError> {
        let (path, draft) = (self.home.join(RECORD), self.home.join("cluster.json.draft"));
        let failed = |source| ClusterError::File { action: "write", path: path.clone(), source };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(true).write(true).mode(0o600).open(&draft).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        fs::rename(&draft, &path).map_err(failed)
    }

    /// Whether somebody makes it right now.
    pub(crate) fn is_being_made(&self) -> bool {
        !self.ready && self.boot == boot_id() && self.creator.is_alive()
    }

    /// Whether a member is a process that runs. Numbers and times of another life of the machine mean other processes.
    pub(crate) fn is_alive(&self, member: &Member) -> bool {
        self.boot == boot_id() && member.process().is_some_and(ProcessId::is_alive)
    }

    /// The copy of what the master is given as `--cluster-file`.
    pub(crate) fn cluster_file(&self) -> Option<PathBuf> {
        self.spec.cluster_file.is_some().then(|| self.home.join(CLUSTER_FILE))
    }

    /// The copy of what all members are given as `--bootstrap`.
    pub(crate) fn bootstrap(&self) -> Option<PathBuf> {
        self.spec.bootstrap.is_some().then(|| self.home.join(BOOTSTRAP))
    }

    /// The copy of what containers are given as keys of the object store.
    pub(crate) fn store_keys(&self) -> Option<PathBuf> {
        self.spec.store_keys.is_some().then(|| self.home.join(STORE_KEYS))
    }

    /// Where a member writes what it does.
    pub fn log(&self, role: &str) -> PathBuf {
        self.data_dir.join(format!("{role}.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let home = tempfile::tempdir().unwrap();
        assert!(Cluster::read(home.path()).unwrap().is_none());
        let spec = ClusterSpec::new(ProviderKind::Processes, "/bin/true".into());
        let mut cluster = Cluster::new("one", home.path(), spec, 7).unwrap();
        assert!(cluster.is_being_made(), "by this process");
        let member = |role: &str, place| Member { role: role.to_owned(), place };
        let namesake = ProcessId { started_ticks: 1, ..ProcessId::own().unwrap() };
        cluster.members = vec![
            member("master", Place::Process(ProcessId::own().unwrap())),
            member("core-1", Place::Process(namesake)),
            member("task-1", Place::Container("one-task-1".to_owned())),
        ];
        cluster.ready = true;
        cluster.write().unwrap();
        let read = Cluster::read(home.path()).unwrap().unwrap();
        assert_eq!((read.spec.provider, read.is_being_made()), (ProviderKind::Processes, false));
        let alive: Vec<bool> = read.members.iter().map(|member| read.is_alive(member)).collect();
        assert_eq!(alive, [true, false, false]);
        assert_eq!(read.members[2].place, Place::Container("one-task-1".to_owned()));
        let elsewhere = Cluster { boot: "another".to_owned(), ..read };
        assert!(!elsewhere.is_alive(&elsewhere.members[0]), "nothing survives a restart of the machine");
    }

    #[test]
    fn what_is_no_record_is_named() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(RECORD), "{").unwrap();
        assert!(matches!(Cluster::read(home.path()), Err(ClusterError::Damaged { .. })));
        fs::write(home.path().join(RECORD), r#"{"version":9}"#).unwrap();
        assert!(matches!(Cluster::read(home.path()), Err(ClusterError::Version { version: 9, .. })));
    }
}
