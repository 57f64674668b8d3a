//! docs/reliability.md says which test shows what: each of them is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate")
}

/// `file::function` of each function below a directory.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path: PathBuf = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("text");
            let after = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('('));
            found.extend(after.map(|(name, _)| format!("{stem}::{name}")));
        }
    }
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let mut found = BTreeSet::new();
    for top in ["crates", "tests", "fuzz"] {
        functions(&root().join(top), &mut found);
    }
    let page = fs::read_to_string(root().join("docs/reliability.md")).expect("the page");
    let quoted = page.split('`').skip(1).step_by(2);
    let names: Vec<&str> = quoted.filter(|text| text.contains("::")).collect();
    assert!(names.len() > 100, "the page names {} tests only", names.len());
    let missing: Vec<&&str> = names.iter().filter(|name| !found.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
