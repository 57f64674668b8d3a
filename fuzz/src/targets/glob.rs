//! Globs, and whether they name a path.

use super::Target;
use gristmill_dfs::fuzzing::glob_names;

pub(super) const TARGET: Target = Target {
    name: "glob",
    input_bytes_max: 128,
    // Some thousand alternatives, and some thousand names with wildcards.
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
        Ok(Some(_)) => {}
    }
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
    let path: Vec<&str> = path.split('/').collect();
    let hidden = |at: usize| path[at].starts_with(['_', '.']);
    // How many names of the path the parts so far may have taken.
    let mut taken = vec![false; path.len() + 1];
    taken[0] = true;
    for part in parts {
        let before = taken.clone();
        for at in 0..path.len() {
            if part == "**" {
                taken[at + 1] |= taken[at] && !hidden(at);
            } else {
                let spelled = !hidden(at) || part.chars().next() == path[at].chars().next();
                taken[at + 1] = before[at] && spelled && names_one(part, path[at]);
            }
        }
        taken[0] &= part == "**";
    }
    // All that is not hidden below what is named is named too.
    (0..=path.len()).any(|end| taken[end] && !(end..path.len()).any(hidden))
}

fn names_one(part: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // How many characters of the name the pattern so far may have taken.
    let mut taken = vec![false; name.len() + 1];
    taken[0] = true;
    for wanted in part.chars() {
        let before = taken.clone();
        for at in 0..name.len() {
            taken[at + 1] = match wanted {
                '*' => before[at + 1] || taken[at],
                '?' => before[at],
                char => before[at] && char == name[at],
            };
        }
        taken[0] &= wanted == '*';
    }
    taken[name.len()]
}
