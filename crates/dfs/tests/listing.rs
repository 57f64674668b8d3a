//! What a pattern names.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gristmill_dfs::{FileInfo, ListError, LocalStore, Stamp, Store, Uri};
use proptest::prelude::*;
use tempfile::TempDir;

const THREADS: usize = 3;

/// A directory with these files, each as long as its name.
fn home_with(files: &[&str]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for file in files {
        write(home.path(), file);
    }
    home
}

fn write(home: &Path, file: &str) {
    let path = home.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, file).unwrap();
}

fn list(home: &Path, pattern: &str) -> Result<Vec<FileInfo>, ListError> {
    LocalStore.list(&Uri::local(home).join(pattern), THREADS)
}

/// The files that `pattern` names below `home`, without the path of `home`.
fn names(home: &Path, pattern: &str) -> Vec<String> {
    list(home, pattern).unwrap().iter().map(|file| below(home, file)).collect()
}

fn below(home: &Path, file: &FileInfo) -> String {
    file.uri.path().strip_prefix(home).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_file_is_listed_with_its_length() {
    let home = home_with(&["a.txt"]);
    let uri = Uri::local(home.path()).join("a.txt");
    let listed = list(home.path(), "a.txt").unwrap();
    let stamp = uri.store().unwrap().open(&uri).unwrap().stamp();
    assert_eq!(listed, [FileInfo { uri, bytes: 5, stamp }]);
    assert_ne!(stamp, Stamp::UNKNOWN);
}

#[test]
fn a_directory_is_listed_with_all_below_it_by_the_bytes_of_the_path() {
    let home = home_with(&["b", "a/z", "a/c/x", "a-1", "é"]);
    assert_eq!(names(home.path(), ""), ["a-1", "a/c/x", "a/z", "b", "é"]);
}

#[test]
fn hidden_names_are_skipped_unless_spelled_out() {
    let home = home_with(&["part-0", "_SUCCESS", ".crc", "_logs/x", "_logs/_y", "a/.b/c"]);
    assert_eq!(names(home.path(), ""), ["part-0"]);
    assert_eq!(names(home.path(), "*"), ["part-0"]);
    assert_eq!(names(home.path(), "_SUCCESS"), ["_SUCCESS"]);
    assert_eq!(names(home.path(), "_logs"), ["_logs/x"]);
    assert_eq!(names(home.path(), "{_logs,a}/*"), ["_logs/x"]);
}

#[test]
fn a_glob_names_files_and_whole_directories() {
    let home = home_with(&["day-1/x.log", "day-1/y.txt", "day-2/z/x.log", "night/x.log", "day-3"]);
    assert_eq!(names(home.path(), "day-*"), ["day-1/x.log", "day-1/y.txt", "day-2/z/x.log", "day-3"]);
    assert_eq!(names(home.path(), "day-[12]/*.log"), ["day-1/x.log"]);
    assert_eq!(names(home.path(), "**/*.log"), ["day-1/x.log", "day-2/z/x.log", "night/x.log"]);
    assert_eq!(names(home.path(), "{day-1,day-2/z}/x.log"), ["day-1/x.log", "day-2/z/x.log"]);
}

#[test]
fn relative_patterns_give_relative_names() {
    let listed = |pattern| LocalStore.list(&Uri::parse(pattern).unwrap(), THREADS).unwrap();
    let shown = |pattern| listed(pattern).iter().map(|file| file.uri.to_string()).collect::<Vec<_>>();
    assert_eq!(shown("Car*.toml"), ["Cargo.toml"]);
    assert_eq!(shown("src/lo*.rs"), ["src/local.rs"]);
}

#[test]
fn a_file_named_like_a_glob_is_found_by_its_name() {
    let home = home_with(&["a[1].txt", "a1.txt", "b*", "bc"]);
    assert_eq!(names(home.path(), "a[1].txt"), ["a[1].txt"]);
    assert_eq!(names(home.path(), r"b\*"), ["b*"]);
}

#[test]
fn what_is_not_there_is_told_from_what_is_empty() {
    let home = home_with(&["file"]);
    fs::create_dir_all(home.path().join("empty")).unwrap();
    assert_eq!(names(home.path(), "empty"), [""; 0]);
    assert_eq!(names(home.path(), "e*"), [""; 0]);
    for absent in ["absent", "file/below"] {
        let said = list(home.path(), absent).unwrap_err().to_string();
        let expected = format!("cannot read {}/{absent}: no such file or directory", home.path().display());
        assert_eq!(said, expected);
    }
    for pattern in ["*.txt", "absent/*", "file/*"] {
        let said = list(home.path(), pattern).unwrap_err().to_string();
        assert_eq!(said, format!("cannot read {}/{pattern}: nothing matches it", home.path().display()));
    }
}

#[test]
fn a_bad_glob_is_refused() {
    let home = home_with(&[]);
    assert!(matches!(list(home.path(), "a[b"), Err(ListError::BadPattern { .. })));
}

#[test]
fn pipes_are_skipped_unless_named() {
    let home = home_with(&["a"]);
    let pipe = home.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(names(home.path(), ""), ["a"]);
    let said = list(home.path(), "pipe").unwrap_err().to_string();
    assert_eq!(said, format!("cannot read {}: it is neither a file nor a directory", pipe.display()));
}

#[test]
fn symbolic_links_are_followed() {
    let elsewhere = home_with(&["x/deep"]);
    let home = home_with(&["in/a"]);
    symlink(elsewhere.path().join("x"), home.path().join("in/dir")).unwrap();
    symlink(elsewhere.path().join("x/deep"), home.path().join("in/file")).unwrap();
    assert_eq!(names(home.path(), "in"), ["in/a", "in/dir/deep", "in/file"]);
    assert_eq!(list(home.path(), "in/file").unwrap()[0].bytes, "x/deep".len() as u64);
}

#[test]
fn a_link_to_nothing_is_an_error_not_a_gap() {
    let home = home_with(&["a"]);
    symlink("nowhere", home.path().join("b")).unwrap();
    let said = list(home.path(), "").unwrap_err().to_string();
    let expected =
        format!("cannot look at {}/b: No such file or directory (os error 2)", home.path().display());
    assert_eq!(said, expected);
}

#[test]
fn a_loop_of_links_ends_and_is_named() {
    let home = home_with(&["in/a/x", "in/b/y"]);
    symlink("../b", home.path().join("in/a/to_b")).unwrap();
    symlink("../a", home.path().join("in/b/to_a")).unwrap();
    for endless in ["in", "in/**/x"] {
        let error = list(home.path(), endless).unwrap_err();
        assert!(matches!(error, ListError::Loop { .. }), "{error}");
    }
    let error = list(home.path(), "in/a").unwrap_err();
    let path = home.path().join("in/a").display().to_string();
    assert_eq!(
        error.to_string(),
        format!("cannot list {path}/to_b/to_a: it is a symbolic link back to {path}")
    );
}

#[test]
fn a_glob_of_some_depth_passes_through_a_loop() {
    let home = home_with(&["x"]);
    symlink(".", home.path().join("here")).unwrap();
    assert_eq!(names(home.path(), "*/*/x"), ["here/here/x"]);
}

#[test]
fn ten_thousand_files_are_all_listed() {
    let home = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for directory in 0..20 {
        fs::create_dir(home.path().join(format!("d{directory}"))).unwrap();
        for file in 0..500 {
            expected.push(format!("d{directory}/part-{file}"));
            fs::write(home.path().join(expected.last().unwrap()), "").unwrap();
        }
    }
    expected.sort();
    assert_eq!(names(home.path(), ""), expected);
    assert_eq!(names(home.path(), "d*/part-*"), expected);
}

/// Every name below `home`, with whether it is a file: the plain way.
fn walk(home: &Path, below: &str, seen: &mut BTreeMap<String, bool>) {
    for entry in fs::read_dir(home.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        let is_file = entry.file_type().unwrap().is_file();
        if !is_file {
            walk(home, &format!("{name}/"), seen);
        }
        seen.insert(name, is_file);
    }
}

fn is_hidden(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with(['_', '.']))
}

