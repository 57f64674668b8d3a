//! A pattern of names, followed one directory at a time.

mod name_pattern;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use name_pattern::NamePattern;

/// The characters that make a name a glob.
const SPECIAL: [char; 5] = ['*', '?', '[', '{', '\\'];

/// A month of days and hours is 744; beyond a few thousand, nested braces are a mistake, and would fill memory.
const ALTERNATIVES_MAX: usize = 4096;

/// No path is longer on any file system; a glob that is would be too deep for the stack of its reader.
const GLOB_BYTES_MAX: usize = 8 << 10;

/// The patterns that braces stand for, and those made on the way to them, have no more bytes together: thousands of
/// patterns of hundreds of bytes each would take seconds.
const EXPANDED_BYTES_MAX: usize = 1 << 20;

/// Different names with wildcards have no more bytes together. Parsed, a byte takes some forty.
const WILD_BYTES_MAX: usize = 64 << 10;

/// What is wrong with a glob.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// Unbalanced brackets or braces, or a bad range.
    #[error("{0}")]
    Glob(#[from] globset::Error),
    /// Its braces multiply to too many alternatives.
    #[error("its braces make more than {ALTERNATIVES_MAX} patterns")]
    TooManyAlternatives,
    /// No path is so long.
    #[error("it has {bytes} bytes, more than {GLOB_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Its braces make more text than is worth matching.
    #[error("its braces make patterns of more than {EXPANDED_BYTES_MAX} bytes together")]
    TooMuchText,
    /// It has more different wildcards than memory should hold.
    #[error("its different names with wildcards have more than {WILD_BYTES_MAX} bytes together")]
    TooManyWildcards,
    /// `..` below a wildcard: nobody lists that name.
    #[error("`..` cannot follow a wildcard")]
    ParentBelowWildcard,
    /// Globs are text.
    #[error("it is not UTF-8")]
    NotText,
}

/// Whether `glob` names `path`, which is below the directory from which the glob is followed; `None` if it is no glob.
pub fn glob_names(glob: &str, path: &str) -> Result<Option<bool>, PatternError> {
    let Some((_, pattern)) = Pattern::parse(Path::new(glob))? else { return Ok(None) };
    let enter = |cursor, name| pattern.enter(&cursor, OsStr::new(name));
    Ok(Some(path.split('/').fold(pattern.start(), enter).named))
}

/// What to read below one directory: all of it, or what a glob matches.
pub(crate) struct Pattern {
    alternatives: Vec<Vec<Part>>,
    /// Whether hidden names have to be spelled out.
    hides: bool,
}

/// One `/`-separated part of a glob.
enum Part {
    /// `**`: any number of directories, none of them hidden.
    Directories,
    Literal(OsString),
    Wild {
        pattern: Arc<NamePattern>,
        /// The hidden names it matches start with this, spelled out.
        first: Option<u8>,
    },
}

/// How far a path has come in matching a pattern.
#[derive(Clone, Default)]
pub(crate) struct Cursor {
    /// The path, or one above it, matches: it is named.
    pub(crate) named: bool,
    /// The parts to match next: alternative, index.
    next: Vec<(usize, usize)>,
}

impl Pattern {
    /// Everything that is not hidden.
    pub(crate) fn everything() -> Pattern {
        Pattern { alternatives: vec![Vec::new()], hides: true }
    }

    /// Reads a glob: the directory from which to follow it (empty for the current one), and what it says below.
    /// `None` if `path` has no wildcard.
    pub(crate) fn parse(path: &Path) -> Result<Option<(PathBuf, Pattern)>, PatternError> {
        let is_special = |byte: &u8| SPECIAL.contains(&char::from(*byte));
        if !path.as_os_str().as_bytes().iter().any(is_special) {
            return Ok(None);
        }
        let text = path.to_str().ok_or(PatternError::NotText)?;
        if text.len() > GLOB_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        let literal = text.split(SPECIAL).next().unwrap_or(text);
        let (base, below) = text.split_at(literal.rfind('/').map_or(0, |slash| slash + 1));
        let mut wilds = Wilds::default();
        let alternatives =
            expand_braces(below)?.iter().map(|each| parts(each, &mut wilds)).collect::<Result<_, _>>()?;
        Ok(Some((PathBuf::from(base), Pattern { alternatives, hides: true })))
    }

