//! Globs, and whether they name a path.

use super::Target;
use gristmill_dfs::fuzzing::glob_names;

pub(super) const TARGET: Target = Target {
    name: "glob",
    input_bytes_max: 512,
    // Some thousand alternatives, and some thousand compiled names.
    memory_bytes: 96 << 20,
    memory_bytes_per_byte: 16 << 10,
    run,
};

/// The first line is a glob, the second a path below the directory from which it is followed.
fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (glob, path) = text.split_once('\n').unwrap_or((text, "a/b"));
    match glob_names(glob, path) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(None) => assert!(!glob.contains(['*', '?', '[', '{', '\\']), "{glob} is a glob"),
        Ok(Some(named)) if is_plain(glob) && is_plain_path(path) => {
            let base = glob.find(['*', '?']).and_then(|special| glob[..special].rfind('/'));
            let below = &glob[base.map_or(0, |slash| slash + 1)..];
            assert_eq!(named, names(below, path), "{glob} and {path}");
        }
        Ok(Some(_)) => return,
    }
    // Compiling takes most of the time: one glob for an input is enough.
    if is_plain_path(path) && !is_plain(glob) {
        let spelled: String = path.chars().flat_map(|char| escaped(char).chain([char])).collect();
        let named = glob_names(&spelled, path).expect("every character is escaped");
        assert_eq!(named, Some(true), "{spelled} spells {path}");
    }
}

fn escaped(char: char) -> impl Iterator<Item = char> {
    (char != '/').then_some('\\').into_iter()
}

/// Whether [`names`] understands it.
fn is_plain(glob: &str) -> bool {
    !glob.contains(['[', ']', '{', '}', '\\', '\0'])
}

/// A path as a listing comes by it: names, separated by one slash.
fn is_plain_path(path: &str) -> bool {
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    path.split('/').all(is_name)
}

/// What a glob of `*`, `?` and `**` names, in the plainest words.
fn names(glob: &str, path: &str) -> bool {
    let mut parts: Vec<&str> = glob.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.last() == Some(&"**") {
        parts.push("*");
    }
    names_parts(&parts, &path.split('/').collect::<Vec<_>>())
}

fn names_parts(parts: &[&str], path: &[&str]) -> bool {
    let hidden = |name: &str| name.starts_with(['_', '.']);
    match (parts, path) {
        // All that is not hidden below what is named is named too.
        ([], rest) => !rest.iter().any(|name| hidden(name)),
        (["**", others @ ..], [name, below @ ..]) => {
            names_parts(others, path) || (!hidden(name) && names_parts(parts, below))
        }
        ([part, others @ ..], [name, below @ ..]) => {
            let spelled = !hidden(name) || part.chars().next() == name.chars().next();
            let part: Vec<char> = part.chars().collect();
            let name: Vec<char> = name.chars().collect();
            spelled && names_one(&part, &name) && names_parts(others, below)
        }
        (_, []) => false,
    }
}

fn names_one(part: &[char], name: &[char]) -> bool {
    match (part, name) {
        ([], []) => true,
        (['*', others @ ..], _) => {
            names_one(others, name) || (!name.is_empty() && names_one(part, &name[1..]))
        }
        (['?', others @ ..], [_, rest @ ..]) => names_one(others, rest),
        ([char, others @ ..], [first, rest @ ..]) => char == first && names_one(others, rest),
        _ => false,
    }
}
