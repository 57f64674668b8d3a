//! Who asks, and the file systems they get.

use std::path::PathBuf;
use std::sync::Arc;

use super::accounts::{groups_of, own_user};
use super::dfs::{Caller, DfsFileSystem};
use super::identity::{self, DfsIdentity};
use super::{Cause, FileSystem, FsError, LocalFileSystem, Publish};
use crate::client::DfsClient;
use crate::local::LocalStore;
use crate::memory::MemoryFileSystem;
use crate::s3::{S3FileSystem, S3Store};
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
    /// If there is one, it counts: who asks, what proves it, and what the names of masters mean.
    pub identity: Option<DfsIdentity>,
}

/// Why a cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The URI names no cluster.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The cluster refuses, or cannot be reached.
    #[error(transparent)]
    FileSystem(#[from] FsError),
}

impl Access {
    /// What the environment says: GRISTMILL_MASTER, GRISTMILL_SECRET_FILE, and GRISTMILL_USER or USER (or the
    /// account of this process). After [`super::assume`], that identity.
    pub fn from_environment() -> Access {
        if let Some(identity) = identity::assumed() {
            return Access::of(identity.clone());
        }
        let file = std::env::var_os(SECRET_FILE_VARIABLE).filter(|value| !value.is_empty());
        Access {
            master: variable(MASTER_VARIABLE),
            secret_file: file.map(PathBuf::from),
            user: variable(USER_VARIABLE).or_else(|| variable("USER")).unwrap_or_else(own_user),
            identity: None,
        }
    }

    /// As `identity`.
    pub fn of(identity: DfsIdentity) -> Access {
        let first = identity.aliases.first().map(|(_, to)| to.clone());
        Access {
            master: first.or_else(|| variable(MASTER_VARIABLE)),
            secret_file: None,
            user: identity.user.clone(),
            identity: Some(identity),
        }
    }

    /// The groups of the caller: the identity's, or those that this machine's accounts put the user in.
    pub fn groups(&self) -> Vec<String> {
        self.identity.as_ref().map_or_else(|| groups_of(&self.user), |identity| identity.groups.clone())
    }

    /// The file system of what `uri` names.
    pub fn file_system(&self, uri: &Uri) -> Result<Arc<dyn FileSystem>, UriError> {
        match uri.place() {
            Place::Local => Ok(Arc::new(LocalFileSystem)),
            Place::Memory { name } => Ok(Arc::new(MemoryFileSystem::named(name, &self.user))),
            Place::S3 { bucket } => Ok(Arc::new(S3FileSystem::of(bucket)?)),
            Place::Dfs { .. } => Ok(Arc::new(self.dfs(uri)?)),
        }
    }

    /// The store that holds what `uri` names.
    pub fn store(&self, uri: &Uri) -> Result<Arc<dyn Store>, UriError> {
        match uri.place() {
            Place::Local => Ok(Arc::new(LocalStore)),
            Place::Memory { name } => Ok(Arc::new(TreeStore::new(MemoryFileSystem::named(name, &self.user)))),
            Place::S3 { bucket } => Ok(Arc::new(S3Store::of(bucket)?)),
            Place::Dfs { .. } => Ok(Arc::new(TreeStore::new(self.dfs(uri)?))),
        }
    }

    /// The file system of `uri` by its full name: places of one file system are equal.
    pub(crate) fn place(&self, uri: &Uri) -> Result<Place, UriError> {
        match uri.place() {
            Place::Dfs { .. } => Ok(self.dfs(uri)?.resolve(uri).place().clone()),
            other => Ok(other.clone()),
        }
    }

    /// A client for the cluster of `uri`, which is of `dfs://`. All of one process for one caller share it.
    pub fn client(&self, uri: &Uri) -> Result<DfsClient, AccessError> {
        if !matches!(uri.place(), Place::Dfs { .. }) {
            let other = Cause::Refused("it is not on dfs://".to_owned());
            return Err(FsError::new("ask a master about", uri, other).into());
        }
        Ok(self.dfs(uri)?.client(uri)?)
    }

    /// The cluster whose master the URI names or, if it names none, ours.
    pub(crate) fn dfs(&self, uri: &Uri) -> Result<DfsFileSystem, UriError> {
        let caller = match &self.identity {
            Some(identity) => Caller::known(identity),
            None => Caller::new(&self.user, self.secret_file.clone()),
        };
        if let Place::Dfs { master: Some(master) } = uri.place() {
            return Ok(DfsFileSystem::new(uri.place(), self.meant(master), caller));
        }
        let uri_text = || uri.to_string();
        let master = self.master.as_deref().ok_or_else(|| UriError::NoMaster { uri: uri_text() })?;
        if !is_host_and_port(master) {
            return Err(UriError::BadMaster { uri: uri_text(), master: master.to_owned() });
        }
        Ok(DfsFileSystem::new(uri.place(), self.meant(master), caller))
    }

    /// The master that is meant by the name `master`.
    fn meant<'m>(&'m self, master: &'m str) -> &'m str {
        let mut aliases = self.identity.iter().flat_map(|identity| &identity.aliases);
        aliases.find(|(from, _)| from == master).map_or(master, |(_, to)| to)
    }
}

/// A variable of the environment that says something. What is no text says it in a way that no address and no user has.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::Credential;

    fn refusal(master: Option<&str>, uri: &str) -> String {
        let master = master.map(str::to_owned);
        let access = Access { master, secret_file: None, user: "ann".to_owned(), identity: None };
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
    fn an_identity_says_which_master_a_name_means() {
        let aliases = vec![("outside:1".to_owned(), "inside:2".to_owned())];
        let (user, credential) = ("ann".to_owned(), Credential::Token("token".to_owned()));
        let identity =
            DfsIdentity { user, groups: Vec::new(), credential, aliases, host: None, inside: true };
        let access = Access::of(identity);
        let resolve = |text: &str| {
            let uri = Uri::parse(text).unwrap();
            access.store(&uri).unwrap().resolve(&uri).unwrap().to_string()
        };
        assert_eq!(resolve("dfs://outside:1/b"), "dfs://inside:2/b");
        assert_eq!(resolve("dfs:///b"), "dfs://inside:2/b");
        assert_eq!(resolve("dfs://other:1/b"), "dfs://other:1/b");
        assert!(!format!("{access:?}").contains("\"token\""), "it does not tell");
    }

    #[test]
    fn one_place_has_one_name_however_its_master_is_named() {
        let access = Access {
            master: Some("h:1".to_owned()),
            secret_file: None,
            user: "ann".to_owned(),
            identity: None,
        };
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
