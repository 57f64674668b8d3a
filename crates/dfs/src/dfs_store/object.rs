//! Files as objects: locations, ETags, errors.

use std::time::{Duration, UNIX_EPOCH};

use gristmill_proto::namespace::Entry;
use gristmill_proto::namespace::failure::Kind;
use object_store::path::Path;
use object_store::{Attributes, Error, ObjectMeta, Result};

use super::DfsStore;
use crate::client::DfsError;

const STORE: &str = "dfs";

impl DfsStore {
    /// The location of a path below the root.
    pub(super) fn location_of(&self, path: &str) -> Result<Path> {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        Ok(Path::parse(below)?)
    }

    pub(super) fn meta_of(&self, entry: &Entry) -> Result<ObjectMeta> {
        Ok(ObjectMeta {
            location: self.location_of(&entry.path)?,
            last_modified: (UNIX_EPOCH + Duration::from_millis(entry.modified_ms)).into(),
            size: entry.bytes,
            e_tag: Some(e_tag(entry)),
            version: None,
        })
    }
}

/// Names the file and its content: rises with each change.
pub(super) fn e_tag(entry: &Entry) -> String {
    format!("{:x}-{:x}", entry.inode, entry.version)
}

/// Inode and version of an ETag.
pub(crate) fn parse_e_tag(e_tag: &str) -> Option<(u64, u64)> {
    let (inode, version) = e_tag.split_once('-')?;
    // Only what we would have written: a number has one form.
    let number =
        |text: &str| u64::from_str_radix(text, 16).ok().filter(|number| format!("{number:x}") == text);
    Some((number(inode)?, number(version)?))
}

/// A file has none.
pub(super) fn check_attributes(attributes: &Attributes) -> Result<()> {
    if attributes.is_empty() { Ok(()) } else { Err(not_implemented("attributes of objects")) }
}

pub(super) fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}

pub(super) fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

pub(super) fn not_found(location: &Path) -> Error {
    Error::NotFound { path: location.to_string(), source: "no object is there".into() }
}

/// An error about an object: a directory in its place is as good as nothing.
pub(super) fn about(location: &Path) -> impl Fn(DfsError) -> Error {
    let path = location.to_string();
    move |error| match error.kind() {
        Some(Kind::IsADirectory) => Error::NotFound { path: path.clone(), source: error.into() },
        _ => with_path(path.clone(), error),
    }
}

impl From<DfsError> for Error {
    fn from(error: DfsError) -> Error {
        let path = match &error {
            DfsError::Refused { path, .. } => path.clone(),
            _ => String::new(),
        };
        with_path(path, error)
    }
}

fn with_path(path: String, error: DfsError) -> Error {
    let kind = error.kind();
    let source = error.into();
    match kind {
        Some(Kind::NotFound) => Error::NotFound { path, source },
        Some(Kind::AlreadyExists) => Error::AlreadyExists { path, source },
        Some(Kind::Precondition) => Error::Precondition { path, source },
        Some(Kind::PermissionDenied) => Error::PermissionDenied { path, source },
        Some(Kind::Unauthenticated) => Error::Unauthenticated { path, source },
        _ => Error::Generic { store: STORE, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_e_tag_names_a_file_and_its_version() {
        let entry = Entry { inode: 255, version: 16, ..Entry::default() };
        assert_eq!(e_tag(&entry), "ff-10");
        assert_eq!(parse_e_tag("ff-10"), Some((255, 16)));
        for wrong in ["", "-", "ff", "ff-", "ff-xx", "invalid", "1-2-3", "+1-2", "01-2", "FF-1"] {
            assert_eq!(parse_e_tag(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn refusals_are_the_errors_of_stores() {
        let refused = |kind| DfsError::Refused { kind, path: "/a".to_owned(), detail: String::new() };
        let location = Path::from("b");
        assert!(
            matches!(about(&location)(refused(Kind::IsADirectory)), Error::NotFound { path, .. } if path == "b")
        );
        assert!(
            matches!(Error::from(refused(Kind::AlreadyExists)), Error::AlreadyExists { path, .. } if path == "/a")
        );
        assert!(matches!(Error::from(refused(Kind::QuotaSpace)), Error::Generic { .. }));
    }
}
