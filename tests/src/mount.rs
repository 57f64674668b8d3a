//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory; unmounted when dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of 1 MiB at the empty directory `path`; or, where this process may not mount, says so and why.
    pub fn mount(path: &Path) -> Result<Self, String> {
        Self::of_mib(path, 1)
    }

    /// The same, with `mib` MiB.
    pub fn of_mib(path: &Path, mib: u64) -> Result<Self, String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "gristmill-test"]).arg(path);
        let mounted = mount.output().map_err(|error| format!("mount cannot be run: {error}"))?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned());
        }
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.path.display());
        }
    }
}
