//! What tells a file's content from another's that had its name and its length.

use xxhash_rust::xxh3::xxh3_64;

/// Of a file's content when it was looked at. Two that are known and differ are of two contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(u64);

impl Stamp {
    /// The store cannot tell contents apart.
    pub const UNKNOWN: Stamp = Stamp(0);

    /// Of numbers that no two contents of a name have together.
    pub fn of_numbers(numbers: [u64; 2]) -> Stamp {
        Stamp::of_bytes(numbers.map(u64::to_le_bytes).as_flattened())
    }

    /// Of an ETag (RFC 9110, section 8.8.3).
    pub fn of_tag(tag: &str) -> Stamp {
        Stamp::of_bytes(tag.trim_start_matches("W/").trim_matches('"').as_bytes())
    }

    /// As it is written down: 0 if it is unknown.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The one that was written down.
    pub fn of_number(number: u64) -> Stamp {
        Stamp(number)
    }

    /// Whether both may be of one content.
    pub fn may_be(self, other: Stamp) -> bool {
        self == other || self == Stamp::UNKNOWN || other == Stamp::UNKNOWN
    }

    fn of_bytes(bytes: &[u8]) -> Stamp {
        Stamp(xxh3_64(bytes).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_differs() {
        let (one, other) = (Stamp::of_numbers([1, 2]), Stamp::of_numbers([2, 1]));
        assert!(one.may_be(one) && !one.may_be(other));
        assert!(one.may_be(Stamp::UNKNOWN) && Stamp::UNKNOWN.may_be(other));
        assert_eq!(Stamp::of_number(one.number()), one);
        assert_eq!(Stamp::of_tag("W/\"x-1\""), Stamp::of_tag("x-1"));
    }
}
