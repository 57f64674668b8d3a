//! The one reading of path names. Every path of every call goes through [`FsPath::parse`], and none of them is ever
//! the name of anything on a local disk.

use std::fmt;

use gristmill_proto::namespace::failure::Kind;

use super::CallError;
use super::refusal::refuse;

/// Bytes of one name (Hadoop: `dfs.namenode.fs-limits.max-component-length`).
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a whole path (Hadoop: `MAX_PATH_LENGTH`).
pub const PATH_BYTES_MAX: usize = 8000;
/// Names in a path (Hadoop: `MAX_PATH_DEPTH`).
pub const PATH_DEPTH_MAX: usize = 1000;

/// A well-formed absolute path: `/`, or `/` before each of its names. A name is 1 to 255 bytes of UTF-8 without `/`
/// and control characters, and neither `.` nor `..`. Names are compared by their bytes; there is no other folding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FsPath<'p>(&'p str);

impl<'p> FsPath<'p> {
    /// `/`.
    pub const ROOT: FsPath<'static> = FsPath("/");

    /// Reads a path. One `/` at its end is dropped; anything else that is not well-formed is refused as
    /// `INVALID_NAME`, and what is too long or too deep as `LIMIT`.
    pub fn parse(text: &'p str) -> Result<FsPath<'p>, CallError> {
        if text.len() > PATH_BYTES_MAX {
            let shown = &text[..text.floor_char_boundary(NAME_BYTES_MAX)];
            return Err(refuse(Kind::Limit, shown, format!("a path has at most {PATH_BYTES_MAX} bytes")));
        }
        let bad = |detail: String| refuse(Kind::InvalidName, text.escape_debug(), detail);
        let Some(names) = text.strip_prefix('/') else { return Err(bad("a path begins with /".to_owned())) };
        let names = names.strip_suffix('/').unwrap_or(names);
        if names.is_empty() {
            return if text.len() == 1 { Ok(FsPath::ROOT) } else { Err(bad("a name is empty".to_owned())) };
        }
        let mut depth = 0;
        for name in names.split('/') {
            check_name(name).map_err(|problem| refuse_name(text, problem))?;
            depth += 1;
        }
        if depth > PATH_DEPTH_MAX {
            return Err(refuse(Kind::Limit, text, format!("a path has at most {PATH_DEPTH_MAX} names")));
        }
        Ok(FsPath(&text[..=names.len()]))
    }

    /// A path put together from names that are in the tree. It may be longer than any that is asked for: a directory
    /// was moved with all below it.
    pub(super) fn of_tree(text: &'p str) -> FsPath<'p> {
        FsPath(text)
    }

    /// The path as text.
    pub fn as_str(self) -> &'p str {
        self.0
    }

    /// Whether it is `/`.
    pub fn is_root(self) -> bool {
        self.0 == "/"
    }

    /// Its names, from the top.
    pub fn names(self) -> impl DoubleEndedIterator<Item = &'p str> + Clone {
        self.0[1..].split('/').filter(|name| !name.is_empty())
    }

    /// The last name; nothing for `/`.
    pub fn name(self) -> &'p str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// What it is in; `/` for `/`.
    pub fn parent(self) -> FsPath<'p> {
        match self.0.rfind('/') {
            Some(slash) if slash > 0 => FsPath(&self.0[..slash]),
            _ => FsPath::ROOT,
        }
    }

    /// The path of its first `names` names.
    pub(super) fn prefix(self, names: usize) -> FsPath<'p> {
        if names == 0 {
            return FsPath::ROOT;
        }
        let slashes = self.0.bytes().enumerate().filter(|&(_, byte)| byte == b'/');
        let end = slashes.map(|(at, _)| at).nth(names).unwrap_or(self.0.len());
        FsPath(&self.0[..end])
    }

    /// Whether it is `other` or below it.
    pub fn is_at_or_below(self, other: FsPath) -> bool {
        other.is_root()
            || self.0.strip_prefix(other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for FsPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameProblem {
    Empty,
    Dots,
    Slash,
    Control,
    Long,
}

/// Whether this can be the name of an entry.
pub(super) fn check_name(name: &str) -> Result<(), NameProblem> {
    if name.is_empty() {
        return Err(NameProblem::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameProblem::Long);
    }
    if name == "." || name == ".." {
        return Err(NameProblem::Dots);
    }
    // Nearly all names are plain ASCII, and need no look at characters.
    if name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'/') {
        return Ok(());
    }
    match name.chars().find(|&c| c == '/' || c.is_control()) {
        None => Ok(()),
        Some('/') => Err(NameProblem::Slash),
        Some(_) => Err(NameProblem::Control),
    }
}

fn refuse_name(path: &str, problem: NameProblem) -> CallError {
    let detail = match problem {
        NameProblem::Empty => "a name is empty",
        NameProblem::Dots => "a name is . or ..",
        NameProblem::Slash => "a name has a /",
        NameProblem::Control => "a name has a control character",
        NameProblem::Long => "a name has more than 255 bytes",
    };
    let kind = if problem == NameProblem::Long { Kind::Limit } else { Kind::InvalidName };
    refuse(kind, path.escape_debug(), detail)
}

/// `directory` with one more name.
pub(super) fn join(directory: &str, name: &str) -> String {
    let mut path = String::with_capacity(directory.len() + 1 + name.len());
    path.push_str(if directory == "/" { "" } else { directory });
    path.push('/');
    path.push_str(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let path = FsPath::parse("/logs/2026/a b:ü").unwrap();
        assert_eq!(path.names().collect::<Vec<_>>(), ["logs", "2026", "a b:ü"]);
        assert_eq!((path.name(), path.parent().as_str()), ("a b:ü", "/logs/2026"));
        assert_eq!(FsPath::parse("/logs").unwrap().parent(), FsPath::ROOT);
        assert_eq!((FsPath::ROOT.name(), FsPath::ROOT.parent()), ("", FsPath::ROOT));
        assert_eq!(FsPath::ROOT.names().count(), 0);
        assert_eq!(FsPath::parse("/logs/").unwrap().as_str(), "/logs");
        let prefixes = [0, 1, 2, 3].map(|names| path.prefix(names).as_str());
        assert_eq!(prefixes, ["/", "/logs", "/logs/2026", "/logs/2026/a b:ü"]);
    }

    #[test]
    fn below_means_by_whole_names() {
        let path = |text| FsPath::parse(text).unwrap();
        assert!(path("/a/b").is_at_or_below(path("/a")) && path("/a").is_at_or_below(path("/a")));
        assert!(path("/a").is_at_or_below(FsPath::ROOT));
        assert!(!path("/ab").is_at_or_below(path("/a")) && !path("/a").is_at_or_below(path("/a/b")));
    }

    #[test]
    fn names_join_to_paths() {
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "b"), "/a/b");
    }
}
