//! Names of the files of a replica. They tell all that is needed to open a million replicas without reading one.

use gristmill_proto::ids::{BlockId, Generation};

/// What a name in a directory of blocks says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `12`: the bytes of a replica.
    Data(BlockId),
    /// `12_7_4096.sum`, `12_7.open` or `12_7.copy`: its checksums, and what state it is in.
    Sums(BlockId, SumName),
    /// `*.new`: a file that was not yet given its name.
    Temporary,
    /// Nothing of ours.
    Strange,
}

/// The state of a replica, as the name of its checksum file says it. Greater ones replace lesser ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SumName {
    pub(super) generation: Generation,
    pub(super) state: State,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// A copy of a finished replica on its way here. Worth nothing before it is finished.
    Copied,
    /// Written by a client, not finished.
    Written,
    /// Finished, with this many bytes.
    Finished { bytes: u64 },
}

impl Name {
    pub(super) fn parse(text: &str) -> Name {
        if text.ends_with(".new") {
            return Name::Temporary;
        }
        parse_known(text).unwrap_or(Name::Strange)
    }
}

impl SumName {
    pub(super) fn text(self, block: BlockId) -> String {
        let (block, generation) = (block.0, self.generation.0);
        match self.state {
            State::Copied => format!("{block}_{generation}.copy"),
            State::Written => format!("{block}_{generation}.open"),
            State::Finished { bytes } => format!("{block}_{generation}_{bytes}.sum"),
        }
    }
}

/// The directory of a block's files, one of 256: ids rise, so their low bytes spread evenly.
pub(super) fn directory_of(block: BlockId) -> String {
    directory_named(block.0 as u8)
}

pub(super) fn directory_named(low_byte: u8) -> String {
    format!("{low_byte:02x}")
}

fn parse_known(text: &str) -> Option<Name> {
    let Some((numbers, kind)) = text.split_once('.') else {
        return number(text).map(|block| Name::Data(BlockId(block)));
    };
    let mut numbers = numbers.split('_').map(number);
    let block = BlockId(numbers.next()??);
    let generation = Generation(numbers.next()??);
    let state = match kind {
        "copy" => State::Copied,
        "open" => State::Written,
        "sum" => State::Finished { bytes: numbers.next()?? },
        _ => return None,
    };
    numbers.next().is_none().then_some(Name::Sums(block, SumName { generation, state }))
}

/// A number as we write it: only digits, no zeros before it.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums(generation: u64, state: State) -> SumName {
        SumName { generation: Generation(generation), state }
    }

    #[test]
    fn names_are_what_the_formats_say() {
        let finished = sums(7, State::Finished { bytes: 4096 });
        assert_eq!(finished.text(BlockId(12)), "12_7_4096.sum");
        assert_eq!(sums(7, State::Written).text(BlockId(12)), "12_7.open");
        assert_eq!(sums(7, State::Copied).text(BlockId(12)), "12_7.copy");
        assert_eq!(directory_of(BlockId(0x1234)), "34");
        assert_eq!(Name::parse("12"), Name::Data(BlockId(12)));
        assert_eq!(Name::parse("12_7_4096.sum.new"), Name::Temporary);
    }

    #[test]
    fn what_we_would_not_write_is_strange() {
        let strange = [
            "",
            "012",
            "+1",
            "1_2",
            "1_2.sum",
            "1_2_3.open",
            "1_2_3_4.sum",
            "1__3.sum",
            "a",
            "1.",
            "1_2.opened",
            "18446744073709551616",
            "1_-2.open",
            " 1",
        ];
        for text in strange {
            assert_eq!(Name::parse(text), Name::Strange, "{text:?}");
        }
    }

    #[test]
    fn later_states_are_greater() {
        let order = [
            sums(5, State::Copied),
            sums(5, State::Written),
            sums(5, State::Finished { bytes: 9 }),
            sums(6, State::Copied),
        ];
        assert!(order.is_sorted());
    }

    proptest! {
        #[test]
        fn names_say_what_they_were_made_of(block: u64, generation: u64, bytes: u64, which in 0..3) {
            let state = [State::Copied, State::Written, State::Finished { bytes }][which as usize];
            let name = sums(generation, state);
            prop_assert_eq!(Name::parse(&name.text(BlockId(block))), Name::Sums(BlockId(block), name));
        }

        #[test]
        fn any_text_has_some_meaning(text in ".*") {
            if let Name::Sums(block, name) = Name::parse(&text) {
                prop_assert_eq!(name.text(block), text);
            }
        }
    }
}
