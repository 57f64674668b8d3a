//! Calls of the engine, one sentence each when they fail.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker as Api;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, NetworkCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptionsBuilder, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::error::{DockerError, because, is_gone};
use super::label;
use super::plan::{HOME, Machine};
use crate::provider::{Condition, End, KILLED};

/// Of one call. Stopping a container takes as long as the container is given.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);
/// A report of a cluster's end is a few lines; more than this is none.
const FILE_BYTES_MAX: usize = 1 << 20;

/// An engine that answers.
#[derive(Clone)]
pub(super) struct Engine {
    api: Api,
}

/// Names of objects, by kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    /// Containers of masters,
    pub(super) masters: Vec<String>,
    /// and of workers.
    pub(super) workers: Vec<String>,
    pub(super) networks: Vec<String>,
    pub(super) volumes: Vec<String>,
    /// Ids of the clusters whose they are.
    pub(super) clusters: Vec<String>,
}

impl Objects {
    pub(super) fn is_empty(&self) -> bool {
        let containers = self.masters.is_empty() && self.workers.is_empty();
        containers && self.networks.is_empty() && self.volumes.is_empty()
    }
}

impl Engine {
    /// The engine that DOCKER_HOST names, or this machine's.
    pub(super) async fn connect() -> Result<Engine, DockerError> {
        let failed = || because("be asked for its version");
        let api = Api::connect_with_defaults().map_err(failed())?.with_timeout(CALL_TIMEOUT);
        Ok(Engine { api: api.negotiate_version().await.map_err(failed())? })
    }

    pub(super) async fn machine(&self) -> Result<Machine, DockerError> {
        let info = self.api.info().await.map_err(because("say what machine it has"))?;
        let unsaid = || DockerError::Unsaid { what: "how many cores and how much memory it has" };
        let cores = info.ncpu.and_then(|cores| u32::try_from(cores).ok()).ok_or_else(unsaid)?;
        let memory_bytes = info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(unsaid)?;
        Ok(Machine { cores, memory_bytes })
    }

