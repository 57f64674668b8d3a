//! Which files are copied, and as what.

use globset::{Glob, GlobSet, GlobSetBuilder};
use gristmill_dfs::Uri;
use regex::Regex;

use super::Distcp;
use crate::fs::failure::Failure;

/// Directories of jobs that write, or copy, at this moment.
const HIDDEN: [&str; 2] = [".gristmill", super::UNFINISHED];

/// The patterns of a command.
pub(super) struct Patterns {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
    whole: Option<Regex>,
    group: Option<Regex>,
}

impl Patterns {
    pub(super) fn new(command: &Distcp) -> Result<Patterns, Failure> {
        let group = command.group_by.as_deref().map(|text| regex("--group-by", text)).transpose()?;
        if group.as_ref().is_some_and(|group| group.captures_len() < 2) {
            let sentence =
                "--group-by needs a group in parentheses: its text is the name of the file that is written";
            return Err(Failure::Usage(sentence.to_owned()));
        }
        Ok(Patterns {
            include: globs("--include", &command.include)?,
            exclude: globs("--exclude", &command.exclude)?,
            whole: command.src_pattern.as_deref().map(|text| regex("--src-pattern", text)).transpose()?,
            group,
        })
    }

    /// Whether several files become one.
    pub(super) fn groups(&self) -> bool {
        self.group.is_some()
    }

    /// The name below DST that the file gets which is `below` its source; none: it is not copied.
    pub(super) fn target(&self, uri: &Uri, below: &str) -> Result<Option<String>, Failure> {
        let is_hidden = below.split('/').any(|part| HIDDEN.iter().any(|hidden| part.starts_with(hidden)));
        let matches = |globs: &Option<GlobSet>| globs.as_ref().map(|globs| globs.is_match(below));
        if is_hidden || matches(&self.include) == Some(false) || matches(&self.exclude) == Some(true) {
            return Ok(None);
        }
        let text = uri.to_string();
        if self.whole.as_ref().is_some_and(|whole| !whole.is_match(&text)) {
            return Ok(None);
        }
        let Some(group) = &self.group else { return Ok(Some(below.to_owned())) };
        let Some(captures) = group.captures(&text) else { return Ok(None) };
        let name: String = captures.iter().skip(1).flatten().map(|capture| capture.as_str()).collect();
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let why = format!("--group-by makes of it {name:?}, which is no name of a file");
            return Err(Failure::refused("copy", uri, why));
        }
        Ok(Some(name))
    }
}

/// A pattern of a whole URI.
fn regex(option: &str, text: &str) -> Result<Regex, Failure> {
    Regex::new(&format!("^(?:{text})$")).map_err(|error| Failure::Usage(format!("{option}: {error}")))
}

fn globs(option: &str, texts: &[String]) -> Result<Option<GlobSet>, Failure> {
    if texts.is_empty() {
        return Ok(None);
    }
    let wrong = |error: globset::Error| Failure::Usage(format!("{option}: {error}"));
    let mut globs = GlobSetBuilder::new();
    for text in texts {
        globs.add(Glob::new(text).map_err(wrong)?);
    }
    globs.build().map(Some).map_err(wrong)
}
