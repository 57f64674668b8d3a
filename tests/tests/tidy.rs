//! The house keeps its shape: which crate may know which, how files are named, how long they and their functions are.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files longer than 500 lines, each with the reason why it may be.
const LONG_FILES: [(&str, &str); 0] = [];
/// Functions longer than 70 lines, each with the reason why it may be.
const LONG_FUNCTIONS: [(&str, &str); 0] = [];
/// Names that say nothing about what is in a file.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "misc"];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate")
}

/// All Rust sources of the workspace with their text, by path below its root.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for top in ["crates", "jobs", "tests", "fuzz"] {
        gather(&root().join(top), &mut sources);
    }
    assert!(sources.len() > 50, "found {} sources only", sources.len());
    sources
}

fn gather(dir: &Path, sources: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        let built = path.file_name().is_some_and(|name| name == "target");
        if path.is_dir() && !built {
            gather(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(root()).expect("it is below").to_string_lossy().into_owned();
            sources.push((below, fs::read_to_string(&path).expect("text")));
        }
    }
}

/// The workspace's packages, as cargo sees them.
fn packages() -> Vec<Value> {
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root());
    let output = metadata.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

/// Which of our own crates a crate may know, by package name.
fn allowed(package: &str) -> Option<&'static [&'static str]> {
    Some(match package {
        "gristmill-proto" | "gristmill-derive" | "gristmill-s3-server" => &[],
        "gristmill-process" => &["gristmill-proto"],
        "gristmill-dfs" => &["gristmill-proto", "gristmill-process"],
        "gristmill-dataflow" => &["gristmill-proto", "gristmill-process", "gristmill-dfs"],
        "gristmill" => &[
            "gristmill-proto",
            "gristmill-process",
            "gristmill-dfs",
            "gristmill-dataflow",
            "gristmill-derive",
        ],
        "gristmill-jobs" => &["gristmill"],
        "gristmill-master" => &["gristmill-proto", "gristmill-process", "gristmill-dfs"],
        "gristmill-worker" => {
            &["gristmill-proto", "gristmill-process", "gristmill-dfs", "gristmill-dataflow"]
        }
        "gristmill-cluster" => &["gristmill-proto", "gristmill-process"],
        _ => return None,
    })
}

#[test]
fn dependencies_point_one_way() {
    let mut checked = 0;
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let Some(allowed) = allowed(name) else {
            assert!(
                [
                    "gristmill-cli",
                    "gristmill-tests",
                    "gristmill-core-bench",
                    "gristmill-dfs-bench",
                    "gristmill-fuzz"
                ]
                .contains(&name),
                "nobody has said what {name} may know"
            );
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("a list") {
            let other = dependency["name"].as_str().expect("a name");
            // What a crate's own tests need is no part of it.
            if other.starts_with("gristmill") && dependency["kind"] != "dev" {
                assert!(allowed.contains(&other), "{name} must not know {other}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 5, "only {checked} dependencies were seen");
}

#[test]
fn names_say_what_is_in_them() {
    for (path, text) in sources() {
        let parts = path.trim_end_matches(".rs").split('/');
        let empty: Vec<&str> = parts.filter(|part| EMPTY_NAMES.contains(part)).collect();
        assert!(empty.is_empty(), "{path}: {empty:?} says nothing");
        for name in EMPTY_NAMES {
            let module = format!("mod {name}");
            let named = text
                .lines()
                .any(|line| line.trim_start_matches("pub ").trim_end_matches([';', ' ', '{']) == module);
            assert!(!named, "{path}: a module named {name}");
        }
    }
}

#[test]
fn files_are_short() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        let excused = LONG_FILES.iter().any(|(file, _)| *file == path);
        assert_eq!(lines > FILE_LINES_MAX, excused, "{path} has {lines} lines, of {FILE_LINES_MAX}");
    }
}

/// Functions and their lengths: from the line with `fn` to the brace that closes at the same depth of indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let is_item = before.split_whitespace().all(|word| {
            ["pub", "pub(crate)", "pub(super)", "const", "unsafe", "async", "extern", "\"C\""].contains(&word)
        });
        let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !is_item || name.is_empty() {
            continue;
        }
        let indent = " ".repeat(line.len() - code.len());
        let ends = |line: &&str| [format!("{indent}}}"), format!("{indent};")].contains(&(*line).to_owned());
        let one_line = line.ends_with('}') || line.ends_with(';');
        let length = if one_line { 1 } else { lines[start..].iter().position(ends).unwrap_or(0) + 1 };
        functions.push((name, length));
    }
    functions
}

#[test]
fn functions_are_short() {
    let mut seen = 0;
    for (path, text) in sources() {
        for (name, lines) in functions(&text) {
            let place = format!("{path}: {name}");
            let excused = LONG_FUNCTIONS.iter().any(|(function, _)| *function == place);
            assert_eq!(
                lines > FUNCTION_LINES_MAX,
                excused,
                "{place} has {lines} lines, of {FUNCTION_LINES_MAX}"
            );
            seen += 1;
        }
    }
    assert!(seen > 500, "saw {seen} functions only");
    // The ruler itself.
    let text =
        "impl A {\n    pub fn a(&self) {\n        b()\n    }\n}\nfn c() {}\n// fn\nfn d()\nwhere\n{\n}\n";
    let measured = [("a", 3), ("c", 1), ("d", 4)].map(|(name, lines)| (name.to_owned(), lines));
    assert_eq!(functions(text), measured);
}

#[test]
fn all_crates_forbid_unsafe_code() {
    let (mut seen, mut permissive) = (0, Vec::new());
    for package in packages() {
        for target in package["targets"].as_array().expect("a list") {
            if !["lib", "proc-macro"].contains(&target["kind"][0].as_str().expect("a kind")) {
                continue;
            }
            let source = fs::read_to_string(target["src_path"].as_str().expect("a path")).expect("text");
            if !source.contains("#![forbid(unsafe_code)]") {
                permissive.push(package["name"].as_str().expect("a name").to_owned());
            }
            seen += 1;
        }
    }
    assert!(permissive.is_empty(), "these do not forbid unsafe code: {permissive:?}");
    assert!(seen >= 5, "saw {seen} libraries only");
}

#[test]
fn nothing_is_left_to_do_or_to_debug() {
    // In pieces, so that this file does not find itself.
    let left_over = [("to", "do!("), ("unimple", "mented!("), ("db", "g!(")].map(|(a, b)| format!("{a}{b}"));
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let found = left_over.iter().find(|left| line.contains(left.as_str()));
            assert!(found.is_none(), "{path}:{}: {}", number + 1, line.trim());
        }
    }
}

#[test]
fn dataflow_knows_no_type_of_an_author() {
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("crates/dataflow/src/")) {
        for name in ["Datum", "Keyed", "Dataset", "serde", "bincode"] {
            let found = text.lines().find(|line| line.contains(name));
            assert!(found.is_none(), "{path} speaks of {name}: {found:?}");
        }
    }
}

#[test]
fn one_file_knows_bincode() {
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("crates/")) {
        let uses = text.contains("use bincode") || text.contains("bincode::");
        assert!(!uses || path.starts_with("crates/api/src/datum"), "{path} knows bincode");
    }
}
