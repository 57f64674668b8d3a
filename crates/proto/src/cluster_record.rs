//! A cluster and its steps, for people and programs, and for later: `cluster.json` (docs/formats.md).

use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Step};
use crate::ids::{ClusterId, JobId};

/// Of the record.
pub const CLUSTER_RECORD_VERSION: u32 = 1;

/// A cluster, as it is or as it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterRecord {
    /// [`CLUSTER_RECORD_VERSION`].
    pub version: u32,
    /// Its id.
    pub cluster_id: String,
    /// Its name; perhaps none.
    pub name: String,
    /// As `TERMINATED`.
    pub state: String,
    /// Why it ended or ends, for programs: as `ALL_STEPS_COMPLETED`.
    pub reason: String,
    /// The same, for people.
    pub message: String,
    /// Since 1970.
    pub created_ms: u64,
    /// When it took steps; 0: not yet.
    pub ready_ms: u64,
    /// 0: not yet.
    pub ended_ms: u64,
    /// Whether it ends after its last step.
    pub transient: bool,
    /// 0: never.
    pub idle_timeout_ms: u64,
    /// Whether nobody can terminate it.
    pub termination_protected: bool,
    /// Where its records are; empty: nowhere.
    pub log_uri: String,
    /// In the order in which they were added.
    pub steps: Vec<StepRecord>,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    /// As `step-1`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// As `COMPLETED`.
    pub state: String,
    /// Why it is not, for programs.
    pub reason: String,
    /// The same, for people.
    pub message: String,
    /// Where its stdout and stderr are.
    pub log: String,
    /// A URI.
    pub program: String,
    /// What it was given.
    pub arguments: Vec<String>,
    /// As `CONTINUE`.
    pub on_failure: String,
    /// Ids of steps.
    pub depends_on: Vec<String>,
    /// Tries that were begun.
    pub tries: u32,
    /// Tries after the first that it may have.
    pub retries: u32,
    /// Of one try; 0: none.
    pub timeout_ms: u64,
    /// The job of its latest try, if its program is a job program.
    pub job: Option<String>,
    /// Who added it.
    pub user: String,
    /// Since 1970.
    pub created_ms: u64,
    /// 0: not yet.
    pub started_ms: u64,
    /// 0: not yet.
    pub ended_ms: u64,
}

impl ClusterRecord {
    /// The record of a cluster and its steps.
    pub fn new(cluster: &Cluster, steps: &[Step]) -> ClusterRecord {
        ClusterRecord {
            version: CLUSTER_RECORD_VERSION,
            cluster_id: ClusterId::from_wire(&cluster.cluster_id)
                .map(|id| id.to_string())
                .unwrap_or_default(),
            name: cluster.name.clone(),
            state: cluster.state().as_str_name().to_owned(),
            reason: cluster.reason.clone(),
            message: cluster.message.clone(),
            created_ms: cluster.created_ms,
            ready_ms: cluster.ready_ms,
            ended_ms: cluster.ended_ms,
            transient: cluster.transient,
            idle_timeout_ms: cluster.idle_timeout_ms,
            termination_protected: cluster.termination_protected,
            log_uri: cluster.log_uri.clone(),
            steps: steps.iter().map(StepRecord::new).collect(),
        }
    }

    /// Its text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a record has string keys") + "\n"
    }
}

impl StepRecord {
    /// The record of a step.
    pub fn new(step: &Step) -> StepRecord {
        let spec = step.spec.clone().unwrap_or_default();
        StepRecord {
            id: format!("step-{}", step.number),
            state: step.state().as_str_name().to_owned(),
            reason: step.reason.clone(),
            message: step.message.clone(),
            log: step.log.clone(),
            on_failure: spec.on_failure().as_str_name().to_owned(),
            name: spec.name,
            program: spec.program,
            arguments: spec.arguments,
            depends_on: step.depends_on.iter().map(|number| format!("step-{number}")).collect(),
            tries: step.tries,
            retries: spec.retries,
            timeout_ms: spec.timeout_ms,
            job: JobId::from_wire(&step.job).map(|job| job.to_string()),
            user: step.user.clone(),
            created_ms: step.created_ms,
            started_ms: step.started_ms,
            ended_ms: step.ended_ms,
        }
    }
}
