//! Records that end the attempts which come to them. (Hadoop: skipping mode, which halves ranges; here a careful attempt
//! notes each record before it takes it, so that one attempt finds what took the logarithm of their number.)
//!
//! ```text
//!   an attempt ends without a word ──> the next ones are careful
//!   two careful ones in a row end at the same record ──> it is deadly: the next one is told, and skips it if the job may
//! ```

/// Deadly records of one task that are looked for. A job that allows more bad records has them refused by its `try_map`.
const RECORDS_MAX: usize = 64;
/// Careful attempts that must end at a record. One may be killed anywhere, by the system or by hand: two at the same record
/// are no chance.
pub(super) const PROOFS: u32 = 2;

/// What is known of one task's.
#[derive(Debug, Default)]
pub(super) struct Deadly {
    /// Where the last attempt ended; 0: it did not say.
    suspect: u64,
    records: Vec<u64>,
}

impl Deadly {
    /// An attempt has ended while it worked on this record, or on none that it noted (0). Whether that makes the record a
    /// deadly one.
    pub(super) fn ended_at(&mut self, record: u64) -> bool {
        let is_new = record != 0 && !self.records.contains(&record) && self.records.len() < RECORDS_MAX;
        if is_new && self.suspect == record {
            self.suspect = 0;
            self.records.push(record);
            return true;
        }
        self.suspect = if is_new { record } else { 0 };
        false
    }

    /// What the next attempt must not take.
    pub(super) fn records(&self) -> &[u64] {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_deadly_when_two_in_a_row_end_at_it() {
        let mut deadly = Deadly::default();
        // The first was not careful; then chance ends one at 5, and 9 ends all.
        let ended = [0, 9, 5, 9, 9].map(|record| deadly.ended_at(record));
        assert_eq!(ended, [false, false, false, false, true]);
        assert_eq!(deadly.records(), [9]);
        // It cannot be proved again: an attempt that ends there all the same has failed.
        assert_eq!([9, 9, 9].map(|record| deadly.ended_at(record)), [false; 3]);
        assert_eq!([12, 12].map(|record| deadly.ended_at(record)), [false, true]);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut deadly = Deadly::default();
        let proven = (1..=1000).flat_map(|record| [record, record]).filter(|&record| deadly.ended_at(record));
        assert_eq!(proven.count(), RECORDS_MAX);
    }
}
