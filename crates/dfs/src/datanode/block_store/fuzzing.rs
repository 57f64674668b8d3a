//! What is on the disks of a worker, for the fuzz targets: decoded and, where it is small, encoded again.

use std::fs::File;
use std::path::{Path, PathBuf};

use gristmill_proto::ids::{BlockId, Generation};

use super::error::{Fault, StoreOpenError, Trouble};
use super::names::Name;
use super::recovery;
use super::sum_file::{HEAD_BYTES, MARK_BYTES, Mark, SumFile, SumHead};
use super::version::Version;

/// The head of a checksum file.
pub fn sum_head(bytes: &[u8; HEAD_BYTES]) -> Result<[u8; HEAD_BYTES], Fault> {
    SumHead::decode(bytes).map(|head| head.encode())
}

/// A mark of the checksum file with this head; none if it does not belong to it.
pub fn mark(head: &[u8; HEAD_BYTES], bytes: &[u8; MARK_BYTES]) -> Result<Option<[u8; MARK_BYTES]>, Fault> {
    let head = SumHead::decode(head)?;
    Ok(Mark::decode(bytes, &head).map(|mark| mark.encode(&head)))
}

/// The name of a file in a directory of blocks, if it is one of a replica.
pub fn replica_name(text: &str) -> Option<String> {
    match Name::parse(text) {
        Name::Data(block) => Some(block.0.to_string()),
        Name::Sums(block, name) => Some(name.text(block)),
        Name::Temporary | Name::Strange => None,
    }
}

/// A VERSION file.
pub fn version(text: &str) -> Result<String, StoreOpenError> {
    Version::parse(text, Path::new("VERSION")).map(|version| version.text())
}

/// How many bytes of an unfinished replica are proved good by its checksum file, when a store is opened; or what is
/// wrong with that file.
pub fn good_bytes(
    block: BlockId,
    generation: Generation,
    data: &File,
    sums: File,
) -> Result<u64, (PathBuf, Fault)> {
    let sums = SumFile::adopt(sums, PathBuf::from("sums"), block, generation);
    let mark = sums.and_then(|sums| recovery::good_bytes(data, Path::new("data"), &sums));
    mark.map(|mark| mark.bytes).map_err(|trouble| match trouble {
        Trouble::Fault { path, fault } => (path, fault),
        Trouble::Disk(error) => panic!("the disk of the fuzz target: {error}"),
    })
}
