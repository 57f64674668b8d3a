//! Cuts input files into splits, one for each map task: large files at byte offsets, small files packed.

use crate::compression::Compression;
use gristmill_dfs::{FileInfo, Stamp, Uri};

/// A file costs at least this much of a split, so that a split of tiny files is not all opening and closing.
const FILE_COST_BYTES: u64 = 64 << 10;
/// The last piece of a file may be a tenth larger than the others: it is not worth a task of its own
/// (Hadoop: `FileInputFormat.SPLIT_SLOP`).
const SPLIT_SLOP_PERCENT: u64 = 10;
/// A job with more map tasks than this spends its time on scheduling: the splits grow instead.
pub const SPLITS_MAX: u64 = 100_000;

/// A piece of one file: the records whose first byte lies in `start..end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The file.
    pub uri: Uri,
    /// First byte of the piece.
    pub start: u64,
    /// Byte after the last of the piece.
    pub end: u64,
    /// Length of the whole file when the input was listed; a file that has changed is refused.
    pub file_bytes: u64,
    /// Its content then.
    pub stamp: Stamp,
}

/// What one map task reads: pieces of one or of many files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// In the order in which they are read.
    pub ranges: Vec<FileRange>,
}

impl Split {
    /// Bytes of all pieces.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }
}

/// How to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitRule {
    /// Largest split, bytes, at least 1 (the last of a file may be a tenth larger).
    pub split_bytes: u64,
    /// Files whose format allows it are cut so that there are at least this many splits.
    pub splits_min: u64,
    /// Cuts fall on multiples of this (fixed-length records), 1 otherwise.
    pub align_bytes: u64,
    /// Files of this format are never empty: an empty one is read, so that the reader says that it is damaged.
    pub headed: bool,
}

/// Where a file may be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// At any byte.
    Anywhere,
    /// At these offsets, in order.
    At(Vec<u64>),
    /// Nowhere, for this reason.
    Nowhere(&'static str),
}

/// Splits, and what kept them from being more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cutting {
    /// One for each map task.
    pub splits: Vec<Split>,
    /// Files that are larger than a split should be, and why they are whole all the same.
    pub uncut: Vec<(FileInfo, &'static str)>,
}

/// Cuts `files`, in their order, into splits. Empty files are in no split, unless they have a header; `cuts` is asked for
/// files that are larger than a split should be.
pub fn plan_splits<E>(
    files: &[FileInfo],
    rule: SplitRule,
    mut cuts: impl FnMut(&FileInfo) -> Result<Cuts, E>,
) -> Result<Cutting, E> {
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    let wanted = total.div_ceil(rule.splits_min.max(1)).min(rule.split_bytes).max(total.div_ceil(SPLITS_MAX));
    let align = rule.align_bytes.max(1);
    let target = wanted.max(1).div_ceil(align) * align;
    let mut packer = Packer::new(files, rule);
    let mut uncut = Vec::new();
    for file in
        files.iter().filter(|file| file.bytes > 0 || rule.headed || Compression::of(&file.uri).is_some())
    {
        if file.bytes <= target {
            packer.pack(whole(file));
            continue;
        }
        match cuts(file)? {
            Cuts::Anywhere => cut(file, target).into_iter().for_each(|range| packer.alone(range)),
            Cuts::At(offsets) if offsets.iter().any(|offset| (1..file.bytes).contains(offset)) => {
                cut_at(file, target, &offsets).into_iter().for_each(|range| packer.alone(range));
            }
            Cuts::At(_) => {
                uncut.push((file.clone(), "it is one frame"));
                packer.alone(whole(file));
            }
            Cuts::Nowhere(reason) => {
                uncut.push((file.clone(), reason));
                packer.pack(whole(file));
            }
        }
    }
    Ok(Cutting { splits: packer.finish(), uncut })
}

/// Pieces of at least `target` bytes, cut at some of `offsets`; the last piece may be smaller.
fn cut_at(file: &FileInfo, target: u64, offsets: &[u64]) -> Vec<FileRange> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for &end in offsets.iter().filter(|end| **end < file.bytes) {
        if end >= start + target {
            ranges.push(FileRange { start, end, ..whole(file) });
            start = end;
        }
    }
    ranges.push(FileRange { start, ..whole(file) });
    ranges
}

fn whole(file: &FileInfo) -> FileRange {
    FileRange { uri: file.uri.clone(), start: 0, end: file.bytes, file_bytes: file.bytes, stamp: file.stamp }
}

fn cut(file: &FileInfo, target: u64) -> Vec<FileRange> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < file.bytes {
        let left = file.bytes - start;
        let slop = target + target * SPLIT_SLOP_PERCENT / 100;
        let end = if left <= slop { file.bytes } else { start + target };
        ranges.push(FileRange { start, end, ..whole(file) });
        start = end;
    }
    ranges
}

fn cost(bytes: u64) -> u64 {
    bytes.max(FILE_COST_BYTES)
}

