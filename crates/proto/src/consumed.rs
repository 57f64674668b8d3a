//! What a reduce attempt has read, in 16 bytes: two attempts have read the same if and only if these are equal. It is a
//! sum over map outputs, so that the master keeps one for each shuffle, however many outputs and readers there are.

use sha2::{Digest, Sha256};

/// Sum over map outputs: of each its task and its digest.
///
/// Each adds the first 16 bytes, little endian, of the SHA-256 of its stage and task (4 bytes each, little endian) and
/// its digest. The sum wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed(u128);

impl Consumed {
    /// The map output of this task was read.
    pub fn add(&mut self, stage: u32, task: u32, digest: &[u8]) {
        self.0 = self.0.wrapping_add(term(stage, task, digest));
    }

    /// It was another one after all.
    pub fn remove(&mut self, stage: u32, task: u32, digest: &[u8]) {
        self.0 = self.0.wrapping_sub(term(stage, task, digest));
    }

    /// As it is sent.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

fn term(stage: u32, task: u32, digest: &[u8]) -> u128 {
    let hash = Sha256::new()
        .chain_update(stage.to_le_bytes())
        .chain_update(task.to_le_bytes())
        .chain_update(digest)
        .finalize();
    let first: [u8; 16] = std::array::from_fn(|at| hash[at]);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(outputs: &[(u32, u32, &[u8])]) -> Consumed {
        let mut consumed = Consumed::default();
        outputs.iter().for_each(|(stage, task, digest)| consumed.add(*stage, *task, digest));
        consumed
    }

    #[test]
    fn order_does_not_count_but_which_task_had_which_output_does() {
        let one = of(&[(0, 1, b"a"), (0, 2, b"b")]);
        assert_eq!(one, of(&[(0, 2, b"b"), (0, 1, b"a")]));
        assert_ne!(one, of(&[(0, 1, b"b"), (0, 2, b"a")]));
        assert_ne!(one, of(&[(1, 1, b"a"), (0, 2, b"b")]));
        let mut other = of(&[(0, 1, b"a"), (0, 2, b"c")]);
        other.remove(0, 2, b"c");
        other.add(0, 2, b"b");
        assert_eq!(one, other);
    }
}
