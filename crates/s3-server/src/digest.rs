//! ETags and checksums, made while bytes pass.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Crc32, Crc64Nvme, Md5, Sha1, Sha256};

use crate::store::Checksums;

/// What is made of some bytes.
pub(crate) struct Digest {
    md5: Md5,
    crc32c: u32,
    others: ChecksumHasher,
}

/// What came out.
#[derive(Clone, Debug)]
pub(crate) struct Digested {
    pub(crate) md5: [u8; 16],
    pub(crate) crc32c: u32,
    /// All that were asked for, and the CRC-32C.
    pub(crate) checksums: Checksums,
}

/// Which checksums to make besides MD5 and CRC-32C, which are made of everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) crc32: bool,
    pub(crate) crc64nvme: bool,
    pub(crate) sha1: bool,
    pub(crate) sha256: bool,
}

impl Digest {
    pub(crate) fn new(wanted: Wanted) -> Digest {
        let others = ChecksumHasher {
            crc32: wanted.crc32.then(Crc32::new),
            crc64nvme: wanted.crc64nvme.then(Crc64Nvme::new),
            sha1: wanted.sha1.then(Sha1::new),
            sha256: wanted.sha256.then(Sha256::new),
            crc32c: None,
        };
        Digest { md5: Md5::new(), crc32c: 0, others }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        self.others.update(bytes);
    }

    pub(crate) fn finish(self) -> Digested {
        let others = self.others.finalize();
        let checksums = Checksums {
            crc32: others.checksum_crc32,
            crc32c: Some(crc32c_base64(self.crc32c)),
            crc64nvme: others.checksum_crc64nvme,
            sha1: others.checksum_sha1,
            sha256: others.checksum_sha256,
        };
        Digested { md5: self.md5.finalize(), crc32c: self.crc32c, checksums }
    }
}

impl Digested {
    pub(crate) fn etag(&self) -> String {
        hex(&self.md5)
    }
}

/// Whether each checksum that `said` has is that of `found`.
pub(crate) fn agree(said: &Checksums, found: &Checksums) -> bool {
    let pairs = [
        (&said.crc32, &found.crc32),
        (&said.crc32c, &found.crc32c),
        (&said.crc64nvme, &found.crc64nvme),
        (&said.sha1, &found.sha1),
        (&said.sha256, &found.sha256),
    ];
    pairs.iter().all(|(said, found)| said.is_none() || said == found)
}

/// The ETag of an object that was uploaded in parts: the MD5 of their MD5s, and how many they are.
pub(crate) fn multipart_etag<'e>(etags: impl ExactSizeIterator<Item = &'e str>) -> String {
    let count = etags.len();
    let mut md5 = Md5::new();
    for etag in etags {
        let digits = etag.as_bytes().chunks_exact(2);
        let bytes: Vec<u8> = digits.map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect();
        md5.update(&bytes);
    }
    format!("{}-{count}", hex(&md5.finalize()))
}

/// The CRC-32C of all parts together, from that of each and its length.
pub(crate) fn combined_crc32c(parts: impl Iterator<Item = (u32, u64)>) -> u32 {
    parts.fold(0, |whole, (part, bytes)| {
        crc32c::crc32c_combine(whole, part, usize::try_from(bytes).expect("64 bits"))
    })
}

pub(crate) fn crc32c_base64(crc32c: u32) -> String {
    STANDARD.encode(crc32c.to_be_bytes())
}

/// A CRC-32C as a header says it.
pub(crate) fn crc32c_from_base64(text: &str) -> Option<u32> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// An MD5 as the header Content-MD5 says it.
pub(crate) fn md5_from_base64(text: &str) -> Option<[u8; 16]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// The value of a digit that [`hex`] wrote.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'0'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_those_of_s3() {
        let mut digest = Digest::new(Wanted::default());
        digest.update(b"hello");
        assert_eq!(digest.finish().etag(), "5d41402abc4b2a76b9719d911017c592");
        // md5(md5("hello") md5("hello")).
        let twice = ["5d41402abc4b2a76b9719d911017c592"; 2];
        assert_eq!(multipart_etag(twice.into_iter()), "616b22817b80eed9f65c3aa38cd29054-2");
    }

    #[test]
    fn crc32c_of_parts_is_that_of_the_whole() {
        let (a, b) = (b"123".as_slice(), b"456789".as_slice());
        let parts = [a, b].map(|part| (crc32c::crc32c(part), part.len() as u64));
        let whole = combined_crc32c(parts.into_iter());
        // The check value of CRC-32C.
        assert_eq!(whole, 0xe306_9283);
        assert_eq!(crc32c_from_base64(&crc32c_base64(whole)), Some(whole));
    }

    #[test]
    fn only_what_is_said_must_agree() {
        let found = Checksums { crc32c: Some("a".to_owned()), ..Checksums::default() };
        assert!(agree(&Checksums::default(), &found));
        assert!(agree(&found, &found));
        assert!(!agree(&Checksums { crc32c: Some("b".to_owned()), ..Checksums::default() }, &found));
        assert!(!agree(&Checksums { sha1: Some("a".to_owned()), ..Checksums::default() }, &found));
    }
}
