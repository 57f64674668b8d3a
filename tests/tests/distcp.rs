//! `gristmill fs distcp` with real processes: between file systems, on a cluster, on bad days.

use std::collections::BTreeMap;
use std::path::Path;

use gristmill_tests::{
    Cluster, ClusterOptions, Home, Moto, Program, S3, bytes_of, noise, over_stages, patiently,
};
use rustix::process::Signal;

/// Some files, among them an empty one and one of several blocks and parts.
fn tree(home: &Home) -> BTreeMap<String, Vec<u8>> {
    let sizes = [("empty", 0), ("one ü+%", 1000), ("deep/er/large", 20_500_000), ("deep/x", 300_000)];
    for (name, bytes) in sizes {
        home.write(&format!("from/{name}"), noise(bytes, bytes as u64));
    }
    for number in 0..40 {
        home.write(&format!("from/many/{number:03}"), noise(2000 + number, number as u64));
    }
    all_below(&home.path("from"))
}

fn all_below(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_str().expect("text").to_owned();
        if path.is_dir() {
            found.extend(
                all_below(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)),
            );
        } else {
            found.insert(name, std::fs::read(&path).expect("a file"));
        }
    }
    found
}

fn cluster(s3: &S3) -> Cluster {
    let env = s3.variables().into_iter().collect();
    Cluster::with(ClusterOptions { workers: 2, slots: 2, secret: true, env, ..ClusterOptions::default() })
}

/// A copy on the cluster. The driver knows the keys of S3: it lists.
fn copy(cluster: &Cluster, s3: &S3) -> Program {
    s3.with_keys(cluster.fs()).arg("distcp")
}

#[test]
fn files_go_from_here_to_the_cluster_to_s3_and_back() {
    let (home, s3) = (Home::new(), S3::start());
    let cluster = cluster(&s3);
    let files = tree(&home);
    let from = format!("file://{}", home.uri("from"));
    copy(&cluster, &s3).args([&from, "/copied"]).run().succeeded();
    let ended = copy(&cluster, &s3).args(["/copied", &s3.uri("copied")]).run().succeeded();
    assert!(ended.stdout.contains("copied 44 files"), "{}", ended.stdout);
    // Attempts have no keys, and made objects all the same; they left no upload open.
    assert_eq!(s3.fs().args(["uploads", &s3.uri("")]).run().succeeded().stdout, "");
    let back = format!("file://{}", home.uri("back"));
    copy(&cluster, &s3).args(["--local=2", &s3.uri("copied"), &back]).run().succeeded();
    assert!(all_below(&home.path("back")) == files, "every byte is back");
    // The list and what was unfinished are gone with the job.
    let left = || cluster.fs().args(["-ls", "/.gristmill/jobs"]).run().succeeded().stdout;
    patiently("the jobs' files to be gone", || !left().contains("/.gristmill/jobs/"));
    assert!(!cluster.fs().args(["-ls", "/copied"]).run().succeeded().stdout.contains(".distcp-"));
    let again = copy(&cluster, &s3).args(["--update", "/copied", &s3.uri("copied")]).run().succeeded();
    assert!(
        again.stdout.contains("copied 0 files") && again.stdout.contains("44 were there"),
        "{}",
        again.stdout
    );
}

#[test]
fn a_copy_that_was_killed_left_whole_files_only_and_goes_on() {
    let home = Home::new();
    for number in 0..400 {
        home.write(&format!("from/{number:03}"), noise(100_000, number));
    }
    let files = all_below(&home.path("from"));
    let distcp = |options: &[&str]| {
        let copy = Program::gristmill().args(["fs", "distcp"]).args(options);
        copy.args([home.uri("from"), home.uri("to")])
    };
    let visible = || {
        let mut found = bytes_of_or_none(&home.path("to"));
        found.retain(|name, _| !name.starts_with(".distcp-"));
        found
    };
    let mut running = distcp(&["--local=1"]).start();
    running.runs_until("some files to appear", || visible().len() > 3);
    running.signal(Signal::KILL);
    running.end();
    let unfinished = || directories(&home.path("to"), ".distcp-");
    assert_eq!(unfinished().len(), 1, "what was not finished is aside");
    let left = visible();
    assert!(left.iter().all(|(name, bytes)| files.get(name) == Some(bytes)), "what has its name is whole");
    let refused = distcp(&[]).run();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("--update"), "{}", refused.stderr);
    let resumed = distcp(&["--update"]).run().succeeded().stdout;
    let said = format!("copied {} files", files.len() - left.len());
    assert!(resumed.contains(&said) && resumed.contains(&format!("{} were there", left.len())), "{resumed}");
    assert!(visible() == files);
    assert_eq!(unfinished(), Vec::<String>::new(), "what the dead one left is found and removed");
}

