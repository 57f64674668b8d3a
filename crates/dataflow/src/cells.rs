//! Values of any size that grow in place: each has a cell of a power-of-two size, whose free space takes further
//! values until a fold is worth its price.
//!
//! ```text
//!  cell  [ used: 4 | length: 4 | first value | length: 4 | value not yet folded | ... free ]
//! ```
//! A full cell is folded into one value; if that fills more than half, it moves to a cell twice as large. So a
//! value of n bytes is folded at most once for every n/2 bytes added to it, and memory stays within a factor of
//! four of what the values need.

use crate::fold::Fold;

const LENGTH_BYTES: usize = 4;
/// Smallest cell: header and two values of eight bytes.
const CELL_BYTES_MIN: usize = 32;

/// Where a cell is: packed into the eight bytes that a table slot has for a value.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    position: u32,
    class: u32,
}

impl From<u64> for Cell {
    fn from(packed: u64) -> Self {
        Self { position: (packed >> 32) as u32, class: packed as u32 }
    }
}

impl From<Cell> for u64 {
    fn from(cell: Cell) -> Self {
        u64::from(cell.position) << 32 | u64::from(cell.class)
    }
}

/// All cells of a table.
#[derive(Default)]
pub(crate) struct Cells {
    arena: Vec<u8>,
    /// By class: cells that nobody uses.
    free: Vec<Vec<u32>>,
    folded: Vec<u8>,
}

impl Cells {
    /// Bytes that adding a value may take at most.
    pub(crate) fn cost(&self, value_bytes: usize) -> usize {
        4 * (value_bytes + 2 * LENGTH_BYTES).max(CELL_BYTES_MIN)
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.len() + self.folded.capacity()
    }

    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.free.iter_mut().for_each(Vec::clear);
        self.folded = Vec::new();
    }

    /// A new cell that holds `value`.
    pub(crate) fn add(&mut self, value: &[u8]) -> Cell {
        let cell = self.allocate(value.len() + 2 * LENGTH_BYTES);
        self.set_used(cell, LENGTH_BYTES);
        self.append(cell, value);
        cell
    }

    /// Adds `value` to what `cell` holds; the cell may move.
    pub(crate) fn push(&mut self, cell: Cell, value: &[u8], fold: &dyn Fold) -> Cell {
        if self.used(cell) + LENGTH_BYTES + value.len() <= size(cell.class) {
            self.append(cell, value);
            return cell;
        }
        let mut folded = std::mem::take(&mut self.folded);
        folded.clear();
        fold.fold_all(&mut self.values(cell).chain(std::iter::once(value)), &mut folded);
        let cell = self.store(cell, &folded);
        self.folded = folded;
        cell
    }

    /// The one value of `cell`, folded.
    pub(crate) fn value<'s>(&'s self, cell: Cell, fold: &dyn Fold, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        let mut values = self.values(cell);
        match (values.next(), values.next()) {
            (Some(only), None) => only,
            _ => {
                scratch.clear();
                fold.fold_all(&mut self.values(cell), scratch);
                scratch
            }
        }
    }

    /// Replaces what `cell` holds; at least half of the cell stays free.
    fn store(&mut self, cell: Cell, value: &[u8]) -> Cell {
        let needed = 2 * LENGTH_BYTES + value.len();
        if 2 * needed <= size(cell.class) {
            self.set_used(cell, LENGTH_BYTES);
            self.append(cell, value);
            return cell;
        }
        let classes = self.free.len().max(cell.class as usize + 1);
        self.free.resize_with(classes, Vec::new);
        self.free[cell.class as usize].push(cell.position);
        let wider = self.allocate(2 * needed);
        self.set_used(wider, LENGTH_BYTES);
        self.append(wider, value);
        wider
    }

    fn allocate(&mut self, bytes: usize) -> Cell {
        let class =
            bytes.max(CELL_BYTES_MIN).next_power_of_two().trailing_zeros() - CELL_BYTES_MIN.trailing_zeros();
        let freed = self.free.get_mut(class as usize).and_then(Vec::pop);
        let position = freed.unwrap_or_else(|| {
            let end = self.arena.len();
            self.arena.resize(end + size(class), 0);
            end as u32
        });
        Cell { position, class }
    }

    fn append(&mut self, cell: Cell, value: &[u8]) {
        let used = self.used(cell);
        let at = cell.position as usize + used;
        self.arena[at..at + LENGTH_BYTES].copy_from_slice(&(value.len() as u32).to_le_bytes());
        self.arena[at + LENGTH_BYTES..][..value.len()].copy_from_slice(value);
        self.set_used(cell, used + LENGTH_BYTES + value.len());
    }

    fn values(&self, cell: Cell) -> impl Iterator<Item = &[u8]> {
        let bytes = &self.arena[cell.position as usize..][..self.used(cell)];
        let mut left = &bytes[LENGTH_BYTES..];
        std::iter::from_fn(move || {
            let (length, rest) = left.split_first_chunk::<LENGTH_BYTES>()?;
            let (value, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            left = rest;
            Some(value)
        })
    }

    fn used(&self, cell: Cell) -> usize {
        let at = cell.position as usize;
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.arena[at + byte])) as usize
    }

    fn set_used(&mut self, cell: Cell, used: usize) {
        let at = cell.position as usize;
        self.arena[at..at + LENGTH_BYTES].copy_from_slice(&(used as u32).to_le_bytes());
    }
}

fn size(class: u32) -> usize {
    CELL_BYTES_MIN << class
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Concatenates.
    struct Concat;

    impl Fold for Concat {
        fn word_bytes(&self) -> Option<usize> {
            None
        }
        fn fold_word(&self, _: u64, _: u64) -> u64 {
            unreachable!("values have no fixed width")
        }
        fn fold_all(&self, values: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
            values.for_each(|value| out.extend_from_slice(value));
        }
    }

    proptest! {
        #[test]
        fn cells_hold_what_was_pushed_and_do_not_disturb_each_other(
            pushes in prop::collection::vec((0usize..5, prop::collection::vec(any::<u8>(), 0..70)), 0..300)
        ) {
            let mut cells = Cells::default();
            let mut model: Vec<Vec<u8>> = vec![Vec::new(); 5];
            let mut held: Vec<Option<Cell>> = vec![None; 5];
            for (which, value) in pushes {
                model[which].extend_from_slice(&value);
                held[which] = Some(match held[which] {
                    None => cells.add(&value),
                    Some(cell) => cells.push(cell, &value, &Concat),
                });
            }
            for (cell, expected) in held.into_iter().zip(model) {
                if let Some(cell) = cell {
                    let mut scratch = Vec::new();
                    prop_assert_eq!(cells.value(cell, &Concat, &mut scratch), &expected[..]);
                }
            }
        }
    }

    #[test]
    fn memory_follows_the_values_and_not_the_number_of_folds() {
        /// Keeps the last.
        struct Last;
        impl Fold for Last {
            fn word_bytes(&self) -> Option<usize> {
                None
            }
            fn fold_word(&self, _: u64, _: u64) -> u64 {
                unreachable!("values have no fixed width")
            }
            fn fold_all(&self, values: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
                out.extend_from_slice(values.last().expect("at least one value"));
            }
        }
        let mut cells = Cells::default();
        let mut cell = cells.add(&[1; 20]);
        for _ in 0..100_000 {
            cell = cells.push(cell, &[2; 20], &Last);
        }
        assert!(cells.bytes() < 1024, "{} bytes for one value of 20", cells.bytes());
    }
}
