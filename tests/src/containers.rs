//! Clusters of containers, made by the command, with the image of the binary under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use crate::job::Job;
use crate::patience::patiently;
use crate::processes::processes_of;
use crate::program::{Program, path_of};

/// A place for clusters of containers. They end with it, so that a failed story leaves nothing running.
pub struct Containers {
    dir: TempDir,
}

/// A cluster of containers.
pub struct ContainerCluster<'c> {
    place: &'c Containers,
    /// What `create --json` said.
    pub made: Value,
}

impl Containers {
    /// A place, where there is an engine. Without one a story says that it is left out, or fails where one is required
    /// (`GRISTMILL_TESTS_NEED=docker`).
    pub fn new(story: &str) -> Option<Containers> {
        if !Command::new("docker").arg("info").output().is_ok_and(|output| output.status.success()) {
            let is_required = std::env::var("GRISTMILL_TESTS_NEED").is_ok_and(|value| value == "docker");
            assert!(!is_required, "a Docker engine is required here: {story} needs one");
            eprintln!("left out, for there is no Docker engine: {story}");
            return None;
        }
        Some(Containers { dir: tempfile::tempdir().expect("a directory") })
    }

    /// A place in the story's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `gristmill cluster`, to be given a command.
    pub fn command(&self, args: &[&str]) -> Program {
        Program::gristmill().env("XDG_STATE_HOME", self.dir.path()).arg("cluster").args(args)
    }

    /// The beginning of every `create`.
    pub fn creation(&self) -> Program {
        self.creation_of(image())
    }

    /// The same, out of another image.
    pub fn creation_of(&self, image: &str) -> Program {
        self.command(&["create", "--json", "--provider", "docker", "--image", image, "--slots", "1"])
            .args(["--memory-per-slot", "128MiB"])
    }

    /// Makes a cluster.
    #[track_caller]
    pub fn create(&self, args: &[&str]) -> ContainerCluster<'_> {
        let made = self.creation().args(args).run().succeeded();
        let made = serde_json::from_str(&made.stdout).expect("JSON");
        ContainerCluster { place: self, made }
    }

    /// The cluster of this name, once it is known what it is made of. It may not take jobs yet.
    pub fn find(&self, name: &str) -> Option<ContainerCluster<'_>> {
        let listed = self.command(&["list", "--json"]).run().stdout;
        let clusters = listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let made =
            clusters.into_iter().find(|cluster| cluster["name"] == name && !cluster["master"].is_null())?;
        Some(ContainerCluster { place: self, made })
    }

    /// Nothing but what a story made for itself is there any more.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        assert_eq!(self.objects(), Vec::<String>::new(), "the engine has something of it");
        assert_eq!(fs::read_dir(self.registry()).map_or(0, Iterator::count), 0, "files are left");
        // The custodian looks four times a second, and has no children.
        patiently("the custodian to end", || processes_of(&self.registry()).is_empty());
    }

    /// What the engine has of this story's clusters, by kind and name.
    pub fn objects(&self) -> Vec<String> {
        let label = format!("label=dev.gristmill.registry={}", self.registry().display());
        let kinds: [(&str, &[&str]); 3] = [
            ("container", &["ps", "--all", "--format", "{{.Names}}"]),
            ("network", &["network", "ls", "--format", "{{.Name}}"]),
            ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
        ];
        let mut found = Vec::new();
        for (kind, args) in kinds {
            let listed = docker(&[args, &["--filter", &label]].concat());
            found.extend(listed.lines().map(|name| format!("{kind} {name}")));
        }
        found
    }

    /// Where the records are.
    pub fn registry(&self) -> PathBuf {
        self.path("gristmill/clusters")
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let listed = self.command(&["list", "--json"]).run().stdout;
        for line in listed.lines() {
            if let Ok(cluster) = serde_json::from_str::<Value>(line) {
                self.command(&["terminate", cluster["name"].as_str().unwrap_or_default()]).run();
            }
        }
        self.command(&["doctor"]).run();
    }
}

