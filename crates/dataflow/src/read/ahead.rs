//! The files of a split, each opened before it is wanted: where opening is a request, a split of small files is all requests, and
//! one after the other they would cost a round trip each.

use super::ReadError;
use crate::memory::TaskMemory;
use crate::split::FileRange;
use gristmill_dfs::{OPENING_BYTES_MAX, Opening, ReadAt};
use std::collections::VecDeque;
use std::slice::Iter;

/// Files that are being opened while one is read: at 20 ms for a request, 1,600 files a second.
pub const FILES_AHEAD_MAX: usize = 32;
/// How many of them are begun at once: one by one each would wake the threads of the network for itself, which costs as much as
/// its request.
const FILES_BEGUN_AT_ONCE: usize = FILES_AHEAD_MAX / 2;

/// What begins to open the file of a piece, if that takes a request.
pub type BeginOpen<'r> = Box<dyn Fn(&FileRange) -> Option<Box<dyn Opening>> + 'r>;

/// Pieces with their files, in the order of the pieces.
pub struct FilesAhead<'r> {
    rest: Iter<'r, FileRange>,
    begin: BeginOpen<'r>,
    ahead: VecDeque<Ahead<'r>>,
    /// What the beginnings of those files may hold in memory together,
    bytes_max: u64,
    /// and what they hold at most now.
    bytes: u64,
}

/// A piece whose file is being opened.
struct Ahead<'r> {
    range: &'r FileRange,
    /// None where opening takes no request, or its name is wrong: that is said when it is its turn.
    opening: Option<Box<dyn Opening>>,
    bytes: u64,
}

impl<'r> FilesAhead<'r> {
    /// Of these pieces.
    pub fn new(ranges: &'r [FileRange], memory: TaskMemory) -> Self {
        let begin = |range: &FileRange| range.uri.store().ok()?.begin_open(&range.uri);
        Self::begun_by(ranges, memory, Box::new(begin))
    }

    /// The same with another way to begin.
    pub fn begun_by(ranges: &'r [FileRange], memory: TaskMemory, begin: BeginOpen<'r>) -> Self {
        let bytes_max = memory.ahead_bytes() as u64;
        Self { rest: ranges.iter(), begin, ahead: VecDeque::new(), bytes_max, bytes: 0 }
    }

    /// Begins to open as many as may be, once there is room for enough of them; one at least.
    fn fill(&mut self) {
        if self.ahead.len() + FILES_BEGUN_AT_ONCE > FILES_AHEAD_MAX + 1 {
            return;
        }
        while self.ahead.len() <= FILES_AHEAD_MAX {
            let Some(range) = self.rest.as_slice().first() else { return };
            let bytes = range.file_bytes.min(OPENING_BYTES_MAX);
            if !self.ahead.is_empty() && self.bytes + bytes > self.bytes_max {
                return;
            }
            self.rest.next();
            let opening = (self.begin)(range);
            self.ahead.push_back(Ahead { range, opening, bytes });
            self.bytes += bytes;
        }
    }
}

impl<'r> Iterator for FilesAhead<'r> {
    type Item = (&'r FileRange, Result<Box<dyn ReadAt>, ReadError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        let Ahead { range, opening, bytes } = self.ahead.pop_front()?;
        self.bytes -= bytes;
        let opened = match opening {
            Some(opening) => opening.finish().map_err(ReadError::from),
            None => open(range),
        };
        Some((range, opened))
    }
}

fn open(range: &FileRange) -> Result<Box<dyn ReadAt>, ReadError> {
    Ok(range.uri.store()?.open(&range.uri)?)
}
