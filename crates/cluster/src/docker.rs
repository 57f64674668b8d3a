//! Clusters of containers, through the engine's API.
//!
//! Everything of a cluster has its id as a label, and the record has the id before there is anything: so whatever a sudden
//! death has left is found. A container is made, given its files (the secret among them) in its volume, and then started.

mod archive;
mod engine;
mod error;
mod label;
mod plan;

use std::future::Future;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use tokio::runtime::{Builder, Runtime};

pub use error::DockerError;

use crate::error::ClusterError;
use crate::provider::{Condition, End, Patience, Provider};
use crate::record::{Cluster, END_FILE, Member, Place};
use engine::{Engine, Objects};
use error::is_port_taken;
use plan::{Machine, Ports};

/// How often another free port is chosen when somebody was faster.
const PORT_TRIES_MAX: u32 = 5;
/// For daemons to end in good order: their own limits are shorter.
const GRACE: Duration = Duration::from_secs(8);
/// What an engine makes while it is removed is found by the next round.
const ROUNDS_MAX: u32 = 5;
/// The master's data directory, in its volume.
const MASTER_DIR: &str = "/data/master";

/// Makes daemons as containers.
pub(crate) struct Docker {
    runtime: Runtime,
    engine: Engine,
}

impl Docker {
    /// Finds the engine, and asks it.
    pub(crate) fn connect() -> Result<Docker, DockerError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(DockerError::Start)?;
        let engine = runtime.block_on(Engine::connect())?;
        Ok(Docker { runtime, engine })
    }

    fn run<T>(&self, calls: impl Future<Output = Result<T, DockerError>>) -> Result<T, ClusterError> {
        Ok(self.runtime.block_on(calls)?)
    }
}

