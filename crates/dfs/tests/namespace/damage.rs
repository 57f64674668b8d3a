//! A bit that flipped anywhere in the store is found, or is nowhere that anybody reads.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gristmill_dfs::namenode::namespace::Namespace;

use crate::disk::Dice;
use crate::story::*;

/// Bits that are flipped, one at a time.
const FLIPS: u64 = 1500;
/// Of them in the first bytes of the file, which every start reads.
const HEAD_FLIPS: u64 = 340 * 8 / 16;

fn flip(path: &Path, bit: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8).unwrap();
}

/// Everything there is to read, or the first error.
fn read_all(path: &Path) -> Result<Vec<String>, String> {
    let namespace = Namespace::create_or_open(path, options()).map_err(|error| error.to_string())?;
    let snapshot = namespace.snapshot().map_err(|error| error.to_string())?;
    let mut seen = Vec::new();
    for directory in 0..4 {
        for file in 0..150 {
            let path = format!("/d{directory}/file-{file:03}");
            let entry = snapshot.stat(&root(), &path).map_err(|error| error.to_string())?;
            seen.push(format!("{entry:?}"));
        }
    }
    let blocks = snapshot.blocks_after(gristmill_proto::ids::BlockId(0), 10_000);
    seen.push(format!("{:?}", blocks.map_err(|error| error.to_string())?));
    seen.push(format!("{:?}", snapshot.totals()));
    Ok(seen)
}

#[test]
fn a_flipped_bit_is_refused_or_read_by_nobody() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    let story = Story { namespace: Namespace::create_or_open(&path, options()).unwrap(), ..Story::new() };
    for directory in 0..4 {
        for file in 0..150 {
            story.write(&root(), &format!("/d{directory}/file-{file:03}"), &[BLOCK, 7]);
        }
    }
    drop(story);
    let right = read_all(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let bits = whole.len() as u64 * 8;
    let mut dice = Dice(77);
    let (mut refused, mut unread) = (0, 0);
    for turn in 0..FLIPS {
        let bit = if turn < HEAD_FLIPS { turn * 16 + dice.below(16) } else { dice.below(bits) };
        fs::write(&path, &whole).unwrap();
        flip(&path, bit);
        match catch_unwind(AssertUnwindSafe(|| read_all(&path))) {
            Err(_) => panic!("bit {bit} makes it panic"),
            Ok(Err(error)) => {
                assert!(error.contains("damaged"), "bit {bit}: {error}");
                refused += 1;
            }
            Ok(Ok(seen)) => {
                assert!(turn >= HEAD_FLIPS, "bit {bit} of the head is believed");
                assert!(seen == right, "bit {bit} is believed");
                unread += 1;
            }
        }
    }
    // Most of a young store is free pages.
    assert!(refused > HEAD_FLIPS + 20 && unread > 20, "{refused} refused, {unread} unread");
}

#[test]
fn a_page_that_was_written_to_the_wrong_place_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    let story = Story { namespace: Namespace::create_or_open(&path, options()).unwrap(), ..Story::new() };
    for directory in 0..4 {
        for file in 0..150 {
            story.write(&root(), &format!("/d{directory}/file-{file:03}"), &[BLOCK]);
        }
    }
    drop(story);
    let right = read_all(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let (mut refused, stored) = (0, 4104);
    for page in (0..(whole.len() - 4096) / stored - 1).step_by(3) {
        let at = 4096 + page * stored;
        let mut swapped = whole.clone();
        swapped.copy_within(at + stored..at + 2 * stored, at);
        fs::write(&path, &swapped).unwrap();
        match read_all(&path) {
            Err(error) => {
                assert!(error.contains("damaged"), "{error}");
                refused += 1;
            }
            Ok(seen) => assert!(seen == right, "page {page} is believed"),
        }
    }
    assert!(refused > 5, "{refused} refused");
}
