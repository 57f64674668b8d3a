//! What the index keeps, in protobuf: fields are only ever added.

use std::collections::BTreeMap;

use prost::Message;

/// A file below `objects`, and how much of an object is in it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DataFile {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) bytes: u64,
}

/// The headers that an author of an object chooses, and gets back with it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Headers {
    #[prost(string, optional, tag = "1")]
    pub(crate) cache_control: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) content_disposition: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) content_encoding: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) content_language: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) content_type: Option<String>,
    /// As HTTP writes dates.
    #[prost(string, optional, tag = "6")]
    pub(crate) expires: Option<String>,
    /// `x-amz-meta-`
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// The checksums that came with some bytes, and were right; base 64.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Checksums {
    #[prost(string, optional, tag = "1")]
    pub(crate) crc32: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) crc32c: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) crc64nvme: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) sha1: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) sha256: Option<String>,
}

/// An object. Its first three fields are those of [`ObjectSummary`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ObjectRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) bytes: u64,
    /// Without quotes.
    #[prost(string, tag = "2")]
    pub(crate) etag: String,
    /// Seconds of the epoch: the headers of HTTP know nothing finer.
    #[prost(uint64, tag = "3")]
    pub(crate) modified_s: u64,
    #[prost(message, required, tag = "4")]
    pub(crate) headers: Headers,
    #[prost(message, required, tag = "5")]
    pub(crate) checksums: Checksums,
    /// In the order of its bytes: one, or one for each part of the upload. Never none.
    #[prost(message, repeated, tag = "6")]
    pub(crate) data: Vec<DataFile>,
    /// Whether it was uploaded in parts, be it one.
    #[prost(bool, tag = "7")]
    pub(crate) multipart: bool,
}

/// What listings show of an [`ObjectRecord`], without the rest of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ObjectSummary {
    #[prost(uint64, tag = "1")]
    pub(crate) bytes: u64,
    #[prost(string, tag = "2")]
    pub(crate) etag: String,
    #[prost(uint64, tag = "3")]
    pub(crate) modified_s: u64,
}

/// An upload in parts that is neither completed nor aborted.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct UploadRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) initiated_s: u64,
    #[prost(message, required, tag = "2")]
    pub(crate) headers: Headers,
}

/// A part of such an upload.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PartRecord {
    #[prost(message, required, tag = "1")]
    pub(crate) data: DataFile,
    /// Without quotes: the MD5 in hex.
    #[prost(string, tag = "2")]
    pub(crate) etag: String,
    #[prost(uint64, tag = "3")]
    pub(crate) modified_s: u64,
    /// Of its bytes, whether the client gave it or not: the CRC-32C of the whole object follows from those of its parts.
    #[prost(fixed32, tag = "4")]
    pub(crate) crc32c: u32,
    #[prost(message, required, tag = "5")]
    pub(crate) checksums: Checksums,
}
