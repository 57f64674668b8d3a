//! Compressed files: any cuts give the same lines, and what is truncated, damaged or a bomb is an error, never a short read.

use gristmill_dataflow::compression::zstd_frames;
use gristmill_dataflow::memory::TaskMemory;
use gristmill_dataflow::read::{LineReader, ReadError};
use gristmill_dataflow::split::FileRange;
use gristmill_dfs::{ReadAt, Stamp, Uri};
use std::io::{self, Write};
use std::sync::Arc;

const MEMORY: TaskMemory = TaskMemory { bytes: 1 << 20 };
const SUFFIXES: [&str; 6] = ["gz", "zst", "bz2", "sz", "snappy", "lz4"];

/// A file in memory.
#[derive(Clone)]
struct Held(Arc<[u8]>);

impl ReadAt for Held {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or(&[]);
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }
}

fn compress(suffix: &str, data: &[u8]) -> Vec<u8> {
    match suffix {
        "gz" => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(data).and_then(|()| gzip.finish()).expect("gzip")
        }
        "zst" => {
            let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
            zstd.include_checksum(true).expect("a checksum");
            zstd.write_all(data).and_then(|()| zstd.finish()).expect("zstd")
        }
        "bz2" => {
            let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            bzip2.write_all(data).and_then(|()| bzip2.finish()).expect("bzip2")
        }
        "sz" | "snappy" => {
            let mut snappy = snap::write::FrameEncoder::new(Vec::new());
            snappy.write_all(data).expect("snappy");
            snappy.into_inner().expect("snappy")
        }
        _ => {
            let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
            let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            lz4.write_all(data).expect("lz4");
            lz4.finish().expect("lz4")
        }
    }
}

/// The lines of a file that is cut at `cuts`.
fn read(suffix: &str, file: &[u8], cuts: &[u64]) -> Result<Vec<Vec<u8>>, ReadError> {
    let (held, file_bytes) = (Held(file.into()), file.len() as u64);
    let uri = Uri::parse(&format!("/held.{suffix}")).expect("a path");
    let mut bounds = cuts.to_vec();
    bounds.extend([0, file_bytes]);
    bounds.sort_unstable();
    bounds.dedup();
    if file_bytes == 0 {
        bounds.push(0);
    }
    let mut lines = Vec::new();
    for piece in bounds.windows(2) {
        let range =
            FileRange { uri: uri.clone(), start: piece[0], end: piece[1], file_bytes, stamp: Stamp::UNKNOWN };
        let mut reader = LineReader::over(Box::new(held.clone()), &range, MEMORY)?;
        while let Some((_, line)) = reader.next_line()? {
            lines.push(line.to_vec());
        }
    }
    Ok(lines)
}

fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

/// Lines that do not compress well, from none to some thousand bytes long.
fn text(bytes: usize, mut seed: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes);
    while text.len() < bytes {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let byte = (seed >> 33) as u8;
        text.push(if byte < 3 { b'\n' } else { b' ' + byte % 90 });
    }
    text
}

#[test]
fn every_compression_gives_its_lines_also_of_several_members() {
    let text = text(200_000, 1);
    let (first, second) = text.split_at(77_777);
    for suffix in SUFFIXES {
        let whole = compress(suffix, &text);
        assert!(read(suffix, &whole, &[]).expect("whole") == lines(&text), "{suffix}");
        let twice = [compress(suffix, first), compress(suffix, b""), compress(suffix, second)].concat();
        assert!(
            read(suffix, &twice, &[]).expect("two members") == lines(&text),
            "{suffix} of several members"
        );
    }
}

#[test]
fn any_cuts_of_bzip2_give_the_same_lines() {
    // Blocks of 100,000 bytes, and one line that is longer than any.
    let text = [text(250_000, 2), vec![b'x'; 300_000], text(150_000, 3)].concat();
    let file = compress("bz2", &text);
    for pieces in [2, 3, 7, 50] {
        let cuts: Vec<u64> = (1..pieces).map(|piece| file.len() as u64 * piece / pieces).collect();
        assert!(read("bz2", &file, &cuts).expect("any cuts") == lines(&text), "{pieces} pieces");
    }
}