    pub(super) async fn has_image(&self, image: &str) -> Result<(), DockerError> {
        match self.api.inspect_image(image).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Err(DockerError::ImageMissing { image: image.to_owned() }),
            Err(error) => Err(because("look for the image")(error)),
        }
    }

    pub(super) async fn make_network(
        &self,
        name: String,
        labels: HashMap<String, String>,
    ) -> Result<(), DockerError> {
        let request = NetworkCreateRequest {
            name,
            driver: Some("bridge".to_owned()),
            labels: Some(labels),
            ..NetworkCreateRequest::default()
        };
        self.api.create_network(request).await.map(drop).map_err(because("make a network"))
    }

    /// Makes a container and gives it its files.
    pub(super) async fn make(
        &self,
        name: &str,
        body: ContainerCreateBody,
        files: Vec<u8>,
    ) -> Result<(), DockerError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        self.api.create_container(Some(options), body).await.map_err(because("make a container"))?;
        let options = UploadToContainerOptionsBuilder::default().path(HOME).build();
        let files = bollard::body_full(Bytes::from(files));
        let uploaded = self.api.upload_to_container(name, Some(options), files).await;
        uploaded.map_err(because("copy files into a container"))
    }

    pub(super) async fn start(&self, name: &str) -> Result<(), DockerError> {
        self.api.start_container(name, None).await.map_err(because("start a container"))
    }

    /// Tells a container to end; kills it when it does not within the time.
    pub(super) async fn stop(&self, name: &str, within: Duration) -> Result<(), DockerError> {
        let seconds = i32::try_from(within.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        match self.api.stop_container(name, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            // It had ended already.
            Err(Error::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
            Err(error) => Err(because("stop a container")(error)),
        }
    }

    pub(super) async fn remove_container(&self, name: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        unless_gone(self.api.remove_container(name, Some(options)).await, "remove a container")
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        unless_gone(self.api.remove_volume(name, Some(options)).await, "remove a volume")
    }

    pub(super) async fn remove_network(&self, name: &str) -> Result<(), DockerError> {
        unless_gone(self.api.remove_network(name).await, "remove a network")
    }

    /// What has certain labels.
    pub(super) async fn find(&self, filter: &HashMap<String, Vec<String>>) -> Result<Objects, DockerError> {
        let failed = || because("list what it has");
        let mut found = Objects::default();
        let note = |labels: Option<&HashMap<String, String>>, clusters: &mut Vec<String>| {
            clusters.extend(labels.and_then(label::id).map(str::to_owned));
        };
        for container in self.containers(filter).await? {
            let is_master = container.labels.as_ref().and_then(label::role) == Some(label::MASTER);
            let containers = if is_master { &mut found.masters } else { &mut found.workers };
            containers.extend(container.id);
            note(container.labels.as_ref(), &mut found.clusters);
        }
        let options = ListNetworksOptionsBuilder::default().filters(filter).build();
        for network in self.api.list_networks(Some(options)).await.map_err(failed())? {
            found.networks.extend(network.id);
            note(network.labels.as_ref(), &mut found.clusters);
        }
        let options = ListVolumesOptionsBuilder::default().filters(filter).build();
        let volumes = self.api.list_volumes(Some(options)).await.map_err(failed())?;
        for volume in volumes.volumes.unwrap_or_default() {
            note(Some(&volume.labels), &mut found.clusters);
            found.volumes.push(volume.name);
        }
        found.clusters.sort();
        found.clusters.dedup();
        Ok(found)
    }

    async fn containers(
        &self,
        filter: &HashMap<String, Vec<String>>,
    ) -> Result<Vec<ContainerSummary>, DockerError> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(filter).build();
        self.api.list_containers(Some(options)).await.map_err(because("list its containers"))
    }

    /// How the members with certain labels are, by role.
    pub(super) async fn conditions(
        &self,
        filter: &HashMap<String, Vec<String>>,
    ) -> Result<HashMap<String, Condition>, DockerError> {
        let mut conditions = HashMap::new();
        for container in self.containers(filter).await? {
            let role = container.labels.as_ref().and_then(label::role);
            let (Some(id), Some(role)) = (&container.id, role) else { continue };
            let runs = [ContainerSummaryStateEnum::RUNNING, ContainerSummaryStateEnum::PAUSED];
            let condition = match container.state {
                Some(state) if runs.contains(&state) => Condition::Running,
                _ => self.ended(id).await?,
            };
            conditions.insert(role.to_owned(), condition);
        }
        Ok(conditions)
    }

    /// How a container ended, and its last words.
    async fn ended(&self, id: &str) -> Result<Condition, DockerError> {
        let inspected = match self.api.inspect_container(id, None).await {
            Ok(inspected) => inspected,
            Err(error) if is_gone(&error) => return Ok(Condition::Ended(End::Gone, None)),
            Err(error) => return Err(because("look at a container")(error)),
        };
        let unsaid = || DockerError::Unsaid { what: "how a container ended" };
        let state = inspected.state.ok_or_else(unsaid)?;
        let code = state.exit_code.ok_or_else(unsaid)?;
        let is_out_of_memory = state.oom_killed == Some(true) && code == KILLED;
        let end = if is_out_of_memory { End::OutOfMemory } else { End::Code(code) };
        Ok(Condition::Ended(end, self.last_line(id).await))
    }

    /// The last thing that a container said; nothing if its log cannot be read.
    async fn last_line(&self, id: &str) -> Option<String> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail("1").build();
        let line: Result<LogOutput, Error> = self.api.logs(id, Some(options)).next().await?;
        let line = match line {
            Ok(line) => line,
            Err(error) if is_gone(&error) => return None,
            Err(error) => {
                tracing::warn!(container = id, %error, "cannot read the log of a container");
                return None;
            }
        };
        Some(String::from_utf8_lossy(&line.into_bytes()).trim().to_owned())
    }

    /// All that a container has said, as far as its engine keeps it, in parts.
    pub(super) fn log(&self, container: &str) -> impl Stream<Item = Result<Bytes, DockerError>> + use<> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
        let parts = self.api.logs(container, Some(options));
        parts.map(|part| part.map(LogOutput::into_bytes).map_err(because("read the log of a container")))
    }

    /// A small file out of a container, running or not; `None` if it is not there.
    pub(super) async fn read(&self, container: &str, path: &str) -> Result<Option<Vec<u8>>, DockerError> {
        let failed = || because("read a file of a container");
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut parts = std::pin::pin!(self.api.download_from_container(container, Some(options)));
        let mut packed = Vec::new();
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => packed.extend_from_slice(&part),
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(failed()(error)),
            }
            if packed.len() > FILE_BYTES_MAX {
                break;
            }
        }
        let pack = |source| DockerError::Pack { name: path.to_owned(), source };
        let mut archive = tar::Archive::new(packed.as_slice());
        let Some(entry) = archive.entries().map_err(pack)?.next() else { return Ok(None) };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry.map_err(pack)?, &mut bytes).map_err(pack)?;
        Ok(Some(bytes))
    }
}

fn unless_gone(removed: Result<(), Error>, operation: &'static str) -> Result<(), DockerError> {
    match removed {
        Err(error) if !is_gone(&error) => Err(because(operation)(error)),
        _ => Ok(()),
    }
}
