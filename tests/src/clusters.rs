//! Clusters that are made by the command, in a place of their own.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::processes::processes_of;
use crate::program::Program;

/// A place for clusters that are made by the command. They end with it, so that a failed story leaves nothing running.
pub struct Clusters {
    dir: TempDir,
}

impl Default for Clusters {
    fn default() -> Clusters {
        Clusters { dir: tempfile::tempdir().expect("a directory") }
    }
}

impl Drop for Clusters {
    fn drop(&mut self) {
        let listed = self.command(&["list", "--json"]).run().stdout;
        for line in listed.lines() {
            let cluster: Value = serde_json::from_str(line).expect("JSON");
            self.command(&["terminate", "--force", cluster["name"].as_str().expect("a name")]).run();
        }
    }
}

impl Clusters {
    /// Something in the place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `gristmill cluster`, which knows these clusters only.
    pub fn command(&self, args: &[&str]) -> Program {
        Program::gristmill().env("XDG_STATE_HOME", self.path("state")).arg("cluster").args(args)
    }

    /// Makes one, as JSON.
    pub fn create(&self, args: &[&str]) -> Value {
        let made = self.command(&["create", "--json"]).args(args).run().succeeded();
        serde_json::from_str(&made.stdout).expect("JSON")
    }

    /// No file, no process, and nobody listens.
    #[track_caller]
    pub fn is_empty(&self, addresses: &[String]) {
        assert_eq!(processes_of(&self.path("state")), Vec::<String>::new(), "processes are left");
        let clusters = self.path("state/gristmill/clusters");
        assert_eq!(fs::read_dir(clusters).map_or(0, Iterator::count), 0, "files are left");
        for address in addresses {
            assert!(TcpStream::connect(address).is_err(), "{address} is open");
        }
    }
}
