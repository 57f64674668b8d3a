//! What outlives the cluster: logs of steps, reports of jobs, and its own record, below `log_uri`.
//!
//! ```text
//!   LOG_URI/<cluster id>/steps/step-1/stdout, stderr     when a try ends
//!   LOG_URI/<cluster id>/jobs/<job id>/job.json          when a job ends; workers push the logs of its attempts
//!   LOG_URI/<cluster id>/cluster.json                    when the cluster ends
//! ```
//!
//! What cannot be pushed is said in the master's log, and holds nothing up for longer than the store's own retries.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use gristmill_dfs::file_system::{Access, CreateOptions, FsError};
use gristmill_dfs::{Uri, UriError};
use gristmill_proto::cluster::Cluster;

use super::{StepsOptions, program, runner};

const COPY_BYTES: usize = 1 << 20;

/// Why something is not where it was to be.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error(transparent)]
    FileSystem(#[from] FsError),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {uri}: {source}")]
    Write { uri: Uri, source: io::Error },
}

/// The place of a cluster's records, if it has one.
pub(super) struct Archive {
    place: Option<(Uri, Access)>,
}

impl Archive {
    pub(super) fn new(options: &StepsOptions, cluster: &Cluster) -> Archive {
        let place = match cluster.log_uri.as_str() {
            "" => None,
            uri => match Uri::parse(uri) {
                Ok(uri) => Some((
                    uri.join(options.cluster.to_string()),
                    program::access(options, &options.superuser),
                )),
                Err(error) => {
                    tracing::warn!(uri, %error, "nothing is pushed");
                    None
                }
            },
        };
        Archive { place }
    }

    /// Where it is: a URI.
    pub(super) fn place(&self) -> Option<String> {
        self.place.as_ref().map(|(place, _)| place.to_string())
    }

    /// Pushes the history of a job.
    pub(super) fn push_history(&self, job: &str, history: &str) {
        let Some((place, access)) = &self.place else { return };
        let there = place.join(format!("jobs/{job}/job.json"));
        if let Err(error) = push(access, &there, Path::new("job.json"), &mut history.as_bytes()) {
            tracing::warn!(%error, job, "the history of a job is not pushed");
        }
    }

    /// Pushes the logs of a step; says where they are.
    pub(super) fn push_step(&self, number: u64, directory: &Path) -> String {
        let here = directory.display().to_string();
        let Some((place, access)) = &self.place else { return here };
        let there = place.join(format!("steps/step-{number}"));
        for (name, path) in runner::logs(directory) {
            let file =
                std::fs::File::open(&path).map_err(|source| PushError::Read { path: path.clone(), source });
            let pushed = file.and_then(|mut file| push(access, &there.join(name), &path, &mut file));
            if let Err(error) = pushed {
                tracing::warn!(%error, step = number, "a step's log is not pushed");
                return here;
            }
        }
        there.to_string()
    }

    /// Pushes the cluster's own record.
    pub(super) fn push_record(&self, record: &str) {
        let Some((place, access)) = &self.place else { return };
        let there = place.join("cluster.json");
        if let Err(error) = push(access, &there, Path::new("cluster.json"), &mut record.as_bytes()) {
            tracing::warn!(%error, "the cluster's record is not pushed");
        }
    }
}

fn push(access: &Access, to: &Uri, path: &Path, from: &mut dyn Read) -> Result<(), PushError> {
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let mut writer = access.file_system(to)?.create(to, &options)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let bytes =
            from.read(&mut buffer).map_err(|source| PushError::Read { path: path.to_owned(), source })?;
        if bytes == 0 {
            return Ok(writer.finish()?);
        }
        writer.write_all(&buffer[..bytes]).map_err(|source| PushError::Write { uri: to.clone(), source })?;
    }
}