impl Provider for Docker {
    fn make(&mut self, cluster: &mut Cluster, patience: &Patience<'_>) -> Result<(), ClusterError> {
        let image = image(cluster);
        self.run(self.engine.has_image(&image))?;
        let machine = self.run(self.engine.machine())?;
        patience.check()?;
        let network = label::network(cluster);
        self.run(self.engine.make_network(network, label::labels(cluster, None)))?;
        patience.check()?;
        let workers = cluster.spec.first_workers();
        cluster.members.push(member(cluster, "master"));
        self.record(cluster, &workers)?;
        let mut tries = 0;
        loop {
            let ports = choose(cluster.spec.port)?;
            cluster.master = Some(format!("127.0.0.1:{}", ports.master));
            cluster.http = Some(format!("127.0.0.1:{}", ports.http));
            cluster.write()?;
            let master = start_master(&self.engine, cluster, &image, ports, machine);
            // Workers try until the master is there.
            let workers = async {
                match tries {
                    0 => start_workers(&self.engine, cluster, &workers, &image, machine).await,
                    _ => Ok(()),
                }
            };
            let (master, workers) = self.runtime.block_on(async { tokio::join!(master, workers) });
            workers?;
            match master {
                Ok(()) => return patience.check(),
                Err(error) if is_port_taken(&error) => {
                    if let Some(port) = cluster.spec.port {
                        return Err(DockerError::PortTaken { port }.into());
                    }
                    tries += 1;
                    if tries == PORT_TRIES_MAX {
                        return Err(DockerError::PortTaken { port: ports.master }.into());
                    }
                    self.run(self.engine.remove_container(&label::object(cluster, "master")))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn add(
        &mut self,
        cluster: &mut Cluster,
        names: &[String],
        patience: &Patience<'_>,
    ) -> Result<(), ClusterError> {
        let image = image(cluster);
        self.run(self.engine.has_image(&image))?;
        let machine = self.run(self.engine.machine())?;
        patience.check()?;
        self.record(cluster, names)?;
        self.run(start_workers(&self.engine, cluster, names, &image, machine))
    }

    fn look(&mut self, cluster: &Cluster) -> Result<Vec<Condition>, ClusterError> {
        let mut found = self.run(self.engine.conditions(&label::of_cluster(&cluster.id)))?;
        let condition =
            |member: &Member| found.remove(&member.role).unwrap_or(Condition::Ended(End::Gone, None));
        Ok(cluster.members.iter().map(condition).collect())
    }

    fn remove(&mut self, cluster: &mut Cluster, names: &[String]) -> Result<(), ClusterError> {
        let objects: Vec<String> = names.iter().map(|name| label::object(cluster, name)).collect();
        let engine = &self.engine;
        self.run(try_join_all(objects.iter().map(async |object| {
            engine.stop(object, GRACE).await?;
            engine.remove_container(object).await?;
            engine.remove_volume(object).await
        })))?;
        cluster.members.retain(|member| !names.contains(&member.role));
        cluster.write()
    }

    fn revive(&mut self, cluster: &Cluster, name: &str) -> Result<(), ClusterError> {
        self.run(self.engine.start(&label::object(cluster, name)))
    }

    fn end_report(&mut self, cluster: &Cluster) -> Result<Option<Vec<u8>>, ClusterError> {
        self.run(self.engine.read(&label::object(cluster, "master"), &format!("{MASTER_DIR}/{END_FILE}")))
    }

    fn halt(&mut self, cluster: &Cluster) -> Result<(), ClusterError> {
        self.run(async {
            stop_all(&self.engine, &self.engine.find(&label::of_cluster(&cluster.id)).await?).await
        })
    }

    fn copy_log(&mut self, cluster: &Cluster, role: &str, to: &mut dyn Write) -> Result<(), ClusterError> {
        let name = label::object(cluster, role);
        let mut parts = std::pin::pin!(self.engine.log(&name));
        // Whoever takes the parts may wait for a network of its own: no call to the engine is under way meanwhile.
        while let Some(part) = self.runtime.block_on(parts.next()) {
            to.write_all(&part?).map_err(|source| ClusterError::CopyLog { role: role.to_owned(), source })?;
        }
        Ok(())
    }

    fn end(&mut self, cluster: &Cluster) -> Result<(), ClusterError> {
        // A record that has no id was never followed by anything.
        if cluster.id.is_empty() {
            return Ok(());
        }
        self.remove_leftovers(&cluster.id)
    }
}

impl Docker {
    /// Records members before there is anything of them.
    fn record(&self, cluster: &mut Cluster, names: &[String]) -> Result<(), ClusterError> {
        let members: Vec<Member> = names.iter().map(|name| member(cluster, name)).collect();
        cluster.members.extend(members);
        cluster.write()
    }

    /// Removes all that the engine has of the cluster of this id.
    pub(crate) fn remove_leftovers(&self, id: &str) -> Result<(), ClusterError> {
        self.run(remove_all(&self.engine, id))
    }

    /// Ids of all clusters of which the engine has anything, by the label of the registry in `home`.
    pub(crate) fn clusters(&self, home: &Path) -> Result<Vec<String>, ClusterError> {
        Ok(self.run(self.engine.find(&label::of_registry(home)))?.clusters)
    }
}

fn member(cluster: &Cluster, role: &str) -> Member {
    Member { role: role.to_owned(), place: Place::Container(label::object(cluster, role)) }
}

/// The image of all members.
fn image(cluster: &Cluster) -> String {
    let own = || format!("gristmill:{}", env!("CARGO_PKG_VERSION"));
    cluster.spec.image.clone().unwrap_or_else(own)
}

/// Ports of this machine. They are chosen here, and not by the engine, which would choose others when the master starts
/// again.
fn choose(wanted: Option<u16>) -> Result<Ports, DockerError> {
    let free = || -> std::io::Result<(TcpListener, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    };
    let failed = |source| DockerError::NoPort { source };
    // Both are held until both are known: they differ.
    let ((_master, master), (_http, http)) = (free().map_err(failed)?, free().map_err(failed)?);
    Ok(Ports { master: wanted.unwrap_or(master), http })
}

async fn start_master(
    engine: &Engine,
    cluster: &Cluster,
    image: &str,
    ports: Ports,
    machine: Machine,
) -> Result<(), DockerError> {
    let name = label::object(cluster, "master");
    engine
        .make(&name, plan::master(cluster, image, ports, machine), archive::given(cluster, "master")?)
        .await?;
    engine.start(&name).await
}

/// All at once. When one fails, the others are done, too, before that is said: nothing is made behind anybody's back.
async fn start_workers(
    engine: &Engine,
    cluster: &Cluster,
    names: &[String],
    image: &str,
    machine: Machine,
) -> Result<(), DockerError> {
    let started = names.iter().map(async |role| {
        let name = label::object(cluster, role);
        engine
            .make(&name, plan::worker(cluster, role, image, machine), archive::given(cluster, role)?)
            .await?;
        engine.start(&name).await
    });
    join_all(started).await.into_iter().collect()
}

/// Until nothing with the cluster's label is left.
async fn remove_all(engine: &Engine, id: &str) -> Result<(), DockerError> {
    let filter = label::of_cluster(id);
    let mut found = engine.find(&filter).await?;
    for _ in 0..ROUNDS_MAX {
        if found.is_empty() {
            return Ok(());
        }
        remove(engine, &found).await?;
        found = engine.find(&filter).await?;
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(DockerError::Left { cluster: id.to_owned(), left: format!("{found:?}") }),
    }
}

async fn stop_all(engine: &Engine, found: &Objects) -> Result<(), DockerError> {
    // A master with workers waits for them when it ends: without them it goes at once.
    for containers in [&found.workers, &found.masters] {
        try_join_all(containers.iter().map(|name| engine.stop(name, GRACE))).await?;
    }
    Ok(())
}

async fn remove(engine: &Engine, found: &Objects) -> Result<(), DockerError> {
    stop_all(engine, found).await?;
    let containers = found.workers.iter().chain(&found.masters);
    try_join_all(containers.map(|name| engine.remove_container(name))).await?;
    try_join_all(found.networks.iter().map(|name| engine.remove_network(name))).await?;
    try_join_all(found.volumes.iter().map(|name| engine.remove_volume(name))).await?;
    Ok(())
}