impl ContainerCluster<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        self.made["name"].as_str().expect("a name")
    }

    /// HOST:PORT of its master on this machine.
    pub fn master(&self) -> &str {
        self.made["master"].as_str().expect("an address")
    }

    /// Where its secret is.
    pub fn secret_file(&self) -> PathBuf {
        self.made["secret_file"].as_str().expect("a file").into()
    }

    /// The container of a member.
    #[track_caller]
    pub fn container(&self, role: &str) -> String {
        let members = self.made["containers"].as_array().expect("a list");
        let member = members.iter().find(|member| member["role"] == role);
        member.expect("a member")["container"].as_str().expect("a name").to_owned()
    }

    /// Kills a member, and waits until it is back: somebody has started it again.
    #[track_caller]
    pub fn kill(&self, role: &str) {
        let container = self.container(role);
        let started =
            || docker(&["inspect", "--format", "{{.State.StartedAt}} {{.State.Running}}", &container]);
        let before = started();
        docker(&["kill", &container]);
        patiently(&format!("{role} to be back"), || {
            let now = started();
            now != before && now.trim().ends_with("true")
        });
    }

    /// Takes a member off the network: it reaches nobody, and nobody reaches it.
    #[track_caller]
    pub fn cut_off(&self, role: &str) {
        let container = self.container(role);
        docker(&["network", "disconnect", &self.network(), &container]);
        let networks = docker(&["inspect", "--format", "{{len .NetworkSettings.Networks}}", &container]);
        assert_eq!(networks.trim(), "0", "it is cut off");
    }

    /// Brings it back.
    #[track_caller]
    pub fn connect(&self, role: &str) {
        docker(&["network", "connect", "--alias", role, &self.network(), &self.container(role)]);
    }

    /// Of a member, in the cluster's network.
    #[track_caller]
    pub fn address(&self, role: &str) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "--format", format, &self.container(role)]).trim().to_owned()
    }

    /// Makes the link of a member so slow, in both directions, until [`ContainerCluster::quicken`].
    #[track_caller]
    pub fn slow_down(&self, role: &str, kbit_per_s: u32) {
        let rate = format!("{kbit_per_s}kbit");
        // What waits longer than the latency is dropped, as by a router.
        let shape = ["root", "tbf", "rate", &rate, "burst", "16kb", "latency", "500ms"];
        self.shape_link(role, "add", &shape);
    }

    /// Its link is as quick as those of others again.
    #[track_caller]
    pub fn quicken(&self, role: &str) {
        self.shape_link(role, "del", &["root"]);
    }

    /// `tc qdisc` on both ends of a member's link.
    #[track_caller]
    fn shape_link(&self, role: &str, action: &str, shape: &[&str]) {
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &self.container(role)]);
        let inside = |program: &str| Program::at("nsenter").args(["-t", pid.trim(), "-n", program]);
        // As in `5: eth0@if6: <BROADCAST,...`: 6 is the number of the other end, here.
        let told = inside("ip").args(["-o", "link", "show", "eth0"]).run().succeeded().stdout;
        let number = told.split("@if").nth(1).and_then(|rest| rest.split(':').next()).expect("a link");
        let links = Program::at("ip").args(["-o", "link"]).run().succeeded().stdout;
        let link =
            links.lines().find_map(|line| line.strip_prefix(&format!("{number}: "))).expect("its other end");
        let outside = link.split(['@', ':']).next().expect("a name");
        inside("tc").args(["qdisc", action, "dev", "eth0"]).args(shape).run().succeeded();
        Program::at("tc").args(["qdisc", action, "dev", outside]).args(shape).run().succeeded();
    }

    /// Makes a small volume, in memory, for a member that is still to come.
    #[track_caller]
    pub fn prepare_small_volume(&self, role: &str, mib: u32) {
        let name = format!("{}-{role}", self.network());
        let id = self.network().rsplit('-').next().expect("an id").to_owned();
        let label = format!("dev.gristmill.cluster-id={id}");
        let options = format!("o=size={mib}m,uid=10001,gid=10001");
        let kind = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", &options];
        docker(&[&["volume", "create", "--label", &label], &kind[..], &[&name]].concat());
        // Memory is a volume's for as long as somebody uses it, and the member is given its files before it starts.
        let user = ["run", "--detach", "--label", &label, "--network", "none", "--entrypoint", "sleep"];
        docker(&[&user[..], &["--volume", &format!("{name}:/data"), image(), "600"]].concat());
    }

    /// The name of its network, with which all its names begin.
    fn network(&self) -> String {
        let format = "{{.HostConfig.NetworkMode}}";
        docker(&["inspect", "--format", format, &self.container("master")]).trim().to_owned()
    }

    /// A command within a member, and what it prints; nothing if it fails, as it does while the member does not run.
    pub fn within(&self, role: &str, command: &[&str]) -> String {
        let ran = Program::at("docker").args(["exec", &self.container(role)]).args(command).run();
        if ran.status.success() { ran.stdout } else { String::new() }
    }

    /// All its containers.
    pub fn containers(&self) -> Vec<String> {
        let members = self.made["containers"].as_array().expect("a list").iter();
        members.map(|member| member["container"].as_str().expect("a name").to_owned()).collect()
    }

    /// `gristmill` on this machine, with its master and secret.
    pub fn gristmill(&self) -> Program {
        Program::gristmill()
            .env("GRISTMILL_MASTER", self.master())
            .env("GRISTMILL_SECRET_FILE", self.secret_file())
    }

    /// Submits a job, and leaves it to the cluster.
    #[track_caller]
    pub fn submit(&self, job: &str, args: &[&str]) -> Job {
        let command = self.gristmill().args(["job", "submit"]).arg(path_of(job)).arg("--").args(args);
        let id = command.run().succeeded().stdout;
        Job::at(id.trim(), self.master(), Some(self.secret_file()))
    }

    /// How many members run, as `list` sees it.
    pub fn running(&self) -> usize {
        let listed = self.place.command(&["list", "--json"]).run().succeeded().stdout;
        let clusters = listed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let own = clusters.into_iter().find(|cluster| cluster["name"] == self.name()).expect("it is listed");
        let members = own["containers"].as_array().expect("a list").iter();
        members.filter(|member| member["running"] == true).count()
    }

    /// Ends it.
    #[track_caller]
    pub fn terminate(&self) {
        self.place.command(&["terminate", self.name()]).run().succeeded();
    }
}

/// What `docker` prints.
#[track_caller]
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("docker runs");
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The image of the `gristmill` under test, made when there is none of this very binary.
pub fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let binary = path_of("gristmill");
        let digest = xxh3_64(&fs::read(&binary).expect("the program"));
        let tag = format!("gristmill-tests:{digest:016x}");
        let is_there = Command::new("docker").args(["image", "inspect", &tag]).output();
        if !is_there.expect("docker runs").status.success() {
            let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/build");
            let mut build = Command::new(deploy);
            let built = build.arg("--binary").arg(&binary).args(["--tag", &tag]).output().expect("it runs");
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        }
        tag
    })
}