#[test]
fn a_copy_that_lives_keeps_what_it_has_not_finished() {
    let home = Home::new();
    for number in 0..150 {
        home.write(&format!("from/{number:03}"), noise(20_000, number));
    }
    let copy = || {
        let copy = Program::gristmill().args(["fs", "distcp", "--local=1", "--update"]);
        copy.args([home.uri("from"), home.uri("to")])
    };
    let unfinished = || directories(&home.path("to"), ".distcp-");
    let mut slow = copy().start();
    slow.runs_until("a file to appear", || bytes_of_or_none(&home.path("to")).len() > 1);
    slow.signal(Signal::STOP);
    let its_own = unfinished();
    assert_eq!(its_own.len(), 1, "it has begun, and has not ended");
    copy().run().succeeded();
    assert_eq!(unfinished(), its_own, "it is not dead");
    slow.signal(Signal::CONT);
    slow.end().succeeded();
    assert!(bytes_of_or_none(&home.path("to")) == all_below(&home.path("from")));
    assert_eq!(unfinished(), Vec::<String>::new());
}

#[test]
fn a_worker_killed_while_it_copies_costs_no_file() {
    let home = Home::new();
    for number in 0..250 {
        home.write(&format!("from/{number:03}"), noise(20_000, number));
    }
    let options = ClusterOptions { workers: 3, master_args: vec!["--replication=2"], ..Default::default() };
    let mut cluster = Cluster::with(options);
    cluster.wait_for_all_slots();
    // Left by a copy whose driver and attempts were killed long ago.
    let dead = "/copied/.distcp-00000000-0000-4000-8000-000000000000";
    cluster.fs().args(["mkdir", "-p", dead]).run().succeeded();
    cluster.fs().args(["put", &home.uri("from/000"), &format!("{dead}/half")]).run().succeeded();
    let from = format!("file://{}", home.uri("from"));
    let mut driver = cluster.fs().args(["distcp", "--update", &from, "/copied"]).start();
    let visible = |cluster: &Cluster| {
        let names = cluster.names_in("/copied");
        names.into_iter().filter(|name| !name.contains(".distcp-")).count()
    };
    driver.runs_until("some files to appear", || visible(&cluster) > 3);
    let id = cluster.names_in("/.gristmill/jobs").pop().expect("the copy is a job");
    let job = cluster.known_job(id.rsplit('/').next().expect("a name"));
    let copying = *job.workers_running(1).last().expect("a task copies");
    let victim = (0..cluster.worker_count()).find(|index| cluster.worker_number(*index) == copying);
    cluster.kill_worker(victim.expect("a worker of this cluster"));
    assert!(visible(&cluster) < 250, "it was killed in the middle");
    let ended = driver.end().succeeded();
    assert!(ended.stdout.contains("copied"), "{}", ended.stdout);
    assert!(over_stages(&job.status(), "lost_attempts") >= 1, "an attempt went with the worker");
    let left = cluster.names_in("/copied");
    assert!(!left.iter().any(|name| name.contains(".distcp-")), "nothing unfinished is left: {left:?}");
    cluster.fs().args(["get", "/copied", &home.uri("back")]).run().succeeded();
    assert!(all_below(&home.path("back")) == all_below(&home.path("from")), "every byte is there");
}

/// The directories right in a directory whose names begin so.
fn directories(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("an entry"));
    let names = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let names = names.map(|name| name.to_str().expect("text").to_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn bytes_of_or_none(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let there = directory.is_dir().then(|| bytes_of_files(directory));
    there.unwrap_or_default()
}

/// The files right in a directory.
fn bytes_of_files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries =
        std::fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().expect("a name").to_str().expect("text").to_owned();
    entries
        .filter(|path| path.is_file())
        .map(|path| (name(&path), std::fs::read(&path).expect("a file")))
        .collect()
}

#[test]
fn a_server_of_strangers_takes_copies_too() {
    let moto = match Moto::start() {
        Ok(moto) => moto,
        Err(why) => {
            eprintln!("LEFT OUT: nothing was copied to moto, which cannot be started here: {why}");
            return;
        }
    };
    let home = Home::new();
    let files = tree(&home);
    moto.fs().args(["mkdir", "s3://strangers"]).run().succeeded();
    let from = home.uri("from");
    moto.fs().args(["distcp", &from, "s3://strangers/to"]).run().succeeded();
    moto.fs().args(["distcp", "s3://strangers/to", &home.uri("back")]).run().succeeded();
    assert!(all_below(&home.path("back")) == files, "every byte is back");
    let grouped = ["distcp", "--group-by", ".*/many/(0).*", &from, "s3://strangers/grouped"];
    moto.fs().args(grouped).run().succeeded();
    moto.fs().args(["get", "s3://strangers/grouped", &home.uri("grouped")]).run().succeeded();
    let many = files.iter().filter(|(name, _)| name.starts_with("many/"));
    let whole: Vec<u8> = many.flat_map(|(_, bytes)| bytes.clone()).collect();
    assert!(bytes_of(home.path("grouped"))["0"] == whole, "small files are one, in order");
}
