//! Indexes files by word: for each word, the files that contain it.
//!
//! A line of output is word, TAB, and the files in the order of their paths, separated by commas. A word is a
//! maximal run of bytes other than space, tab, LF, CR and FF. A path is written as it was given, or found below a
//! directory that was given; one with a comma in it is written as it is, too.

use clap::Args;
use gristmill::{Dataset, Emit, Keyed, Lines, Plan, TextOutput, words};
use std::process::ExitCode;

/// Lists, for each word, the files that contain it.
#[derive(Args)]
struct InvertedIndex {
    /// Files, directories or globs to read
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
    /// Directory for the index, a line each: word, TAB, files separated by commas
    #[arg(long, value_name = "URI")]
    output: String,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &InvertedIndex, plan: &mut Plan) {
    index(plan.read(Lines::at(&args.input))).write(TextOutput::at(&args.output));
}

fn index(lines: Dataset<Vec<u8>>) -> Keyed<Vec<u8>, Vec<String>> {
    lines
        .try_map(|line, out: &mut Emit<Vec<u8>, Vec<String>>| {
            let (file, _) = out.place().ok_or("an index needs lines of files")?;
            let file = file.to_str().ok_or("an index needs files whose paths are UTF-8")?.to_owned();
            words(line).for_each(|word| out.emit(word, vec![&file]));
            Ok::<(), &str>(())
        })
        .combine(merge)
        .reduce(|word, mut lists, out| {
            let mut files = Vec::new();
            while let Some(more) = lists.next() {
                merge(&mut files, more);
            }
            out.emit(word, files.iter().map(String::as_str).collect());
        })
}

/// Adds to `files`, which are in order, those of `more` that they lack.
fn merge(files: &mut Vec<String>, more: Vec<&str>) {
    for file in more {
        if let Err(place) = files.binary_search_by(|known| known.as_str().cmp(file)) {
            files.insert(place, file.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::index;
    use gristmill::{Lines, testing};
    use std::fs;

    #[test]
    fn each_word_has_its_files_in_order_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("b"), "to be\nto\n").unwrap();
        fs::write(path("a"), b"or  not to \xff").unwrap();
        fs::write(path("empty"), "\n\n").unwrap();
        let (found, _) = testing::run_plan_of(|plan| index(plan.read(Lines::at(path("*")))));
        let (a, b) = (path("a"), path("b"));
        let expected = [("be", vec![&b]), ("not", vec![&a]), ("or", vec![&a]), ("to", vec![&a, &b])];
        let expected = expected.map(|(word, files)| (word.into(), files.into_iter().cloned().collect()));
        assert_eq!(found[..4], expected);
        assert_eq!(found.len(), 5);
    }
}
