//! The outputs of a job on a running cluster: written by several processes, published by one, over the master's death.

use std::io::Write;

use gristmill_dfs::client::DfsClient;
use gristmill_dfs::{
    Credential, DfsIdentity, Existing, SUCCESS_FILE, SharedOutputs, StageError, StagedFile, Staging, Uri,
};
use gristmill_proto::ids::JobId;
use gristmill_tests::Cluster;

fn ann(cluster: &Cluster) -> DfsIdentity {
    DfsIdentity {
        user: "ann".to_owned(),
        groups: Vec::new(),
        credential: Credential::None,
        aliases: vec![("master.example:7070".to_owned(), cluster.master().to_owned())],
        host: None,
        inside: false,
    }
}

fn write(staging: &dyn Staging, attempt: &str, name: &str, bytes: &[u8]) -> StagedFile {
    let mut writer = staging.create(attempt, name).expect("created");
    writer.write_all(bytes).expect("written");
    writer.finish().expect("finished")
}

fn names(client: &DfsClient, directory: &str) -> Vec<String> {
    let entries = client.list(directory).expect("listed");
    entries.map(|entry| entry.expect("an entry").path).collect()
}

#[test]
fn all_outputs_of_a_cluster_appear_at_once_and_belong_to_the_user() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client_as("ann");
    let root = cluster.client_as(&gristmill_dfs::file_system::Access::from_environment().user);
    root.make_directory("/home", true, 0o777).expect("made");
    root.set_mode("/home", 0o777).expect("set");
    client.create("/home/there/old", Default::default()).err().expect("no parents are made");
    client.make_directory("/home/there", true, 0o755).expect("made");
    client.create("/home/there/old", Default::default()).expect("created").finish().expect("finished");

    let identity = ann(&cluster);
    let uris = ["home/there", "home/not/yet/out"]
        .map(|path| Uri::parse(&format!("dfs://master.example:7070/{path}")).expect("a URI"));
    let job = JobId::random();
    let outputs =
        || SharedOutputs::new(&uris, job, Existing::Overwrite, Some(&identity)).expect("they are known");
    outputs().begin().expect("begun");
    let big = vec![b'x'; 3 << 20];
    let mut files = Vec::new();
    for (number, staging) in outputs().join().expect("joined").iter().enumerate() {
        files.push((number, write(&**staging, "s0-t00000-a0", "part-r-00000", &big)));
        files.push((number, write(&**staging, "s0-t00001-a2", "day=1/part-r-00001", b"one")));
        staging.create("s0-t00001-a2", "day=1/open").expect("created").write_all(b"lost").expect("written");
    }
    let zombies = outputs().join().expect("joined");
    let mut open = zombies[0].create("zombie", "part-r-00000").expect("created");
    open.write_all(&big).expect("written");
    // What is staged is there whoever dies.
    cluster.kill_master();
    cluster.start_master();
    outputs().begin().expect("it has begun before");
    let shown = ["/home/.gristmill", "/home/there"];
    assert!(names(&client, "/home").iter().all(|name| shown.iter().any(|shown| name.starts_with(shown))));

    outputs().publish(&files, b"{\"job\":1}").expect("published");
    cluster.kill_master();
    cluster.start_master();
    outputs().publish(&files, b"{\"job\":1}").expect("published before");
    outputs().abort().expect("nothing is left to abort");
    assert_eq!(names(&client, "/home"), ["/home/not", "/home/there"]);
    for output in ["/home/there", "/home/not/yet/out"] {
        let expected = [SUCCESS_FILE, "day=1", "part-r-00000"].map(|name| format!("{output}/{name}"));
        assert_eq!(names(&client, output), expected);
        assert_eq!(client.stat(&expected[2]).expect("there").bytes, big.len() as u64);
        assert_eq!(client.stat(&expected[0]).expect("there").owner, "ann");
    }
    // The zombie has a file that is nowhere, and gets no other.
    assert!(open.write_all(&big).and_then(|()| open.finish().map_err(std::io::Error::other)).is_err());
    assert!(matches!(zombies[0].create("zombie", "x").err(), Some(StageError::Create { .. })));
    assert!(matches!(zombies[1].create("late", "x").err(), Some(StageError::Create { .. })));
    assert_eq!(names(&client, "/home"), ["/home/not", "/home/there"]);
}

#[test]
fn an_aborted_job_leaves_nothing() {
    let cluster = Cluster::start(1);
    let identity = ann(&cluster);
    let root = cluster.client_as(&gristmill_dfs::file_system::Access::from_environment().user);
    root.make_directory("/home", true, 0o777).expect("made");
    root.set_mode("/home", 0o777).expect("set");
    let uri = [Uri::dfs(cluster.master(), "/home/a/out")];
    let outputs =
        SharedOutputs::new(&uri, JobId::random(), Existing::Refuse, Some(&identity)).expect("they are known");
    outputs.begin().expect("begun");
    let staging = outputs.join().expect("joined").remove(0);
    write(&*staging, "s0-t00000-a0", "part-r-00000", b"x");
    outputs.abort().expect("aborted");
    outputs.abort().expect("aborted before");
    assert!(names(&cluster.client(), "/home").is_empty());
}
