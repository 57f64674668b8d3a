//! The file that says how a cluster is to live: TOML, read at the first start of its master only.

use std::io;
use std::path::{Path, PathBuf};

use gristmill_proto::cluster::{Cluster, StepSpec, step_spec::ActionOnFailure};
use serde::Deserialize;

/// A file that is longer is none that people wrote.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// A week, as EMR has it.
const IDLE_TIMEOUT_S_MAX: u64 = 604_800;
const STEP_CONCURRENCY_MAX: u32 = 256;
/// Of clusters that do not say.
const IDLE_TIMEOUT_DEFAULT_MS: u64 = 60 * 60 * 1000;

/// Why a cluster file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterFileError {
    /// It cannot be read.
    #[error("cannot read the cluster file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is no TOML, or has keys that nobody knows.
    #[error("cannot use the cluster file {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("cannot use the cluster file {}: {what}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        what: String,
    },
}

/// How a cluster is to live, and its first steps.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClusterFile {
    version: u32,
    name: String,
    transient: bool,
    idle_timeout_s: Option<u64>,
    termination_protected: bool,
    log_uri: String,
    step_concurrency: Option<u32>,
    workers: u32,
    #[serde(rename = "step")]
    steps: Vec<StepEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepEntry {
    name: String,
    program: String,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(default)]
    retries: u32,
    #[serde(default)]
    timeout_s: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnFailure {
    #[default]
    Continue,
    CancelAndWait,
    TerminateCluster,
}

/// A cluster as the file says, and its first steps. A number of seconds for the idle timeout of 0 is none.
pub(super) fn read(path: &Path) -> Result<(Cluster, Vec<StepSpec>), ClusterFileError> {
    let failed = |source| ClusterFileError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let file: ClusterFile = toml::from_str(&text)
        .map_err(|source| ClusterFileError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    check(&file).map_err(|what| ClusterFileError::Value { path: path.to_owned(), what })?;
    let cluster = Cluster {
        name: file.name,
        transient: file.transient,
        idle_timeout_ms: file.idle_timeout_s.map_or(IDLE_TIMEOUT_DEFAULT_MS, |seconds| seconds * 1000),
        termination_protected: file.termination_protected,
        log_uri: file.log_uri,
        step_concurrency: file.step_concurrency.unwrap_or(1),
        workers_wanted: file.workers.max(1),
        ..Cluster::default()
    };
    Ok((cluster, file.steps.into_iter().map(spec).collect()))
}

fn check(file: &ClusterFile) -> Result<(), String> {
    if file.version != 1 {
        return Err(format!("its version is {}, and this build knows version 1", file.version));
    }
    if file.idle_timeout_s.is_some_and(|seconds| seconds > IDLE_TIMEOUT_S_MAX) {
        return Err(format!("idle_timeout_s is at most {IDLE_TIMEOUT_S_MAX}; 0 is never"));
    }
    if file.step_concurrency.is_some_and(|steps| !(1..=STEP_CONCURRENCY_MAX).contains(&steps)) {
        return Err(format!("step_concurrency is 1 to {STEP_CONCURRENCY_MAX}"));
    }
    if file.transient && file.termination_protected {
        return Err("a transient cluster ends by itself: it cannot be termination_protected".to_owned());
    }
    match file.log_uri.is_empty() || gristmill_dfs::Uri::parse(&file.log_uri).is_ok() {
        true => Ok(()),
        false => Err(format!("log_uri {:?} is no URI", file.log_uri)),
    }
}

fn spec(entry: StepEntry) -> StepSpec {
    let on_failure = match entry.on_failure {
        OnFailure::Continue => ActionOnFailure::Continue,
        OnFailure::CancelAndWait => ActionOnFailure::CancelAndWait,
        OnFailure::TerminateCluster => ActionOnFailure::TerminateCluster,
    };
    StepSpec {
        program_name: entry.program.rsplit('/').next().unwrap_or_default().to_owned(),
        name: entry.name,
        program: entry.program,
        arguments: entry.arguments,
        on_failure: on_failure.into(),
        depends_on: entry.depends_on,
        retries: entry.retries,
        timeout_ms: entry.timeout_s * 1000,
        ..StepSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(Cluster, Vec<StepSpec>), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {source}")
        })
    }

    #[test]
    fn a_file_says_how_a_cluster_lives() {
        let (cluster, steps) =
            of("version = 1\nname = 'nightly'\ntransient = true\nidle_timeout_s = 600\nworkers = 2\n\
             [[step]]\nname = 'wc'\nprogram = 'dfs:///p/word_count'\narguments = ['--input', 'a b']\n\
             on_failure = 'terminate-cluster'\nretries = 2\ntimeout_s = 9\n")
            .unwrap();
        assert!(cluster.transient);
        assert_eq!(
            (cluster.idle_timeout_ms, cluster.workers_wanted, cluster.step_concurrency),
            (600_000, 2, 1)
        );
        assert_eq!(steps[0].on_failure(), ActionOnFailure::TerminateCluster);
        assert_eq!((steps[0].program_name.as_str(), steps[0].timeout_ms), ("word_count", 9000));
        assert_eq!(of("version = 1").unwrap().0.idle_timeout_ms, IDLE_TIMEOUT_DEFAULT_MS);
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for (text, part) in [
            ("version = 1\ntransiant = true", "unknown field `transiant`"),
            ("version = 1\n[[step]]\nname = 'a'\nprogram = 'b'\non_failure = 'x'", "on_failure"),
            ("name = 'a'", "its version is 0"),
            ("version = 1\nstep_concurrency = 0", "step_concurrency"),
            ("version = 1\nidle_timeout_s = 99999999", "idle_timeout_s"),
            (
                "version = 1\ntransient = true\ntermination_protected = true",
                "cannot be termination_protected",
            ),
        ] {
            let refused = of(text).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
