//! Large values, hot keys, many keys: the answer is right and memory stays within what `--memory` says.

use gristmill_tests::{Dice, Ended, Home, Output, Program, noise};
use xxhash_rust::xxh3::xxh3_64;

const MIB: u64 = 1 << 20;

/// The peaks that `bulky` and `spread` print.
fn printed(ended: &Ended) -> Vec<u64> {
    ended.stdout.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

#[test]
fn a_value_of_200_mib_goes_all_the_way() {
    let home = Home::new();
    let bytes = 200 * MIB as usize;
    let input = home.write("in", format!("{bytes} 7\n10 8\n"));
    let program =
        Program::at(env!("CARGO_BIN_EXE_bulky")).args(["--input", &input, "--output", &home.uri("out")]);
    let program = program.args(["--memory", "2GiB", "--local=2", "--scratch", &home.uri("scratch")]);
    let ended = program.run().succeeded();
    // The value does not compress, so its hash could not come from a piece of it.
    let line = |bytes, seed| format!("{seed}\t{bytes}\t{}", xxh3_64(&noise(bytes, seed)));
    assert_eq!(Output::read(home.path("out")).sorted_lines(), [line(bytes, 7), line(10, 8)]);
    let peak = printed(&ended)[0];
    assert!(peak < 2048 * MIB, "{} MiB", peak / MIB);
    assert!(peak > 200 * MIB, "the value was in memory once, at least");
}

#[test]
fn a_value_larger_than_a_tasks_buffer_is_spilled_alone() {
    let home = Home::new();
    // Of 64 MiB each of two tasks has about 16, half of that for a record and three quarters for collecting.
    let input = home.write("in", "7000000 1\n7000000 2\n5 3\n7000000 4\n");
    let program =
        Program::at(env!("CARGO_BIN_EXE_bulky")).args(["--input", &input, "--output", &home.uri("out")]);
    let program = program.args(["--memory", "64MiB", "--local=2", "--scratch", &home.uri("scratch")]);
    program.run().succeeded();
    let line = |bytes, seed| format!("{seed}\t{bytes}\t{}", xxh3_64(&noise(bytes, seed)));
    let expected = [line(7_000_000, 1), line(7_000_000, 2), line(5, 3), line(7_000_000, 4)];
    assert_eq!(Output::read(home.path("out")).sorted_lines(), expected);
}

#[test]
fn a_line_over_the_limit_is_an_error_that_names_file_offset_and_limit() {
    let home = Home::new();
    let mut text = b"short\n".to_vec();
    text.resize(20 << 20, b'x');
    let input = home.write("in", &text);
    let program = Program::word_count().args(["--input", &input, "--output", &home.uri("out")]);
    let sentence = program.args(["--memory", "24MiB", "--local=2"]).run().sentence();
    assert!(sentence.contains(&format!("offset 6 of {input}")), "{sentence}");
    assert!(sentence.contains("larger than the limit of") && sentence.contains("--memory"), "{sentence}");
    assert_eq!(home.names(""), ["in", "scratch"]);
}

#[test]
fn an_emitted_value_over_the_limit_is_an_error_that_names_file_offset_and_limit() {
    let home = Home::new();
    let input = home.write("in", "5 1\n20000000 2\n");
    let program =
        Program::at(env!("CARGO_BIN_EXE_bulky")).args(["--input", &input, "--output", &home.uri("out")]);
    let sentence = program.args(["--memory", "24MiB", "--local=2"]).run().sentence();
    // The value, and a key of eight bytes.
    assert!(sentence.contains("a record of 20000008 bytes is larger than the limit of"), "{sentence}");
    assert!(sentence.contains(&format!("offset 4 of {input}")), "{sentence}");
    assert_eq!(home.names(""), ["in", "scratch"]);
}

/// Runs `spread` on a million numbers with 32 MiB; returns its lines, sorted.
fn spread(more: &[&str]) -> Vec<String> {
    let home = Home::new();
    let program =
        Program::at(env!("CARGO_BIN_EXE_spread")).args(["--rows", "1000000", "--output", &home.uri("out")]);
    let program = program.args(["--memory", "32MiB", "--local=2", "--scratch", &home.uri("scratch")]);
    let ended = program.args(more).run().succeeded();
    let [peak, spilled] = printed(&ended)[..] else { panic!("two numbers") };
    // Keys and numbers are 16 MB, and the scattered keys do not compress.
    assert!(spilled > 4 * MIB, "spilled {spilled} bytes");
    assert!(peak <= 40 * MIB, "a quarter over 32 MiB are 40, not {:.1}", peak as f64 / MIB as f64);
    Output::read(home.path("out")).sorted_lines()
}

fn scattered(row: u64) -> u64 {
    row.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn a_million_keys_fit_into_32_mib() {
    let mut expected: Vec<String> =
        (0..1_000_000).map(|row| format!("{}\t1\t{row}", scattered(row))).collect();
    expected.sort();
    assert!(spread(&[]) == expected);
}

#[test]
fn a_key_with_half_of_all_records_fits_into_32_mib() {
    let odd = (0..1_000_000).filter(|row| row % 2 == 1);
    let mut expected: Vec<String> = odd.map(|row| format!("{}\t1\t{row}", scattered(row))).collect();
    // The even numbers below a million: 500,000, of sum 2 * (0 + ... + 499,999).
    expected.push(format!("0\t500000\t{}", 499_999u64 * 500_000));
    expected.sort();
    assert!(spread(&["--hot"]) == expected);
}

#[test]
fn noise_is_what_it_says() {
    // The hashes above compare it with itself: it had better depend on its seed.
    assert_ne!(noise(100, 7), noise(100, 8));
    assert_eq!(noise(100, 7)[..50], noise(50, 7));
    assert_ne!(Dice::new(1).roll(), Dice::new(2).roll());
}
