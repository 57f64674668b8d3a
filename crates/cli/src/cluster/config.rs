//! How a cluster is to be and to live: options, over a file (`--config cluster.toml`), over defaults.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gristmill_cluster::TaskRange;
use gristmill_dfs::Uri;
use serde::{Deserialize, Serialize};

use super::span::parse_span_ms;
use super::step::{WantedStep, parse_step};
use crate::failure::Failure;
use crate::fs::format::parse_size;

/// Of the file.
const VERSION: u32 = 1;
/// Of a task worker that goes: starting another takes a second, so this is no loss.
const TASK_IDLE_MS: u64 = 60_000;

/// What a cluster's file says; unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Config {
    pub(super) version: u32,
    pub(super) name: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) core: Option<u32>,
    pub(super) task: Option<u32>,
    pub(super) min_task: Option<u32>,
    pub(super) max_task: Option<u32>,
    pub(super) task_idle_timeout: Option<String>,
    pub(super) slots: Option<u32>,
    pub(super) memory_per_slot: Option<String>,
    pub(super) replication: Option<u32>,
    pub(super) secret: Option<bool>,
    pub(super) bootstrap: Option<PathBuf>,
    pub(super) image: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) notice_ms: Option<u64>,
    pub(super) transient: Option<bool>,
    pub(super) idle_timeout: Option<String>,
    pub(super) termination_protected: Option<bool>,
    pub(super) log_uri: Option<String>,
    pub(super) step_concurrency: Option<u32>,
    /// From paths of this machine to URIs, before the first step.
    pub(super) put: BTreeMap<String, String>,
    /// From URIs to paths of this machine, after the last step.
    pub(super) get: BTreeMap<String, String>,
    #[serde(rename = "step")]
    pub(super) steps: Vec<WantedStep>,
}

/// What the master reads at its first start: its `--cluster-file`.
#[derive(Serialize)]
struct MasterFile<'c> {
    version: u32,
    name: &'c str,
    transient: bool,
    idle_timeout_s: u64,
    termination_protected: bool,
    log_uri: &'c str,
    step_concurrency: u32,
    workers: u32,
}

impl Config {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Config, Failure> {
        let refused = |why: String| Failure::Usage(format!("cannot use {}: {why}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let config: Config = toml::from_str(&text).map_err(|error| refused(error.to_string()))?;
        if config.version != VERSION {
            return Err(refused(format!(
                "its version is {}, and this program knows {VERSION}",
                config.version
            )));
        }
        Ok(config)
    }

    /// What options say counts; steps, puts and gets come after those of the file.
    pub(super) fn overridden_by(self, options: Config) -> Config {
        Config {
            version: VERSION,
            name: options.name.or(self.name),
            provider: options.provider.or(self.provider),
            core: options.core.or(self.core),
            task: options.task.or(self.task),
            min_task: options.min_task.or(self.min_task),
            max_task: options.max_task.or(self.max_task),
            task_idle_timeout: options.task_idle_timeout.or(self.task_idle_timeout),
            slots: options.slots.or(self.slots),
            memory_per_slot: options.memory_per_slot.or(self.memory_per_slot),
            replication: options.replication.or(self.replication),
            secret: options.secret.or(self.secret),
            bootstrap: options.bootstrap.or(self.bootstrap),
            image: options.image.or(self.image),
            port: options.port.or(self.port),
            notice_ms: options.notice_ms.or(self.notice_ms),
            transient: options.transient.or(self.transient),
            idle_timeout: options.idle_timeout.or(self.idle_timeout),
            termination_protected: options.termination_protected.or(self.termination_protected),
            log_uri: options.log_uri.or(self.log_uri),
            step_concurrency: options.step_concurrency.or(self.step_concurrency),
            put: self.put.into_iter().chain(options.put).collect(),
            get: self.get.into_iter().chain(options.get).collect(),
            steps: self.steps.into_iter().chain(options.steps).collect(),
        }
    }

    /// That it makes sense, before anything is made.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let wrong = |what: &str| Err(Failure::Usage(what.to_owned()));
        let transient = self.transient.unwrap_or(false);
        if transient && self.steps.is_empty() {
            return wrong("a transient cluster ends after its last step: give it one with --step");
        }
        if transient && self.termination_protected.unwrap_or(false) {
            return wrong("a transient cluster ends by itself: it cannot be protected against termination");
        }
        let is_local = |uri: &str| Uri::parse(uri).is_ok_and(|uri| uri.is_local());
        if self.provider.as_deref() == Some("docker") && self.log_uri.as_deref().is_some_and(is_local) {
            return wrong(
                "containers cannot write records to a directory of this machine: --log-uri takes s3://BUCKET/PATH",
            );
        }
        self.task_range()?;
        self.idle_timeout_s()?;
        self.memory_per_slot_bytes()?;
        self.steps.iter().try_for_each(WantedStep::check)
    }

