//! What a user writes to name a file, a directory or a set of files.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::local::LocalStore;
use crate::store::Store;

/// Schemes that Gristmill will read and write, but not yet.
const PLANNED_SCHEMES: [&str; 3] = ["dfs", "s3", "memory"];

/// The name of a file, a directory or, as a glob, of many: today always a path of this machine.
///
/// Its text is normalised (no `//`, no `/` at the end), so equal URIs are equal texts, and it orders by the
/// bytes of the path. `.` and `..` stay as given: only the file system knows where they lead. The text after
/// `file://` is a path as it is; `%20` in it is three characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uri {
    path: OsString,
}

/// Why a text is no URI that Gristmill can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Nothing was given.
    #[error("cannot use an empty path")]
    Empty,
    /// No file system can hold such a name.
    #[error("cannot use {uri:?}: it has a NUL character")]
    Nul {
        /// What was given.
        uri: String,
    },
    /// `file://host/path`: another machine's files.
    #[error("cannot use {uri}: a file URI is file:///absolute/path, without a host")]
    FileHost {
        /// What was given.
        uri: String,
    },
    /// A scheme of Gristmill's that this build cannot read or write.
    #[error("cannot use {uri}: {scheme}:// is not supported yet, only paths and file:// are")]
    UnsupportedScheme {
        /// What was given.
        uri: String,
        /// The part before `://`.
        scheme: String,
    },
    /// A scheme that Gristmill does not know.
    #[error("cannot use {uri}: unknown scheme {scheme}://")]
    UnknownScheme {
        /// What was given.
        uri: String,
        /// The part before `://`.
        scheme: String,
    },
}

