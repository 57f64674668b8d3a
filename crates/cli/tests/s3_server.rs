//! The local S3 server as a process: started, refused, killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::signer::Signer;
use object_store::{MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;
const BUCKET: &str = "killed";

fn command(dir: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
    command.arg("s3-server").arg("--dir").arg(dir).args(["--listen", listen]);
    command.env_remove("GRISTMILL_S3_ACCESS_KEY_ID").env_remove("GRISTMILL_S3_SECRET_ACCESS_KEY");
    command.env_remove("GRISTMILL_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A server that has said where it listens.
struct Server {
    child: Child,
    address: SocketAddr,
    access_key: String,
    secret_key: String,
}

impl Server {
    fn start(dir: &Path) -> Server {
        let child = command(dir, "127.0.0.1:0").spawn().unwrap();
        let pid = child.id();
        let begun = Instant::now();
        // The file of a former life is removed before this one listens.
        let address = loop {
            let line = fs::read_to_string(dir.join("address")).unwrap_or_default();
            if let Ok(address) = line.trim().parse::<SocketAddr>()
                && std::net::TcpStream::connect(address).is_ok()
            {
                break address;
            }
            assert!(begun.elapsed() < PATIENCE, "process {pid} does not listen");
            std::thread::yield_now();
        };
        let text = fs::read_to_string(dir.join("credentials")).unwrap();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_once(" = ").unwrap().1.to_owned()
        };
        let (access_key, secret_key) = (value("aws_access_key_id"), value("aws_secret_access_key"));
        Server { child, address, access_key, secret_key }
    }

    fn store(&self) -> AmazonS3 {
        self.builder().with_bucket_name(BUCKET).build().unwrap()
    }

    fn builder(&self) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
    }

    /// Makes the bucket. `object_store` has no such call, but signs it: to it this is an object without a name.
    async fn make_bucket(&self) {
        let put = "PUT".parse().unwrap();
        let url = self.store().signed_url(put, &Key::from(""), PATIENCE).await.unwrap();
        let target = format!("{}?{}", url.path(), url.query().unwrap());
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        let host = self.address;
        write!(
            stream,
            "PUT {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as a user would; says what it has said.
    fn end(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_key_pair_is_its_owners_and_strangers_stay_out() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("s3");
    let open = refused(command(&dir, "0.0.0.0:0"));
    assert!(open.contains("without GRISTMILL_S3_ACCESS_KEY_ID and GRISTMILL_S3_SECRET_ACCESS_KEY"), "{open}");
    let mut half = command(&dir, "127.0.0.1:0");
    half.env("GRISTMILL_S3_ACCESS_KEY_ID", "me");
    assert!(refused(half).contains("GRISTMILL_S3_SECRET_ACCESS_KEY is not"));

    let server = Server::start(&dir);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join("credentials"))), (0o700, 0o600));
    let second = refused(command(&dir, "127.0.0.1:0"));
    assert!(second.contains("another server is running on it"), "{second}");
    let secret = server.secret_key.clone();
    let said = server.end();
    assert!(
        said.contains("laptops and tests") && said.contains("credentials") && !said.contains(&secret),
        "{said}"
    );
    assert!(!dir.join("address").exists());
}

/// The bytes of a version of a key, which nothing else has.
fn content(key: usize, version: usize) -> Vec<u8> {
    let line = format!("key {key} version {version}\n");
    // Small ones, some of a few buffers, and some that are uploaded in parts.
    let bytes = match key % 8 {
        0 => 6 * MIB + key,
        1 | 2 => 700_000 + key,
        _ => 100 + key,
    };
    line.bytes().cycle().take(bytes).collect()
}

fn key_of(key: usize) -> Key {
    Key::from(format!("k/{key:03}"))
}

async fn put(store: &AmazonS3, key: usize, version: usize) -> object_store::Result<()> {
    let body = content(key, version);
    if body.len() < 5 * MIB {
        return store.put(&key_of(key), body.into()).await.map(drop);
    }
    let mut upload = store.put_multipart(&key_of(key)).await?;
    let (first, second) = body.split_at(5 * MIB);
    upload.put_part(first.to_vec().into()).await?;
    upload.put_part(second.to_vec().into()).await?;
    upload.complete().await.map(drop)
}

/// The versions that were acknowledged, and of each key the one that was begun last.
#[derive(Default)]
struct Known {
    acknowledged: BTreeMap<usize, usize>,
    begun: BTreeMap<usize, usize>,
}

/// Writers put versions of their own keys, until the server dies in the middle of it.
async fn write_until_death(server: Server, known: &Arc<Mutex<Known>>, acknowledgements: usize) {
    const WRITERS: usize = 8;
    let store = Arc::new(server.store());
    let done = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, done, known) = (Arc::clone(&store), Arc::clone(&done), Arc::clone(known));
            tokio::spawn(async move {
                for turn in 0.. {
                    let key = writer + WRITERS * (turn % 3) + if turn % 5 == 0 { 64 } else { 0 };
                    let version = {
                        let mut known = known.lock().unwrap();
                        let version = known.begun.entry(key).or_default();
                        *version += 1;
                        *version
                    };
                    if put(&store, key, version).await.is_err() {
                        return;
                    }
                    known.lock().unwrap().acknowledged.insert(key, version);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let begun = Instant::now();
    while done.load(Ordering::Relaxed) < acknowledgements {
        assert!(begun.elapsed() < PATIENCE, "puts do not get on");
        tokio::task::yield_now().await;
    }
    server.kill();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// What was acknowledged is there, or what was begun after it; nothing is there in half.
async fn check(store: &AmazonS3, known: &Known) -> Vec<ObjectMeta> {
    let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    for (key, acknowledged) in &known.acknowledged {
        assert!(
            listed.iter().any(|meta| meta.location == key_of(*key)),
            "key {key}, {acknowledged}, is lost"
        );
    }
    for meta in &listed {
        let key: usize = meta.location.filename().unwrap().parse().unwrap();
        let body = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        assert_eq!(body.len() as u64, meta.size);
        let oldest = known.acknowledged.get(&key).copied().unwrap_or(1);
        let found = (oldest..=known.begun[&key]).find(|version| body == content(key, *version));
        assert!(found.is_some(), "key {key} has {} bytes of no version from {oldest} on", body.len());
    }
    listed
}

fn data_files(dir: &Path) -> usize {
    let shards = fs::read_dir(dir.join("objects")).unwrap();
    shards.map(|shard| fs::read_dir(shard.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_of_puts_has_all_it_acknowledged_and_nothing_in_half() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("s3");
    let server = Server::start(&dir);
    server.make_bucket().await;
    let known = Arc::new(Mutex::new(Known::default()));
    let mut server = server;
    for round in 0..6 {
        write_until_death(server, &known, 20 + round * 13).await;
        server = Server::start(&dir);
        let store = server.store();
        let seen = std::mem::take(&mut *known.lock().unwrap());
        check(&store, &seen).await;
        *known.lock().unwrap() = seen;
    }
    // What crashes have left is swept: the files are those of the objects and of open uploads.
    let store = server.store();
    let keys = store.list(None).map_ok(|meta| meta.location).boxed();
    store.delete_stream(keys).try_collect::<Vec<_>>().await.unwrap();
    let said = server.end();
    assert!(!said.contains("ERROR"), "{said}");
    let open_parts = data_files(&dir);
    assert!(open_parts <= 6 * 8 * 2, "{open_parts} files are left of parts");
    assert_eq!(fs::read_dir(dir.join("incoming")).unwrap().count(), 0);
}
