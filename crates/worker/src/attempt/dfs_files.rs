//! Files of the cluster that this worker needs for a job, read as the job's user.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gristmill_dfs::client::{ClientOptions, DfsClient, DfsError};
use gristmill_proto::auth::Secret;
use gristmill_proto::job::JobSpec;

use super::verified_files::Remote;

/// How long the master may be silent: an attempt that waits longer is better tried elsewhere.
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to the file system of this cluster.
pub(crate) struct DfsFiles {
    pub(crate) master: String,
    secret: Option<Secret>,
    /// As the core worker on this machine calls it.
    pub(crate) host: String,
    /// The last one: jobs come in crowds of one user.
    client: Mutex<Option<Client>>,
}

struct Client {
    user: String,
    groups: Vec<String>,
    client: DfsClient,
}

impl DfsFiles {
    pub(crate) fn new(master: String, secret: Option<Secret>, host: String) -> DfsFiles {
        DfsFiles { master, secret, host, client: Mutex::new(None) }
    }

    /// Opens a file of `job`'s.
    pub(crate) fn open(&self, job: &JobSpec, path: &str) -> Result<Remote, DfsError> {
        let file = self.client(job)?.open(path)?;
        Ok(Remote { bytes: file.file_bytes(), content: Box::new(file) })
    }

    fn client(&self, job: &JobSpec) -> Result<DfsClient, DfsError> {
        let mut last = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Client { user, groups, client }) = &*last
            && *user == job.user
            && *groups == job.groups
        {
            return Ok(client.clone());
        }
        let client = DfsClient::connect(ClientOptions {
            secret: self.secret.clone(),
            user: job.user.clone(),
            groups: job.groups.clone(),
            host: self.host.clone(),
            inside: true,
            connect_timeout: PATIENCE,
            call_timeout: PATIENCE,
            ..ClientOptions::new(&self.master)
        })?;
        *last = Some(Client { user: job.user.clone(), groups: job.groups.clone(), client: client.clone() });
        Ok(client)
    }
}