    /// Between how many task workers it moves by itself.
    pub(super) fn task_range(&self) -> Result<Option<TaskRange>, Failure> {
        let Some(max) = self.max_task else {
            return match (self.min_task, &self.task_idle_timeout) {
                (None, None) => Ok(None),
                _ => Err(Failure::Usage(
                    "task workers come and go with --max-task: say how many may be there".to_owned(),
                )),
            };
        };
        let min = self.min_task.unwrap_or(0);
        if min > max {
            return Err(Failure::Usage(format!("at least {min} and at most {max} task workers cannot be")));
        }
        let idle =
            self.task_idle_timeout.as_deref().map(parse_span_ms).transpose().map_err(Failure::Usage)?;
        Ok(Some(TaskRange { min, max, idle_ms: idle.unwrap_or(TASK_IDLE_MS) }))
    }

    /// 0: never.
    fn idle_timeout_s(&self) -> Result<u64, Failure> {
        match self.idle_timeout.as_deref() {
            None => Ok(60 * 60),
            Some("never") => Ok(0),
            Some(text) => Ok(parse_span_ms(text).map_err(Failure::Usage)?.div_ceil(1000)),
        }
    }

    pub(super) fn memory_per_slot_bytes(&self) -> Result<Option<u64>, Failure> {
        self.memory_per_slot.as_deref().map(parse_size).transpose().map_err(Failure::Usage)
    }

    /// Whether the cluster waits after its last step for somebody who takes files out of it.
    pub(super) fn is_held(&self) -> bool {
        self.transient.unwrap_or(false) && !self.get.is_empty()
    }

    /// What the master reads. Steps come later, when there are workers to keep their programs.
    pub(super) fn master_file(&self) -> Result<String, Failure> {
        let file = MasterFile {
            version: 1,
            name: self.name.as_deref().unwrap_or_default(),
            transient: self.transient.unwrap_or(false) && !self.is_held(),
            idle_timeout_s: self.idle_timeout_s()?,
            termination_protected: self.termination_protected.unwrap_or(false),
            log_uri: self.log_uri.as_deref().unwrap_or_default(),
            step_concurrency: self.step_concurrency.unwrap_or(1),
            workers: 1,
        };
        toml::to_string(&file).map_err(|error| Failure::Refused(error.to_string()))
    }

    /// The whole of it, as a file that can be given again.
    pub(super) fn to_toml(&self) -> Result<String, Failure> {
        toml::to_string(self).map_err(|error| Failure::Refused(error.to_string()))
    }
}

/// Steps of options.
pub(super) fn step(text: &str) -> Result<WantedStep, String> {
    parse_step(text)
}

/// `LOCAL=URI` or `URI=LOCAL`: the first `=` that is in no URI's query, as URIs of ours have none.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((from.to_owned(), to.to_owned())),
        _ => Err("it is FROM=TO".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_count_more_than_the_file_and_a_dry_run_can_be_given_again() {
        let file: Config = toml::from_str(
            "version = 1\ncore = 2\ntransient = true\nidle-timeout = '10m'\nput = { 'a' = 'dfs:///a' }\n\
             [[step]]\nprogram = '/bin/true'\non-failure = 'cancel-and-wait'\n",
        )
        .unwrap();
        let options =
            Config { core: Some(3), steps: vec![parse_step("/bin/false x").unwrap()], ..Config::default() };
        let config = file.overridden_by(options);
        assert_eq!((config.core, config.transient, config.steps.len()), (Some(3), Some(true), 2));
        config.check().unwrap();
        let again: Config = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(again, config);
        assert!(config.master_file().unwrap().contains("idle_timeout_s = 600"));
        assert!(
            toml::from_str::<Config>("version = 1\ncores = 2").unwrap_err().to_string().contains("cores")
        );
    }

    #[test]
    fn who_takes_files_out_holds_the_cluster() {
        let options = Config {
            transient: Some(true),
            get: BTreeMap::from([("dfs:///out".to_owned(), "out".to_owned())]),
            steps: vec![parse_step("/bin/true").unwrap()],
            ..Config::default()
        };
        assert!(options.is_held() && options.master_file().unwrap().contains("transient = false"));
        let no_steps = Config { transient: Some(true), ..Config::default() };
        assert!(matches!(no_steps.check(), Err(Failure::Usage(_))));
    }
}
