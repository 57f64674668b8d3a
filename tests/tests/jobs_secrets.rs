//! Secrets stay where they were put: nothing that a cluster writes, shows, or hands to attempts has them in it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use gristmill_tests::{Cluster, ClusterOptions, Job, Program, file_uri, patiently};

/// Keys as a cloud gives them, in the environment of the driver, the master and the workers.
const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIAPLANTEDPLANTED00"),
    ("AWS_SECRET_ACCESS_KEY", "planted/secret+access/key+0123456789abcd"),
    ("AWS_SESSION_TOKEN", "planted-session-token-0123456789"),
];

/// What must not be found: the keys, and the cluster's secret, also as hexadecimal digits and base64 would show it.
fn needles(cluster: &Cluster) -> Vec<String> {
    let secret = fs::read(cluster.secret_file().expect("it has a secret")).expect("the secret");
    // From its middle: a prefix or an end may be cut off, and base64 is the same from every third byte on.
    let middle = &secret[3..27];
    let hex: String = middle.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = String::from_utf8(middle.to_vec()).expect("the tests' secret is text");
    let mut needles = vec![text, hex.to_uppercase(), hex, base64(middle)];
    needles.extend(KEYS.map(|(_, value)| value.to_owned()));
    needles
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

/// Where a needle was found.
struct Search {
    needles: Vec<String>,
    looked_at_bytes: u64,
}

impl Search {
    #[track_caller]
    fn look(&mut self, place: &str, bytes: &[u8]) {
        self.looked_at_bytes += bytes.len() as u64;
        // Needles are ASCII: whatever else the bytes are, they are seen.
        let text = String::from_utf8_lossy(bytes);
        let found = self.needles.iter().find(|needle| text.contains(needle.as_str()));
        assert!(found.is_none(), "{place} has {found:?} in it");
    }

    /// All that a command says.
    #[track_caller]
    fn look_at(&mut self, program: Program, what: &str) {
        let ended = program.run();
        self.look(&format!("what `{what}` prints"), ended.stdout.as_bytes());
        self.look(&format!("what `{what}` says"), ended.stderr.as_bytes());
    }
}

fn with_keys(program: Program) -> Program {
    KEYS.iter().fold(program, |program, (name, value)| program.env(name, value))
}

/// Directories of `/proc` of the attempts that run.
fn attempts(cluster: &Cluster) -> Vec<PathBuf> {
    let daemons = [cluster.master_id(), cluster.worker_id(0), cluster.worker_id(1)].map(|id| id.to_string());
    let place = file_uri(&cluster.path(""));
    let all = fs::read_dir("/proc").expect("processes can be listed").flatten().map(|entry| entry.path());
    let is_attempt = |path: &PathBuf| {
        let is_daemon = path.file_name().is_some_and(|name| daemons.iter().any(|id| name == id.as_str()));
        // What ends while it is looked at is no attempt that runs.
        let text = fs::read(path.join("environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        !is_daemon && text.contains(&place) && text.contains("GRISTMILL_ATTEMPT")
    };
    all.filter(is_attempt).collect()
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    // What vanishes while it is listed is gone.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn page(cluster: &Cluster, path: &str) -> Vec<u8> {
    let read =
        |name: &str| fs::read_to_string(cluster.path("master").join(name)).expect("a file of the master");
    let (address, token) = (read("http-address"), read("http-token"));
    let mut stream = TcpStream::connect(address.trim()).expect("the pages are served");
    let host = address.trim();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    answer
}

#[test]
fn planted_secrets_are_found_nowhere() {
    let mut env: Vec<(&'static str, String)> = KEYS.map(|(name, value)| (name, value.to_owned())).to_vec();
    env.push(("GRISTMILL_LOG", "debug".to_owned()));
    let options = ClusterOptions { workers: 1, task_workers: 1, secret: true, env, ..Default::default() };
    let mut cluster = Cluster::with(options);
    cluster.wait_for_all_slots();
    let mut search = Search { needles: needles(&cluster), looked_at_bytes: 0 };
    let environ = fs::read(format!("/proc/{}/environ", cluster.worker_id(0))).expect("its environment");
    for (_, value) in KEYS {
        assert!(
            environ.windows(value.len()).any(|window| window == value.as_bytes()),
            "a worker has the keys"
        );
    }

    // A job that is done, one that fails, and one that shows its whole world.
    cluster.put("/text", b"to be or not to be");
    let drive = |job: &str| with_keys(cluster.drive(job)).env("GRISTMILL_LOG", "debug");
    search.look_at(
        drive("word_count").args(["--input", "dfs:///text", "--output", "dfs:///out"]),
        "word_count",
    );
    for fault in ["panic", "look-around"] {
        let output = format!("dfs:///{fault}");
        let unruly = drive("unruly").args(["--fault", fault, "--max-attempts", "2", "--output", &output]);
        search.look_at(unruly, &format!("unruly --fault {fault}"));
    }
    // And one that runs, with attempts on both workers.
    let gate = file_uri(&cluster.path("gate"));
    let running =
        cluster.submit("gated", &["--rows", "100000", "--stuck", "--gate", &gate, "--output", "dfs:///g"]);
    patiently("attempts on both workers", || attempts(&cluster).len() >= 2);
    for attempt in attempts(&cluster) {
        for file in ["environ", "cmdline"] {
            // It runs for as long as its gate is closed.
            let bytes = fs::read(attempt.join(file)).expect("it runs");
            assert!(!bytes.is_empty());
            search.look(&format!("{file} of an attempt"), &bytes);
        }
    }
    look_at_commands_and_pages(&cluster, &running, &mut search);
    let files = cluster.names_in(&format!("/.gristmill/jobs/{}", running.id));
    assert!(!files.is_empty(), "a running job has files in dfs://");
    for file in files {
        let path =
            file.split_once("/.gristmill").map(|(_, rest)| format!("/.gristmill{rest}")).expect("a path");
        search.look(&file, &cluster.get(&path));
    }
    fs::write(cluster.path("gate"), "").expect("a gate");
    running.done();

    look_at_files(&cluster, &mut search);
    for (who, ended) in [
        ("worker 0", cluster.stop_worker(0)),
        ("worker 1", cluster.stop_worker(1)),
        ("the master", cluster.stop_master()),
    ] {
        assert!(ended.stderr.contains("DEBUG"), "{who} says all it has to say");
        search.look(&format!("the log of {who}"), ended.stderr.as_bytes());
    }
    assert!(search.looked_at_bytes > 1 << 20, "{} bytes were searched", search.looked_at_bytes);
}

/// All that the daemons have written.
fn look_at_files(cluster: &Cluster, search: &mut Search) {
    let mut files = Vec::new();
    files_below(&cluster.path(""), &mut files);
    let secret = cluster.secret_file().expect("it has a secret");
    assert!(files.contains(&secret), "the search sees what is there");
    let names = ["namespace.redb", "jobs.redb", "http-token", ".stderr"];
    for name in names {
        let seen = files.iter().any(|file| file.to_string_lossy().ends_with(name));
        assert!(seen, "the search sees {name}");
    }
    for file in files.iter().filter(|file| **file != secret) {
        // What vanishes meanwhile is nowhere.
        search.look(&file.to_string_lossy(), &fs::read(file).unwrap_or_default());
    }
}

fn look_at_commands_and_pages(cluster: &Cluster, running: &Job, search: &mut Search) {
    let listed = cluster.gristmill().args(["job", "list", "--all", "--json"]).run().succeeded().stdout;
    let ids = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let ids: Vec<String> = ids.map(|job| job["job"].as_str().expect("an id").to_owned()).collect();
    assert!(ids.contains(&running.id) && ids.len() == 4, "{listed}");
    search.look("the list of jobs", listed.as_bytes());
    for id in &ids {
        let job = cluster.known_job(id);
        for command in ["status", "tasks", "counters", "history", "logs"] {
            search.look_at(job.command(command), command);
            search.look_at(job.command(command).arg("--json"), command);
        }
        for stream in ["--stdout", "--stderr"] {
            search.look_at(job.command("logs").args(["--task", "0/0", stream]), "logs");
        }
        search.look("a page", &page(cluster, &format!("/jobs/{id}")));
    }
    for path in ["/status", "/jobs", "/metrics"] {
        search.look(path, &page(cluster, path));
    }
    search.look_at(cluster.gristmill().args(["cluster", "describe"]), "cluster describe");
    search.look_at(cluster.fs().arg("report"), "fs report");
}
