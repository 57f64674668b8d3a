//! What containers are to be: pure, from the cluster's record.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};

use super::label::{labels, network, object};
use crate::record::Cluster;
use crate::spec::WorkerRole;

/// Where a member's volume is: the only place, but for /tmp, where it can write.
pub(super) const HOME: &str = "/data";
/// Who daemons are. The image's directory of this name is theirs, and so is the volume.
pub(super) const USER: u32 = 10_001;
/// Ports inside the network: they need not be free on the machine.
const MASTER_PORT: u16 = 7070;
const HTTP_PORT: u16 = 7080;
/// What the master is called inside the network.
const MASTER_NAME: &str = "master";

/// For the master with its namespace, and for programs that are its steps.
const MASTER_MEMORY_BYTES: u64 = 2 << 30;
/// For a worker's daemon, besides its attempts: buffers of transfers and the pages of files under way.
const DAEMON_MEMORY_BYTES: u64 = 512 << 20;
/// Processes and threads: of a daemon,
const DAEMON_PIDS: i64 = 1024;
/// and of each attempt.
const SLOT_PIDS: i64 = 256;
/// For what programs put into /tmp, which is memory.
const TMP_OPTIONS: &str = "rw,nosuid,nodev,noexec,size=64m,mode=1777";
/// For a daemon to end in good order, before its engine kills it.
const STOP_TIMEOUT_S: i64 = 10;

/// Ports of this machine at which a master's are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) master: u16,
    pub(super) http: u16,
}

/// What the engine's machine has: containers cannot be promised more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    pub(super) cores: u32,
    pub(super) memory_bytes: u64,
}

/// The master's container.
pub(super) fn master(cluster: &Cluster, image: &str, ports: Ports, machine: Machine) -> ContainerCreateBody {
    let listen = |port: u16| format!("0.0.0.0:{port}");
    let mut args: Vec<String> = ["master", "--worker", "never", "--data-dir", "/data/master"]
        .map(str::to_owned)
        .into_iter()
        .chain(["--listen".to_owned(), listen(MASTER_PORT), "--http".to_owned(), listen(HTTP_PORT)])
        .collect();
    // Who calls it otherwise, from this machine, reaches the workers through it.
    args.extend(["--advertise".to_owned(), format!("{MASTER_NAME}:{MASTER_PORT}")]);
    if let Some(replication) = cluster.spec.replication {
        args.extend(["--replication".to_owned(), replication.to_string()]);
    }
    if cluster.cluster_file().is_some() {
        args.extend(["--cluster-file".to_owned(), format!("{HOME}/{}", crate::record::CLUSTER_FILE)]);
    }
    args.extend(bootstrap(cluster));
    let published = [(MASTER_PORT, ports.master), (HTTP_PORT, ports.http)];
    let binding = |port: u16| PortBinding {
        // Of this machine only: nobody outside gets as far as to be refused.
        host_ip: Some("127.0.0.1".to_owned()),
        host_port: Some(port.to_string()),
    };
    let bindings = published.map(|(inside, outside)| (format!("{inside}/tcp"), Some(vec![binding(outside)])));
    let memory_bytes = MASTER_MEMORY_BYTES;
    let limits = Limits { memory_bytes, pids: DAEMON_PIDS + SLOT_PIDS, cores: machine.cores };
    let mut body = container(cluster, MASTER_NAME, image, args, limits.within(machine));
    body.exposed_ports = Some(published.map(|(inside, _)| format!("{inside}/tcp")).to_vec());
    if let Some(host) = &mut body.host_config {
        host.port_bindings = Some(HashMap::from(bindings));
    }
    body
}

