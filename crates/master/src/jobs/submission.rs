//! A job as it arrives: in parts, held to limits before the core sees it.

use gristmill_proto::auth::{Secret, TOKEN_BYTES_MAX};
use gristmill_proto::ids::JobId;
use gristmill_proto::job::stage::Origin;
use gristmill_proto::job::submit_part::Part;
use gristmill_proto::job::{JobSpec, SubmitPart, TaskHints};
use prost::Message;

/// Version of the messages of jobs.
const VERSION: u32 = 1;
/// A spec holds names and numbers of stages, shuffles, outputs and counters: nothing that grows with the tasks.
pub(super) const SPEC_BYTES_MAX: usize = 1 << 20;
/// The largest message of a submission: a spec, or a page of hints, with some room.
pub(super) const PART_BYTES_MAX: usize = 2 << 20;
/// Tasks of one part.
const PART_HINTS_MAX: usize = 1000;
/// Workers of one hint: more do not make a better place.
const HINT_WORKERS_MAX: usize = 3;
/// Tasks that read input, of one job.
const TASKS_MAX: u64 = 1_000_000;
/// Users, groups and queues are names, not texts.
const NAME_BYTES_MAX: usize = 255;
/// As on Linux.
const GROUPS_MAX: usize = 64;

/// Why a submission makes no sense. One sentence for the driver.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot take the job: {0}")]
pub(super) struct BadSubmission(String);

fn bad<T>(what: impl Into<String>) -> Result<T, BadSubmission> {
    Err(BadSubmission(what.into()))
}

/// A submission, of which some parts have come.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) job: JobId,
    pub(super) spec: JobSpec,
    pub(super) hints: Vec<TaskHints>,
    /// Hints that may still come: those of tasks that read input.
    hints_left: u64,
}

impl Submission {
    /// The first part.
    pub(super) fn begin(part: SubmitPart, secret: Option<&Secret>) -> Result<Submission, BadSubmission> {
        let Some(Part::Spec(spec)) = part.part else {
            return bad("the first part holds no spec");
        };
        let bytes = spec.encoded_len();
        if bytes > SPEC_BYTES_MAX {
            return bad(format!("its spec has {bytes} bytes, of at most {SPEC_BYTES_MAX}"));
        }
        if spec.version != VERSION {
            return bad(format!(
                "the driver speaks version {}, this master {VERSION}: use the same release",
                spec.version
            ));
        }
        let job = JobId::from_wire(&spec.job).filter(|job| job.0 != [0; 16]);
        let Some(job) = job else {
            return bad("a job's id has 16 bytes, not all zero");
        };
        check_names(&spec)?;
        check_token(job, &spec, secret)?;
        let inputs = spec.stages.iter().filter(|stage| stage.origin() == Origin::Input);
        let tasks: u64 = inputs.map(|stage| u64::from(stage.tasks)).sum();
        if tasks > TASKS_MAX {
            return bad(format!(
                "it has {tasks} tasks that read input, of at most {TASKS_MAX}: make the splits larger"
            ));
        }
        Ok(Submission { job, spec, hints: Vec::new(), hints_left: tasks })
    }

    /// Another part.
    pub(super) fn add(&mut self, part: SubmitPart) -> Result<(), BadSubmission> {
        let Some(Part::Hints(hints)) = part.part else {
            return bad("a part after the first holds no hints");
        };
        let count = hints.hints.len();
        if count > PART_HINTS_MAX {
            return bad(format!("a part has {count} hints, of at most {PART_HINTS_MAX}"));
        }
        if hints.hints.iter().any(|hint| hint.workers.len() > HINT_WORKERS_MAX) {
            return bad(format!("a hint names more than {HINT_WORKERS_MAX} workers"));
        }
        let Some(left) = self.hints_left.checked_sub(count as u64).filter(|_| count > 0) else {
            return bad("there are hints for more tasks than it has, or a part without any");
        };
        self.hints_left = left;
        self.hints.push(hints);
        Ok(())
    }
}

