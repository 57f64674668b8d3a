//! The job as this process sees it: its file, and its plan, which must be the driver's.

use super::BuildPlan;
use super::channel::{Beginning, Channel};
use super::diff::diff;
use super::failure::Failure;
use crate::explain::{canonical, fingerprint};
use crate::panics;
use crate::plan::PlanState;
use gristmill_dfs::{Credential, DfsIdentity, assume};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attempt::{Begin, Hello, from_attempt};
use gristmill_proto::job::{JobFile, JobSpec};
use gristmill_proto::task::attempt_failure::Kind;
use prost::Message;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// What attempts of one job have in common.
pub(super) struct Job {
    pub(super) spec: JobSpec,
    pub(super) file: JobFile,
    pub(super) plan: PlanState,
}

/// Builds the plan again, and says Hello.
pub(super) fn open(beginning: &Beginning, channel: &Channel, build: BuildPlan<'_>) -> Result<Job, Failure> {
    let begin = &beginning.begin;
    let Some(spec) = begin.spec.clone() else {
        return Err(Failure::new(Kind::Worker, "the worker does not say of which job this attempt is"));
    };
    assume(identity(begin, &spec));
    let mut file = read(begin, &spec)?;
    let arguments = std::mem::take(&mut file.arguments).into_iter();
    let arguments = arguments.map(|argument| OsString::from_vec(argument.into())).collect();
    let broadcasts = std::mem::take(&mut file.broadcasts).into_iter().map(Vec::from).collect();
    let plan = panics::catch(|| build(arguments, broadcasts))
        .unwrap_or_else(|panic| Err(format!("panic: {panic}")))
        .map_err(|error| Failure::new(Kind::Plan, format!("{}: {error}", another_plan(&spec))))?;
    let text = canonical(&plan);
    let hello = Hello { version: PROTOCOL_VERSION, fingerprint: fingerprint(&text) };
    let same = hello.fingerprint == spec.fingerprint && text == file.plan;
    channel.say(from_attempt::Message::Hello(hello))?;
    if !same {
        let differences = match diff(&file.plan, &text) {
            lines if lines.is_empty() => ": the texts are equal, but not the fingerprints".to_owned(),
            lines => format!(":{lines}"),
        };
        return Err(Failure::new(Kind::Plan, another_plan(&spec) + &differences));
    }
    Ok(Job { spec, file, plan })
}

fn another_plan(spec: &JobSpec) -> String {
    let program = spec.program.as_ref().map_or("the program", |program| &program.name);
    format!(
        "{program} builds another plan in an attempt than at the driver (what it does must follow from its arguments \
         alone, not from the clock, the environment or chance)"
    )
}

/// As whom this process reaches `dfs://`: as the job's user, by the job's token.
fn identity(begin: &Begin, spec: &JobSpec) -> DfsIdentity {
    let credential = match begin.caller_token.as_str() {
        "" => Credential::None,
        token => Credential::Token(token.to_owned()),
    };
    DfsIdentity {
        user: begin.user.clone(),
        groups: begin.groups.clone(),
        credential,
        aliases: vec![(spec.master.clone(), begin.master.clone())],
        host: Some(begin.host.clone()).filter(|host| !host.is_empty()),
        inside: true,
    }
}

/// The worker has verified its copy when it fetched it; it may have suffered since.
fn read(begin: &Begin, spec: &JobSpec) -> Result<JobFile, Failure> {
    let path = &begin.job_file;
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::new(Kind::Scratch, format!("cannot read the job's file {path}: {error}"))
    })?;
    if Sha256::digest(&bytes).as_slice() != &spec.job_file_sha256[..] {
        return Err(Failure::new(Kind::Scratch, format!("the job's file {path} is damaged")));
    }
    let file = JobFile::decode(&bytes[..]).map_err(|error| {
        Failure::new(Kind::Program, format!("the job's file {path} does not decode: {error}"))
    })?;
    if file.version != PROTOCOL_VERSION || file.job != spec.job {
        let sentence = format!("the job's file {path} is of another job, or of version {}", file.version);
        return Err(Failure::new(Kind::Program, sentence));
    }
    Ok(file)
}
