//! A server that listens, and two clients of it: `object_store`, and one that speaks HTTP by hand.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of it")]

pub mod raw;

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use gristmill_s3_server::{Credentials, S3Server};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use raw::Client;

pub const ACCESS_KEY: &str = "tester";
pub const SECRET_KEY: &str = "the-secret-of-the-tests";

/// The program of another server, to see what strangers think of these tests: moto's `moto_server`. It is started as
/// `PROGRAM -H 127.0.0.1 -p PORT`. What then fails is moto's to mend, or a misunderstanding of ours: whoever looks decides.
pub const OTHER_SERVER: &str = "GRISTMILL_TESTS_S3_SERVER";

/// A server on threads of its own, or the other one. It ends, well, when it is dropped.
pub struct Running {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    other: Option<Child>,
}

impl Running {
    /// Serves a directory.
    pub fn start(directory: &Path) -> Running {
        match std::env::var_os(OTHER_SERVER) {
            Some(program) => Running::of_strangers(&program),
            None => Running::own(directory),
        }
    }

    fn of_strangers(program: &OsStr) -> Running {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(address).is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "it ends before it listens");
            std::thread::yield_now();
        }
        Running { address, stop: None, thread: None, other: Some(child) }
    }

    fn own(directory: &Path) -> Running {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY).unwrap();
        let server = S3Server::open(directory, credentials).unwrap();
        let (announce, announced) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                announce.send(listener.local_addr().unwrap()).unwrap();
                let stop = async { stopped.await.unwrap_or_default() };
                server.serve(listener, stop).await.unwrap();
            });
        });
        let address = announced.recv().unwrap();
        Running { address, stop: Some(stop), thread: Some(thread), other: None }
    }

    /// Serves a directory, in which the bucket is made.
    pub fn with_bucket(directory: &Path, bucket: &str) -> Running {
        let running = Running::start(directory);
        running.client().put(&format!("/{bucket}"), b"").ok();
        running
    }

    pub fn client(&self) -> Client {
        Client::new(self.address, ACCESS_KEY, SECRET_KEY)
    }

    /// What `object_store` needs to know; a test may add to it.
    pub fn builder(&self, bucket: &str) -> AmazonS3Builder {
        builder(self.address, bucket, ACCESS_KEY, SECRET_KEY)
    }

    pub fn store(&self, bucket: &str) -> AmazonS3 {
        self.builder(bucket).build().unwrap()
    }
}

pub fn builder(address: SocketAddr, bucket: &str, access_key: &str, secret_key: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(bucket)
        .with_access_key_id(access_key)
        .with_secret_access_key(secret_key)
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(mut other) = self.other.take() {
            other.kill().unwrap();
            other.wait().unwrap();
            return;
        }
        let ended = self.thread.take().expect("it runs").join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}
