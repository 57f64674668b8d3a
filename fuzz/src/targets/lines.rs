//! Lines, whatever the cuts, the reads and the memory.

use super::Target;
use crate::held_file::{HeldFile, assert_names_the_place};
use crate::input::Input;
use gristmill_dataflow::memory::TaskMemory;
use gristmill_dataflow::read::{LineReader, ReadError};
use gristmill_dfs::ReadAt;

pub(super) const TARGET: Target = Target {
    name: "lines",
    input_bytes_max: 2048,
    // A read buffer, and the text many times over.
    memory_bytes: 512 << 10,
    memory_bytes_per_byte: 40 * 100,
    run,
};

type Lines = Vec<(u64, Vec<u8>)>;

/// How often the text may be repeated: to be longer than a read buffer.
const REPEATS: [usize; 4] = [1, 1, 2, 40];

/// How to read, where to cut; the rest is the text.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (how, read_bytes_max) = (input.byte(), usize::from(input.u16()));
    let cuts = [input.u16(), input.u16()].map(u64::from);
    let memory = TaskMemory { bytes: if how & 4 == 0 { 1 << 20 } else { 2 * usize::from(input.byte()) } };
    let text = input.rest().repeat(REPEATS[usize::from(how & 3)]);
    // Text of some kilobytes in reads of some bytes would take a while.
    let file = HeldFile::new(&text, read_bytes_max.max(text.len() / 256));

    let mut bounds = [0, cuts[0] % (file.bytes() + 1), cuts[1] % (file.bytes() + 1), file.bytes()];
    bounds.sort_unstable();
    let expected = plain_lines(&text);
    let mut found = Vec::new();
    for piece in bounds.windows(2) {
        if let Err(error) = read(&file, piece, memory, &mut found) {
            return assert_too_large(&error, &expected, memory);
        }
    }
    assert!(found == expected, "{found:?}");
}

fn read(file: &HeldFile, piece: &[u64], memory: TaskMemory, found: &mut Lines) -> Result<(), ReadError> {
    let mut reader = LineReader::over(file.open(), &file.range(piece[0]..piece[1]), memory)?;
    while let Some((offset, line)) = reader.next_line()? {
        found.push((offset, line.to_vec()));
    }
    Ok(())
}

/// The definition, in the plainest words.
fn plain_lines(text: &[u8]) -> Lines {
    let mut start = 0;
    let mut lines = Vec::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let bare = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        lines.push((start, bare.to_vec()));
        start += line.len() as u64;
    }
    lines
}

/// The only thing that can be wrong with text; and the line that is said to be too large is.
fn assert_too_large(error: &ReadError, lines: &Lines, memory: TaskMemory) {
    assert_names_the_place(error);
    let ReadError::RecordTooLarge { offset, limit_bytes, .. } = error else { panic!("{error}") };
    assert_eq!(*limit_bytes, memory.record_bytes_max());
    let (_, line) = lines.iter().find(|(start, _)| start == offset).expect("a line starts there");
    assert!(line.len() + 2 > *limit_bytes, "a line of {} bytes: {error}", line.len());
}
