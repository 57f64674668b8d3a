//! What the daemons of a cluster said goes where its other records are, when they have ended.

use std::io::Write;

use gristmill_cluster::{ClusterError, Remains};
use gristmill_dfs::file_system::{Access, CreateOptions, FsError};
use gristmill_dfs::{Uri, UriError};
use gristmill_process::sentence;
use gristmill_proto::cluster_record::ClusterRecord;

/// Why a log is not where it was to be.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error(transparent)]
    FileSystem(#[from] FsError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Pushes the log of every member; what cannot be pushed is said, and the cluster ends all the same.
pub(super) fn push(remains: &mut Remains<'_>) {
    let Some(end) = &remains.end else {
        tracing::warn!(
            cluster = remains.cluster.name,
            "its master left no word: its daemons' logs are not pushed"
        );
        return;
    };
    let record: ClusterRecord = match serde_json::from_slice(end) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(cluster = remains.cluster.name, %error, "its record is damaged: no logs are pushed");
            return;
        }
    };
    if record.log_uri.is_empty() {
        return;
    }
    let place = format!("{}/{}/daemons", record.log_uri.trim_end_matches('/'), record.cluster_id);
    let roles: Vec<String> = remains.cluster.members.iter().map(|member| member.role.clone()).collect();
    for role in roles {
        if let Err(error) = push_one(remains, &role, &format!("{place}/{role}.log")) {
            tracing::warn!(role, error = sentence(&error), "a daemon's log is not pushed");
        }
    }
}

fn push_one(remains: &mut Remains<'_>, role: &str, to: &str) -> Result<(), PushError> {
    let uri = Uri::parse(to)?;
    let files = Access::from_environment().file_system(&uri)?;
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let mut writer = files.create(&uri, &options)?;
    remains.copy_log(role, &mut writer as &mut dyn Write)?;
    Ok(writer.finish()?)
}
