//! A master in a process of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gristmill_proto::auth::Secret;
use tempfile::TempDir;

/// Arguments of the master that this program is to be, a line each.
pub const MASTER_ARGUMENTS: &str = "GRISTMILL_TEST_MASTER_ARGUMENTS";

/// Nothing takes longer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A master, its directory, and what it is started with again. Dropped, it is killed.
pub struct Master {
    pub dir: TempDir,
    child: Option<Child>,
    secret: bool,
}

impl Master {
    /// Of a cluster without a secret.
    pub fn start() -> Master {
        Master::with(false)
    }

    /// Of a cluster with one.
    pub fn start_with_secret() -> Master {
        Master::with(true)
    }

    fn with(secret: bool) -> Master {
        let dir = tempfile::tempdir().unwrap();
        if secret {
            let file = dir.path().join("secret");
            fs::write(&file, [b's'; 32]).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut master = Master { dir, child: None, secret };
        master.begin();
        master
    }

    /// Starts it on its directory, and waits until it takes calls.
    pub fn begin(&mut self) {
        let mut child = self.spawn();
        let started = Instant::now();
        while fs::metadata(self.data_dir().join("address")).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the master ended");
            assert!(started.elapsed() < PATIENCE, "the master does not start");
            std::thread::yield_now();
        }
        self.child = Some(child);
    }

    fn spawn(&self) -> Child {
        let data_dir = self.data_dir();
        for stale in ["address", "http-address"] {
            if let Err(error) = fs::remove_file(data_dir.join(stale)) {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            }
        }
        let mut arguments = vec!["--listen=127.0.0.1:0".to_owned(), "--http=127.0.0.1:0".to_owned()];
        arguments.push(format!("--data-dir={}", data_dir.display()));
        arguments.extend(["--heartbeat-interval-ms=100", "--worker-lost-ms=3000"].map(str::to_owned));
        if self.secret {
            arguments.push(format!("--secret-file={}", self.dir.path().join("secret").display()));
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "be_a_master", "--nocapture"]);
        command.env(MASTER_ARGUMENTS, arguments.join("\n")).env("GRISTMILL_USER", "root");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Ends it without a goodbye.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Without a goodbye, and up again.
    pub fn restart(&mut self) {
        self.kill();
        self.begin();
    }

    /// Tries to start it, and returns what it says when it does not.
    pub fn refusal(&mut self) -> String {
        self.kill();
        let output = self.spawn().wait_with_output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("master")
    }

    pub fn address(&self) -> String {
        read_line(&self.data_dir().join("address"))
    }

    pub fn http_address(&self) -> String {
        read_line(&self.data_dir().join("http-address"))
    }

    pub fn secret(&self) -> Option<Secret> {
        self.secret.then(|| Secret::from_bytes(&[b's'; 32]).unwrap())
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_line(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim_end().to_owned()
}
