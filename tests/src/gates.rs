//! Gates in containers: what comes to one stands there until a story opens it, member by member.

use std::fs;
use std::process::Command;

use crate::containers::{ContainerCluster, docker, image};

/// Where the gates of a member are: in its volume, so that a shut one is shut for its next life, too.
const DIR: &str = "/data/gates";
/// The daemons' account.
const OWNER: &str = "10001:10001";

/// The image of the programs under test with these gates shut in every member (docs/operating.md:
/// GRISTMILL_TEST_HOLD_ATTEMPTS, GRISTMILL_TEST_HOLD_PUBLISH). Others than those hold scripts that look at them.
pub fn gated_image(gates: &[&str]) -> String {
    let context = tempfile::tempdir().expect("a directory");
    fs::create_dir(context.path().join("gates")).expect("a directory");
    for gate in gates {
        fs::write(context.path().join("gates").join(gate), "").expect("a gate");
    }
    let variables = format!("GRISTMILL_TEST_HOLD_ATTEMPTS={DIR} GRISTMILL_TEST_HOLD_PUBLISH={DIR}");
    let text = format!("FROM {}\nCOPY --chown={OWNER} gates {DIR}\nENV {variables}\n", image());
    fs::write(context.path().join("Dockerfile"), text).expect("a file");
    let tag = format!("{}-{}", image(), gates.join("-"));
    // The builder that every engine has.
    let mut build = Command::new("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", &tag]).arg(context.path());
    let built = build.output().expect("docker runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    tag
}

/// The text of a script that stands at a gate.
pub fn gated_script(gate: &str) -> String {
    format!("#!/bin/sh\nwhile [ -e {DIR}/{gate} ]; do sleep 0.1; done\n")
}

/// The same of one that does not end when it is told to.
pub fn stubborn_script(gate: &str) -> String {
    let marked = format!(": > {DIR}/{gate}.stands");
    gated_script(gate).replacen('\n', &format!("\ntrap '' TERM\n{marked}\n"), 1)
}

impl ContainerCluster<'_> {
    /// Whether an attempt stands at a gate of the member.
    pub fn stands(&self, role: &str, gate: &str) -> bool {
        let marks = self.within(role, &["ls", DIR]);
        marks.lines().any(|mark| mark.strip_prefix(gate).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Opens a gate of all members.
    #[track_caller]
    pub fn open(&self, gate: &str) {
        self.containers().iter().for_each(|container| open_in(container, gate));
    }

    /// Opens a gate of one member: behind it the cluster may end.
    #[track_caller]
    pub fn open_at(&self, role: &str, gate: &str) {
        open_in(&self.container(role), gate);
    }
}

#[track_caller]
fn open_in(container: &str, gate: &str) {
    docker(&["exec", container, "rm", "-f", &format!("{DIR}/{gate}")]);
}
