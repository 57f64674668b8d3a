//! Which clusters there are: one directory each, below one that belongs to the user.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::ClusterError;
use crate::record::Cluster;

/// More clusters than one machine carries: a sign that something goes round in circles.
const NUMBER_MAX: u32 = 10_000;
const NAME_CHARACTERS_MAX: usize = 40;

/// The user's clusters on this machine.
#[derive(Clone, Debug)]
pub struct Registry {
    home: PathBuf,
}

impl Registry {
    /// `$XDG_STATE_HOME/gristmill/clusters`, else `~/.local/state/gristmill/clusters`.
    pub fn from_environment() -> Result<Registry, ClusterError> {
        let directory = |name: &str| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let state = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")));
        Ok(Registry::at(state.ok_or(ClusterError::NoHome)?.join("gristmill/clusters")))
    }

    /// Below `home`.
    pub fn at(home: impl Into<PathBuf>) -> Registry {
        Registry { home: home.into() }
    }

    /// The directory with all clusters.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// All clusters, by name. One whose making has not even written a record is one without members.
    pub fn list(&self) -> Result<Vec<Cluster>, ClusterError> {
        let failed = |source| ClusterError::File { action: "list", path: self.home.clone(), source };
        let entries = match fs::read_dir(&self.home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut clusters = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // Other names are not ours.
            if let Some(name) = name.to_str().filter(|name| is_name(name)) {
                clusters.push(self.find(name)?);
            }
        }
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(clusters)
    }

    /// The cluster of this name.
    pub fn find(&self, name: &str) -> Result<Cluster, ClusterError> {
        let home = self.place(name)?;
        if !home.is_dir() {
            return Err(ClusterError::Unknown { name: name.to_owned(), home: self.home.clone() });
        }
        let read = Cluster::read(&home)?;
        Ok(read.unwrap_or_else(|| Cluster::nothing_yet(name, &home)))
    }

    /// The directory of the cluster of this name.
    pub(crate) fn place(&self, name: &str) -> Result<PathBuf, ClusterError> {
        if !is_name(name) {
            return Err(ClusterError::Name { name: name.to_owned() });
        }
        Ok(self.home.join(name))
    }

    /// Takes a name, or the first number that is free, by making its directory.
    pub(crate) fn reserve(&self, name: Option<&str>) -> Result<(String, PathBuf), ClusterError> {
        let failed = |source| ClusterError::File { action: "make", path: self.home.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.home).map_err(failed)?;
        if let Some(name) = name {
            let place = self.place(name)?;
            return match make(&place)? {
                true => Ok((name.to_owned(), place)),
                false => Err(ClusterError::Exists { name: name.to_owned() }),
            };
        }
        for number in 1..=NUMBER_MAX {
            let name = format!("cluster-{number}");
            let place = self.place(&name)?;
            if make(&place)? {
                return Ok((name, place));
            }
        }
        Err(ClusterError::Exists { name: format!("cluster-{NUMBER_MAX}") })
    }
}

/// Makes a directory of the user's own; `false` if it is there.
pub(crate) fn make(path: &Path) -> Result<bool, ClusterError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(ClusterError::File { action: "make", path: path.to_owned(), source }),
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=NAME_CHARACTERS_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(dir.path().join("deep/below"));
        assert!(registry.list().unwrap().is_empty());
        assert_eq!(registry.reserve(None).unwrap().0, "cluster-1");
        assert_eq!(registry.reserve(None).unwrap().0, "cluster-2");
        assert!(matches!(registry.reserve(Some("cluster-2")), Err(ClusterError::Exists { .. })));
        assert!(matches!(registry.find("other"), Err(ClusterError::Unknown { .. })));
        let unfinished = registry.find("cluster-1").unwrap();
        assert_eq!((unfinished.is_being_made(), unfinished.members.len()), (false, 0));
        let names: Vec<String> = registry.list().unwrap().into_iter().map(|cluster| cluster.name).collect();
        assert_eq!(names, ["cluster-1", "cluster-2"]);
    }

    #[test]
    fn names_are_no_paths() {
        for wrong in ["", ".", "..", "a/b", "-a", "1a", "a b", "ä", &"a".repeat(41)] {
            assert!(!is_name(wrong), "{wrong:?}");
        }
        for right in ["a", "Test-7", &"a".repeat(40)] {
            assert!(is_name(right), "{right:?}");
        }
    }
}
