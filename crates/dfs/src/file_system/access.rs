//! Who asks, and the file systems they get.

use std::path::PathBuf;
use std::sync::Arc;

use super::{FileSystem, LocalFileSystem};
use crate::local::LocalStore;
use crate::memory::MemoryFileSystem;
use crate::store::Store;
use crate::tree_store::TreeStore;
use crate::uri::{MASTER_VARIABLE, Place, Uri, UriError};

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
    /// What the environment says: GRISTMILL_MASTER, GRISTMILL_SECRET_FILE, and GRISTMILL_USER or USER.
    pub fn from_environment() -> Access {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let file = std::env::var_os(SECRET_FILE_VARIABLE).filter(|value| !value.is_empty());
        Access {
            master: text(MASTER_VARIABLE),
            secret_file: file.map(PathBuf::from),
            user: text(USER_VARIABLE).or_else(|| text("USER")).unwrap_or_else(|| "nobody".to_owned()),
        }
    }

    /// The file system of what `uri` names.
    pub fn file_system(&self, uri: &Uri) -> Result<Arc<dyn FileSystem>, UriError> {
        match uri.place() {
            Place::Local => Ok(Arc::new(LocalFileSystem)),
            Place::Memory { name } => Ok(Arc::new(MemoryFileSystem::named(name, &self.user))),
            Place::Dfs { .. } => Err(no_dfs(uri)),
        }
    }

    /// The store that holds what `uri` names.
    pub fn store(&self, uri: &Uri) -> Result<Arc<dyn Store>, UriError> {
        match uri.place() {
            Place::Local => Ok(Arc::new(LocalStore)),
            Place::Memory { name } => Ok(Arc::new(TreeStore::new(MemoryFileSystem::named(name, &self.user)))),
            Place::Dfs { .. } => Err(no_dfs(uri)),
        }
    }
}

fn no_dfs(uri: &Uri) -> UriError {
    UriError::UnsupportedScheme { uri: uri.to_string(), scheme: "dfs".to_owned() }
}
