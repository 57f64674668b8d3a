//! Compressed text (`docs/formats.md`, section 14): lines or an error, and the same lines whatever the cuts.

use super::Target;
use crate::held_file::{HeldFile, assert_names_the_place};
use crate::input::Input;
use gristmill_dataflow::compression::zstd_frames;
use gristmill_dataflow::memory::TaskMemory;
use gristmill_dataflow::read::{LineReader, ReadError};
use gristmill_dfs::ReadAt;

pub(super) const TARGET: Target = Target {
    name: "compressed",
    input_bytes_max: 2048,
    // This thread's: the lines. The decoder has a thread of its own.
    memory_bytes: 32 << 20,
    memory_bytes_per_byte: 4096,
    run,
};

const SUFFIXES: [&str; 5] = ["gz", "zst", "bz2", "sz", "lz4"];
/// A block of bzip2 may be a line of a megabyte, made of a few bytes: that is too long soon.
const MEMORY: TaskMemory = TaskMemory { bytes: 1 << 17 };
/// Small inputs may hold much: so many lines are enough.
const LINES_MAX: usize = 10_000;

/// How it is compressed, where to cut; the rest is the file.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let suffix = SUFFIXES[usize::from(input.byte()) % SUFFIXES.len()];
    let cut = u64::from(input.u16());
    let file = HeldFile::new(input.rest(), 512);
    let length = file.bytes();
    let mut whole = Vec::new();
    let result = read(&file, suffix, &[0, length], &mut whole);
    if let Err(error) = &result {
        assert!(!error.to_string().contains("panicked"), "{error}");
        assert_names_the_place(error);
    }
    if length == 0 || result.is_err() || whole.len() >= LINES_MAX {
        return;
    }
    let cuts = match suffix {
        "bz2" => vec![0, cut % length, length],
        "zst" => {
            let mut cuts = zstd_frames(&*file.open()).expect("it is in memory");
            assert!(cuts.is_sorted() && cuts.iter().all(|cut| *cut < length), "{cuts:?} of {length}");
            cuts.extend([0, length]);
            cuts.sort_unstable();
            cuts
        }
        _ => return,
    };
    let mut found = Vec::new();
    match read(&file, suffix, &cuts, &mut found) {
        Ok(()) => assert!(found == whole, "{found:?} and not {whole:?}"),
        // The sum over a bzip2 stream says nothing to those who read a part of it, and what is no block may look like one.
        Err(error) => assert!(suffix == "bz2", "{error}"),
    }
}

fn read(file: &HeldFile, suffix: &str, cuts: &[u64], lines: &mut Vec<Vec<u8>>) -> Result<(), ReadError> {
    for piece in cuts.windows(2).filter(|piece| piece[0] < piece[1] || cuts == [0, 0]) {
        let mut reader =
            LineReader::over(file.open(), &file.range_named(suffix, piece[0]..piece[1]), MEMORY)?;
        while let Some((_, line)) = reader.next_line()? {
            lines.push(line.to_vec());
            if lines.len() >= LINES_MAX {
                return Ok(());
            }
        }
    }
    Ok(())
}
