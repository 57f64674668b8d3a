//! Ten thousand tiny files are read as if they were one, in a few tasks.

use gristmill_tests::{Dice, Home, Output, Program, word_counts};

const FILES: usize = 10_000;

/// Fills `dir` below `home` with files, most of them tiny and some hidden, and returns what a reader should see.
fn scatter(home: &Home, dir: &str) -> Vec<u8> {
    let mut dice = Dice::new(10);
    let mut visible = Vec::new();
    for number in 0..FILES {
        let line = format!("file{number} word{} a", dice.below(500));
        let (name, text) = match number % 10 {
            0 => (format!("f{number}"), String::new()),
            1 => (format!("_f{number}"), format!("hidden {line}\n")),
            2 => (format!(".f{number}"), format!("hidden {line}\n")),
            3 => (format!("_hidden/f{number}"), format!("hidden {line}\n")),
            4 => (format!("deep/er/{}/f{number}", number % 70), format!("{line}\r\n{line}\r\n")),
            5 => (format!("f{number}.txt"), format!("{line}\nno end {line}")),
            6 => (format!("f{number}"), "\r\n\n".to_owned()),
            _ => (format!("{}/f{number}", number % 30), format!("{line}\n")),
        };
        home.write(&format!("{dir}/{name}"), &text);
        if ![1, 2, 3].contains(&(number % 10)) {
            visible.extend_from_slice(text.as_bytes());
            // Where one file ends a line ends, which no concatenation would know.
            visible.push(b'\n');
        }
    }
    visible
}

#[test]
fn they_give_the_same_counts_as_one_file_in_few_tasks() {
    let home = Home::new();
    let visible = scatter(&home, "many");
    let one = home.write("one", &visible);
    let run = |input: &str, output: &str| {
        let program = Program::word_count().args(["--input", input, "--output", &home.uri(output)]);
        program.args(["--local=2", "--reducers", "3", "--json"]).run().report()
    };
    let report = run(&home.uri("many"), "from-many");
    run(&one, "from-one");
    // 7,000 files are visible, each counted as 64 KiB of work at least: 438 MiB of work in splits of 64 MiB make 7.
    let tasks = report["stages"][0]["tasks"].as_u64().expect("a number");
    assert!((2..=20).contains(&tasks), "{tasks} tasks");
    let (many, one) = (Output::read(home.path("from-many")), Output::read(home.path("from-one")));
    assert!(many.parts == one.parts, "the same bytes, part by part");
    // Both could be wrong in the same way.
    let counts = many.counts().into_iter().flatten().map(|(word, n)| (word.to_vec(), n));
    assert!(counts.collect::<std::collections::BTreeMap<_, _>>() == word_counts(&visible));
    assert!(!word_counts(&visible).contains_key(&b"hidden"[..]) && visible.len() > 100_000);
}

#[test]
fn a_glob_reads_what_it_names() {
    let home = Home::new();
    for name in ["logs/a-1.txt", "logs/a-2.txt", "logs/b-1.txt", "logs/.a-3.txt", "logs/sub/a-4.txt"] {
        home.write(name, name.replace(['/', '.'], "-"));
    }
    let program = Program::word_count().args(["--input", &home.uri("logs/a-*.txt"), &home.uri("logs/sub")]);
    program.args(["--output", &home.uri("out")]).run().succeeded();
    let expected = ["logs-a-1-txt\t1", "logs-a-2-txt\t1", "logs-sub-a-4-txt\t1"];
    assert_eq!(Output::read(home.path("out")).sorted_lines(), expected);
}
