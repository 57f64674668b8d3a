//! A process that was told as whom it reaches a cluster.

mod fakes;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use fakes::{BLOCK_BYTES, FakeCluster, content};
use gristmill_dfs::file_system::CreateOptions;
use gristmill_dfs::{Credential, DfsIdentity, Uri, assume, client_of, locality};
use gristmill_proto::auth::{Role, Secret};

#[test]
fn an_assumed_identity_counts_for_all_that_the_process_does() {
    let cluster = FakeCluster::start(2);
    let secret = Secret::from_bytes(b"a secret that is long enough: 32 bytes").unwrap();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let token = secret.caller_token(Role::Client, "namespace", now_ms);
    cluster.master.seen().secret = Some(secret);
    assume(DfsIdentity {
        user: "ann".to_owned(),
        groups: vec!["staff".to_owned()],
        credential: Credential::Token(token),
        aliases: vec![("master.example:7070".to_owned(), cluster.master.address())],
        host: Some("here".to_owned()),
        inside: true,
    });
    // The name by which the job's author knows the master leads nowhere from this machine.
    let file = Uri::parse("dfs://master.example:7070/d/f").unwrap();
    let bytes = content(2 * BLOCK_BYTES as usize + 7);
    let mut writer = file.file_system().unwrap().create(&file, &CreateOptions::default()).unwrap();
    writer.write_all(&bytes).unwrap();
    writer.finish().unwrap();
    let nameless = Uri::parse("dfs:///d/f").unwrap();
    assert_eq!(nameless.store().unwrap().open(&nameless).unwrap().bytes(), bytes.len() as u64);
    assert_eq!(nameless.file_system().unwrap().home().to_string(), "dfs:///user/ann");
    assert_eq!(client_of(&file).unwrap().id(), client_of(&nameless).unwrap().id(), "one connection");

    let ranges = [(0, BLOCK_BYTES), (BLOCK_BYTES, 2 * BLOCK_BYTES + 7), (5, 5)];
    let located = client_of(&file).unwrap().locate("/d/f", 0, u64::MAX, 1).unwrap();
    let first = located.blocks[0].replicas[0].worker;
    let held = locality(&file, &ranges).unwrap();
    assert_eq!((held.len(), held[0][0].0), (3, first));
    assert!(!held[1].is_empty() && held[2].is_empty());
    let here = Uri::local("/tmp");
    assert_eq!(locality(&here, &ranges).unwrap(), [vec![], vec![], vec![]]);
    assert!(client_of(&here).unwrap_err().to_string().contains("/tmp"));
}
