//! Calls of the master's service `Clusters`. Every one can be made again without harm.

use std::time::Duration;

use gristmill_proto::cluster::{
    AddStepsRequest, CancelStepsRequest, Cluster, DescribeClusterRequest, DescribeStepRequest,
    ListStepsRequest, SetTerminationProtectionRequest, Step, StepSpec, TerminateRequest,
};
use gristmill_proto::ids::JobId;

use crate::job::client::{CallError, JobsClient, PATIENCE};

impl JobsClient {
    /// Adds steps, all or none; their numbers.
    pub(super) fn add_steps(&self, steps: Vec<StepSpec>) -> Result<Vec<u64>, CallError> {
        // Made once, so that a request which is sent again adds nothing.
        let request = JobId::random().0.to_vec().into();
        let request = AddStepsRequest { request, steps, user: self.user().to_owned() };
        self.call_clusters("add steps", PATIENCE, async |mut stub| {
            Ok(stub.add_steps(self.request(request.clone())?).await?.into_inner().numbers)
        })
    }

    /// All steps, in the order in which they were added.
    pub(super) fn steps(&self) -> Result<Vec<Step>, CallError> {
        self.steps_within(PATIENCE)
    }

    /// The same, if the master answers within `patience`.
    pub(super) fn steps_within(&self, patience: Duration) -> Result<Vec<Step>, CallError> {
        self.call_clusters("list the steps", patience, async |mut stub| {
            Ok(stub.list_steps(self.request(ListStepsRequest::default())?).await?.into_inner().steps)
        })
    }

    /// One step, by its id or name.
    pub(super) fn step(&self, step: &str) -> Result<Step, CallError> {
        self.call_clusters("describe the step", PATIENCE, async |mut stub| {
            let request = DescribeStepRequest { step: step.to_owned() };
            Ok(stub.describe_step(self.request(request)?).await?.into_inner())
        })
    }

    /// Cancels steps, by their ids or names; as they are then.
    pub(super) fn cancel_steps(&self, steps: &[String], kill: bool) -> Result<Vec<Step>, CallError> {
        let request = CancelStepsRequest { steps: steps.to_vec(), user: self.user().to_owned(), kill };
        self.call_clusters("cancel steps", PATIENCE, async |mut stub| {
            Ok(stub.cancel_steps(self.request(request.clone())?).await?.into_inner().steps)
        })
    }

    /// The cluster's life.
    pub(super) fn life(&self) -> Result<Cluster, CallError> {
        self.life_within(PATIENCE)
    }

    /// The same, if the master answers within `patience`.
    pub(super) fn life_within(&self, patience: Duration) -> Result<Cluster, CallError> {
        self.call_clusters("describe the cluster", patience, async |mut stub| {
            Ok(stub.describe_cluster(self.request(DescribeClusterRequest {})?).await?.into_inner())
        })
    }

    /// Protects the cluster against termination, or takes that back.
    pub(super) fn protect(&self, protected: bool) -> Result<Cluster, CallError> {
        let request = SetTerminationProtectionRequest { protected, user: self.user().to_owned() };
        self.call_clusters("protect the cluster", PATIENCE, async |mut stub| {
            Ok(stub.set_termination_protection(self.request(request.clone())?).await?.into_inner())
        })
    }

    /// Has the cluster end, if the master answers within `patience`.
    pub(super) fn terminate(&self, patience: Duration) -> Result<Cluster, CallError> {
        let request = TerminateRequest { user: self.user().to_owned() };
        self.call_clusters("terminate the cluster", patience, async |mut stub| {
            Ok(stub.terminate(self.request(request.clone())?).await?.into_inner())
        })
    }
}
