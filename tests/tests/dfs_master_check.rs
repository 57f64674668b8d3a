//! `gristmill master --check`, and masters on damaged stores: whatever is wrong is said in a sentence that names the file.

use std::fs;

use gristmill_tests::{Cluster, Ended, Program};

/// The pages of a store; what is flipped in each is seen by whoever reads it.
const PAGE_BYTES: usize = 4096;

/// A stopped master's directory, after a life with files and a job, and a sudden end.
fn lived() -> Cluster {
    let mut cluster = Cluster::start(1);
    cluster.wait_for_all_slots();
    for file in 0..20 {
        cluster.put(&format!("/d{}/file-{file}", file % 3), b"to be or not to be");
    }
    let args = ["--input", "dfs:///d0", "--output", "dfs:///out"];
    cluster.drive("word_count").args(args).run().succeeded();
    cluster.fs().args(["-rm", "-r", "/d1"]).run().succeeded();
    let refused = check(&cluster);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("another master is running on it"), "{}", refused.stderr);
    cluster.kill_master();
    cluster
}

fn check(cluster: &Cluster) -> Ended {
    Program::gristmill().args(["master", "--check", "--data-dir"]).arg(cluster.path("master")).run()
}

#[test]
fn what_a_killed_master_left_is_whole_and_the_check_changes_nothing() {
    let mut cluster = lived();
    let stores = ["namespace.redb", "jobs.redb"].map(|name| cluster.path("master").join(name));
    let read = || stores.each_ref().map(|store| fs::read(store).expect("a store"));
    let before = read();
    let said = check(&cluster).succeeded().stdout;
    assert!(said.contains("namespace.redb is whole: ") && said.contains("jobs.redb is whole: "), "{said}");
    assert!(read() == before, "not a byte is different");
    // And a master goes on from there.
    cluster.start_master();
    assert_eq!(cluster.get("/d0/file-0"), b"to be or not to be");
    let nowhere =
        Program::gristmill().args(["master", "--check", "--data-dir"]).arg(cluster.path("none")).run();
    assert!(nowhere.sentence().contains("it is not there"));
    assert!(!cluster.path("none").exists());
}

#[test]
fn a_damaged_store_is_named_by_the_check_and_refused_by_a_master() {
    let cluster = lived();
    for name in ["namespace.redb", "jobs.redb"] {
        let store = cluster.path("master").join(name);
        let whole = fs::read(&store).expect("a store");
        for (what, damaged) in damages(&whole) {
            fs::write(&store, &damaged).expect("it is ours");
            let found = check(&cluster);
            assert_eq!(found.status.code(), Some(1), "{name}, {what}: {}{}", found.stdout, found.stderr);
            assert!(
                found.stdout.lines().any(|line| line.contains(name) && !line.contains("whole")),
                "{}",
                found.stdout
            );
            assert!(
                found.stderr.contains("is damaged: ") && found.stderr.lines().count() == 1,
                "{}",
                found.stderr
            );
            assert!(
                fs::read(&store).expect("a store") == damaged,
                "{name}, {what}: the check leaves it as it was"
            );
            refused(&cluster, name, what);
        }
        fs::write(&store, &whole).expect("it is ours");
    }
    check(&cluster).succeeded();
}

/// A master that cannot start ends by itself, in order, with the sentence as its last line.
fn refused(cluster: &Cluster, name: &str, what: &str) {
    let master =
        Program::gristmill().args(["master", "--worker=never", "--http=off", "--listen=127.0.0.1:0"]);
    let ended = master.arg("--data-dir").arg(cluster.path("master")).run();
    let said = ended.stderr;
    assert_eq!(ended.status.code(), Some(1), "{name}, {what}: {:?} {said}", ended.status);
    let sentence = said.lines().last().expect("a sentence");
    assert!(sentence.starts_with("gristmill: ") && sentence.contains(name), "{name}, {what}: {said}");
    assert!(!said.contains("panicked"), "{name}, {what}: {said}");
}

fn damages(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut flipped = whole.to_vec();
    // In every page, so that those that are in use are hit; the first says where the others are.
    for page in flipped.chunks_mut(PAGE_BYTES).skip(1) {
        let middle = page.len() / 2;
        page[..8].iter_mut().for_each(|byte| *byte ^= 0x55);
        page[middle] ^= 0x10;
    }
    let cut = |share: usize| whole[..whole.len() / share].to_vec();
    vec![
        ("every page changed", flipped),
        ("cut to a half", cut(2)),
        ("cut to a tenth", cut(10)),
        ("cut to its head", whole[..PAGE_BYTES].to_vec()),
        ("no store at all", b"to be or not to be, that is the question".repeat(200)),
    ]
}
