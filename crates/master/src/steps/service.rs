//! The gRPC service Clusters: what users and nodes ask.

use std::sync::Arc;

use gristmill_proto::cluster::clusters_server::{Clusters, ClustersServer};
use gristmill_proto::cluster::{
    AddStepsAnswer, AddStepsRequest, BootstrapAnswer, BootstrapReport, CancelStepsAnswer, CancelStepsRequest,
    Cluster, DescribeClusterRequest, DescribeStepRequest, ListStepsAnswer, ListStepsRequest,
    SetTerminationProtectionRequest, Step, TerminateRequest,
};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::core::{Core, Now, Refusal};
use super::shell::{Shell, ShellError};

/// A request of 256 steps with their arguments fits.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The service, to be added to a gRPC server.
pub(super) fn service(shell: Arc<Shell>) -> ClustersServer<ClustersService> {
    ClustersServer::new(ClustersService { shell }).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Answers users and nodes.
pub(crate) struct ClustersService {
    shell: Arc<Shell>,
}

impl ClustersService {
    fn check_client(&self, metadata: &MetadataMap) -> Result<(), Status> {
        self.shell.jobs().check_client(metadata)
    }

    /// Whoever ends or protects the cluster owns it: the superuser. Without a secret everybody is who they say.
    fn check_owner(&self, user: &str) -> Result<(), Status> {
        let owner = &self.shell.options().superuser;
        match user == owner {
            true => Ok(()),
            false => Err(Status::permission_denied(format!(
                "only {owner} may do that to the cluster, and {user} asks"
            ))),
        }
    }

    /// The store is waited for, on a thread that may wait.
    async fn decide<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Core, Now) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let shell = self.shell.clone();
        let decided = tokio::task::spawn_blocking(move || shell.decide(decide)).await;
        let decided = decided.expect("deciding about steps does not panic");
        decided.map(Response::new).map_err(status)
    }
}

#[tonic::async_trait]
impl Clusters for ClustersService {
    async fn add_steps(&self, request: Request<AddStepsRequest>) -> Result<Response<AddStepsAnswer>, Status> {
        self.check_client(request.metadata())?;
        let request = request.into_inner();
        self.decide(move |core, now| core.add(now, &request)).await
    }

    async fn list_steps(
        &self,
        request: Request<ListStepsRequest>,
    ) -> Result<Response<ListStepsAnswer>, Status> {
        self.check_client(request.metadata())?;
        let request = request.into_inner();
        let wanted = |step: &&Step| request.states.is_empty() || request.states.contains(&step.state);
        let steps = self.shell.read(|core| core.steps().filter(wanted).cloned().collect());
        Ok(Response::new(ListStepsAnswer { steps }))
    }

    async fn describe_step(&self, request: Request<DescribeStepRequest>) -> Result<Response<Step>, Status> {
        self.check_client(request.metadata())?;
        let text = request.into_inner().step;
        let found = self.shell.read(|core| core.find(&text).map(|number| core.step(number).cloned()));
        match found.map_err(|refusal| status(refusal.into()))? {
            Some(step) => Ok(Response::new(step)),
            None => Err(Status::not_found(format!("there is no step {text}"))),
        }
    }

    async fn cancel_steps(
        &self,
        request: Request<CancelStepsRequest>,
    ) -> Result<Response<CancelStepsAnswer>, Status> {
        self.check_client(request.metadata())?;
        let request = request.into_inner();
        self.decide(move |core, now| core.cancel(now, &request).map(|steps| CancelStepsAnswer { steps }))
            .await
    }

    async fn describe_cluster(
        &self,
        request: Request<DescribeClusterRequest>,
    ) -> Result<Response<Cluster>, Status> {
        self.check_client(request.metadata())?;
        Ok(Response::new(self.shell.read(|core| core.cluster().clone())))
    }

    async fn set_termination_protection(
        &self,
        request: Request<SetTerminationProtectionRequest>,
    ) -> Result<Response<Cluster>, Status> {
        self.check_client(request.metadata())?;
        let SetTerminationProtectionRequest { protected, user } = request.into_inner();
        self.check_owner(&user)?;
        self.decide(move |core, _| core.protect(protected).map(|()| core.cluster().clone())).await
    }

    async fn terminate(&self, request: Request<TerminateRequest>) -> Result<Response<Cluster>, Status> {
        self.check_client(request.metadata())?;
        let user = request.into_inner().user;
        self.check_owner(&user)?;
        self.decide(move |core, now| core.terminate(now, &user).map(|()| core.cluster().clone())).await
    }

    async fn bootstrap(
        &self,
        request: Request<BootstrapReport>,
    ) -> Result<Response<BootstrapAnswer>, Status> {
        self.shell.jobs().check_worker(request.metadata())?;
        let report = request.into_inner();
        tracing::info!(node = report.node, phase = report.phase().as_str_name(), "bootstrap");
        self.decide(move |core, now| {
            core.bootstrap(now, &report);
            Ok(BootstrapAnswer {})
        })
        .await
    }
}

fn status(error: ShellError) -> Status {
    let text = error.to_string();
    match error {
        ShellError::Refused(Refusal::Bad(_)) => Status::invalid_argument(text),
        ShellError::Refused(Refusal::Unknown(_)) => Status::not_found(text),
        ShellError::Refused(Refusal::Full(_)) => Status::resource_exhausted(text),
        ShellError::Refused(Refusal::State(_)) => Status::failed_precondition(text),
        ShellError::Store => Status::unavailable(text),
    }
}
