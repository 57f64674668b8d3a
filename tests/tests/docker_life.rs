//! A cluster of containers: made, used, ended; nothing of it is open to strangers, and nothing is left.

use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use gristmill_tests::Program;
use gristmill_tests::{ContainerCluster, Containers, Output, corpus, docker, image, patiently, word_counts};
use rustix::process::Signal;

/// Words of the text, counted by the cluster, are those counted here.
#[track_caller]
fn counts_words(place: &Containers, cluster: &ContainerCluster<'_>, name: &str) {
    let text = corpus(200_000, 7);
    let file = place.path(name);
    fs::write(&file, &text).expect("a file");
    cluster.gristmill().args(["fs", "put"]).arg(&file).arg(format!("/{name}")).run().succeeded();
    let (input, output) = (format!("dfs:///{name}"), format!("dfs:///out-{name}"));
    let job =
        cluster.submit("word_count", &["--input", &input, "--output", &output, "--split-size", "64KiB"]);
    job.done();
    let copy = place.path(&format!("copy-{name}"));
    cluster.gristmill().args(["fs", "get", &format!("/out-{name}")]).arg(&copy).run().succeeded();
    let counted = Output::read(&copy);
    let counted = counted.counts().into_iter().flatten().map(|(word, count)| (word.to_vec(), count));
    assert_eq!(counted.collect::<std::collections::BTreeMap<_, _>>(), word_counts(&text));
}

