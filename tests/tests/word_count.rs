//! The same words are counted whatever the text, the splits, the reducers, the threads and the memory.

use gristmill_tests::{Home, Output, Program, bytes_of, corpus, distinct_words, word_counts};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Counts the words of `text` with the options `run`, checks the form of the output, and returns the counts.
fn count(text: &[u8], run: &[&str]) -> (Output, BTreeMap<Vec<u8>, u64>) {
    let home = Home::new();
    let input = home.write("in/text", text);
    let program = Program::word_count().args(["--input", &input, "--output", &home.uri("out")]);
    program.args(["--scratch", &home.uri("scratch")]).args(run).run().succeeded();
    let output = Output::read(home.path("out"));
    let mut all = BTreeMap::new();
    for part in output.counts() {
        // Strictly: a key stands in one part, once.
        assert!(part.is_sorted_by(|(a, _), (b, _)| a < b), "the keys of a part are in order, each once");
        for (word, n) in part {
            assert_eq!(all.insert(word.to_vec(), n), None, "{word:?} is in two parts");
        }
    }
    assert_eq!(home.names("scratch"), [""; 0], "nothing is left in scratch space");
    assert_eq!(home.names(""), ["in", "out", "scratch"], "nothing is left beside the output");
    (output, all)
}

#[test]
fn the_corpus_has_everything_in_it() {
    // If it had not, the other tests would prove less than they say.
    let text = corpus(300_000, 1);
    for needed in [&b"\0"[..], b"\xff\xfe", b"\r\n", b"\x0c", b"\x0b", b"\rw", b"\n\n", b"\xc2\xa0"] {
        assert!(text.windows(needed.len()).any(|window| window == needed), "{needed:?}");
    }
    assert!(std::str::from_utf8(&text).is_err());
    assert_ne!(text.last(), Some(&b'\n'));
    // There are words longer than most splits of the other tests, and both frequent words and many words.
    let counts = word_counts(&text);
    assert!(counts.keys().any(|word| word.len() > 5_000));
    assert!(counts.len() > 1_000 && counts.values().any(|&count| count > 1_000));
}

#[test]
fn any_split_size_counts_the_same() {
    // 3,000 bytes in splits of 1 byte: 3,000 tasks, of which each that begins inside of a line reads none.
    let small = corpus(3_000, 2);
    for size in ["1", "7", "1KiB", "1GiB"] {
        assert_eq!(count(&small, &["--split-size", size]).1, word_counts(&small), "--split-size {size}");
    }
    let large = corpus(300_000, 3);
    for size in ["1000", "1KiB", "64KiB", "1GiB"] {
        assert_eq!(count(&large, &["--split-size", size]).1, word_counts(&large), "--split-size {size}");
    }
}

#[test]
fn any_number_of_reducers_and_threads_counts_the_same() {
    let text = corpus(300_000, 4);
    let expected = word_counts(&text);
    for reducers in [1, 2, 7] {
        for local in ["--local=1", "--local=2", "--local=5"] {
            let (output, found) = count(&text, &["--reducers", &reducers.to_string(), local]);
            assert_eq!(found, expected, "{reducers} reducers, {local}");
            let names: Vec<String> = (0..reducers).map(|part| format!("part-r-{part:05}")).collect();
            assert_eq!(output.parts.keys().cloned().collect::<Vec<_>>(), names);
        }
    }
}

#[test]
fn little_memory_counts_the_same_by_spilling() {
    // 300,000 words of 17 bytes are more than the 5 MiB or so that two tasks in 24 MiB have for collecting.
    let text = distinct_words(300_000, 5);
    let home = Home::new();
    let (input, scratch) = (home.write("text", &text), home.uri("scratch"));
    let run = |output: &str, memory: &str| {
        let program = Program::word_count().args(["--input", &input, "--output", &home.uri(output)]);
        let program = program.args(["--local=2", "--memory", memory, "--scratch", &scratch, "--json"]);
        let report = program.run().report();
        let mut parts = bytes_of(home.path(output));
        parts.remove("_SUCCESS");
        (report["spilled_bytes"].as_u64().expect("a number"), parts)
    };
    let (spilled, tight) = run("tight", "24MiB");
    let (unspilled, roomy) = run("roomy", "1GiB");
    assert!(spilled > 1_000_000, "it spilled {spilled} bytes");
    assert_eq!(unspilled, 0);
    assert!(tight == roomy, "the same bytes, part by part");
    let expected = word_counts(&text);
    let output = Output::read(home.path("tight"));
    let found = output.counts().into_iter().flatten().map(|(word, n)| (word.to_vec(), n));
    assert!(found.collect::<BTreeMap<_, _>>() == expected);
}

#[test]
fn the_manifest_says_what_was_written() {
    let text = corpus(50_000, 6);
    let (output, _) = count(&text, &["--reducers", "3", "--name", "words of mine"]);
    assert_eq!(output.manifest["job"], "words of mine");
    assert_eq!(output.manifest["read_bytes"], text.len());
    let file = |(name, part): (&String, &Vec<u8>)| {
        let crc = format!("{:08x}", crc32c::crc32c(part));
        json!({ "name": name, "bytes": part.len(), "crc32c": crc })
    };
    let files: Vec<Value> = output.parts.iter().map(file).collect();
    assert_eq!(output.manifest["outputs"][0]["files"], Value::from(files));
    assert_eq!(output.manifest["outputs"][0]["bytes"], output.parts.values().map(Vec::len).sum::<usize>());
}
