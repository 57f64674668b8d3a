//! An author's combine function, seen from the data path: it folds encoded values.

/// Folds values of one key into one. Must be associative and commutative: it is applied to whatever values
/// happen to meet, any number of times.
pub trait Fold: Send + Sync {
    /// Width of an encoded value, if all values have the same of at most eight bytes.
    fn word_bytes(&self) -> Option<usize>;

    /// Folds two values that have [`Fold::word_bytes`] bytes each, as big-endian numbers.
    fn fold_word(&self, sum: u64, value: u64) -> u64;

    /// Folds all of `values` (at least one) and appends the result to `out`.
    fn fold_all(&self, values: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>);
}
