//! Clients that reach the master's port and nothing else: what they write, read and run is what it is inside, and who has
//! no token gets nowhere.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gristmill_dfs::client::{CreateOptions, DfsClient};
use gristmill_proto::auth::{Role, Secret};
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{ReadBlock, Reply, Request};
use gristmill_proto::passage::{GATEWAY_AUDIENCE, Passage};
use gristmill_tests::{
    Clients, Cluster, ClusterOptions, Enclave, Output, corpus, noise, patiently, word_counts,
};

const MIB: usize = 1 << 20;
/// Connections to workers at a time, as docs/protocol.md says.
const PASSAGES_MAX: usize = 256;
/// What transfers may add to the master's memory, whatever they move: its buffers for four of them are 512 KiB, and the
/// calls and pages of these files are the rest.
const MASTER_GROWTH_BYTES_MAX: u64 = 24 << 20;

fn outside(workers: usize) -> Cluster {
    Cluster::with(ClusterOptions { workers, clients: Clients::Outside, ..ClusterOptions::default() })
}

fn with_secret() -> Cluster {
    let options =
        ClusterOptions { workers: 1, secret: true, clients: Clients::Outside, ..Default::default() };
    Cluster::with(options)
}

/// The largest resident set that a process ever had, in bytes.
fn peak_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("in KiB") * 1024
}

#[test]
fn from_another_network_files_and_jobs_work_as_from_inside() {
    if let Err(reason) = Enclave::make().map(drop) {
        println!("left out, as this process may not make networks: {reason}");
        return;
    }
    let options =
        ClusterOptions { workers: 2, task_workers: 1, clients: Clients::Elsewhere, ..Default::default() };
    let cluster = Cluster::with(options);
    cluster.wait_for_all_slots();
    for worker in cluster.client().report().expect("a report").workers {
        let address: SocketAddr = worker.address.parse().expect("an address");
        TcpStream::connect_timeout(&address, Duration::from_secs(2))
            .expect_err("a worker's address leads nowhere");
    }

    let (text, file) = (corpus(2_500_000, 4), cluster.path("text"));
    std::fs::write(&file, &text).expect("a file");
    let fs = |args: &[&str]| cluster.fs().args(args).run().succeeded().stdout;
    fs(&["-put", path(&file), "/text"]);
    let back = cluster.path("back");
    fs(&["-get", "/text", path(&back)]);
    assert!(std::fs::read(&back).expect("it was got") == text, "over three blocks and two workers");
    // What a program prints is text here, and these bytes are not all.
    assert!(fs(&["-cat", "/text"]) == String::from_utf8_lossy(&text));
    assert!(fs(&["-tail", "/text"]) == String::from_utf8_lossy(&text[text.len() - 1024..]));

    // The program goes up, the splits are listed, the job runs inside, its report and output come out.
    let job = cluster
        .submit("word_count", &["--input", "dfs:///text", "--output", "dfs:///counts", "--reducers", "2"]);
    job.done();
    assert!(counted(&cluster.output("/counts")) == word_counts(&text));
    let named = format!("dfs://{}/named", cluster.master());
    cluster.drive("word_count").args(["--input", "dfs:///text", "--output", &named]).run().succeeded();
    assert!(
        counted(&cluster.output("/named")) == word_counts(&text),
        "a master's name from outside means the same"
    );
    let failing =
        cluster.submit("unruly", &["--fault", "panic", "--output", "dfs:///no", "--max-attempts", "1"]);
    failing.failed();
    let logs = failing.command("logs").run().succeeded().stdout;
    assert!(logs.contains("the map is out of order"), "{logs}");
}

