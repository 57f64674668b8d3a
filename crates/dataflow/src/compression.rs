//! Compressed files: which there are, how they are read beside the map work, where they can be cut, how they are written.
//!
//! ```text
//!  file -> CompressedFile -> Decoder  | thread of its own |  -> chunks, at most CHUNKS_MAX -> Decompression -> records
//! ```

mod bzip2;
mod compressed_file;
mod decoder;
mod encoder;
mod stream;
mod zstd_frames;

pub(crate) use encoder::Encoder;
pub(crate) use stream::Decompression;
pub use zstd_frames::zstd_frames;

use gristmill_dfs::Uri;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A file may decompress to so many times its size, once it has given [`RATIO_FREE_BYTES`]. Gzip cannot reach 1,033 and real
/// data seldom reaches 100: what exceeds this was made to exhaust its reader.
pub const RATIO_MAX: u64 = 2_000;
/// Below this even a bomb does no harm.
pub const RATIO_FREE_BYTES: u64 = 64 << 20;
/// The window of a zstd frame may have at most 2 to this many bytes, as for the `zstd` program without `--long=31`: 128 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How the bytes of a file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// `.gz`: gzip, of one or several members.
    Gzip,
    /// `.zst`: zstd, of one or several frames.
    Zstd,
    /// `.bz2`: bzip2, of one or several streams.
    Bzip2,
    /// `.sz`, `.snappy`: the framing format of snappy.
    Snappy,
    /// `.lz4`: LZ4 frames.
    Lz4,
}

/// A name that is none of a compression.
#[derive(Debug, Error)]
#[error("{name:?} is no compression that Gristmill writes: zstd and gzip are")]
pub struct UnknownCompression {
    /// What was given.
    pub name: String,
}

/// Endings of names.
const SUFFIXES: [(&str, Compression); 6] = [
    ("gz", Compression::Gzip),
    ("zst", Compression::Zstd),
    ("bz2", Compression::Bzip2),
    ("sz", Compression::Snappy),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
];

impl Compression {
    /// How the file is compressed, by the end of its name.
    pub fn of(uri: &Uri) -> Option<Self> {
        let suffix = uri.path().extension()?.to_str()?;
        SUFFIXES
            .iter()
            .find(|(known, _)| suffix.eq_ignore_ascii_case(known))
            .map(|(_, compression)| *compression)
    }

    /// The end of the name of a file that is compressed so.
    pub fn suffix(self) -> &'static str {
        SUFFIXES.iter().find(|(_, known)| *known == self).map_or("", |(suffix, _)| suffix)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// Those that can be written.
    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        let written = [Self::Zstd, Self::Gzip];
        let found = written.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| UnknownCompression { name: name.to_owned() })
    }
}
