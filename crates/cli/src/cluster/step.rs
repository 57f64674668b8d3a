//! A step as people write it, on a command line or in a file.
//!
//! ```text
//!   "PROGRAM ARGS ..."                                    split as a shell splits words
//!   "name=wc on-failure=continue retries=2 timeout=10m depends-on=a,b -- PROGRAM ARGS ..."
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use gristmill_dfs::file_system::{
    Access, Cause, CreateOptions, Credential, DeleteOptions, DfsIdentity, FileSystem,
};
use gristmill_dfs::{Place, Uri};
use gristmill_proto::cluster::StepSpec;
use gristmill_proto::cluster::step_spec::ActionOnFailure;
use gristmill_proto::ids::JobId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::span::parse_span_ms;
use crate::failure::Failure;
use crate::job::client::Master;

/// Where programs are, in dfs://: those of jobs, too, so that the driver finds what was sent with its step.
const PROGRAMS: &str = "/.gristmill/programs";
const COPY_BYTES: usize = 1 << 20;

/// A step that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct WantedStep {
    /// Else it is the program's file name and a number.
    pub(super) name: Option<String>,
    /// A path of this machine, or a URI.
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) on_failure: OnFailure,
    pub(super) depends_on: Vec<String>,
    pub(super) retries: u32,
    /// Of one try, as `10m`.
    pub(super) timeout: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnFailure {
    #[default]
    Continue,
    CancelAndWait,
    TerminateCluster,
}

impl OnFailure {
    fn parse(text: &str) -> Result<OnFailure, String> {
        match text {
            "continue" => Ok(OnFailure::Continue),
            "cancel-and-wait" => Ok(OnFailure::CancelAndWait),
            "terminate-cluster" => Ok(OnFailure::TerminateCluster),
            _ => Err(format!("on-failure is continue, cancel-and-wait or terminate-cluster, not {text:?}")),
        }
    }

    fn wire(self) -> ActionOnFailure {
        match self {
            OnFailure::Continue => ActionOnFailure::Continue,
            OnFailure::CancelAndWait => ActionOnFailure::CancelAndWait,
            OnFailure::TerminateCluster => ActionOnFailure::TerminateCluster,
        }
    }
}

/// Reads a step from one argument. The error is a sentence.
pub(super) fn parse_step(text: &str) -> Result<WantedStep, String> {
    let words = shlex::split(text).ok_or_else(|| "its quotes are not closed".to_owned())?;
    let attributes = words
        .iter()
        .position(|word| word == "--")
        .filter(|&end| words[..end].iter().all(|word| word.contains('=')));
    let mut step = WantedStep::default();
    for word in &words[..attributes.unwrap_or(0)] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "name" => step.name = Some(value.to_owned()),
            "on-failure" => step.on_failure = OnFailure::parse(value)?,
            "depends-on" => step.depends_on = value.split(',').map(str::to_owned).collect(),
            "retries" => {
                step.retries = value.parse().map_err(|_| format!("retries is a number, not {value:?}"))?
            }
            "timeout" => step.timeout = Some(value.to_owned()),
            _ => {
                return Err(format!(
                    "a step has name, on-failure, depends-on, retries and timeout, not {key:?}"
                ));
            }
        }
    }
    if let Some(timeout) = &step.timeout {
        parse_span_ms(timeout)?;
    }
    let mut command = words.into_iter().skip(attributes.map_or(0, |end| end + 1));
    step.program = command.next().ok_or_else(|| "it has no program".to_owned())?;
    step.args = command.collect();
    Ok(step)
}

impl WantedStep {
    /// Whether its program is a file of this machine.
    fn local(&self) -> Result<Option<PathBuf>, Failure> {
        let uri = Uri::parse(&self.program).map_err(|error| Failure::Refused(error.to_string()))?;
        Ok(uri.is_local().then(|| found(uri.path())))
    }

