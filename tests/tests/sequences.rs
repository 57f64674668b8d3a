//! Sequence files read back as they were written, or not at all.

use gristmill::{Emit, JobError, Plan, Rows, Sequence, SequenceOutput, run_local, testing};
use gristmill_tests::{Dice, Home, Output};
use std::fs;

type Pairs = Vec<(String, Vec<u8>)>;

/// A pair that differs from all others, with an empty key or value now and then.
fn pair(row: u64) -> (String, Vec<u8>) {
    let mut dice = Dice::new(row);
    let key = if row % 100 == 1 { String::new() } else { format!("k{}", dice.below(1000)) };
    let value: Vec<u8> = (0..dice.below(80)).map(|_| dice.roll() as u8).collect();
    (key, [row.to_be_bytes().as_slice(), &value].concat())
}

/// Writes `rows` pairs below `home` and returns them, sorted.
fn write(home: &Home, rows: u64) -> Pairs {
    let written = run_local(&home.options(), |plan: &mut Plan| {
        plan.read(Rows::new(rows))
            .map(|row, out: &mut Emit<String, Vec<u8>>| {
                let (key, value) = pair(row);
                out.emit(&key, &value);
            })
            .write(SequenceOutput::at(home.uri("sequences")));
    });
    written.expect("it is written");
    let mut pairs: Pairs = (0..rows).map(pair).collect();
    pairs.sort();
    pairs
}

/// Reads what is at `uri`, sorted.
fn read(uri: &str) -> Result<Pairs, JobError> {
    let (mut pairs, _) = testing::try_run(|plan| {
        let pairs = plan.read(Sequence::<String, Vec<u8>>::at(uri));
        pairs.map(|(key, value), out: &mut Emit<String, Vec<u8>>| out.emit(key, value))
    })?;
    pairs.sort();
    Ok(pairs)
}

#[test]
fn any_split_size_reads_what_was_written() {
    let home = Home::new();
    // 20,000 pairs of about 60 bytes that hardly compress: a dozen blocks in each of two files.
    let written = write(&home, 20_000);
    let files = Output::read(home.path("sequences")).parts;
    assert!(files.len() == 2 && files.values().all(|file| file.len() > 5 * 65_536), "several blocks each");
    for split_bytes in [997, 65_536, 65_537, 1 << 30] {
        let mut options = home.options();
        (options.split_bytes, options.existing) = (Some(split_bytes), gristmill::Existing::Overwrite);
        let report = run_local(&options, |plan| {
            plan.read(Sequence::<String, Vec<u8>>::at(home.uri("sequences")))
                .map(|(key, value), out: &mut Emit<String, String>| out.emit(key, &hex(value)))
                .write(gristmill::TextOutput::at(home.uri("text")));
        });
        let report = report.expect("it is read");
        assert!(split_bytes > 65_537 || report.stages[0].tasks > 10, "{} tasks", report.stages[0].tasks);
        let mut expected: Vec<String> =
            written.iter().map(|(key, value)| format!("{key}\t{}", hex(value))).collect();
        expected.sort();
        assert!(Output::read(home.path("text")).sorted_lines() == expected, "split size {split_bytes}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A small sequence file, its pairs, and the place where damaged copies of it go.
fn small(home: &Home) -> (Vec<u8>, Pairs, String) {
    let pairs = write(home, 1);
    let file = fs::read(home.path("sequences/part-m-00000")).expect("one row, one file");
    let copy = home.write("copy", &file);
    // The copy is read as it is, so whatever a damaged one is refused for is the damage.
    assert_eq!(read(&copy).expect("it is whole"), pairs);
    (file, pairs, copy)
}

#[track_caller]
fn assert_refused(copy: &str, what: &str) {
    match read(copy) {
        Ok(pairs) => panic!("{what}: read as {pairs:?}"),
        Err(error) => {
            let sentence = error.to_string();
            assert!(sentence.contains(copy) && sentence.contains("offset"), "{what}: {sentence}");
            assert!(!sentence.contains("panic"), "{what}: {sentence}");
        }
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let home = Home::new();
    let (file, _, copy) = small(&home);
    for at in 0..file.len() {
        for flip in [0xff, 1 << (at % 8)] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            fs::write(&copy, damaged).expect("a copy");
            assert_refused(&copy, &format!("byte {at} of {} with {flip:#x}", file.len()));
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let home = Home::new();
    let (file, _, copy) = small(&home);
    for bytes in 1..file.len() {
        fs::write(&copy, &file[..bytes]).expect("a copy");
        assert_refused(&copy, &format!("{bytes} of {} bytes", file.len()));
    }
}

#[test]
fn a_truncation_to_nothing_is_noticed() {
    let home = Home::new();
    let (_, _, copy) = small(&home);
    // Even a sequence without records has a header and a trailer: no file of no bytes was ever written.
    fs::write(&copy, b"").expect("a copy");
    assert_refused(&copy, "0 bytes");
}

#[test]
fn bytes_added_at_the_end_are_noticed() {
    let home = Home::new();
    let (mut file, _, copy) = small(&home);
    for added in [&b"\0"[..], b"more", &file.clone()] {
        let whole = file.len();
        file.extend_from_slice(added);
        fs::write(&copy, &file).expect("a copy");
        // Two whole files, one after the other, are no whole file: the second one's blocks are not in their places.
        assert_refused(&copy, &format!("{} bytes more", added.len()));
        file.truncate(whole);
    }
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let home = Home::new();
    let text =
        home.write("text", "these are no sequences, but they are long enough to be a header and a trailer\n");
    assert_refused(&text, "a text file");
}

#[test]
fn a_flipped_byte_in_a_large_file_names_its_block() {
    let home = Home::new();
    write(&home, 20_000);
    let path = home.path("sequences/part-m-00000");
    let mut file = fs::read(&path).expect("it is there");
    let middle = file.len() / 2;
    file[middle] ^= 1;
    fs::write(&path, file).expect("it is damaged");
    let sentence = read(&home.uri("sequences")).expect_err("it is damaged").to_string();
    let offset = sentence.split("block at offset ").nth(1).and_then(|rest| rest.split(':').next());
    let offset: usize = offset.and_then(|digits| digits.parse().ok()).expect("it names the block's offset");
    assert!((middle - 70_000..=middle).contains(&offset), "{sentence}: {middle} is in the block, of 64 KiB");
}

#[test]
fn another_type_is_refused_at_its_record() {
    let home = Home::new();
    write(&home, 10);
    let uri = home.uri("sequences");
    // Keys are text of at least one byte, mostly; numbers have eight.
    let sentence = testing::try_run(|plan| {
        let pairs = plan.read(Sequence::<u64, Vec<u8>>::at(&uri));
        pairs.map(|(key, value), out: &mut Emit<u64, Vec<u8>>| out.emit(key, value))
    });
    let sentence = sentence.expect_err("\"k12\" is no number").to_string();
    assert!(sentence.contains("cannot decode the record at offset") && sentence.contains(&uri), "{sentence}");
}
