//! Where the objects are that no reader of an output should meet (docs/commit.md).
//!
//! ```text
//!   .gristmill/claims/<md5 of the output's name>      who writes this output
//!   .gristmill/jobs/<staging>/decision                commit or abort: written once
//!   .gristmill/jobs/<staging>/done                    the commit is carried out
//!   .gristmill/jobs/<staging>/uploads/<attempt>/<md5 of the file's name>
//!   .gristmill/probe/<token>                          whether conditions are kept
//! ```

use md5::{Digest, Md5};

/// Everything of ours.
pub(super) const HIDDEN: &str = ".gristmill";

/// Names the objects of one staging.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    directory: String,
}

impl Layout {
    pub(super) fn new(staging: &str) -> Layout {
        Layout { directory: format!("{HIDDEN}/jobs/{staging}") }
    }

    pub(super) fn decision(&self) -> String {
        format!("{}/decision", self.directory)
    }

    pub(super) fn done(&self) -> String {
        format!("{}/done", self.directory)
    }

    /// Of all uploads.
    pub(super) fn uploads(&self) -> String {
        format!("{}/uploads", self.directory)
    }

    pub(super) fn upload(&self, attempt: &str, key: &str) -> String {
        format!("{}/{attempt}/{}", self.uploads(), digest(key))
    }
}

/// Of an output.
pub(super) fn claim(output: &str) -> String {
    format!("{}/{}", claims(), digest(output))
}

pub(super) fn claims() -> String {
    format!("{HIDDEN}/claims")
}

pub(super) fn probe(token: &str) -> String {
    format!("{HIDDEN}/probe/{token}")
}

/// A name of a fixed length for one of any length. Not for secrets.
pub(super) fn digest(name: &str) -> String {
    hex(&Md5::digest(name.as_bytes()))
}

/// The tag that S3 gives an object of these parts, where it gives parts the MD5 of their bytes: the MD5 of those, and
/// the number of parts. None where parts have other tags.
pub(super) fn tag_of_parts(tags: &[String]) -> Option<String> {
    let mut all = Md5::new();
    for tag in tags {
        let digits = tag.trim_matches('"');
        if digits.len() != 32 {
            return None;
        }
        for at in (0..digits.len()).step_by(2) {
            all.update([u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?]);
        }
    }
    Some(format!("\"{}-{}\"", hex(&all.finalize()), tags.len()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_an_object_follows_from_those_of_its_parts() {
        // One empty part, as S3 has it.
        let empty = "\"d41d8cd98f00b204e9800998ecf8427e\"".to_owned();
        let tag = tag_of_parts(&[empty]).expect("an MD5");
        assert_eq!(tag, "\"59adb24ef3cdbe0297f05b395827453f-1\"");
        assert_eq!(tag_of_parts(&["0".to_owned()]), None);
        assert_eq!(tag_of_parts(&["é".repeat(16)]), None);
    }
}