/// A worker's container.
pub(super) fn worker(cluster: &Cluster, name: &str, image: &str, machine: Machine) -> ContainerCreateBody {
    let spec = &cluster.spec;
    let mut args = vec!["worker".to_owned()];
    args.extend(spec.worker_args(name, &format!("{MASTER_NAME}:{MASTER_PORT}")));
    // Other workers learn from the master by which address it sees this one.
    args.extend(["--listen", "0.0.0.0:0", "--data-dir", "/data/worker"].map(str::to_owned));
    args.extend(bootstrap(cluster));
    let slots = spec.worker_slots();
    let limits = Limits {
        memory_bytes: spec.worker_memory_bytes().saturating_add(DAEMON_MEMORY_BYTES),
        pids: DAEMON_PIDS + SLOT_PIDS * i64::from(slots),
        // One more than its tasks need: it serves blocks and map outputs meanwhile.
        cores: slots.saturating_add(1),
    };
    let mut body = container(cluster, name, image, args, limits.within(machine));
    if name.starts_with(WorkerRole::Task.name()) {
        // Who ends it gives it its notice, and then the time that all have.
        let notice_s = i64::try_from(spec.notice_ms.div_ceil(1000)).unwrap_or(i64::MAX);
        body.stop_timeout = Some(notice_s.saturating_add(STOP_TIMEOUT_S));
    }
    body
}

/// The script that every node runs first, if there is one.
fn bootstrap(cluster: &Cluster) -> impl Iterator<Item = String> {
    let script = || ["--bootstrap".to_owned(), format!("{HOME}/{}", crate::record::BOOTSTRAP)];
    cluster.bootstrap().map(|_| script()).into_iter().flatten()
}

/// What a container may take at most.
#[derive(Clone, Copy, Debug)]
struct Limits {
    memory_bytes: u64,
    pids: i64,
    cores: u32,
}

impl Limits {
    fn within(self, machine: Machine) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes.min(machine.memory_bytes),
            cores: self.cores.clamp(1, machine.cores.max(1)),
            ..self
        }
    }
}