/// The files that are not hidden and of which some prefix satisfies `matches`: the plain way.
fn expected(home: &Path, matches: impl Fn(&str) -> bool) -> Vec<String> {
    let mut seen = BTreeMap::new();
    walk(home, "", &mut seen);
    let prefixes = |path: &str| {
        let ends = path.match_indices('/').map(|(slash, _)| slash).chain([path.len()]);
        ends.map(|end| path[..end].to_owned()).collect::<Vec<_>>()
    };
    let named = |path: &str| !is_hidden(path) && prefixes(path).iter().any(|prefix| matches(prefix));
    seen.into_iter().filter(|(path, is_file)| *is_file && named(path)).map(|(path, _)| path).collect()
}

fn trees() -> impl Strategy<Value = Vec<String>> {
    // Files end in f or g and directories do not, so that no name is both.
    prop::collection::vec("([abc]{1,2}/|[_.]a/){0,3}[_.]?[abc]{0,2}[fg]", 0..15)
}

fn make(tree: &[String]) -> TempDir {
    home_with(&tree.iter().map(String::as_str).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_directory_lists_as_a_plain_walk_would(tree in trees(), threads in 0..4_usize) {
        let home = make(&tree);
        let listed = LocalStore.list(&Uri::local(home.path()), threads).unwrap();
        let listed: Vec<_> = listed.iter().map(|file| below(home.path(), file)).collect();
        prop_assert_eq!(listed, expected(home.path(), |_| true));
    }

    #[test]
    fn a_glob_lists_what_matches_as_a_whole(
        tree in trees(),
        pattern in r"((\*|[abc?]\*|\*\*|\[ab\]|\{a,b\}|[ab]|\{a,b/c\})/){0,2}(\*|\*\*|\*f|[abc?]\*|\{a,b\}\*)"
    ) {
        let home = make(&tree);
        let glob = globset::GlobBuilder::new(&pattern).literal_separator(true).build().unwrap().compile_matcher();
        let expected = expected(home.path(), |path| glob.is_match(path));
        match list(home.path(), &pattern) {
            Ok(files) => {
                let listed: Vec<_> = files.iter().map(|file| below(home.path(), file)).collect();
                prop_assert_eq!(listed, expected);
            }
            Err(ListError::NoMatch { .. }) => prop_assert_eq!(expected, [""; 0]),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