fn counted(output: &Output) -> BTreeMap<Vec<u8>, u64> {
    output.counts().into_iter().flatten().map(|(word, count)| (word.to_vec(), count)).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

#[test]
fn inside_the_network_bytes_go_straight_to_the_workers() {
    let cluster = Cluster::start(1);
    cluster.put("/file", &noise(3 * MIB, 2));
    assert_eq!(cluster.get("/file"), noise(3 * MIB, 2));
    assert_eq!(cluster.passed().passages, 0, "nobody went through the master");
}

#[test]
fn a_worker_killed_in_the_middle_of_a_read_is_left_behind() {
    let mut cluster = outside(2);
    let (client, bytes) = (cluster.client(), noise(6 * MIB, 3));
    let mut writer =
        client.create("/file", CreateOptions { replication: 2, ..CreateOptions::default() }).expect("a file");
    writer.write_all(&bytes).expect("bytes");
    writer.finish().expect("the file");
    for victim in 0..2 {
        let mut reader = client.open("/file").expect("the file");
        let mut read = vec![0; MIB + MIB / 2];
        reader.read_exact(&mut read).expect("its beginning");
        cluster.kill_worker(victim);
        reader.read_to_end(&mut read).expect("the rest, from the other one");
        assert!(read == bytes, "worker {victim} killed");
        cluster.start_worker(victim);
        cluster.wait_for_workers(2);
        cluster.wait_until_healed();
    }
    assert!(cluster.passed().bytes > 18 * MIB as u64, "once in and twice out: {:?}", cluster.passed());
}

#[test]
fn a_master_killed_in_the_middle_of_a_write_is_waited_for() {
    let mut cluster = outside(2);
    let (client, bytes) = (cluster.client(), noise(5 * MIB, 4));
    let mut writer = client.create("/file", CreateOptions::default()).expect("a file");
    writer.write_whole(&bytes[..MIB + 77_777]).expect("bytes");
    writer.flush_visible().expect("they are acknowledged");
    cluster.kill_master();
    cluster.start_master();
    writer.write_whole(&bytes[MIB + 77_777..]).expect("more bytes");
    writer.finish().expect("the file");
    assert!(cluster.get("/file") == bytes);
    assert!(
        cluster.passed().bytes > 8 * MIB as u64,
        "the second master passed them on: {:?}",
        cluster.passed()
    );
}

/// Four transfers at once, in and then out; returns what they added to the master's memory.
fn growth_by_four_transfers(cluster: &Cluster, bytes: usize) -> u64 {
    // What a first call and a first transfer cost is paid before.
    cluster.put("/first", &noise(MIB, 5));
    cluster.get("/first");
    let before = peak_bytes(cluster.master_id());
    let client = cluster.client();
    let (piece, client) = (noise(MIB, 6), &client);
    let four = |transfer: &(dyn Fn(usize) + Sync)| {
        std::thread::scope(|threads| {
            for number in 0..4 {
                threads.spawn(move || transfer(number));
            }
        });
    };
    four(&|number| {
        let mut writer = client.create(&format!("/{number}"), CreateOptions::default()).expect("a file");
        for _ in 0..bytes / MIB {
            writer.write_all(&piece).expect("bytes");
        }
        writer.finish().expect("the file");
    });
    four(&|number| {
        let mut reader = client.open(&format!("/{number}")).expect("the file");
        let mut got = vec![0; MIB];
        for at in 0..bytes / MIB {
            reader.read_exact(&mut got).expect("bytes");
            assert!(got == piece, "MiB {at} of file {number}");
        }
    });
    let passed = cluster.passed();
    assert!(passed.bytes >= 8 * bytes as u64, "all of it went through the master: {passed:?}");
    peak_bytes(cluster.master_id()) - before
}

#[test]
fn four_transfers_at_once_leave_the_masters_memory_as_it_was() {
    let growth = growth_by_four_transfers(&outside(2), 48 * MIB);
    assert!(growth <= MASTER_GROWTH_BYTES_MAX, "the master grew by {growth} bytes");
}

/// `cargo test --test gateway -- --ignored four_transfers_of_a_gibibyte --nocapture`, with the release build.
#[test]
#[ignore = "moves 8 GiB; the short form is a part of every run"]
fn four_transfers_of_a_gibibyte_leave_the_masters_memory_as_it_was() {
    let options = ClusterOptions {
        workers: 2,
        clients: Clients::Outside,
        master_args: vec!["--block-mib=64"],
        ..ClusterOptions::default()
    };
    let growth = growth_by_four_transfers(&Cluster::with(options), 1024 * MIB);
    println!("the master grew by {growth} bytes");
    assert!(growth <= MASTER_GROWTH_BYTES_MAX, "the master grew by {growth} bytes");
}

// ---- who may pass, and where to ----

fn connect(cluster: &Cluster) -> TcpStream {
    let stream = TcpStream::connect(cluster.master()).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    stream
}

fn ask(cluster: &Cluster, worker: u64, token: Vec<u8>) -> (TcpStream, Option<Kind>) {
    let stream = connect(cluster);
    Passage { worker: WorkerId(worker), token: token.into() }.write(&mut &stream).expect("it is short");
    let said = reply(&stream);
    (stream, said)
}

/// The failure in the next reply.
fn reply(mut stream: &TcpStream) -> Option<Kind> {
    let mut scratch = Vec::new();
    let head = bulk::read_frame_head(&mut stream, &mut scratch).expect("a frame").expect("an answer");
    assert_eq!(head.kind, FrameKind::Reply);
    let reply: Reply = head.header().expect("a reply");
    reply.failure.map(|failure| failure.kind())
}

fn only_worker(client: &DfsClient) -> u64 {
    client.report().expect("a report").workers[0].worker
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

#[test]
fn without_a_token_of_the_cluster_nothing_passes() {
    let mut cluster = with_secret();
    let worker = only_worker(&cluster.client());
    let secret = Secret::read(&cluster.secret_file().expect("a secret")).expect("a secret");
    let other = Secret::from_bytes(&[7; 32]).expect("32 bytes");
    let token = |secret: &Secret, role, audience: &str| secret.caller_token_bytes(role, audience, now_ms());
    let mut changed = token(&secret, Role::Client, GATEWAY_AUDIENCE);
    changed[40] ^= 1;
    let bad = [
        ("none", Vec::new()),
        ("another secret's", token(&other, Role::Client, GATEWAY_AUDIENCE)),
        ("one for calls", token(&secret, Role::Client, "namespace")),
        ("a worker's", token(&secret, Role::Worker, GATEWAY_AUDIENCE)),
        ("an old one", secret.caller_token_bytes(Role::Client, GATEWAY_AUDIENCE, now_ms() - 600_000)),
        ("a changed one", changed),
    ];
    let count = bad.len() as u64;
    for (which, token) in bad {
        let (mut stream, said) = ask(&cluster, worker, token);
        assert_eq!(said, Some(Kind::Token), "{which}");
        assert_eq!(stream.read(&mut [0]).expect("an end"), 0, "{which}: the connection ends");
    }
    let passed = cluster.passed();
    assert_eq!((passed.passages, passed.refused, passed.bytes), (0, count, 0));

    // And with one: the worker itself answers, and asks for a token of its own.
    let (mut stream, said) = ask(&cluster, worker, token(&secret, Role::Client, GATEWAY_AUDIENCE));
    assert_eq!(said, None);
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 1 };
    let request = Request { operation: Some(Operation::ReadBlock(read)), ..Request::default() };
    patiently(
        "the worker to have heard that it is a member, and to say that a passage is no right to a block",
        || {
            bulk::write_frame(&mut stream, FrameKind::Request, 1, &request, &[]).expect("it is taken");
            reply(&stream) == Some(Kind::Token)
        },
    );
    let log = cluster.stop_master().stderr;
    assert_eq!(log.matches("no way to a worker").count() as u64, count, "each refusal is in the log: {log}");
}

#[test]
fn a_passage_leads_to_registered_workers_and_nowhere_else() {
    let mut cluster = outside(1);
    let worker = only_worker(&cluster.client());
    for unknown in [0, worker + 1, u64::MAX] {
        assert_eq!(ask(&cluster, unknown, Vec::new()).1, Some(Kind::NotFound), "worker {unknown}");
    }
    // A second request for a passage is the worker's to refuse: there is no way from there.
    let (mut stream, said) = ask(&cluster, worker, Vec::new());
    assert_eq!(said, None);
    Passage { worker: WorkerId(worker), token: Vec::new().into() }.write(&mut stream).expect("it is short");
    assert_eq!(reply(&stream), Some(Kind::Protocol));
    // What is a bulk frame and asks for something else.
    let stream = connect(&cluster);
    let read = Request { operation: Some(Operation::ReadBlock(ReadBlock::default())), ..Request::default() };
    bulk::write_frame(&mut &stream, FrameKind::Request, 1, &read, &[]).expect("it is short");
    assert_eq!(reply(&stream), Some(Kind::Protocol));
    cluster.kill_worker(0);
    let said = ask(&cluster, worker, Vec::new()).1;
    assert!(matches!(said, Some(Kind::Hop | Kind::NotFound)), "a worker that is gone: {said:?}");
}

#[test]
fn passages_are_bounded_and_calls_go_on_beside_them() {
    let cluster = outside(1);
    let client = cluster.client();
    let worker = only_worker(&client);
    // Strangers that say nothing, and passages on which nothing is asked.
    let silent: Vec<TcpStream> = (0..50).map(|_| connect(&cluster)).collect();
    let mut open: Vec<TcpStream> = (0..PASSAGES_MAX).map(|_| ask(&cluster, worker, Vec::new()).0).collect();
    assert_eq!(cluster.passed().connections as usize, PASSAGES_MAX);
    assert_eq!(
        ask(&cluster, worker, Vec::new()).1,
        Some(Kind::Busy),
        "one too many, after a moment's patience"
    );
    client.make_directory("/beside", false, 0o755).expect("calls are not held up");
    open.truncate(PASSAGES_MAX - 8);
    cluster.put("/again", &noise(2 * MIB, 7));
    assert!(cluster.get("/again") == noise(2 * MIB, 7));
    drop((open, silent));
    drop(client);
    patiently("the passages to end with their clients", || cluster.passed().connections == 0);
}