#[test]
fn bzip2_of_many_small_streams_can_be_cut_at_every_byte() {
    // A line that ends with its stream, one that goes on in the next, empty streams, blank lines.
    let members: [&[u8]; 7] = [b"", b"one\n", b"two", b" goes on\n", b"", b"\n\nthree\n", b"four"];
    let file = members.map(|member| compress("bz2", member)).concat();
    let expected = lines(&members.concat());
    let every: Vec<u64> = (0..file.len() as u64).collect();
    assert_eq!(read("bz2", &file, &every).expect("every byte"), expected);
    for cut in 1..file.len() as u64 {
        assert_eq!(read("bz2", &file, &[cut]).expect("one cut"), expected, "cut at {cut}");
    }
}

#[test]
fn zstd_is_cut_between_its_frames() {
    let members: [&[u8]; 7] = [b"", b"one\n", b"two", b" goes on\n", b"", b"\n\nthree\n", b"four"];
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
    let mut file = skippable.clone();
    members.iter().for_each(|member| file.extend(compress("zst", member)));
    file.extend(&skippable);
    let frames = zstd_frames(&Held(file.clone().into())).expect("frames");
    assert_eq!(frames.len(), members.len(), "all frames with data: {frames:?}");
    for subset in 0..1 << frames.len() {
        let cuts = frames.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1);
        let cuts: Vec<u64> = cuts.map(|(_, cut)| *cut).collect();
        assert_eq!(read("zst", &file, &cuts).expect("frames"), lines(&members.concat()), "{cuts:?}");
    }
}

#[test]
fn what_is_truncated_is_an_error_that_names_the_file_and_where() {
    let text = text(150_000, 4);
    for suffix in SUFFIXES {
        let file = compress(suffix, &text);
        let lengths =
            (0..64).chain((64..file.len()).step_by(file.len() / 40)).chain(file.len() - 64..file.len());
        let mut refused = 0;
        for bytes in lengths {
            match read(suffix, &file[..bytes], &[]) {
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains("/held.") && said.contains("offset"), "{suffix}: {said}");
                    refused += 1;
                }
                // The framing of snappy has no end: chunks that are whole are a whole file.
                Ok(found) => assert!(
                    matches!(suffix, "sz" | "snappy") && found.len() < 1000,
                    "{suffix} of {bytes} bytes"
                ),
            }
        }
        assert!(refused > 100, "{suffix}: {refused}");
    }
}

#[test]
fn what_is_damaged_is_an_error_or_harmless() {
    let text = text(20_000, 5);
    for suffix in SUFFIXES {
        let file = compress(suffix, &text);
        let mut refused = 0;
        for at in (0..file.len()).step_by(31) {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (at % 8);
            match read(suffix, &damaged, &[]) {
                Ok(found) => assert!(found == lines(&text), "{suffix}: byte {at} changes what is read"),
                Err(error) => {
                    assert!(error.to_string().contains("/held."), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused * 10 > file.len() / 31 * 9, "{suffix}: {refused} of {}", file.len() / 31);
    }
}

#[test]
fn a_bomb_meets_the_limit_of_its_ratio() {
    let line = [vec![b'0'; 100_000], vec![b'\n']].concat();
    let file = compress("zst", &line.repeat(1200));
    let error = read("zst", &file, &[]).expect_err("120 MB out of some kilobytes");
    assert!(matches!(error, ReadError::Bomb { .. }), "{error}");
}

#[test]
fn a_window_that_would_take_all_memory_is_refused() {
    // A frame with an empty block and a window of 2 to the 28 or to the 41 bytes.
    for window in [0x90, 0xf8] {
        let file = [&0xFD2F_B528_u32.to_le_bytes()[..], &[0, window, 1, 0, 0]].concat();
        let error = read("zst", &file, &[]).expect_err("more than 128 MiB").to_string();
        assert!(error.contains("memory"), "{error}");
    }
}
