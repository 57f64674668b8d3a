//! Who asks, and the file systems they get.

use std::path::PathBuf;
use std::sync::Arc;

use super::accounts::own_user;
use super::dfs::{Caller, DfsFileSystem};
use super::{FileSystem, LocalFileSystem};
use crate::local::LocalStore;
use crate::memory::MemoryFileSystem;
use crate::store::Store;
use crate::tree_store::TreeStore;
use crate::uri::{MASTER_VARIABLE, Place, Uri, UriError, is_host_and_port};

/// The environment variable with the file that holds the cluster's secret.
pub const SECRET_FILE_VARIABLE: &str = "GRISTMILL_SECRET_FILE";
/// The environment variable with the name under which the caller acts.
pub const USER_VARIABLE: &str = "GRISTMILL_USER";

/// As whom, and through which master, file systems are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// HOST:PORT of the master that `dfs:///path` means.
    pub master: Option<String>,
    /// Where the cluster's secret is.
    pub secret_file: Option<PathBuf>,
    /// The name under which the caller acts.
    pub user: String,
}

impl Access {
    /// What the environment says: GRISTMILL_MASTER, GRISTMILL_SECRET_FILE, and GRISTMILL_USER or USER (or the
    /// account of this process).
    pub fn from_environment() -> Access {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let file = std::env::var_os(SECRET_FILE_VARIABLE).filter(|value| !value.is_empty());
        Access {
            master: text(MASTER_VARIABLE),
            secret_file: file.map(PathBuf::from),
            user: text(USER_VARIABLE).or_else(|| text("USER")).unwrap_or_else(own_user),
        }
    }

    /// The file system of what `uri` names.
    pub fn file_system(&self, uri: &Uri) -> Result<Arc<dyn FileSystem>, UriError> {
        match uri.place() {
            Place::Local => Ok(Arc::new(LocalFileSystem)),
            Place::Memory { name } => Ok(Arc::new(MemoryFileSystem::named(name, &self.user))),
            Place::Dfs { .. } => Ok(Arc::new(self.dfs(uri)?)),
        }
    }

    /// The store that holds what `uri` names.
    pub fn store(&self, uri: &Uri) -> Result<Arc<dyn Store>, UriError> {
        match uri.place() {
            Place::Local => Ok(Arc::new(LocalStore)),
            Place::Memory { name } => Ok(Arc::new(TreeStore::new(MemoryFileSystem::named(name, &self.user)))),
            Place::Dfs { .. } => Ok(Arc::new(TreeStore::new(self.dfs(uri)?))),
        }
    }

    /// The cluster whose master the URI names or, if it names none, ours.
    fn dfs(&self, uri: &Uri) -> Result<DfsFileSystem, UriError> {
        let caller = Caller::new(&self.user, self.secret_file.clone());
        if let Place::Dfs { master: Some(master) } = uri.place() {
            return Ok(DfsFileSystem::new(uri.place(), master, caller));
        }
        let uri_text = || uri.to_string();
        let master = self.master.as_deref().ok_or_else(|| UriError::NoMaster { uri: uri_text() })?;
        if !is_host_and_port(master) {
            return Err(UriError::BadMaster { uri: uri_text(), master: master.to_owned() });
        }
        Ok(DfsFileSystem::new(uri.place(), master, caller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(master: Option<&str>, uri: &str) -> String {
        let master = master.map(str::to_owned);
        let access = Access { master, secret_file: None, user: "ann".to_owned() };
        access.file_system(&Uri::parse(uri).unwrap()).err().unwrap().to_string()
    }

    #[test]
    fn a_cluster_needs_a_master() {
        assert_eq!(
            refusal(None, "dfs:///x"),
            "cannot use dfs:///x: it names no master (dfs://HOST:PORT/path), and GRISTMILL_MASTER is not set"
        );
        assert_eq!(
            refusal(Some("here"), "dfs:///x"),
            r#"cannot use dfs:///x: GRISTMILL_MASTER is "here", not HOST:PORT"#
        );
    }

    #[test]
    fn one_place_has_one_name_however_its_master_is_named() {
        let access = Access { master: Some("h:1".to_owned()), secret_file: None, user: "ann".to_owned() };
        let resolve = |text: &str| {
            let uri = Uri::parse(text).unwrap();
            access.store(&uri).unwrap().resolve(&uri).unwrap().to_string()
        };
        assert_eq!(resolve("dfs:///a/../b"), "dfs://h:1/b");
        assert_eq!(resolve("dfs://h:1/b"), "dfs://h:1/b");
        let home = access.file_system(&Uri::parse("dfs:///").unwrap()).unwrap().home();
        assert_eq!(home.to_string(), "dfs:///user/ann");
    }
}
