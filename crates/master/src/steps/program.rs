//! Where the program of a step comes from: a file of this machine, or of any file system, from which it is copied.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_dfs::file_system::{Access, Credential, DfsIdentity, FsError};
use gristmill_dfs::{Uri, UriError};
use gristmill_proto::cluster::Step;
use sha2::{Digest, Sha256};

use super::StepsOptions;
use super::core::spec;

const COPY_BYTES: usize = 1 << 20;
/// A program that is longer is none.
const PROGRAM_BYTES_MAX: u64 = 4 << 30;
/// How long a program is waited for that is there and cannot be read: a master that has just started knows of no replica
/// before the workers have come back to it.
const UNREADABLE_MAX: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error("cannot fetch the program: {0}")]
    FileSystem(#[from] FsError),
    #[error("cannot read the program {uri}: {source}")]
    Read { uri: String, source: io::Error },
    #[error("cannot copy the program to {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the program {uri} is not what was submitted: it has another SHA-256")]
    Changed { uri: String },
    #[error("the program {uri} has {bytes} bytes, of at most {PROGRAM_BYTES_MAX}")]
    TooLong { uri: String, bytes: u64 },
}

/// The program of a step, as a file of this machine.
pub(super) fn fetch(options: &StepsOptions, step: &Step, directory: &Path) -> Result<PathBuf, ProgramError> {
    let spec = spec(step);
    let uri = Uri::parse(&spec.program)?;
    if uri.is_local() {
        return Ok(uri.path().to_owned());
    }
    let name = if spec.program_name.is_empty() { "program" } else { &spec.program_name };
    let path = directory.join("program").join(name);
    let started = Instant::now();
    let mut is_said = false;
    let sha256 = loop {
        match write(options, step, &uri, &path) {
            Err(error @ ProgramError::Read { .. }) if started.elapsed() < UNREADABLE_MAX => {
                if !is_said {
                    tracing::warn!(%error, "tries to read it again for {} s", UNREADABLE_MAX.as_secs());
                    is_said = true;
                }
                thread::sleep(PAUSE);
            }
            written => break written?,
        }
    };
    if !spec.sha256.is_empty() && spec.sha256 != sha256.as_slice() {
        return Err(ProgramError::Changed { uri: spec.program.clone() });
    }
    Ok(path)
}

/// Writes the program to a file of this machine; returns its SHA-256.
fn write(options: &StepsOptions, step: &Step, uri: &Uri, path: &Path) -> Result<[u8; 32], ProgramError> {
    let written = |source| ProgramError::Write { path: path.to_owned(), source };
    // A former try's: it may be in use by nothing any more, but never is it written over.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(written(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o700).open(path).map_err(written)?;
    copy(options, step, uri, &mut |piece| file.write_all(piece).map_err(written))
}

/// Hands out the program piece by piece; returns its SHA-256.
fn copy(
    options: &StepsOptions,
    step: &Step,
    uri: &Uri,
    take: &mut dyn FnMut(&[u8]) -> Result<(), ProgramError>,
) -> Result<[u8; 32], ProgramError> {
    let file_system = access(options, &step.user).file_system(uri)?;
    let bytes = file_system.stat(uri)?.bytes;
    if bytes > PROGRAM_BYTES_MAX {
        return Err(ProgramError::TooLong { uri: uri.to_string(), bytes });
    }
    let source = file_system.open(uri)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let read = source.read_at(&mut buffer, offset);
        let read = read.map_err(|source| ProgramError::Read { uri: uri.to_string(), source })?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..read]);
        take(&buffer[..read])?;
        offset += read as u64;
    }
}

/// File systems as a user of this cluster has them.
pub(super) fn access(options: &StepsOptions, user: &str) -> Access {
    let own = &options.own_address;
    Access::of(DfsIdentity {
        user: user.to_owned(),
        groups: Vec::new(),
        credential: options.secret.clone().map_or(Credential::None, Credential::Secret),
        aliases: vec![(own.clone(), own.clone())],
        host: None,
        inside: true,
    })
}