/// What all have in common. Secrets are in no argument, variable or label: they are files in the volume.
fn container(
    cluster: &Cluster,
    role: &str,
    image: &str,
    args: Vec<String>,
    limits: Limits,
) -> ContainerCreateBody {
    let endpoint = EndpointSettings { aliases: Some(vec![role.to_owned()]), ..EndpointSettings::default() };
    let mut env = vec![format!("GRISTMILL_SECRET_FILE={HOME}/{}", crate::record::SECRET)];
    // Who made the cluster owns its file system.
    env.push(format!("GRISTMILL_USER={}", cluster.user));
    env.extend(cluster.spec.store_variables.iter().map(|(name, value)| format!("{name}={value}")));
    if cluster.store_keys().is_some() {
        env.push(format!("AWS_SHARED_CREDENTIALS_FILE={HOME}/{}", crate::record::STORE_KEYS));
        env.push("AWS_CONFIG_FILE=/dev/null".to_owned());
    }
    ContainerCreateBody {
        image: Some(image.to_owned()),
        hostname: Some(role.to_owned()),
        user: Some(format!("{USER}:{USER}")),
        working_dir: Some(HOME.to_owned()),
        cmd: Some(args),
        env: Some(env),
        labels: Some(labels(cluster, Some(role))),
        stop_timeout: Some(STOP_TIMEOUT_S),
        host_config: Some(host(cluster, role, limits)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network(cluster), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    }
}

fn host(cluster: &Cluster, role: &str, limits: Limits) -> HostConfig {
    let memory = i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX);
    let volume = Mount {
        target: Some(HOME.to_owned()),
        source: Some(object(cluster, role)),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions {
            labels: Some(labels(cluster, Some(role))),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    // A daemon that says a lot does not fill the machine's disk.
    let log =
        HashMap::from([("max-size", "16m"), ("max-file", "2")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    HostConfig {
        network_mode: Some(network(cluster)),
        mounts: Some(vec![volume]),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), TMP_OPTIONS.to_owned())])),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        // What attempts leave behind has a parent that asks for its exit.
        init: Some(true),
        memory: Some(memory),
        // The same: nothing is swapped.
        memory_swap: Some(memory),
        pids_limit: Some(limits.pids),
        nano_cpus: Some(i64::from(limits.cores) * 1_000_000_000),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ON_FAILURE),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log) }),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ClusterSpec, ProviderKind};

    const MACHINE: Machine = Machine { cores: 4, memory_bytes: 8 << 30 };

    fn cluster() -> Cluster {
        let spec = ClusterSpec {
            slots: Some(2),
            memory_per_slot_bytes: Some(1 << 30),
            bootstrap: Some("/home/ann/setup".into()),
            ..ClusterSpec::new(ProviderKind::Docker, "/bin/gristmill".into())
        };
        let mut cluster = Cluster::new("one", "/home/ann/clusters/one".as_ref(), spec, 7).unwrap();
        cluster.id = "0123abcd".to_owned();
        cluster.user = "ann".to_owned();
        cluster
    }

    #[test]
    fn only_the_masters_ports_are_published_and_only_on_loopback() {
        let ports = Ports { master: 40_001, http: 40_002 };
        let master = master(&cluster(), "image", ports, MACHINE);
        let args = master.cmd.unwrap().join(" ");
        assert!(args.contains("--advertise master:7070"), "outside, all goes through the master: {args}");
        let host = master.host_config.unwrap();
        let mut published: Vec<String> = host
            .port_bindings
            .unwrap()
            .into_values()
            .flatten()
            .flatten()
            .map(|binding| format!("{}:{}", binding.host_ip.unwrap(), binding.host_port.unwrap()))
            .collect();
        published.sort();
        assert_eq!(published, ["127.0.0.1:40001", "127.0.0.1:40002"]);
        let worker = worker(&cluster(), "core-1", "image", MACHINE);
        assert_eq!((worker.host_config.unwrap().port_bindings, worker.exposed_ports), (None, None));
    }

    #[test]
    fn containers_have_bounds_and_no_powers() {
        let core = worker(&cluster(), "core-1", "image", MACHINE);
        let host = core.host_config.unwrap();
        assert_eq!(host.memory, Some((2 << 30) + (512 << 20)), "two slots and the daemon");
        assert_eq!((host.memory, host.nano_cpus), (host.memory_swap, Some(3_000_000_000)));
        assert_eq!((host.pids_limit, host.readonly_rootfs), (Some(1024 + 2 * 256), Some(true)));
        assert_eq!((host.privileged, host.cap_drop), (None, Some(vec!["ALL".to_owned()])));
        assert_eq!(core.user.as_deref(), Some("10001:10001"));
        let small = Machine { cores: 1, memory_bytes: 1 << 30 };
        let host = worker(&cluster(), "core-1", "image", small).host_config.unwrap();
        assert_eq!((host.memory, host.nano_cpus), (Some(1 << 30), Some(1_000_000_000)));
    }

    #[test]
    fn names_and_labels_tell_clusters_apart() {
        let task = worker(&cluster(), "task-7", "image", MACHINE);
        let labels = task.labels.unwrap();
        let label = |name: &str| labels[&format!("dev.gristmill.{name}")].as_str();
        assert_eq!((label("cluster"), label("cluster-id"), label("role")), ("one", "0123abcd", "task-7"));
        assert_eq!(label("registry"), "/home/ann/clusters");
        let args = task.cmd.unwrap().join(" ");
        let wanted = "worker --master master:7070 --role task --slots 2 --memory 2147483648 --notice-ms 30000 \
                      --listen 0.0.0.0:0 --data-dir /data/worker --bootstrap /data/bootstrap";
        assert_eq!(args, wanted);
        let volume = task.host_config.unwrap().mounts.unwrap()[0].source.clone();
        assert_eq!(volume.as_deref(), Some("gristmill-one-0123abcd-task-7"));
    }
}
