//! Where in its input an attempt is, for errors.

use std::fmt;

use gristmill_dfs::Uri;

/// So many bytes of a key are shown in an error.
const SHOWN_KEY_BYTES_MAX: usize = 80;

/// Which record an attempt works on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// None yet.
    #[default]
    Start,
    /// A record of a file.
    Offset {
        /// The file.
        uri: Uri,
        /// Where the record starts (the block, in sequence files).
        offset: u64,
    },
    /// A record of a compressed file.
    Decompressed {
        /// The file.
        uri: Uri,
        /// Where in it decompression began.
        from: u64,
        /// Where the record starts in what was decompressed from there.
        offset: u64,
    },
    /// A generated record.
    Row(u64),
    /// A group of a reduce: its encoded key.
    Key(Vec<u8>),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => write!(f, "the start of its input"),
            Self::Offset { uri, offset } => write!(f, "offset {offset} of {uri}"),
            Self::Decompressed { uri, from: 0, offset } => {
                write!(f, "offset {offset} of {uri}, decompressed")
            }
            Self::Decompressed { uri, from, offset } => {
                write!(f, "offset {offset} of what {uri} holds, decompressed, from its offset {from} on")
            }
            Self::Row(row) => write!(f, "row {row}"),
            Self::Key(key) if key.is_empty() => write!(f, "the empty key"),
            Self::Key(key) => {
                let shown = &key[..key.len().min(SHOWN_KEY_BYTES_MAX)];
                write!(f, "key \"{}\"", shown.escape_ascii())
            }
        }
    }
}