fn check_names(spec: &JobSpec) -> Result<(), BadSubmission> {
    if spec.user.is_empty() || spec.groups.len() > GROUPS_MAX {
        return bad(format!("it needs a user, with at most {GROUPS_MAX} groups"));
    }
    for name in [&spec.user, &spec.queue].into_iter().chain(&spec.groups) {
        if name.len() > NAME_BYTES_MAX || name.chars().any(|each| each.is_control() || each == '/') {
            return bad(format!("a name of a user, group or queue is no plain name: {name:?}"));
        }
    }
    Ok(())
}

/// Its attempts would be refused by everybody.
fn check_token(job: JobId, spec: &JobSpec, secret: Option<&Secret>) -> Result<(), BadSubmission> {
    let digits = secret.map_or(0, |secret| secret.job_token(job, &spec.user, &spec.groups, 0).len());
    if digits / 2 > TOKEN_BYTES_MAX {
        return bad("the names of its user and groups are too long together for a token");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::job::{Stage, TaskHint};

    fn spec() -> JobSpec {
        let stage = Stage { tasks: 2, ..Stage::default() };
        JobSpec {
            version: 1,
            job: vec![7; 16].into(),
            user: "ann".into(),
            stages: vec![stage],
            ..JobSpec::default()
        }
    }

    fn part(spec: JobSpec) -> SubmitPart {
        SubmitPart { part: Some(Part::Spec(spec)) }
    }

    fn hints(count: usize, workers: usize) -> SubmitPart {
        let hint = TaskHint { workers: vec![1; workers], ..TaskHint::default() };
        let hints = TaskHints { hints: vec![hint; count], ..TaskHints::default() };
        SubmitPart { part: Some(Part::Hints(hints)) }
    }

    fn refused(change: impl FnOnce(&mut JobSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        let secret = Secret::from_bytes(&[b's'; 32]).unwrap();
        Submission::begin(part(spec), Some(&secret)).unwrap_err().to_string()
    }

    #[test]
    fn a_spec_comes_first_and_hints_for_its_tasks_follow() {
        let mut submission = Submission::begin(part(spec()), None).unwrap();
        submission.add(hints(1, 3)).unwrap();
        submission.add(hints(1, 0)).unwrap();
        assert_eq!((submission.job, submission.hints.len()), (JobId([7; 16]), 2));
        let error = submission.add(hints(1, 0)).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot take the job: there are hints for more tasks than it has, or a part without any"
        );
        submission.add(part(spec())).unwrap_err();
        Submission::begin(hints(1, 0), None).unwrap_err();
        Submission::begin(SubmitPart::default(), None).unwrap_err();
    }

    #[test]
    fn what_is_beyond_a_limit_is_named() {
        assert!(refused(|spec| spec.version = 2).contains("version 2, this master 1"));
        assert!(refused(|spec| spec.job = vec![7; 15].into()).contains("16 bytes"));
        assert!(refused(|spec| spec.job = vec![0; 16].into()).contains("not all zero"));
        assert!(refused(|spec| spec.name = "n".repeat(SPEC_BYTES_MAX)).contains("of at most 1048576"));
        assert!(refused(|spec| spec.user.clear()).contains("needs a user"));
        assert!(refused(|spec| spec.user = "a/b".into()).contains(r#""a/b""#));
        assert!(refused(|spec| spec.groups = vec!["g".into(); 65]).contains("at most 64 groups"));
        assert!(refused(|spec| spec.groups = vec!["g".repeat(255); 4]).contains("too long together"));
        assert!(refused(|spec| spec.stages[0].tasks = 1_000_001).contains("make the splits larger"));
        let mut submission = Submission::begin(part(spec()), None).unwrap();
        assert!(submission.add(hints(1, 4)).unwrap_err().to_string().contains("more than 3 workers"));
        assert!(submission.add(hints(1001, 0)).unwrap_err().to_string().contains("1001 hints"));
        submission.add(hints(0, 0)).unwrap_err();
    }
}
