//! What a user writes to name a file, a directory or a set of files.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::file_system::{Access, FileSystem};
use crate::store::Store;

/// The environment variable that names the master of `dfs:///path`, as HOST:PORT.
pub const MASTER_VARIABLE: &str = "GRISTMILL_MASTER";

/// The name of a file, a directory or, as a glob, of many: a path of this machine, or of a file system that the
/// scheme and what follows it name.
///
/// ```text
/// logs/today  /logs/today  file:///logs/today     this machine
/// dfs://HOST:PORT/logs/today                      the cluster whose master is HOST:PORT
/// dfs:///logs/today                               the cluster whose master GRISTMILL_MASTER names
/// s3://BUCKET/logs/today                          objects of a bucket, at the endpoint that the environment names
/// memory://NAME/logs/today                        the store NAME in the memory of this process
/// ```
///
/// Its text is normalised (no `//`, no `/` at the end), so equal URIs are equal texts, and those of one file system
/// order by the bytes of the path. On this machine `.` and `..` stay as given: only the system knows where they
/// lead. Elsewhere there are no links, and they are resolved. The text after `://` is a path as it is; `%20` in it
/// is three characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uri {
    place: Place,
    path: OsString,
}

/// Which file system a URI is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// This machine's.
    Local,
    /// A store of this process.
    Memory {
        /// Its name.
        name: Arc<str>,
    },
    /// A bucket of S3, or of what speaks as S3 does. `/` parts the names of its objects into directories.
    S3 {
        /// Its name.
        bucket: Arc<str>,
    },
    /// A cluster's.
    Dfs {
        /// HOST:PORT of its master; none if the environment is to say.
        master: Option<Arc<str>>,
    },
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
    /// What follows `dfs://` is neither HOST:PORT nor nothing.
    #[error("cannot use {uri}: a DFS URI is dfs://HOST:PORT/path or dfs:///path")]
    DfsMaster {
        /// What was given.
        uri: String,
    },
    /// `memory:///path`.
    #[error("cannot use {uri}: a memory URI is memory://NAME/path")]
    MemoryName {
        /// What was given.
        uri: String,
    },
    /// `dfs:///path` where the environment names no master.
    #[error("cannot use {uri}: it names no master (dfs://HOST:PORT/path), and GRISTMILL_MASTER is not set")]
    NoMaster {
        /// What was given.
        uri: String,
    },
    /// GRISTMILL_MASTER is no HOST:PORT.
    #[error("cannot use {uri}: GRISTMILL_MASTER is {master:?}, not HOST:PORT")]
    BadMaster {
        /// What was given.
        uri: String,
        /// What the environment says.
        master: String,
    },
    /// `s3:///path`, or what no bucket can be named.
    #[error(
        "cannot use {uri}: an S3 URI is s3://BUCKET/path, and a bucket has a name of 3 to 63 letters, digits, dots, \
         hyphens and underscores"
    )]
    S3Bucket {
        /// What was given.
        uri: String,
    },
    /// The environment says nothing with which a bucket can be reached.
    #[error("cannot use {uri}: {reason}")]
    S3Settings {
        /// What was given.
        uri: String,
        /// What is missing or wrong, and where.
        reason: String,
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
    /// Reads a plain path, relative or absolute, or a URI.
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
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match scheme.as_str() {
            "file" if rest.starts_with('/') => Ok(Uri::local(rest)),
            "file" => Err(UriError::FileHost { uri }),
            "dfs" if authority.is_empty() => Ok(Uri::of(Place::Dfs { master: None }, path)),
            "dfs" if is_host_and_port(authority) => Ok(Uri::dfs(authority, path)),
            "dfs" => Err(UriError::DfsMaster { uri }),
            "memory" if authority.is_empty() => Err(UriError::MemoryName { uri }),
            "memory" => Ok(Uri::of(Place::Memory { name: Arc::from(authority) }, path)),
            "s3" | "s3a" if is_bucket(authority) => {
                Ok(Uri::of(Place::S3 { bucket: Arc::from(authority) }, path))
            }
            "s3" | "s3a" => Err(UriError::S3Bucket { uri }),
            _ => Err(UriError::UnknownScheme { uri, scheme }),
        }
    }

    /// A path of this machine, as the system gave it: nothing in it is taken for a scheme. An empty path is `.`.
    pub fn local(path: impl AsRef<Path>) -> Uri {
        Uri::of(Place::Local, path.as_ref())
    }

    /// A path of the cluster whose master is `master`, HOST:PORT.
    pub fn dfs(master: &str, path: impl AsRef<Path>) -> Uri {
        Uri::of(Place::Dfs { master: Some(Arc::from(master)) }, path)
    }

    /// `path` on the file system `place`. Outside this machine, a path is absolute whether it says so or not.
    pub fn of(place: Place, path: impl AsRef<Path>) -> Uri {
        let bytes = path.as_ref().as_os_str().as_bytes();
        let path = if place == Place::Local { normalise(bytes) } else { normalise_without_links(bytes) };
        Uri { place, path: OsString::from_vec(path) }
    }

    /// The file system.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether it is a path of this machine.
    pub fn is_local(&self) -> bool {
        self.place == Place::Local
    }

    /// The path on its file system. Only if [`Uri::is_local`] does it mean anything to the system.
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
    pub fn join(&self, below: impl AsRef<OsStr>) -> Uri {
        let mut path = self.path.clone();
        path.push("/");
        path.push(below);
        Uri::of(self.place.clone(), path)
    }

    /// The directory that holds this one by its name; of a bare name, `.`; of the root, `.` and `..`, none.
    pub fn parent(&self) -> Option<Uri> {
        if matches!(self.name().as_bytes(), b"" | b"." | b"..") {
            return None;
        }
        let above = self.path().parent()?;
        Some(Uri {
            place: self.place.clone(),
            path: OsString::from_vec(normalise(above.as_os_str().as_bytes())),
        })
    }

    /// Whether this is `outer` or below it, going by the names alone.
    pub fn is_within(&self, outer: &Uri) -> bool {
        self.place == outer.place && self.path().starts_with(outer.path())
    }

    /// The store that holds what this names.
    pub fn store(&self) -> Result<Arc<dyn Store>, UriError> {
        Access::from_environment().store(self)
    }

    /// The file system of what this names, as the environment says who is asking.
    pub fn file_system(&self) -> Result<Arc<dyn FileSystem>, UriError> {
        Access::from_environment().file_system(self)
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
        match &self.place {
            Place::Local => {}
            Place::Memory { name } => write!(f, "memory://{name}")?,
            Place::S3 { bucket } => write!(f, "s3://{bucket}")?,
            Place::Dfs { master } => write!(f, "dfs://{}", master.as_deref().unwrap_or_default())?,
        }
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

/// Whether `text` names a listener: a host without spaces or `@`, and a port that is not 0.
pub fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |each: char| each.is_alphanumeric() || "-._:[]%".contains(each);
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let digits = port.bytes().all(|each| each.is_ascii_digit());
    !host.is_empty()
        && host.chars().all(plain)
        && (bracketed || !host.contains([':', '[', ']', '%']))
        && digits
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Whether a bucket can have this name. Old ones have more freedom than new ones.
fn is_bucket(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && text.bytes().all(|each| each.is_ascii_alphanumeric() || b"-._".contains(&each))
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

/// An absolute path without `.` and `..`; above the root is the root.
fn normalise_without_links(path: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(path.len() + 1);
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => kept.truncate(kept.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            name => {
                kept.push(b'/');
                kept.extend_from_slice(name);
            }
        }
    }
    if kept.is_empty() {
        kept.push(b'/');
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
            said("s3:///k"),
            "cannot use s3:///k: an S3 URI is s3://BUCKET/path, and a bucket has a name of 3 to 63 letters, digits, \
             dots, hyphens and underscores"
        );
        assert_eq!(said("gopher://x"), "cannot use gopher://x: unknown scheme gopher://");
    }

    #[test]
    fn buckets_are_told_from_unknown_schemes() {
        assert_eq!(shown("S3://logs/a//b/../c/"), "s3://logs/a/c");
        assert_eq!(shown("s3a://logs"), "s3://logs/");
        assert!(matches!(Uri::parse("s3://a/b"), Err(UriError::S3Bucket { .. })));
        assert!(matches!(Uri::parse("s3://user@host/b"), Err(UriError::S3Bucket { .. })));
        assert!(matches!(Uri::parse("hdfs://a"), Err(UriError::UnknownScheme { .. })));
    }

    #[test]
    fn other_file_systems_keep_their_name_and_resolve_dots() {
        assert_eq!(shown("dfs://host:7070//logs/./a/../b/"), "dfs://host:7070/logs/b");
        assert_eq!(shown("DFS://host:7070"), "dfs://host:7070/");
        assert_eq!(shown("dfs:///../../x"), "dfs:///x");
        assert_eq!(shown("dfs://[::1]:7070/x"), "dfs://[::1]:7070/x");
        assert_eq!(shown("memory://t/a/.."), "memory://t/");
        let uri = Uri::parse("memory://t/a b/c").unwrap();
        assert_eq!((uri.path(), uri.name().to_str()), (Path::new("/a b/c"), Some("c")));
        assert_eq!(uri.place(), &Place::Memory { name: Arc::from("t") });
        assert_eq!(uri.join("../d").to_string(), "memory://t/a b/d");
    }

    #[test]
    fn a_master_is_a_host_and_a_port() {
        for master in ["host", "host:", "host:0", "host:70000", ":7070", "a b:1", "u@h:1", "a:b:1", "h:+1"] {
            let text = format!("dfs://{master}/x");
            assert_eq!(Uri::parse(&text), Err(UriError::DfsMaster { uri: text.clone() }), "{text}");
        }
        let said = Uri::parse("memory:///x").unwrap_err().to_string();
        assert_eq!(said, "cannot use memory:///x: a memory URI is memory://NAME/path");
    }

    #[test]
    fn the_parent_is_the_directory_that_holds_the_name() {
        let parent = |text: &str| Uri::parse(text).unwrap().parent().map(|uri| uri.to_string());
        assert_eq!(parent("/a/b").as_deref(), Some("/a"));
        assert_eq!(parent("a").as_deref(), Some("."));
        assert_eq!(parent("dfs://h:1/a").as_deref(), Some("dfs://h:1/"));
        for none in ["/", ".", "a/..", "memory://t/"] {
            assert_eq!(parent(none), None, "{none}");
        }
    }

    #[test]
    fn within_means_the_same_file_system_and_whole_names() {
        let within =
            |inner: &str, outer: &str| Uri::parse(inner).unwrap().is_within(&Uri::parse(outer).unwrap());
        assert!(within("dfs://h:1/a/b", "dfs://h:1/a"));
        assert!(within("/a", "/a"));
        assert!(!within("/ab", "/a"));
        assert!(!within("/a/b", "dfs://h:1/a"));
        assert!(!within("memory://s/a", "memory://t/a"));
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
        fn a_printed_uri_parses_to_itself(
            text in "[a-c:./ é]{1,20}|/{0,3}file:/{0,4}[a-c/.]{0,9}|(dfs|memory|s3)://[a-c:12]{0,6}[a-c/.]{0,9}",
        ) {
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