    /// That it can be taken: before anything is made for it.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(path) = self.local()? {
            let metadata = std::fs::metadata(&path)
                .map_err(|source| Failure::Start { program: path.clone(), source })?;
            if !metadata.is_file() {
                return Err(Failure::Refused(format!(
                    "cannot take {} for a step: it is no file",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// As a master takes it, with its program in the cluster. `number` tells apart steps that nobody has named.
    pub(super) fn send(&self, master: &Master, number: usize) -> Result<StepSpec, Failure> {
        let file_name = self.program.rsplit('/').next().unwrap_or_default().to_owned();
        let (program, sha256) = match self.local()? {
            None => (self.program.clone(), Vec::new()),
            Some(path) => upload(master, &path)?,
        };
        let timeout_ms = self.timeout.as_deref().map_or(Ok(0), parse_span_ms).map_err(Failure::Usage)?;
        Ok(StepSpec {
            name: self.name.clone().unwrap_or_else(|| format!("{file_name}.{number}")),
            program,
            sha256: sha256.into(),
            program_name: file_name,
            arguments: self.args.clone(),
            on_failure: self.on_failure.wire().into(),
            depends_on: self.depends_on.clone(),
            retries: self.retries,
            timeout_ms,
        })
    }
}

/// A file here is meant before a program somewhere in PATH.
fn found(program: &Path) -> PathBuf {
    if program.components().count() != 1 || program.is_file() {
        return program.to_owned();
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&places).map(|place| place.join(program));
    candidates.find(|candidate| candidate.is_file()).unwrap_or_else(|| program.to_owned())
}

/// How this process reaches the files of the cluster.
pub(super) fn access(master: &Master) -> Access {
    Access::of(DfsIdentity {
        user: master.user.clone(),
        groups: Vec::new(),
        credential: master.secret.clone().map_or(Credential::None, Credential::Secret),
        aliases: vec![(master.address.clone(), master.address.clone())],
        host: None,
        inside: false,
    })
}

/// Puts a program where its content says, unless it is there; its URI and SHA-256.
fn upload(master: &Master, path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let failed = |source| Failure::Start { program: path.to_owned(), source };
    let mut sha256 = Sha256::new();
    let mut bytes = 0;
    for_each_piece(path, &mut |piece| {
        sha256.update(piece);
        bytes += piece.len() as u64;
        Ok(())
    })
    .map_err(failed)?;
    let sha256 = sha256.finalize().to_vec();
    let name: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let place = Uri::of(Place::Dfs { master: None }, PROGRAMS).join(&name);
    let refused = |error: &dyn std::error::Error| Failure::Refused(gristmill_process::sentence(error));
    let files = access(master).file_system(&place).map_err(|error| refused(&error))?;
    let there = match files.stat(&place) {
        Ok(status) => status.is_file() && !status.under_construction && status.bytes == bytes,
        Err(error) if error.is_absence() => false,
        Err(error) => return Err(refused(&error)),
    };
    if !there {
        send(&*files, path, &place)?;
    }
    Ok((place.to_string(), sha256))
}

/// Under a name of its own first: whoever finds the program's name finds all of it.
fn send(files: &dyn FileSystem, path: &Path, place: &Uri) -> Result<(), Failure> {
    let refused = |error: &dyn std::error::Error| Failure::Refused(gristmill_process::sentence(error));
    let part = Uri::of(Place::Dfs { master: None }, PROGRAMS).join(format!("_{}", JobId::random()));
    let mut writer = files.create(&part, &CreateOptions::default()).map_err(|error| refused(&error))?;
    for_each_piece(path, &mut |piece| writer.write_all(piece)).map_err(|source| {
        Failure::Refused(format!("cannot send {} to the cluster: {source}", path.display()))
    })?;
    writer.finish().map_err(|error| refused(&error))?;
    match files.rename(&part, place, false) {
        // Somebody else was faster.
        Err(error) if matches!(error.cause, Cause::AlreadyExists) => {
            let deleted = files.delete(&part, DeleteOptions { recursive: false, skip_trash: true });
            deleted.map(drop).map_err(|error| refused(&error))
        }
        renamed => renamed.map_err(|error| refused(&error)),
    }
}

fn for_each_piece(path: &Path, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            bytes => take(&buffer[..bytes])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_split_as_a_shell_does() {
        let step = parse_step(r#"word_count --input "a b" -- 'c d'"#).unwrap();
        assert_eq!(step.program, "word_count");
        assert_eq!(step.args, ["--input", "a b", "--", "c d"]);
        assert_eq!(step.name, None);
    }

    #[test]
    fn attributes_come_first() {
        let step = parse_step(
            "name=wc on-failure=terminate-cluster depends-on=a,b retries=2 timeout=10m -- ./p x=y",
        )
        .unwrap();
        let expected = WantedStep {
            name: Some("wc".to_owned()),
            program: "./p".to_owned(),
            args: vec!["x=y".to_owned()],
            on_failure: OnFailure::TerminateCluster,
            depends_on: vec!["a".to_owned(), "b".to_owned()],
            retries: 2,
            timeout: Some("10m".to_owned()),
        };
        assert_eq!(step, expected);
        for (wrong, part) in [
            ("", "no program"),
            ("name=x --", "no program"),
            ("'a", "quotes"),
            ("nam=x -- p", "not \"nam\""),
            ("on-failure=stop -- p", "on-failure is"),
            ("timeout=soon -- p", "soon"),
        ] {
            assert!(parse_step(wrong).unwrap_err().contains(part), "{wrong}");
        }
    }
}