impl Uri {
    /// Reads a plain path, relative or absolute, or `file:///absolute/path`.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        if text.is_empty() {
            return Err(UriError::Empty);
        }
        if text.contains('\0') {
            return Err(UriError::Nul { uri: text.to_owned() });
        }
        match split_scheme(text) {
            None => Ok(Uri::local(text)),
            Some((scheme, rest)) => Uri::with_scheme(text, scheme.to_ascii_lowercase(), rest),
        }
    }

    fn with_scheme(text: &str, scheme: String, rest: &str) -> Result<Uri, UriError> {
        let uri = text.to_owned();
        match scheme.as_str() {
            "file" if rest.starts_with('/') => Ok(Uri::local(rest)),
            "file" => Err(UriError::FileHost { uri }),
            planned if PLANNED_SCHEMES.contains(&planned) => Err(UriError::UnsupportedScheme { uri, scheme }),
            _ => Err(UriError::UnknownScheme { uri, scheme }),
        }
    }

    /// A path of this machine, as the system gave it: nothing in it is taken for a scheme. An empty path is `.`.
    pub fn local(path: impl AsRef<Path>) -> Uri {
        Uri { path: OsString::from_vec(normalise(path.as_ref().as_os_str().as_bytes())) }
    }

    /// The path on this machine.
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The last part: what follows the last `/`. Empty for the root.
    pub fn name(&self) -> &OsStr {
        let bytes = self.path.as_bytes();
        let start = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        OsStr::from_bytes(&bytes[start..])
    }

    /// The URI of `below`, a relative name with any number of parts, below this one.
    pub fn join(&self, below: &str) -> Uri {
        let mut path = self.path.clone();
        path.push("/");
        path.push(below);
        Uri::local(path)
    }

    /// The store that holds what this names.
    pub fn store(&self) -> Result<Arc<dyn Store>, UriError> {
        Ok(Arc::new(LocalStore))
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        Uri::parse(text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// The scheme and what follows `://`, if the text starts with a scheme as RFC 3986 spells one.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let spelled = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|each| each.is_ascii_alphanumeric() || "+-.".contains(each));
    spelled.then_some((scheme, rest))
}

fn normalise(path: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || kept.last() != Some(&b'/') {
            kept.push(byte);
        }
    }
    if kept.len() > 1 && kept.last() == Some(&b'/') {
        kept.pop();
    }
    if kept.is_empty() {
        kept.push(b'.');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        Uri::parse(text).unwrap().to_string()
    }

    #[test]
    fn paths_print_as_they_were_given_but_for_needless_slashes() {
        assert_eq!(shown("logs/today"), "logs/today");
        assert_eq!(shown("/logs//today/"), "/logs/today");
        assert_eq!(shown("///"), "/");
        assert_eq!(shown("./a/../b/."), "./a/../b/.");
        assert_eq!(shown("file:///logs//today/"), "/logs/today");
        assert_eq!(shown("FILE:///logs"), "/logs");
    }

    #[test]
    fn a_path_may_look_a_little_like_a_uri() {
        assert_eq!(shown("./s3://bucket"), "./s3:/bucket");
        assert_eq!(shown("12:30/log"), "12:30/log");
        assert_eq!(shown("://"), ":/".trim_end_matches('/'));
    }

    #[test]
    fn what_cannot_be_used_says_why_in_one_sentence() {
        let said = |text: &str| Uri::parse(text).unwrap_err().to_string();
        assert_eq!(said(""), "cannot use an empty path");
        assert_eq!(said("a\0b"), r#"cannot use "a\0b": it has a NUL character"#);
        assert_eq!(
            said("file://host/x"),
            "cannot use file://host/x: a file URI is file:///absolute/path, without a host"
        );
        assert_eq!(
            said("s3://b/k"),
            "cannot use s3://b/k: s3:// is not supported yet, only paths and file:// are"
        );
        assert_eq!(said("gopher://x"), "cannot use gopher://x: unknown scheme gopher://");
    }

    #[test]
    fn schemes_to_come_are_told_from_unknown_ones() {
        for uri in ["dfs:///a", "S3://a/b", "memory://x"] {
            assert!(matches!(Uri::parse(uri), Err(UriError::UnsupportedScheme { .. })), "{uri}");
        }
        assert!(matches!(Uri::parse("hdfs://a"), Err(UriError::UnknownScheme { .. })));
    }

    #[test]
    fn the_name_is_the_last_part() {
        assert_eq!(Uri::local("/a/b.txt").name(), "b.txt");
        assert_eq!(Uri::local("b.txt").name(), "b.txt");
        assert_eq!(Uri::local("a/..").name(), "..");
        assert_eq!(Uri::local("/").name(), "");
    }

    #[test]
    fn join_goes_below_whatever_it_is_given() {
        assert_eq!(Uri::local("/a").join("b/c").to_string(), "/a/b/c");
        assert_eq!(Uri::local("/").join("b").to_string(), "/b");
        assert_eq!(Uri::local("a").join("/b").to_string(), "a/b");
        assert_eq!(Uri::local("a").join("").to_string(), "a");
    }

    #[test]
    fn uris_order_by_bytes_not_by_parts() {
        let mut uris = [Uri::local("a/b"), Uri::local("a-b"), Uri::local("a")];
        uris.sort();
        assert_eq!(uris, [Uri::local("a"), Uri::local("a-b"), Uri::local("a/b")]);
    }

    proptest! {
        #[test]
        fn a_printed_uri_parses_to_itself(text in "[a-c:./ é]{1,20}|/{0,3}file:/{0,4}[a-c/.]{0,9}") {
            if let Ok(uri) = Uri::parse(&text) {
                prop_assert_eq!(Uri::parse(&uri.to_string()), Ok(uri));
            }
        }

        #[test]
        fn normalising_keeps_what_the_system_would_see(path in "/{0,2}([ab.]{1,3}/{1,3}){0,5}") {
            let uri = Uri::local(&path);
            let text = uri.to_string();
            prop_assert!(!text.contains("//"));
            prop_assert!(text == "/" || !text.ends_with('/'));
            let given: &str = if path.is_empty() { "." } else { &path };
            prop_assert_eq!(uri.path(), Path::new(given));
        }
    }
}