    /// The same pattern with wildcards that match hidden names as any other.
    pub(crate) fn with_hidden_names(self) -> Pattern {
        Pattern { hides: false, ..self }
    }

    /// The names that entries have to have one of to match, if these are known without looking.
    pub(crate) fn only_names(&self, cursor: &Cursor) -> Option<Vec<&OsStr>> {
        if cursor.named {
            return None;
        }
        let name = |&(alternative, index): &(usize, usize)| match &self.alternatives[alternative][index] {
            Part::Literal(name) => Some(name.as_os_str()),
            Part::Directories | Part::Wild { .. } => None,
        };
        let mut names = cursor.next.iter().map(name).collect::<Option<Vec<_>>>()?;
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    /// The cursor at the directory from which the pattern is followed.
    pub(crate) fn start(&self) -> Cursor {
        let mut cursor = Cursor::default();
        for alternative in 0..self.alternatives.len() {
            self.reach(&mut cursor, alternative, 0);
        }
        cursor
    }

    /// The cursor at the entry `name` of the directory at `from`.
    pub(crate) fn enter(&self, from: &Cursor, name: &OsStr) -> Cursor {
        let hidden = self.hides && is_hidden(name);
        let mut to = Cursor { named: from.named && !hidden, next: Vec::new() };
        for &(alternative, index) in &from.next {
            match &self.alternatives[alternative][index] {
                Part::Directories if !hidden => self.reach(&mut to, alternative, index),
                part if part.matches(name, hidden) => self.reach(&mut to, alternative, index + 1),
                _ => {}
            }
        }
        to
    }

    /// Whether directories below `cursor` are followed to any depth.
    pub(crate) fn is_endless(&self, cursor: &Cursor) -> bool {
        let at_directories =
            |&(alternative, index): &(usize, usize)| self.alternatives[alternative][index].is_directories();
        cursor.named || cursor.next.iter().any(at_directories)
    }

    fn reach(&self, cursor: &mut Cursor, alternative: usize, index: usize) {
        let Some(part) = self.alternatives[alternative].get(index) else {
            cursor.named = true;
            return;
        };
        if cursor.next.contains(&(alternative, index)) {
            return;
        }
        cursor.next.push((alternative, index));
        if part.is_directories() {
            self.reach(cursor, alternative, index + 1);
        }
    }
}

impl Cursor {
    /// Whether nothing here or below can match.
    pub(crate) fn is_astray(&self) -> bool {
        !self.named && self.next.is_empty()
    }
}

/// The names with wildcards of a glob, each parsed once: alternatives have most of them in common.
#[derive(Default)]
struct Wilds {
    parsed: HashMap<String, Arc<NamePattern>>,
    bytes: usize,
}

impl Wilds {
    fn parse(&mut self, text: &str) -> Result<Arc<NamePattern>, PatternError> {
        if let Some(pattern) = self.parsed.get(text) {
            return Ok(pattern.clone());
        }
        self.bytes += text.len();
        if self.bytes > WILD_BYTES_MAX {
            return Err(PatternError::TooManyWildcards);
        }
        let pattern = Arc::new(NamePattern::parse(text)?);
        self.parsed.insert(text.to_owned(), pattern.clone());
        Ok(pattern)
    }
}

impl Part {
    fn parse(text: &str, wilds: &mut Wilds) -> Result<Part, PatternError> {
        if text == "**" {
            return Ok(Part::Directories);
        }
        if !text.contains(SPECIAL) && !text.contains('}') {
            return Ok(Part::Literal(OsString::from(text)));
        }
        let first = text.strip_prefix('\\').unwrap_or(text).as_bytes().first().copied();
        Ok(Part::Wild { pattern: wilds.parse(text)?, first })
    }

    fn is_directories(&self) -> bool {
        matches!(self, Part::Directories)
    }

