//! Functions of the author's that panic or refuse: the job fails with a sentence that says what, which task, and
//! where in the input; nothing else remains.

use gristmill_tests::{Home, Output, Program};

/// 2,000 good lines of 8 bytes with the same key, and the bad ones where `bad` says; two tasks read it.
fn lines(bad: &[usize]) -> String {
    let line =
        |number: usize| if bad.contains(&number) { format!("bad{number:04}\n") } else { "good  .\n".into() };
    (0..2_000).map(line).collect()
}

struct Story {
    home: Home,
    input: String,
}

impl Story {
    fn new(bad: &[usize]) -> Self {
        let home = Home::new();
        let input = home.write("in/lines", lines(bad));
        Self { home, input }
    }

    fn program(&self, fault: &str) -> Program {
        let program = Program::at(env!("CARGO_BIN_EXE_faulty")).args(["--fault", fault, "--local=2"]);
        let program = program.args(["--input", &self.input, "--output", &self.home.uri("out")]);
        program.args(["--scratch", &self.home.uri("scratch")])
    }

    /// Runs it; it must fail. Returns why.
    #[track_caller]
    fn failure(&self, fault: &str, more: &[&str]) -> String {
        let sentence = self.program(fault).args(more).run().sentence();
        assert_eq!(self.home.names(""), ["in", "scratch"], "nothing visible remains");
        assert_eq!(self.home.names("scratch"), [""; 0]);
        sentence
    }
}

#[track_caller]
fn assert_says(sentence: &str, all: &[&str]) {
    for part in all {
        assert!(sentence.contains(part), "{part:?} is not in {sentence:?}");
    }
}

#[test]
fn a_panic_in_map_names_text_task_file_and_offset() {
    // Line 1,500 is in the second half of the file, so in the second task; lines have 8 bytes.
    let story = Story::new(&[1_500]);
    let sentence = story.failure("map", &[]);
    let place = format!("offset 12000 of {}", story.input);
    assert_says(&sentence, &["cannot map \"bad1500\"", "map 1 task 2", &place, "faulty.rs"]);
}

#[test]
fn a_panic_in_combine_names_text_task_file_and_offset() {
    // The second bad line meets the first one's count, in the task that reads the first half of the file.
    let home = Home::new();
    let input = home.write("in/lines", format!("bad\nok\nok\nok\nbad\n{}", "ok\n".repeat(100)));
    let program = Program::at(env!("CARGO_BIN_EXE_faulty")).args(["--fault", "combine", "--input", &input]);
    let sentence = program.args(["--output", &home.uri("out"), "--local=1"]).run().sentence();
    let place = format!("offset 13 of {input}");
    assert_says(&sentence, &["cannot combine 13 and 13", "map 1 task 1", &place]);
    assert_eq!(home.names(""), ["in", "scratch"]);
}

#[test]
fn a_panic_in_reduce_names_text_task_and_key() {
    let story = Story::new(&[700]);
    let sentence = story.failure("reduce", &["--reducers", "1"]);
    assert_says(&sentence, &["cannot reduce \"bad0700\"", "reduce 1 task 1", "key \"bad0700\""]);
}

#[test]
fn an_error_of_reduce_names_task_and_key() {
    let story = Story::new(&[700]);
    let sentence = story.failure("try-reduce", &["--reducers", "1"]);
    assert_says(&sentence, &["no total for bad lines", "reduce 1 task 1", "key \"bad0700\""]);
}

#[test]
fn a_refused_record_names_task_file_and_offset() {
    let story = Story::new(&[10]);
    let sentence = story.failure("try-map", &[]);
    let place = format!("offset 80 of {}", story.input);
    assert_says(&sentence, &["\"bad0010\" is no good line", "map 1 task 1", &place]);
}

#[test]
fn as_many_bad_records_as_allowed_are_skipped_and_reported() {
    let story = Story::new(&[1, 2, 3]);
    let report = story.program("try-map").args(["--skip", "3", "--json"]).run().report();
    assert_eq!(report["bad_records"], 3);
    assert_eq!(Output::read(story.home.path("out")).sorted_lines(), ["good  .\t1997"]);
}

#[test]
fn one_bad_record_more_than_allowed_fails_the_job() {
    let story = Story::new(&[1, 2, 3]);
    let sentence = story.failure("try-map", &["--skip", "2"]);
    let place = format!("offset 24 of {}", story.input);
    assert_says(
        &sentence,
        &["more than 2 bad records", "\"bad0003\" is no good line", &place, "map 1 task 1"],
    );
}

#[test]
fn bad_records_of_all_tasks_count_together() {
    // Two in each of two tasks: no task has more than it may skip, but the job has.
    let story = Story::new(&[1, 2, 1_501, 1_502]);
    let sentence = story.failure("try-map", &["--skip", "3"]);
    assert_says(&sentence, &["more than 3 bad records"]);
}

#[test]
fn each_skip_bad_has_a_limit_of_its_own_here_and_on_a_cluster() {
    use gristmill_tests::{Cluster, ClusterOptions};
    let cluster = Cluster::with(ClusterOptions { workers: 2, ..ClusterOptions::default() });
    cluster.wait_for_all_slots();
    let lines = |bad: usize| {
        (0..40).map(|line| if line % (40 / bad) == 0 { "bad\n" } else { "good\n" }).collect::<String>()
    };
    cluster.put("/two", lines(2).as_bytes());
    cluster.put("/four", lines(4).as_bytes());
    // Both together skip six: each has to keep to its own.
    for (skips, which) in [("2,4", None), ("1,5", Some(1)), ("5,3", Some(3))] {
        for place in ["local", "cluster"] {
            let name = format!("{place}-{}", skips.replace(',', "-"));
            let (first, second) = skips.split_once(',').expect("two numbers");
            let program = match place {
                "local" => cluster.reached_by(gristmill_tests::Program::job("picky")).arg("--local=2"),
                _ => cluster.drive("picky"),
            };
            // Splits of 32 bytes: each input has several tasks, and no task more than its share of bad lines.
            let args = ["--split-size", "32", "--first", "dfs:///two", "--second", "dfs:///four"];
            let output = format!("dfs:///out-{name}");
            let skips = ["--skip-first", first, "--skip-second", second, "--output", &output];
            let ended = program.args(args).args(skips).run();
            match which {
                None => assert!(ended.succeeded().stderr.contains("skipped 6 bad records"), "{name}"),
                Some(limit) => {
                    let said = ended.sentence();
                    assert!(said.contains(&format!("more than {limit} bad record")), "{name}: {said}");
                    assert!(cluster.names_in(&format!("/out-{name}")).is_empty(), "{name}");
                }
            }
        }
    }
}

#[test]
fn the_summary_tells_of_skipped_records() {
    let story = Story::new(&[1, 2]);
    let ended = story.program("try-map").args(["--skip", "2"]).run().succeeded();
    assert!(ended.stderr.contains("skipped 2 bad records"), "{}", ended.stderr);
}
