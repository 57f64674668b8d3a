use thiserror::Error;

/// Why bytes are not the encoding of a value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("{what} needs {needed_bytes} bytes, but only {found_bytes} are left")]
    Truncated {
        /// What was read.
        what: &'static str,
        /// What it takes.
        needed_bytes: usize,
        /// What there is.
        found_bytes: usize,
    },
    /// A string holds something else than text.
    #[error("a string is not valid UTF-8")]
    InvalidUtf8 {
        /// Where it stops to be UTF-8.
        #[from]
        source: std::str::Utf8Error,
    },
    /// A tag is none of those that the type has.
    #[error("{tag} is not a tag of {what}")]
    InvalidTag {
        /// The type that was read.
        what: &'static str,
        /// The tag that was found.
        tag: u32,
    },
    /// A NUL in a key is followed by a byte that the encoding never puts there.
    #[error("byte {byte:#04x} follows a NUL in a key")]
    InvalidEscape {
        /// The byte that follows.
        byte: u8,
    },
    /// A length is greater than any that this host can hold.
    #[error("a length takes more than 64 bits")]
    InvalidLength,
    /// A value ends before its bytes do.
    #[error("{bytes} bytes are left over behind the value")]
    Trailing {
        /// How many are left.
        bytes: usize,
    },
    /// A value of a type with a derived encoding holds values within values to a depth that a stack may not.
    #[error("values within values are more than {levels_max} levels deep")]
    TooDeep {
        /// How deep they may be: options, lists, structs and enums count.
        levels_max: u32,
    },
    /// Lists of a type with a derived encoding are said to have more elements than the bytes could hold.
    #[error("lists have more elements than the record has bytes, and {elements_max} without bytes")]
    TooMany {
        /// How many elements may take no bytes.
        elements_max: usize,
    },
    /// The bytes of a type with a derived encoding are not a value of that type.
    #[error("a record cannot be read: {source}")]
    Record {
        /// What bincode says.
        source: bincode::error::DecodeError,
    },
    /// The bytes of a batch are none.
    #[error("a batch cannot be read: {source}")]
    Batch {
        /// What Arrow says.
        source: arrow::error::ArrowError,
    },
}
