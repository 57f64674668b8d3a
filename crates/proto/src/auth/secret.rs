//! The cluster's secret.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use super::signature;

/// A secret must not be guessed from what was signed with it: 256 bits, if they are random.
const SECRET_BYTES_MIN: u64 = 32;
/// More is a wrong file.
const SECRET_BYTES_MAX: u64 = 4 << 10;
/// Mode bits that nobody but the owner may have.
const OTHERS: u32 = 0o077;

/// What all machines of a cluster know and nobody else does. Keys are derived from it, it signs nothing itself.
///
/// Secrets compare so that connections of one caller can be found again; what others send is never compared with one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret {
    bytes: Vec<u8>,
}

/// Why a file is no secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// It cannot be opened or read.
    #[error("cannot read the secret file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("the secret file {} is not a regular file", .path.display())]
    NotAFile {
        /// What it is instead.
        path: PathBuf,
    },
    /// Other users of the machine can read or change it.
    #[error(
        "the secret file {} has mode {mode:03o}: others than its owner have access to it (chmod 600 it)",
        .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too little to be a secret.
    #[error(
        "the secret file {} has {bytes} bytes (a last line feed not counted), of at least {SECRET_BYTES_MIN}: \
         make one with `head -c 32 /dev/urandom | base64`",
        .path.display()
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// So much that it must be another file.
    #[error("the secret file {} has more than {SECRET_BYTES_MAX} bytes", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// Reads it from a file that only its owner can read, of 32 bytes to 4 KiB. One line feed at its end is no part of it.
    pub fn read(path: &Path) -> Result<Secret, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        // Without waiting for a writer, should it be a pipe.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
        // Of the file that is open: the path may name another by now.
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(SecretError::NotAFile { path: path.to_owned() });
        }
        let mode = metadata.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(SecretError::TooLong { path: path.to_owned() });
        }
        let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let length = secret.len() as u64;
        Secret::from_bytes(secret).ok_or(SecretError::TooShort { path: path.to_owned(), bytes: length })
    }

    /// From 32 bytes to 4 KiB, else `None`.
    pub fn from_bytes(bytes: &[u8]) -> Option<Secret> {
        let fits = (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&(bytes.len() as u64));
        fits.then(|| Secret { bytes: bytes.to_vec() })
    }

    /// The key for one purpose. Labels are different and none begins another, so no two keys are ever the same.
    pub(super) fn derive(&self, label: &str, subject: &[u8]) -> [u8; 32] {
        signature::hmac(&self.bytes, &[label.as_bytes(), subject])
    }

    /// Whether `claimed` is the key for that purpose, in constant time.
    pub(super) fn is_derived(&self, label: &str, claimed: &[u8]) -> bool {
        signature::is_hmac(&self.bytes, &[label.as_bytes()], claimed)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    struct Place(tempfile::TempDir);

    impl Place {
        fn file(&self, content: &[u8], mode: u32) -> PathBuf {
            let path = self.0.path().join("secret");
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    fn place() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    #[test]
    fn one_line_feed_at_the_end_is_no_part_of_it() {
        let place = place();
        let secret = [b'k'; 40];
        let read = |content: &[u8]| Secret::read(&place.file(content, 0o600)).unwrap().bytes;
        assert_eq!(read(&secret), secret);
        assert_eq!(read(&[&secret[..], b"\n"].concat()), secret);
        assert_eq!(read(&[&secret[..], b"\n\n"].concat()), [&secret[..], b"\n"].concat());
        assert_eq!(Secret::read(&place.file(&secret, 0o400)).unwrap().bytes, secret);
    }

    #[test]
    fn a_file_that_others_can_read_is_no_secret() {
        let place = place();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644] {
            let path = place.file(&[b'k'; 40], mode);
            let error = Secret::read(&path).unwrap_err();
            assert!(matches!(&error, SecretError::Exposed { mode: found, .. } if *found == mode), "{error}");
            assert!(error.to_string().contains(&format!("{} has mode {mode:o}", path.display())), "{error}");
        }
    }

    #[test]
    fn it_has_a_sensible_length() {
        let place = place();
        for (content, bytes) in [(&b""[..], 0), (&[b'k'; 31], 31), (b"\n", 0)] {
            let error = Secret::read(&place.file(content, 0o600)).unwrap_err();
            assert!(matches!(error, SecretError::TooShort { bytes: found, .. } if found == bytes), "{error}");
        }
        let one_short = [&[b'k'; 31][..], b"\n"].concat();
        assert!(matches!(
            Secret::read(&place.file(&one_short, 0o600)),
            Err(SecretError::TooShort { bytes: 31, .. })
        ));
        assert!(Secret::read(&place.file(&[b'k'; 32], 0o600)).is_ok());
        assert!(Secret::read(&place.file(&[b'k'; 4096], 0o600)).is_ok());
        let too_long = Secret::read(&place.file(&[b'k'; 4097], 0o600));
        assert!(matches!(too_long, Err(SecretError::TooLong { .. })));
    }

    #[test]
    fn only_a_file_is_read() {
        let place = place();
        let missing = Secret::read(&place.0.path().join("missing")).unwrap_err();
        assert!(matches!(missing, SecretError::Read { .. }), "{missing}");
        let directory = Secret::read(place.0.path()).unwrap_err();
        assert!(matches!(directory, SecretError::NotAFile { .. }), "{directory}");
        let endless = Secret::read(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(endless, SecretError::NotAFile { .. }), "{endless}");
        let fifo = place.0.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        let pipe = Secret::read(&fifo).unwrap_err();
        assert!(matches!(pipe, SecretError::NotAFile { .. }), "{pipe}");
    }

    #[test]
    fn it_does_not_tell() {
        let secret = Secret::from_bytes(&[b'k'; 40]).unwrap();
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(redacted) Some(Secret(redacted))");
        assert!(Secret::from_bytes(&[b'k'; 31]).is_none());
    }
}