/// Fills splits with small files, one after the other.
struct Packer {
    target_cost: u64,
    open: Split,
    open_cost: u64,
    done: Vec<Split>,
}

impl Packer {
    fn new(files: &[FileInfo], rule: SplitRule) -> Self {
        let total_cost: u64 = files.iter().map(|file| cost(file.bytes)).sum();
        let target_cost = total_cost.div_ceil(rule.splits_min.max(1)).min(rule.split_bytes);
        Self { target_cost, open: Split::default(), open_cost: 0, done: Vec::new() }
    }

    fn pack(&mut self, range: FileRange) {
        let cost = cost(range.end - range.start);
        if !self.open.ranges.is_empty() && self.open_cost + cost > self.target_cost {
            self.close();
        }
        self.open_cost += cost;
        self.open.ranges.push(range);
    }

    fn alone(&mut self, range: FileRange) {
        self.close();
        self.done.push(Split { ranges: vec![range] });
    }

    fn close(&mut self) {
        if !self.open.ranges.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
        self.open_cost = 0;
    }

    fn finish(mut self) -> Vec<Split> {
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: u64) -> FileInfo {
        FileInfo { uri: Uri::parse(name).expect("a path"), bytes, stamp: Stamp::UNKNOWN }
    }

    fn rule(split_bytes: u64, splits_min: u64) -> SplitRule {
        SplitRule { split_bytes, splits_min, align_bytes: 1, headed: false }
    }

    fn plan_splits(files: &[FileInfo], rule: SplitRule) -> Vec<Split> {
        plan_with(files, rule, Cuts::Anywhere).splits
    }

    fn plan_with(files: &[FileInfo], rule: SplitRule, cuts: Cuts) -> Cutting {
        let cuts = |_: &FileInfo| Ok::<_, std::convert::Infallible>(cuts.clone());
        super::plan_splits(files, rule, cuts).unwrap_or_else(|never| match never {})
    }

    fn lengths(splits: &[Split]) -> Vec<u64> {
        splits.iter().map(Split::bytes).collect()
    }

    #[test]
    fn a_large_file_is_cut_and_its_last_piece_may_be_a_tenth_larger() {
        assert_eq!(lengths(&plan_splits(&[file("a", 309)], rule(100, 1))), [100, 100, 109]);
        assert_eq!(lengths(&plan_splits(&[file("a", 311)], rule(100, 1))), [100, 100, 100, 11]);
    }

    #[test]
    fn a_small_input_still_makes_the_splits_that_were_asked_for() {
        assert_eq!(lengths(&plan_splits(&[file("a", 1024)], rule(64 << 20, 2))), [512, 512]);
        assert_eq!(lengths(&plan_splits(&[file("a", 1)], rule(64 << 20, 2))), [1]);
    }

    #[test]
    fn ten_thousand_tiny_files_go_into_few_splits_and_none_is_lost() {
        let files: Vec<_> = (0..10_000).map(|i| file(&format!("f{i:05}"), i % 3)).collect();
        let splits = plan_splits(&files, rule(64 << 20, 2));
        assert!(splits.len() <= 20, "{} splits", splits.len());
        let read: Vec<_> =
            splits.iter().flat_map(|split| &split.ranges).map(|range| range.uri.clone()).collect();
        let full: Vec<_> = files.iter().filter(|f| f.bytes > 0).map(|f| f.uri.clone()).collect();
        assert_eq!(read, full);
    }

    #[test]
    fn cuts_of_fixed_length_records_fall_between_records() {
        let splits = plan_splits(&[file("a", 1000)], SplitRule { align_bytes: 100, ..rule(250, 1) });
        assert!(splits.iter().all(|split| split.ranges[0].start % 100 == 0), "{splits:?}");
        assert_eq!(splits.iter().map(Split::bytes).sum::<u64>(), 1000);
    }

    #[test]
    fn a_file_that_cannot_be_split_is_one_range_and_is_told_of() {
        let cutting = plan_with(&[file("a", 1000), file("b", 5)], rule(10, 7), Cuts::Nowhere("why"));
        assert_eq!(lengths(&cutting.splits), [1000, 5]);
        assert_eq!(cutting.uncut, [(file("a", 1000), "why")]);
    }

    #[test]
    fn frames_stay_whole_and_fill_splits() {
        let frames = Cuts::At((0..10).map(|frame| frame * 40).collect());
        assert_eq!(lengths(&plan_with(&[file("a", 400)], rule(100, 1), frames).splits), [120, 120, 120, 40]);
        let one = plan_with(&[file("a", 400)], rule(100, 1), Cuts::At(vec![0]));
        assert_eq!((lengths(&one.splits), one.uncut.len()), (vec![400], 1));
    }

    #[test]
    fn an_empty_file_is_read_if_it_should_not_be_empty() {
        assert_eq!(plan_splits(&[file("a", 0), file("b.gz", 0)], rule(10, 1)).len(), 1);
    }
}
