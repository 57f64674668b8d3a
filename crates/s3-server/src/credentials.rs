//! The one key pair of a server: from the environment, or made at the first start.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::digest::hex;

/// Where a user sets the access key,
pub(crate) const ACCESS_KEY_VARIABLE: &str = "GRISTMILL_S3_ACCESS_KEY_ID";
/// and the secret key. Those of AWS's own names are for clients, and may belong to somebody's account.
pub(crate) const SECRET_KEY_VARIABLE: &str = "GRISTMILL_S3_SECRET_ACCESS_KEY";
/// In the server's directory, as clients of AWS read such files.
pub(crate) const CREDENTIALS_FILE: &str = "credentials";
/// A shorter secret could be guessed.
const SECRET_KEY_CHARS_MIN: usize = 16;

/// A key pair.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Why there is no key pair.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// One without the other.
    #[error("{set} is set and {missing} is not: set both, or neither")]
    Half {
        /// The variable that is set.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Nothing that a signature could be made with.
    #[error(
        "the credentials of the server cannot be used: the access key has letters, digits, - and _, and the secret \
         key {SECRET_KEY_CHARS_MIN} visible characters or more"
    )]
    Unusable,
    /// Others could read the secret.
    #[error("cannot use {}: others may read it; make it its owner's alone (chmod 600)", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// Not what this program writes.
    #[error("cannot use {}: it has no key pair; without it a new one is made", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("cannot make a key pair: {0}")]
    Random(getrandom::Error),
}

impl Credentials {
    /// A key pair, if it is one.
    pub fn new(access_key: &str, secret_key: &str) -> Result<Credentials, CredentialError> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let names = !access_key.is_empty() && access_key.chars().all(is_name);
        let hides =
            secret_key.len() >= SECRET_KEY_CHARS_MIN && secret_key.chars().all(|c| c.is_ascii_graphic());
        if !names || !hides {
            return Err(CredentialError::Unusable);
        }
        Ok(Credentials { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() })
    }

    /// The key pair that the two variables have, if they are set.
    pub(crate) fn from_variables(
        access_key: Option<&str>,
        secret_key: Option<&str>,
    ) -> Result<Option<Credentials>, CredentialError> {
        let half = |set, missing| Err(CredentialError::Half { set, missing });
        match (access_key, secret_key) {
            (None, None) => Ok(None),
            (Some(access_key), Some(secret_key)) => Credentials::new(access_key, secret_key).map(Some),
            (Some(_), None) => half(ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE),
            (None, Some(_)) => half(SECRET_KEY_VARIABLE, ACCESS_KEY_VARIABLE),
        }
    }

    /// The key pair of a directory, made if there is none.
    pub(crate) fn of_directory(directory: &Path) -> Result<Credentials, CredentialError> {
        let path = directory.join(CREDENTIALS_FILE);
        let file_error = |source| CredentialError::File { path: path.clone(), source };
        let text = match fs::read_to_string(&path) {
            Err(source) if source.kind() == ErrorKind::NotFound => {
                return Credentials::make(directory, &path);
            }
            text => text.map_err(file_error)?,
        };
        if fs::metadata(&path).map_err(file_error)?.permissions().mode() & 0o077 != 0 {
            return Err(CredentialError::Open { path });
        }
        let value = |name: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
        };
        match (value("aws_access_key_id"), value("aws_secret_access_key")) {
            (Some(access_key), Some(secret_key)) => Credentials::new(access_key, secret_key),
            _ => Err(CredentialError::Damaged { path }),
        }
    }

    /// The file appears whole or not at all.
    fn make(directory: &Path, path: &Path) -> Result<Credentials, CredentialError> {
        let mut random = [0; 30];
        getrandom::fill(&mut random).map_err(CredentialError::Random)?;
        let (name, secret) = random.split_at(10);
        let access_key = format!("GM{}", hex(name).to_uppercase());
        let credentials = Credentials::new(&access_key, &hex(secret))?;
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            credentials.access_key, credentials.secret_key
        );
        let draft = directory.join("credentials.draft");
        let file_error = |source| CredentialError::File { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = options.open(&draft).map_err(file_error)?;
        file.write_all(text.as_bytes()).map_err(file_error)?;
        file.sync_all().map_err(file_error)?;
        fs::rename(&draft, path).map_err(file_error)?;
        Ok(credentials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gets_a_key_pair_once_and_keeps_it_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::of_directory(dir.path()).unwrap();
        let found = Credentials::of_directory(dir.path()).unwrap();
        assert_eq!((&made.access_key, &made.secret_key), (&found.access_key, &found.secret_key));
        assert!(!format!("{made:?}").contains(&made.secret_key));
        let path = dir.path().join(CREDENTIALS_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Credentials::of_directory(dir.path()), Err(CredentialError::Open { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "[default]\n").unwrap();
        assert!(matches!(Credentials::of_directory(dir.path()), Err(CredentialError::Damaged { .. })));
    }

    #[test]
    fn half_a_key_pair_is_none() {
        let secret = "s".repeat(SECRET_KEY_CHARS_MIN);
        assert!(Credentials::from_variables(None, None).unwrap().is_none());
        assert!(Credentials::from_variables(Some("me"), Some(&secret)).unwrap().is_some());
        let half = Credentials::from_variables(Some("me"), None).unwrap_err();
        assert!(half.to_string().contains(SECRET_KEY_VARIABLE));
        for (access_key, secret_key) in [("", secret.as_str()), ("a/b", &secret), ("me", "short"), ("me", "")]
        {
            assert!(Credentials::new(access_key, secret_key).is_err(), "{access_key:?}");
        }
    }
}