    fn matches(&self, name: &OsStr, hidden: bool) -> bool {
        match self {
            Part::Directories => false,
            Part::Literal(literal) => literal == name,
            Part::Wild { pattern, first } => {
                let name = name.as_bytes();
                (!hidden || name.first() == first.as_ref()) && pattern.is_match(name)
            }
        }
    }
}

/// Names that jobs do not read unless told to: markers, temporary files, outputs being staged.
fn is_hidden(name: &OsStr) -> bool {
    matches!(name.as_bytes().first(), Some(b'_' | b'.'))
}

fn parts(glob: &str, wilds: &mut Wilds) -> Result<Vec<Part>, PatternError> {
    let mut parts = Vec::new();
    for text in glob.split('/').filter(|text| !text.is_empty() && *text != ".") {
        if text == ".." {
            return Err(PatternError::ParentBelowWildcard);
        }
        parts.push(Part::parse(text, wilds)?);
    }
    // At the end `**` means what is below, not the directory itself, as everywhere else.
    if parts.last().is_some_and(Part::is_directories) {
        parts.push(Part::parse("*", wilds)?);
    }
    Ok(parts)
}

/// Every pattern without braces that `glob` stands for. Unbalanced braces are left to be refused as a glob.
fn expand_braces(glob: &str) -> Result<Vec<String>, PatternError> {
    let mut expanded = Vec::new();
    let mut waiting = vec![glob.to_owned()];
    let mut bytes = 0;
    while let Some(text) = waiting.pop() {
        let Some(braces) = Braces::find(&text) else {
            expanded.push(text);
            continue;
        };
        for choice in braces.choices.iter().rev() {
            let text = format!("{}{choice}{}", braces.before, braces.after);
            bytes += text.len();
            waiting.push(text);
        }
        if bytes > EXPANDED_BYTES_MAX {
            return Err(PatternError::TooMuchText);
        }
        if expanded.len() + waiting.len() > ALTERNATIVES_MAX {
            return Err(PatternError::TooManyAlternatives);
        }
    }
    Ok(expanded)
}

/// The first `{a,b}` of a glob, and what is around it.
struct Braces<'a> {
    before: &'a str,
    choices: Vec<&'a str>,
    after: &'a str,
}

impl<'a> Braces<'a> {
    fn find(glob: &'a str) -> Option<Braces<'a>> {
        let mut depth = 0;
        let mut start = 0;
        let mut commas = Vec::new();
        for (at, mark) in (Marks { glob: glob.as_bytes(), at: 0 }) {
            match mark {
                b'{' => {
                    depth += 1;
                    if depth == 1 {
                        start = at;
                    }
                }
                b',' if depth == 1 => commas.push(at),
                b'}' if depth == 1 => return Some(Braces::cut(glob, start, &commas, at)),
                b'}' if depth > 1 => depth -= 1,
                _ => {}
            }
        }
        None
    }

    fn cut(glob: &'a str, start: usize, commas: &[usize], end: usize) -> Braces<'a> {
        let mut choices = Vec::new();
        let mut from = start + 1;
        for &comma in commas.iter().chain([&end]) {
            choices.push(&glob[from..comma]);
            from = comma + 1;
        }
        Braces { before: &glob[..start], choices, after: &glob[end + 1..] }
    }
}

/// The bytes of a glob that are neither escaped nor inside brackets. All marks are ASCII, so bytes will do.
struct Marks<'a> {
    glob: &'a [u8],
    at: usize,
}

impl Iterator for Marks<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<(usize, u8)> {
        let at = self.at;
        let &mark = self.glob.get(at)?;
        self.at += match mark {
            b'\\' => 2,
            b'[' => self.class_bytes(),
            _ => 1,
        };
        Some((at, mark))
    }
}