#[test]
fn two_clusters_count_words_side_by_side_and_nothing_is_left() {
    let Some(place) = Containers::new("two clusters of containers side by side") else { return };
    let one = place.create(&["--name", "one", "--core", "2", "--task", "1"]);
    let two = place.create(&["--name", "two", "--core", "1"]);
    counts_words(&place, &one, "text");
    // From here all of that went through the master: clients of this machine are told so.
    let args = docker(&["inspect", "--format", "{{.Config.Cmd}}", &one.container("master")]);
    assert!(args.contains("--advertise master:7070"), "{args}");
    assert_eq!((one.running(), two.running()), (4, 2));
    let listed = two.gristmill().args(["fs", "ls", "/"]).run().succeeded().stdout;
    assert!(!listed.contains("text"), "the one cluster's file is in the other: {listed}");
    // Not even by address does a worker of the one reach the other's master.
    let network = |name: &str| format!("{{{{(index .NetworkSettings.Networks \"{name}\").IPAddress}}}}");
    let networks = docker(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", &two.container("master")]);
    let address = docker(&["inspect", "--format", &network(networks.trim()), &two.container("master")]);
    let other = format!("{}:7070", address.trim());
    let ask = ["exec", "-e", &format!("GRISTMILL_MASTER={other}"), &one.container("core-1")];
    let asked = Program::at("timeout").arg("3").arg("docker").args(ask);
    let asked = asked.args(["/usr/local/bin/gristmill", "fs", "ls", "/"]).run();
    assert!(!asked.status.success(), "{}", asked.stdout);
    one.terminate();
    assert_eq!(two.running(), 2, "the other lives on");
    counts_words(&place, &two, "more");
    two.terminate();
    place.nothing_is_left();
}

#[test]
fn nobody_gets_in_without_the_secret_and_nobody_finds_it() {
    let Some(place) = Containers::new("secrets of a cluster of containers") else { return };
    let cluster = place.create(&["--core", "1", "--task", "1"]);
    let secret = fs::read_to_string(cluster.secret_file()).expect("the secret");
    let secret = secret.trim();
    assert_eq!(secret.len(), 64);
    for container in cluster.containers() {
        let inspected = docker(&["inspect", &container]);
        assert!(!inspected.contains(secret), "{container}: in its configuration or environment");
        let logs = Program::at("docker").args(["logs", &container]).run().succeeded();
        assert!(!logs.stdout.contains(secret) && !logs.stderr.contains(secret), "{container}: in its log");
        // What the containers have, so that this cannot pass because nothing has it.
        let inside = docker(&["exec", &container, "cat", "/data/secret"]);
        assert_eq!(inside.trim(), secret);
        // No more powers than it needs.
        let wrote = Program::at("docker").args(["exec", &container, "touch", "/usr/local/bin/new"]).run();
        assert!(wrote.stderr.contains("Read-only file system"), "{}", wrote.stderr);
        assert_eq!(docker(&["exec", &container, "id", "-u"]).trim(), "10001");
    }
    let history = docker(&["history", "--no-trunc", image()]);
    assert!(!history.contains(secret));

    let without =
        Program::gristmill().env("GRISTMILL_MASTER", cluster.master()).args(["fs", "ls", "/"]).run();
    assert!(!without.status.success(), "{}", without.stdout);
    let wrong = place.path("wrong");
    fs::write(&wrong, "0".repeat(64)).expect("a file");
    fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its owner's");
    let with_wrong = cluster.gristmill().env("GRISTMILL_SECRET_FILE", &wrong).args(["fs", "ls", "/"]).run();
    assert!(!with_wrong.status.success(), "{}", with_wrong.stdout);
    cluster.gristmill().args(["fs", "ls", "/"]).run().succeeded();

    // By this machine's own name in the world nobody reaches what loopback does.
    let port = cluster.master().rsplit(':').next().expect("a port").to_owned();
    let way = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    way.connect("192.0.2.1:9").expect("a way out, by which nothing is sent");
    let own = way.local_addr().expect("an address").ip();
    assert!(!own.is_loopback(), "this machine has an address of its own");
    assert!(TcpStream::connect(format!("{own}:{port}")).is_err(), "{own}:{port} is open");
    assert!(TcpStream::connect(cluster.master()).is_ok());
    cluster.terminate();
    place.nothing_is_left();
}

#[test]
fn what_is_interrupted_at_any_moment_leaves_nothing() {
    let Some(place) = Containers::new("interrupted creations of clusters of containers") else { return };
    image();
    for delay_ms in [0, 100, 300, 600, 1000, 1500, 2500] {
        let started = Instant::now();
        let mut making = place.creation().args(["--core", "2", "--task", "1"]).start();
        patiently("the moment", || started.elapsed() >= Duration::from_millis(delay_ms));
        if making.is_running() {
            making.signal(Signal::INT);
        }
        if making.end().status.success() {
            // It was ready before it heard.
            place.command(&["terminate", "cluster-1"]).run().succeeded();
        }
        place.nothing_is_left();
    }
}

#[test]
fn whose_maker_was_killed_is_found_by_the_doctor() {
    let Some(place) = Containers::new("killed creations of clusters of containers") else { return };
    image();
    let making = place.creation().args(["--core", "2"]).start();
    patiently("the first container", || !place.objects().is_empty());
    making.signal(Signal::KILL);
    making.end();
    let told = place.command(&["doctor", "--dry-run"]).run();
    assert_eq!(told.status.code(), Some(1));
    assert!(told.stdout.contains("the cluster cluster-1 was never finished"), "{}", told.stdout);
    // What the engine was asked for comes after its asker's end, perhaps after the first look.
    patiently("the doctor to find nothing more", || {
        place.command(&["doctor"]).run();
        place.objects().is_empty()
    });
    place.nothing_is_left();

    // Even of one whose record has gone.
    place.create(&["--name", "lost", "--core", "1"]);
    // Its custodian may write there at the same moment.
    patiently("its record to be gone", || fs::remove_dir_all(place.registry().join("lost")).is_ok());
    let mended = place.command(&["doctor"]).run().succeeded();
    assert!(mended.stdout.contains("which is no more: removed"), "{}", mended.stdout);
    place.nothing_is_left();
    let well = place.command(&["doctor"]).run().succeeded();
    assert_eq!(well.stdout, "All is well.\n");
}

#[test]
fn what_is_wrong_is_said_in_a_sentence_and_leaves_nothing() {
    let Some(place) = Containers::new("engines that refuse") else { return };
    let said = place.creation().env("DOCKER_HOST", "unix:///nowhere/docker.sock").run().sentence();
    assert!(said.starts_with("cannot reach the Docker engine: start it, or say where it is"), "{said}");
    let create = ["create", "--provider", "docker", "--image", "gristmill-tests:none"];
    let said = place.command(&create).run().sentence();
    assert!(
        said.starts_with("the Docker engine has no image gristmill-tests:none: `deploy/build`"),
        "{said}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let said = place.creation().args(["--port", &port]).run().sentence();
    assert!(
        said.starts_with(&format!("cannot publish the master at 127.0.0.1:{port}: the port is taken")),
        "{said}"
    );
    place.nothing_is_left();
}
