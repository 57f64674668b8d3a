//! How a cluster is to be.

use std::path::PathBuf;

use gristmill_process::machine::{cores, memory_bytes};
use serde::{Deserialize, Serialize};

use crate::elastic::TaskRange;

/// A task in less cannot hold its buffers.
const MEMORY_PER_SLOT_MIN: u64 = 64 << 20;
/// How long workers that `scale` takes away may go on with their tasks, where nobody says.
const NOTICE_MS: u64 = 30_000;

/// Out of what clusters are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Processes on this machine.
    Processes,
    /// Containers of a Docker engine.
    Docker,
}

impl ProviderKind {
    /// As options and listings spell it.
    pub fn name(self) -> &'static str {
        match self {
            ProviderKind::Processes => "processes",
            ProviderKind::Docker => "docker",
        }
    }
}

/// What a worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerRole {
    /// It keeps blocks of the file system, and runs attempts.
    Core,
    /// It only runs attempts.
    Task,
}

impl WorkerRole {
    /// As options and names of members spell it.
    pub fn name(self) -> &'static str {
        match self {
            WorkerRole::Core => "core",
            WorkerRole::Task => "task",
        }
    }
}

/// How a cluster is to be. It is part of the record, so that workers that come later are as the first were.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Its name; else a number that is free.
    pub name: Option<String>,
    /// Out of what it is made.
    pub provider: ProviderKind,
    /// The program that is all its daemons, where they are processes.
    pub program: PathBuf,
    /// Core workers.
    pub core: u32,
    /// Task workers.
    pub task: u32,
    /// Slots of each worker; else the machine's cores, divided.
    pub slots: Option<u32>,
    /// Memory of each slot; else half of the machine's, divided.
    pub memory_per_slot_bytes: Option<u64>,
    /// Copies of a block, where a file does not say.
    pub replication: Option<u32>,
    /// A directory in which the cluster's own is made, where its daemons are processes; else it is where the record is.
    pub dir: Option<PathBuf>,
    /// Whether it has a secret. Containers always have one.
    pub secret: bool,
    /// The image of containers.
    pub image: Option<String>,
    /// The port of this machine by which containers' master is reached; else one that is free.
    pub port: Option<u16>,
    /// What the master is given as `--cluster-file`: steps and life cycle.
    pub cluster_file: Option<PathBuf>,
    /// What each node is given as `--bootstrap`: a script that runs before the worker joins, or the master listens.
    pub bootstrap: Option<PathBuf>,
    /// How long task workers that are to end, and all that `scale` takes away, may go on with their tasks.
    pub notice_ms: u64,
    /// Between how many task workers it moves by itself; else `task` are there until somebody scales it.
    #[serde(default)]
    pub task_range: Option<TaskRange>,
    /// What containers are told of the object store, as variables that anybody may see. Processes inherit theirs.
    #[serde(default)]
    pub store_variables: Vec<(String, String)>,
    /// Its keys, for containers: what they are given as `AWS_SHARED_CREDENTIALS_FILE`.
    #[serde(default)]
    pub store_keys: Option<PathBuf>,
}

impl ClusterSpec {
    /// One core worker out of `provider`, everything else by default.
    pub fn new(provider: ProviderKind, program: PathBuf) -> ClusterSpec {
        ClusterSpec {
            name: None,
            provider,
            program,
            core: 1,
            task: 0,
            slots: None,
            memory_per_slot_bytes: None,
            replication: None,
            dir: None,
            secret: false,
            image: None,
            port: None,
            cluster_file: None,
            bootstrap: None,
            notice_ms: NOTICE_MS,
            task_range: None,
            store_variables: Vec::new(),
            store_keys: None,
        }
    }

    /// With this machine divided among the workers, where nobody has said how.
    pub(crate) fn divided(mut self) -> ClusterSpec {
        let workers = (self.core + self.task).max(1);
        let slots = self.slots.unwrap_or_else(|| (cores() / workers).max(1));
        let share = memory_bytes() / 2 / u64::from(workers) / u64::from(slots.max(1));
        self.slots = Some(slots);
        self.memory_per_slot_bytes.get_or_insert(share.max(MEMORY_PER_SLOT_MIN));
        self
    }

    /// Slots of each worker.
    pub(crate) fn worker_slots(&self) -> u32 {
        self.slots.unwrap_or(1)
    }

    /// Memory for the attempts of one worker.
    pub(crate) fn worker_memory_bytes(&self) -> u64 {
        let per_slot = self.memory_per_slot_bytes.unwrap_or(MEMORY_PER_SLOT_MIN);
        per_slot.saturating_mul(u64::from(self.worker_slots()))
    }

    /// The names of the workers that it begins with: `core-1`, ..., `task-1`, ...
    pub(crate) fn first_workers(&self) -> Vec<String> {
        let named =
            |role: WorkerRole, count| (1..=count).map(move |number| format!("{}-{number}", role.name()));
        named(WorkerRole::Core, self.core).chain(named(WorkerRole::Task, self.task)).collect()
    }

    /// What the program is told as a worker `name` of the master at `master`, without what only its provider knows.
    pub(crate) fn worker_args(&self, name: &str, master: &str) -> Vec<String> {
        let role = name.split('-').next().unwrap_or(name);
        let mut args = vec![
            ("--master", master.to_owned()),
            ("--role", role.to_owned()),
            ("--slots", self.worker_slots().to_string()),
            ("--memory", self.worker_memory_bytes().to_string()),
        ];
        if role == WorkerRole::Task.name() {
            args.push(("--notice-ms", self.notice_ms.to_string()));
        }
        args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}