impl Marks<'_> {
    /// The length of `[...]` here; a `]` that comes first in it belongs to it.
    fn class_bytes(&self) -> usize {
        let class = &self.glob[self.at..];
        let negated = matches!(class.get(1), Some(b'!' | b'^'));
        let first = if negated { 2 } else { 1 };
        class.iter().skip(first + 1).position(|&byte| byte == b']').map_or(1, |end| first + end + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `glob`, followed from its base, names `path` below that base.
    fn names(glob: &str, path: &str) -> bool {
        let (_, pattern) = Pattern::parse(Path::new(glob)).unwrap().unwrap();
        path.split('/').fold(pattern.start(), |cursor, name| pattern.enter(&cursor, OsStr::new(name))).named
    }

    fn refusal(glob: &str) -> String {
        Pattern::parse(Path::new(glob)).err().unwrap().to_string()
    }

    #[test]
    fn a_glob_is_followed_from_its_longest_plain_directory() {
        let base = |glob: &str| Pattern::parse(Path::new(glob)).unwrap().map(|(base, _)| base);
        assert_eq!(base("/logs/2024/day-*/x"), Some(PathBuf::from("/logs/2024/")));
        assert_eq!(base("/*"), Some(PathBuf::from("/")));
        assert_eq!(base("*.txt"), Some(PathBuf::new()));
        assert_eq!(base("/logs/plain"), None);
    }

    #[test]
    fn wildcards_stay_within_one_name() {
        assert!(names("*.log", "a.log"));
        assert!(!names("*.log", "a/b.txt"));
        assert!(names("a?c/[0-9]", "abc/7"));
        assert!(!names("a?c/[!0-9]", "abc/7"));
    }

    #[test]
    fn what_is_below_a_match_is_named_too() {
        assert!(names("day-*", "day-1/hour-2/part"));
        assert!(!names("day-*", "day-1/_hidden"));
    }

    #[test]
    fn two_stars_are_any_number_of_directories() {
        for path in ["x", "a/x", "a/b/x"] {
            assert!(names("**/x", path), "{path}");
        }
        assert!(!names("**/x", "a/y"));
        assert!(names("**", "a/b"));
        assert!(names("a*/**/z", "ab/z"));
    }

    #[test]
    fn braces_may_hold_directories_and_braces() {
        for path in ["2024/01/x", "2025/x"] {
            assert!(names("{2024/01,2025}/x", path), "{path}");
        }
        assert!(names("{a{1,2},b}", "a2"));
        assert!(names("a{,b}", "a"));
        assert!(names(r"\{a,b\}", "{a,b}"));
        assert!(names("[{]a[}]", "{a}"));
    }

    #[test]
    fn a_hidden_name_is_matched_only_when_spelled_out() {
        assert!(!names("*", "_logs"));
        assert!(!names("**/x", ".git/x"));
        assert!(!names("[_a]b", "_b"));
        assert!(names("*/_logs/*", "a/_logs/x"));
        assert!(names("_*", "_logs"));
        assert!(names("{_logs,data}", "_logs"));
    }

    #[test]
    fn hidden_names_are_like_others_to_those_who_want_them() {
        let (_, pattern) = Pattern::parse(Path::new("*/x")).unwrap().unwrap();
        let pattern = pattern.with_hidden_names();
        let cursor = pattern.enter(&pattern.start(), OsStr::new("_logs"));
        assert_eq!(pattern.only_names(&cursor), Some(vec![OsStr::new("x")]));
        assert_eq!(pattern.only_names(&pattern.start()), None);
        assert!(pattern.enter(&cursor, OsStr::new("x")).named);
    }

    #[test]
    fn bad_globs_say_what_is_wrong() {
        assert!(refusal("[a").contains("unclosed character class"), "{}", refusal("[a"));
        assert!(refusal("{a,b").contains("unclosed alternate group"), "{}", refusal("{a,b"));
        assert_eq!(refusal("*/../x"), "`..` cannot follow a wildcard");
        assert_eq!(refusal(&"{a,b}".repeat(20)), "its braces make more than 4096 patterns");
    }

    #[test]
    fn a_glob_takes_time_and_memory_in_proportion() {
        let braces = "{a,b}".repeat(12);
        let many = format!("{braces}{}", "{c}".repeat(100));
        assert_eq!(refusal(&many), "its braces make patterns of more than 1048576 bytes together");
        let wild = format!("{braces}{}", "*?".repeat(10));
        let said = "its different names with wildcards have more than 65536 bytes together";
        assert_eq!(refusal(&wild), said);
        assert_eq!(refusal(&"**/".repeat(3000)), "it has 9000 bytes, more than 8192");
        // Thousands of alternatives, and in each the same twelve names.
        let parts = format!("{}x*", "{a,b}*/".repeat(11));
        let (_, pattern) = Pattern::parse(Path::new(&parts)).unwrap().unwrap();
        assert_eq!(pattern.alternatives.len(), 2048);
        assert!(names(&parts, "a1/b2/a3/b4/a5/b6/a7/b8/a9/b/a/xy"));
    }
}
