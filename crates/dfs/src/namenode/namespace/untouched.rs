//! A store that is looked at and not changed: what the embedded store writes while it opens, as it does after a kill, is
//! kept in memory and forgotten.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// What is kept at a time.
const PIECE_BYTES: usize = 4096;

/// The storage of a store on top of another one, to which nothing is written.
#[derive(Debug)]
pub struct Untouched<B> {
    below: B,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    /// By number.
    pieces: BTreeMap<u64, Box<[u8; PIECE_BYTES]>>,
    /// Once it was changed; and the least that it ever was: what lies above is zeros.
    len: Option<(u64, u64)>,
}

impl<B: StorageBackend> Untouched<B> {
    /// What is read is that of `below`, where nothing was written.
    pub fn new(below: B) -> Untouched<B> {
        Untouched { below, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        // Whoever panicked left a piece more or less: nothing that anybody keeps.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece as it is now.
    fn piece(&self, written: &Written, number: u64) -> io::Result<Box<[u8; PIECE_BYTES]>> {
        if let Some(piece) = written.pieces.get(&number) {
            return Ok(piece.clone());
        }
        let mut piece = Box::new([0; PIECE_BYTES]);
        let start = number * PIECE_BYTES as u64;
        let below = written.len.map_or(u64::MAX, |(_, least)| least).min(self.below.len()?);
        let there = below.saturating_sub(start).min(PIECE_BYTES as u64) as usize;
        if there > 0 {
            self.below.read(start, &mut piece[..there])?;
        }
        Ok(piece)
    }
}

/// The pieces that some bytes lie in: the number of each, where in it they begin, and how many there are.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = offset;
    let end = offset + len as u64;
    std::iter::from_fn(move || {
        let within = (at % PIECE_BYTES as u64) as usize;
        let now = (end - at).min((PIECE_BYTES - within) as u64) as usize;
        let piece = (now > 0).then_some((at / PIECE_BYTES as u64, within, now));
        at += now as u64;
        piece
    })
}

impl<B: StorageBackend> StorageBackend for Untouched<B> {
    fn len(&self) -> io::Result<u64> {
        self.written().len.map_or_else(|| self.below.len(), |(len, _)| Ok(len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (written, mut left) = (self.written(), out);
        for (number, within, now) in pieces(offset, left.len()) {
            let (here, later) = left.split_at_mut(now);
            here.copy_from_slice(&self.piece(&written, number)?[within..within + now]);
            left = later;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.len()?;
        let mut written = self.written();
        let least = written.len.map_or(before, |(_, least)| least).min(len);
        written.len = Some((len, least));
        // What was cut off does not come back with what is put on again.
        let kept = len.div_ceil(PIECE_BYTES as u64);
        drop(written.pieces.split_off(&kept));
        let within = (len % PIECE_BYTES as u64) as usize;
        if let Some(piece) = written.pieces.get_mut(&(len / PIECE_BYTES as u64)) {
            piece[within..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        if end > self.len()? {
            self.set_len(end)?;
        }
        let (mut written, mut left) = (self.written(), data);
        for (number, within, now) in pieces(offset, left.len()) {
            let mut piece = self.piece(&written, number)?;
            let (here, later) = left.split_at(now);
            piece[within..within + now].copy_from_slice(here);
            written.pieces.insert(number, piece);
            left = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    #[test]
    fn what_is_written_is_read_and_is_not_there() {
        let below = InMemoryBackend::new();
        let first: Vec<u8> = (0..10_000_u32).map(|at| (at % 251) as u8).collect();
        below.set_len(10_000).unwrap();
        below.write(0, &first).unwrap();
        let untouched = Untouched::new(below);
        let mut expected = first.clone();
        expected[4000..8200].fill(7);
        untouched.write(4000, &[7; 4200]).unwrap();
        untouched.set_len(9000).unwrap();
        untouched.set_len(12_000).unwrap();
        expected.truncate(9000);
        expected.resize(12_000, 0);
        let mut read = vec![1; 12_000];
        untouched.read(0, &mut read).unwrap();
        assert!(read == expected);
        untouched.read(11_999, &mut [0; 2]).unwrap_err();
        let mut kept = vec![0; 10_000];
        untouched.below.read(0, &mut kept).unwrap();
        assert!(kept == first, "nothing was written");
    }
}
