//! The VERSION file of a volume: what it is, and whose.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gristmill_proto::ids::{ClusterId, VolumeId, WorkerId};

use super::error::DiskError;
use super::{Identity, StoreOpenError};

/// Version of the layout of a volume.
pub(super) const LAYOUT_VERSION: u32 = 1;
/// A VERSION file is some hundred bytes; more is none of ours.
const VERSION_BYTES_MAX: u64 = 4096;

/// What a VERSION file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) volume: VolumeId,
    /// None until the worker has joined a cluster.
    pub(super) identity: Option<Identity>,
}

impl Version {
    /// Reads the file in `root`; None if there is none.
    pub(super) fn read(root: &Path) -> Result<Option<Version>, StoreOpenError> {
        let path = path_in(root);
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DiskError { what: "stat", path, source }.into()),
        };
        if bytes > VERSION_BYTES_MAX {
            return Err(StoreOpenError::BadVersion { path, line: 1 });
        }
        let text = fs::read(&path).map_err(DiskError::on("read", &path))?;
        Version::parse(&String::from_utf8_lossy(&text), &path).map(Some)
    }

    /// Writes the file: the old one or the new one is there, whole, whatever happens.
    pub(super) fn write(&self, root: &Path) -> Result<(), DiskError> {
        let (path, new) = (path_in(root), root.join("VERSION.new"));
        let mut file = File::create(&new).map_err(DiskError::on("create", &new))?;
        file.write_all(self.text().as_bytes()).map_err(DiskError::on("write", &new))?;
        file.sync_all().map_err(DiskError::on("sync", &new))?;
        fs::rename(&new, &path).map_err(DiskError::on("rename to", &path))?;
        sync_directory(root)
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("gristmill-volume {LAYOUT_VERSION}\nvolume {}\n", self.volume);
        if let Some(Identity { cluster, worker }) = self.identity {
            text.push_str(&format!("cluster {cluster}\nworker {}\n", worker.0));
        }
        text
    }

    pub(super) fn parse(text: &str, path: &Path) -> Result<Version, StoreOpenError> {
        let bad = |line| StoreOpenError::BadVersion { path: path.to_owned(), line };
        let mut lines = text.lines();
        let mut value = |number: usize, name: &str| {
            let line = lines.next()?;
            Some(line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(|| bad(number)))
        };
        let version = value(1, "gristmill-volume").ok_or_else(|| bad(1))??;
        let version: u32 = version.parse().map_err(|_| bad(1))?;
        if version != LAYOUT_VERSION {
            return Err(StoreOpenError::OtherVersion { path: path.to_owned(), version });
        }
        let volume = value(2, "volume").ok_or_else(|| bad(2))??;
        let volume = VolumeId::from_text(volume).ok_or_else(|| bad(2))?;
        let identity = match value(3, "cluster") {
            None => None,
            Some(cluster) => {
                let cluster = ClusterId::from_text(cluster?).ok_or_else(|| bad(3))?;
                let worker = value(4, "worker").ok_or_else(|| bad(4))??.parse().map_err(|_| bad(4))?;
                Some(Identity { cluster, worker: WorkerId(worker) })
            }
        };
        let read = Version { volume, identity };
        // Only what we would have written: no more lines, no other way to write a number.
        if read.text() == text { Ok(read) } else { Err(bad(text.lines().count())) }
    }
}

/// Makes what happened to the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), DiskError> {
    let directory = File::open(path).map_err(DiskError::on("open", path))?;
    directory.sync_all().map_err(DiskError::on("sync", path))
}

fn path_in(root: &Path) -> PathBuf {
    root.join("VERSION")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Version, StoreOpenError> {
        Version::parse(text, Path::new("/v/VERSION"))
    }

    fn some() -> Version {
        let identity = Identity { cluster: ClusterId([2; 16]), worker: WorkerId(3) };
        Version { volume: VolumeId([1; 16]), identity: Some(identity) }
    }

    #[test]
    fn it_is_what_the_formats_say() {
        let text = "gristmill-volume 1\nvolume 01010101-0101-0101-0101-010101010101\n\
                    cluster 02020202-0202-0202-0202-020202020202\nworker 3\n";
        assert_eq!(some().text(), text);
        assert_eq!(parse(text).unwrap(), some());
        let young = Version { identity: None, ..some() };
        assert_eq!(parse(&young.text()).unwrap(), young);
    }

    #[test]
    fn a_later_layout_is_refused_by_name() {
        let later = some().text().replacen('1', "2", 1);
        assert_eq!(
            parse(&later).unwrap_err().to_string(),
            "/v/VERSION: the volume has layout 2, this build knows 1"
        );
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_refused_or_means_what_it_says(at in 0..120_usize, byte: u8, cut in 0..120_usize) {
            let mut damaged = some().text().into_bytes();
            let last = damaged.len() - 1;
            damaged[at.min(last)] = byte;
            let damaged = String::from_utf8_lossy(&damaged).into_owned();
            if let Ok(version) = parse(&damaged) {
                prop_assert_eq!(version.text(), damaged);
            }
            let text = some().text();
            if let Ok(version) = parse(&text[..cut.min(last)]) {
                prop_assert_eq!(version.identity, None);
            }
        }
    }
}
