//! What the control objects hold, as JSON (docs/commit.md).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::owner::Owner;

/// Of all records; another version is refused.
const VERSION: u32 = 1;

/// Who writes an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) version: u32,
    /// The output's name.
    pub(super) output: String,
    /// The name of the staging.
    pub(super) staging: String,
    /// The process whose end is the staging's. None of a cluster's job, which no process's end ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<Owner>,
}

/// An upload that holds bytes, or may. Written without the id before the upload is begun, and with it before its
/// first part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) version: u32,
    pub(super) key: String,
    pub(super) id: Option<String>,
}

/// What becomes of a staging. Written once: who comes second reads what was first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Decision {
    pub(super) version: u32,
    /// Of whoever wrote it: how an answer that was lost is told from another writer.
    pub(super) token: String,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Commit(Commit),
    Abort,
}

/// All that a later process needs to carry the commit out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Commit {
    pub(super) files: Vec<File>,
    /// Objects of a former output that give way.
    pub(super) replaced: Vec<String>,
    /// The names of the outputs, each of which gets `_SUCCESS` with `manifest`.
    pub(super) outputs: Vec<String>,
    pub(super) manifest: String,
    /// The name of that file, if it is another: of an output that was appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) success: Option<String>,
}

/// A file of a winner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    pub(super) key: String,
    pub(super) bytes: u64,
    pub(super) receipt: Receipt,
}

/// With what an upload is completed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) id: String,
    pub(super) tags: Vec<String>,
}

impl Claim {
    pub(super) fn new(output: &str, staging: &str, owner: Option<&Owner>) -> Claim {
        let (output, staging) = (output.to_owned(), staging.to_owned());
        Claim { version: VERSION, output, staging, owner: owner.cloned() }
    }
}

impl Upload {
    pub(super) fn new(key: &str, id: Option<&str>) -> Upload {
        Upload { version: VERSION, key: key.to_owned(), id: id.map(str::to_owned) }
    }
}

impl Decision {
    pub(super) fn new(token: &str, verdict: Verdict) -> Decision {
        Decision { version: VERSION, token: token.to_owned(), verdict }
    }

    pub(super) fn commit(&self) -> Option<&Commit> {
        match &self.verdict {
            Verdict::Commit(commit) => Some(commit),
            Verdict::Abort => None,
        }
    }
}

/// The text of a record.
pub(super) fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys only")
}

/// A record from its text.
pub(super) fn decode<R: DeserializeOwned>(text: &[u8]) -> Result<R, serde_json::Error> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let versioned: Versioned = serde_json::from_slice(text)?;
    if versioned.version != VERSION {
        let sentence = format!("it is of version {}, this program knows {VERSION}", versioned.version);
        return Err(serde::de::Error::custom(sentence));
    }
    serde_json::from_slice(text)
}
