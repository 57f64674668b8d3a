//! A worker behind a slow link holds nobody up for long, as one with a slow disk does (`dfs_slow_worker`): writers go on without it,
//! readers go on with another replica.
//!
//! The link is a container's, made slow on both ends by a token bucket (tc-tbf).

use std::fs;

use gristmill_tests::{ContainerCluster, Containers, noise, patiently};

const MIB: usize = 1 << 20;
/// 128 KB/s: 1 MiB, which others take in the wink of an eye, takes it eight seconds.
const SLOW_KBIT_PER_S: u32 = 1_000;

/// Three core workers, and copies on all of them.
fn create(place: &Containers) -> ContainerCluster<'_> {
    place.create(&["--core", "3", "--replication", "3"])
}

/// Runs `fs COMMAND FROM TO` on this machine and returns what it warns of.
fn warnings(cluster: &ContainerCluster<'_>, command: &str, from: &str, to: &str) -> String {
    cluster.gristmill().args(["fs", command, from, to]).run().succeeded().stderr
}

/// Each block has its three copies again.
fn wait_until_healed(cluster: &ContainerCluster<'_>) {
    patiently("all copies to be made", || {
        cluster.gristmill().args(["fs", "fsck", "/"]).run().succeeded().stdout.contains(" 0 under-replicated")
    });
}

#[test]
fn a_writer_leaves_it_out_and_a_reader_leaves_it_for_a_better_one() {
    let Some(place) = Containers::new("workers behind slow links") else { return };
    let cluster = create(&place);
    let (file, bytes) = (place.path("file"), noise(12 * MIB, 5));
    fs::write(&file, &bytes).expect("a file");
    cluster.slow_down("core-2", SLOW_KBIT_PER_S);
    let said = warnings(&cluster, "-put", file.to_str().expect("plain"), "/file");
    let told: Vec<&str> = said.lines().filter(|line| line.contains("holds up the others")).collect();
    let culprit = format!(" at {}:", cluster.address("core-2"));
    assert!(told.len() == 1 && told[0].contains(&culprit), "it is left out, once, and no other: {said}");
    cluster.quicken("core-2");
    wait_until_healed(&cluster);

    // Whichever replica is read from first, it is behind a slow link in two of the three turns.
    let mut left = 0;
    for pair in [["core-1", "core-2"], ["core-2", "core-3"], ["core-3", "core-1"]] {
        pair.iter().for_each(|role| cluster.slow_down(role, SLOW_KBIT_PER_S));
        let back = place.path("back");
        let said = warnings(&cluster, "-get", "/file", back.to_str().expect("plain"));
        left += said.matches("a replica is slow: another one is read").count();
        assert!(fs::read(&back).expect("it was got") == bytes);
        fs::remove_file(&back).expect("our own file");
        pair.iter().for_each(|role| cluster.quicken(role));
    }
    assert!(left >= 2, "slow replicas were left {left} times");
    cluster.terminate();
    assert_eq!(place.objects(), Vec::<String>::new());
}
