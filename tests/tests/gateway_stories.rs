//! The stories of files and jobs again, with clients outside the workers' network: all their bytes go through the
//! master's port. The name of this program makes it so (`gristmill_tests::Clients`).

#[path = "dfs_commands.rs"]
mod dfs_commands;
#[path = "dfs_workers_fail.rs"]
mod dfs_workers_fail;
#[path = "jobs_commands.rs"]
mod jobs_commands;

use gristmill_tests::{Cluster, noise};

#[test]
fn these_stories_are_told_through_the_gateway() {
    let cluster = Cluster::start(1);
    cluster.put("/file", &noise(2_000_000, 1));
    assert_eq!(cluster.get("/file").len(), 2_000_000);
    let passed = cluster.passed();
    assert!(
        passed.bytes >= 2 * 2_000_000 && passed.passages >= 3,
        "two blocks in, some bytes out: {passed:?}"
    );
}
