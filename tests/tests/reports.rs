//! What a job says: before it runs (`--explain`), and after (`--json`, the summary).

use gristmill_tests::{Home, Program, corpus, word_counts};
use serde_json::{Map, Value};

fn word_count(input: &str, output: &str) -> Program {
    Program::word_count().args(["--input", input, "--output", output, "--local=2", "--memory", "64MiB"])
}

#[test]
fn explain_shows_the_plan_and_runs_nothing() {
    let home = Home::new();
    let input = home.write("in", vec![b'a'; 10_000]);
    let run = || {
        let program = word_count(&input, &home.uri("out")).args([
            "--explain",
            "--reducers",
            "3",
            "--split-size",
            "1000",
        ]);
        program.run().succeeded().stdout
    };
    let text = run();
    let lines: Vec<&str> = text.lines().collect();
    let [plan, map, map_steps, map_target, reduce, reduce_steps, reduce_target, shuffle, memory] = lines[..]
    else {
        panic!("nine lines: {text}")
    };
    let fingerprint = plan.strip_prefix("plan ").expect("a fingerprint");
    assert!(fingerprint.len() == 32 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{plan}");
    assert_eq!(map, "map 1: 10 tasks, a split each, of 1 file with 9.8 KiB");
    assert_eq!(map_steps, format!("  read lines from {input} -> map -> combine"));
    assert_eq!(map_target, "  to shuffle 1");
    assert_eq!(reduce, "reduce 1: 3 tasks");
    assert_eq!(
        reduce_steps,
        format!("  shuffle 1 -> merge -> group -> reduce -> write text to {}", home.uri("out"))
    );
    assert_eq!(reduce_target, format!("  to {}", home.uri("out")));
    assert!(
        shuffle.starts_with("shuffle 1: ") && shuffle.ends_with(" by hash of the key to 3 reduce tasks"),
        "{shuffle}"
    );
    assert!(memory.starts_with("memory: 64.0 MiB in all") && memory.contains("2 tasks at once"), "{memory}");
    assert_eq!(run(), text, "the same plan, the same words");
    assert_eq!(home.names(""), ["in", "scratch"], "nothing ran");
}

#[test]
fn explain_finds_a_missing_input_too() {
    let home = Home::new();
    let sentence = word_count(&home.uri("nowhere"), &home.uri("out")).arg("--explain").run().sentence();
    assert!(sentence.contains(&home.uri("nowhere")), "{sentence}");
}

/// The names in an object, each with the kind of its value.
fn schema(object: &Value) -> Vec<(&str, &'static str)> {
    let kind = |value: &Value| match value {
        Value::Number(number) if number.is_u64() => "count",
        Value::Number(_) => "ratio",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        _ => "other",
    };
    let fields: &Map<String, Value> = object.as_object().expect("an object");
    fields.iter().map(|(name, value)| (name.as_str(), kind(value))).collect()
}

#[test]
fn json_has_these_fields() {
    let home = Home::new();
    let text = corpus(100_000, 1);
    let ended = word_count(&home.write("in", &text), &home.uri("out")).arg("--json").run();
    assert_eq!(ended.stderr, "", "no progress and no summary");
    let report = ended.report();
    // Scripts rely on these names and kinds: a name may come, none may go. In the order of the alphabet.
    let expected = [
        ("bad_records", "count"),
        ("counters", "list"),
        ("elapsed_ms", "count"),
        ("job", "text"),
        ("outputs", "list"),
        ("read_bytes", "count"),
        ("shuffled_bytes", "count"),
        ("spilled_bytes", "count"),
        ("stages", "list"),
        ("written_bytes", "count"),
    ];
    assert_eq!(schema(&report), expected);
    let expected = [
        ("bytes_in", "count"),
        ("bytes_out", "count"),
        ("bytes_shuffled", "count"),
        ("groups", "count"),
        ("largest_group", "count"),
        ("name", "text"),
        ("records_collected", "count"),
        ("records_in", "count"),
        ("records_out", "count"),
        ("records_shuffled", "count"),
        ("skew", "ratio"),
        ("slowest_task", "text"),
        ("slowest_task_ms", "count"),
        ("tasks", "count"),
    ];
    assert_eq!(schema(&report["stages"][0]), expected);
    let file = &report["outputs"][0]["files"][0];
    assert_eq!(schema(file), [("bytes", "count"), ("crc32c", "text"), ("name", "text")]);
    assert_eq!(schema(&report["outputs"][0]), [("bytes", "count"), ("files", "list"), ("uri", "text")]);
}

#[test]
fn the_numbers_of_a_report_are_those_of_the_text() {
    let home = Home::new();
    let text = corpus(100_000, 2);
    let report = word_count(&home.write("in", &text), &home.uri("out")).arg("--json").run().report();
    let counts = word_counts(&text);
    let (map, reduce) = (&report["stages"][0], &report["stages"][1]);
    assert_eq!((map["name"].as_str(), reduce["name"].as_str()), (Some("map 1"), Some("reduce 1")));
    assert_eq!(map["records_in"], text.split(|&byte| byte == b'\n').count());
    assert_eq!(map["records_collected"], counts.values().sum::<u64>());
    assert_eq!(map["records_shuffled"], reduce["records_in"]);
    assert_eq!(
        (reduce["groups"].as_u64(), reduce["records_out"].as_u64()),
        (Some(counts.len() as u64), Some(counts.len() as u64))
    );
    assert_eq!(report["read_bytes"], text.len());
    assert_eq!(report["written_bytes"], report["outputs"][0]["bytes"]);
    assert_eq!(report["outputs"][0]["uri"], home.uri("out"));
}

#[test]
fn the_summary_goes_to_standard_error() {
    let home = Home::new();
    let ended = word_count(&home.write("in", "a b a"), &home.uri("out")).run().succeeded();
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with("word_count done in "), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&home.uri("out")) && ended.stderr.contains("3 emitted"),
        "{}",
        ended.stderr
    );
}
