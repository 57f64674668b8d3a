//! The program itself, in the cluster: named by its content, so that it is sent once.

use super::{DriverError, DriverOptions};
use gristmill_dfs::Uri;
use gristmill_dfs::file_system::{Cause, CreateOptions, DeleteOptions, FileSystem};
use gristmill_proto::ids::JobId;
use gristmill_proto::job::{ClusterStatus, Program};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, Write};

/// Where programs are, in dfs://.
const PROGRAMS: &str = "/.gristmill/programs";
/// The program of this process, even if its file was replaced or removed since it started.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Read and written at once.
const COPY_BYTES: usize = 1 << 20;
/// Every worker reads the program at about the same time.
const COPIES_MAX: u32 = 3;

/// Sees to it that the cluster has this program.
pub(super) fn put(
    options: &DriverOptions,
    job: JobId,
    cluster: &ClusterStatus,
) -> Result<Program, DriverError> {
    let mut file = File::open(OWN_PROGRAM).map_err(DriverError::OwnProgram)?;
    let (sha256, bytes) = hash(&mut file)?;
    let path = format!("{PROGRAMS}/{}", hex(&sha256));
    let uri = Uri::dfs(&options.master, &path);
    let fs = uri.file_system()?;
    if !is_there(&*fs, &uri, bytes)? {
        upload(&*fs, options, job, &mut file, &uri, copies(cluster))?;
    }
    Ok(Program { sha256: sha256.to_vec().into(), bytes, path, name: options.program.clone() })
}

/// Once the job is known: the master removes programs that no job uses, and may have done so just before it knew of this
/// one.
pub(super) fn put_again(
    options: &DriverOptions,
    job: JobId,
    program: &Program,
    cluster: &ClusterStatus,
) -> Result<(), DriverError> {
    let uri = Uri::dfs(&options.master, &program.path);
    if is_there(&*uri.file_system()?, &uri, program.bytes)? {
        return Ok(());
    }
    put(options, job, cluster).map(drop)
}

fn is_there(fs: &dyn FileSystem, uri: &Uri, bytes: u64) -> Result<bool, DriverError> {
    match fs.stat(uri) {
        Ok(status) => Ok(status.is_file() && !status.under_construction && status.bytes == bytes),
        Err(error) if error.is_absence() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Under a name of its own first: whoever finds the program's name finds all of it.
fn upload(
    fs: &dyn FileSystem,
    options: &DriverOptions,
    job: JobId,
    file: &mut File,
    uri: &Uri,
    replication: u32,
) -> Result<(), DriverError> {
    let part = Uri::dfs(&options.master, super::job_file::directory(job)).join("program");
    let create = CreateOptions { overwrite: true, replication, ..CreateOptions::default() };
    let mut writer = fs.create(&part, &create)?;
    let failed = |source| DriverError::Write { uri: part.clone(), source };
    file.rewind().map_err(DriverError::OwnProgram)?;
    for_each_piece(file, |piece| writer.write_all(piece).map_err(failed))?;
    writer.finish()?;
    match fs.rename(&part, uri, false) {
        // Another driver was faster.
        Err(error) if matches!(error.cause, Cause::AlreadyExists) => {
            fs.delete(&part, DeleteOptions { recursive: false, skip_trash: true })?;
            Ok(())
        }
        renamed => Ok(renamed?),
    }
}

fn copies(cluster: &ClusterStatus) -> u32 {
    let live = cluster.workers.iter().filter(|worker| worker.role == "core" && worker.state == "live");
    (live.count() as u32).clamp(1, COPIES_MAX)
}

fn hash(file: &mut File) -> Result<([u8; 32], u64), DriverError> {
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    for_each_piece(file, |piece| {
        hasher.update(piece);
        bytes += piece.len() as u64;
        Ok(())
    })?;
    Ok((hasher.finalize().into(), bytes))
}

fn for_each_piece(
    file: &mut File,
    mut take: impl FnMut(&[u8]) -> Result<(), DriverError>,
) -> Result<(), DriverError> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match file.read(&mut buffer).map_err(DriverError::OwnProgram)? {
            0 => return Ok(()),
            bytes => take(&buffer[..bytes])?,
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("four bits");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_by_its_content() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"abc").expect("written");
        file.rewind().expect("rewound");
        let (sha256, bytes) = hash(&mut file).expect("read");
        // FIPS 180-2, appendix B.1.
        assert_eq!(hex(&sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(bytes, 3);
    }
}
