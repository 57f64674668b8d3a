//! What dead jobs have left in a bucket: uploads that are open, stagings that nobody ended.

use std::sync::Arc;

use super::client::{S3Client, key_of, wait};
use super::group::{Group, GroupError};
use super::layout::{self, HIDDEN};
use super::objects::{Objects, Open};
use super::records::{self, Claim};
use crate::file_system::{Cause, FsError};
use crate::store::Existing;
use crate::uri::{Place, Uri};

/// Something that is left, or still in use.
pub struct Leftover {
    /// The output of a claim; the name of an upload.
    pub uri: Uri,
    /// What it is.
    pub kind: LeftoverKind,
    /// When it was begun, in milliseconds since 1970; 0 if the store does not say.
    pub begun_ms: u64,
    client: Arc<S3Client>,
}

/// What a leftover is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// A job has claimed an output, and has not ended.
    Staging {
        /// The job, as the claim names it.
        job: String,
    },
    /// An upload that is neither completed nor aborted.
    Upload {
        /// Its id.
        id: String,
    },
}

/// Everything below `uri`: first stagings, then uploads.
pub fn leftovers(uri: &Uri) -> Result<Vec<Leftover>, FsError> {
    let failed = |cause: Cause| FsError::new("list uploads of", uri, cause);
    let Place::S3 { bucket } = uri.place() else {
        return Err(failed(Cause::Unsupported("it is not on S3, which")));
    };
    let client = S3Client::of(bucket).map_err(|error| failed(Cause::Refused(error.to_string())))?;
    let prefix = key_of("list uploads of", uri)?.to_string();
    let is_below = |key: &str| {
        prefix.is_empty()
            || key.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut found = Vec::new();
    for claim in wait(client.list(&layout::claims())).map_err(|error| failed(error.into()))? {
        // It may be given back meanwhile.
        let Some(text) = wait(client.get(&claim.key)).map_err(|error| failed(error.into()))? else {
            continue;
        };
        let record: Claim =
            records::decode(&text).map_err(|error| failed(Cause::Refused(error.to_string())))?;
        if is_below(&record.output) {
            found.push(Leftover {
                uri: client.uri(&record.output),
                kind: LeftoverKind::Staging { job: record.staging },
                begun_ms: claim.modified_ms.max(0) as u64,
                client: client.clone(),
            });
        }
    }
    let open = wait(client.open_uploads(&prefix)).map_err(|error| failed(error.into()))?;
    let open = open.into_iter().filter(|open| is_below(&open.key) && !open.key.starts_with(HIDDEN));
    found.extend(open.map(|Open { key, id, initiated }| Leftover {
        uri: client.uri(&key),
        kind: LeftoverKind::Upload { id },
        begun_ms: milliseconds(&initiated),
        client: client.clone(),
    }));
    Ok(found)
}

impl Leftover {
    /// Ends it: an upload is aborted; a staging that has decided is carried out (true), any other is aborted.
    pub fn end(&self) -> Result<bool, FsError> {
        let failed = |error: GroupError| {
            FsError::new("end what is left of", &self.uri, Cause::Refused(error.to_string()))
        };
        let key = key_of("end what is left of", &self.uri)?.to_string();
        match &self.kind {
            LeftoverKind::Upload { id } => {
                wait(self.client.abort_upload(&key, id)).map_err(|error| failed(error.into()))?;
                Ok(false)
            }
            LeftoverKind::Staging { job } => {
                let group = Group::new(self.client.clone(), job, vec![key], Existing::Refuse);
                let aborted = wait(group.abort()).map_err(&failed)?;
                wait(group.clean_up()).map_err(failed)?;
                Ok(!aborted)
            }
        }
    }
}

/// Of a time as S3 writes it; 0 of any other text.
fn milliseconds(text: &str) -> u64 {
    let digits = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let parts = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].map(digits);
    let [Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)] = parts else {
        return 0;
    };
    // Days from civil: years begin in March, so that leap days are last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    seconds.max(0) as u64 * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_s3_are_read() {
        assert_eq!(milliseconds("1970-01-01T00:00:00.000Z"), 0);
        assert_eq!(milliseconds("2024-02-29T12:30:15.000Z"), 1_709_209_815_000);
        assert_eq!(milliseconds("soon"), 0);
    }
}
