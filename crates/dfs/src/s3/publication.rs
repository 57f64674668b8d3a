//! The commit, step by step: pure. What was answered goes in, what is to be asked comes out.
//!
//! ```text
//!   deciding ── created, or read back as ours ──────────┐
//!      │ another's commit: it is carried out instead    v
//!      │                                   clearing ── completing ── succeeding ── marking ── over: committed
//!      └ an abort ──────────────────────────────────────────────────────────────────────────> over: aborted
//! ```
//!
//! The decision is the point of no return. Before it nothing is visible; after it, whoever comes does the same steps
//! with the same uploads, and comes to the same end, however far others have come.

use std::collections::VecDeque;

use super::failure::S3Error;
use super::layout::tag_of_parts;
use super::objects::{Completed, Created, Found};
use super::records::{Commit, Decision, File, Verdict};

/// Requests on their way.
pub(super) const AT_ONCE: usize = 64;
/// Tries of one request, each of which the client has tried several times: then the rest is for the next publication.
const TRIES_MAX: u32 = 3;
/// Decisions that were neither made nor found made by another (409): somebody keeps trying, and one of us wins.
const ROUNDS_MAX: u32 = 10;
/// Objects that give way, in one request.
const DELETED_AT_ONCE: usize = 1000;

/// What is to be asked of the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A conditional put of our decision.
    Decide,
    /// What was decided.
    ReadDecision,
    /// Deletes these, of the former output.
    Delete(Vec<String>),
    /// Completes the upload of the file of this number.
    Complete(usize),
    /// What there is under its name.
    Look(usize),
    /// Writes `_SUCCESS` of the output of this number.
    Succeed(usize),
    /// Notes that everything is done.
    Mark,
}

/// What was answered.
#[derive(Debug)]
pub(super) enum Answer {
    Decided(Created),
    Decision(Option<Decision>),
    Completed(Completed),
    Looked(Option<Found>),
    /// Of commands that have no other answer.
    Done,
    /// The outcome is unknown.
    Failed(S3Error),
}

/// How a publication ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublicationError {
    /// Somebody has aborted it before.
    #[error("it was aborted")]
    Aborted,
    /// Nobody knows whether it was decided.
    #[error("it is not known whether the output was decided on: {0}")]
    Undecided(#[source] S3Error),
    /// The bucket says again and again that there is a decision, and has none.
    #[error("the bucket refuses a conditional put, and nothing is there")]
    Refused,
    /// It is decided, and not carried out: the next publication goes on.
    #[error("the output is decided on, and not yet whole: {0}")]
    Unfinished(#[source] S3Error),
    /// An upload that was to be completed is neither open nor an object.
    #[error("the upload of {key} is gone, and what has its name is not it")]
    Lost { key: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Deciding,
    Clearing,
    Completing,
    Succeeding,
    Marking,
    Over,
}

/// One publication on its way.
#[derive(Debug)]
pub(super) struct Publication {
    /// Of this writer; or the one that was found.
    decision: Decision,
    is_made: bool,
    phase: Phase,
    waiting: VecDeque<Command>,
    on_the_way: usize,
    rounds: u32,
    tries: u32,
    outcome: Result<(), PublicationError>,
}

impl Publication {
    /// Begins with `decision`, which is ours.
    pub(super) fn new(decision: Decision) -> Publication {
        Publication {
            decision,
            is_made: false,
            phase: Phase::Deciding,
            waiting: VecDeque::from([Command::Decide]),
            on_the_way: 0,
            rounds: 0,
            tries: 0,
            outcome: Ok(()),
        }
    }

    /// What is decided, or is to be.
    pub(super) fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The next request, if one may be on its way now.
    pub(super) fn next(&mut self) -> Option<Command> {
        if self.on_the_way == AT_ONCE || self.outcome.is_err() {
            return None;
        }
        let command = self.waiting.pop_front()?;
        self.on_the_way += 1;
        Some(command)
    }

    /// How it ended, once nothing is to be done and nothing on its way.
    pub(super) fn ended(self) -> Result<Decision, PublicationError> {
        self.outcome.map(|()| self.decision)
    }

    /// Takes the answer to a command.
    pub(super) fn answer(&mut self, command: Command, answer: Answer) {
        self.on_the_way -= 1;
        match (command, answer) {
            (Command::Decide, Answer::Decided(Created::New)) => self.made(),
            (Command::Decide, Answer::Failed(error)) if !error.may_pass() => {
                self.fail(PublicationError::Undecided(error));
            }
            // The put may have come first, or last, or not at all.
            (Command::Decide, _) => self.waiting.push_back(Command::ReadDecision),
            (Command::ReadDecision, Answer::Decision(Some(found))) => self.found(found),
            (Command::ReadDecision, Answer::Decision(None)) => self.decide_again(),
            (Command::Complete(number), Answer::Completed(Completed::Gone)) => {
                self.waiting.push_back(Command::Look(number));
            }
            (Command::Look(number), Answer::Looked(found)) => self.looked(number, found),
            (command, Answer::Failed(error)) => self.failed(command, error),
            _ => {}
        }
        if self.is_made && self.waiting.is_empty() && self.on_the_way == 0 && self.outcome.is_ok() {
            self.advance();
        }
    }

    fn made(&mut self) {
        self.is_made = true;
        if self.decision.verdict == Verdict::Abort {
            self.phase = Phase::Over;
        }
    }

    fn found(&mut self, found: Decision) {
        let wanted_commit = self.decision.commit().is_some();
        self.decision = found;
        if wanted_commit && self.decision.commit().is_none() {
            self.phase = Phase::Over;
            self.outcome = Err(PublicationError::Aborted);
        }
        self.made();
    }

    fn decide_again(&mut self) {
        self.rounds += 1;
        if self.rounds == ROUNDS_MAX {
            self.outcome = Err(PublicationError::Refused);
        }
        self.waiting.push_back(Command::Decide);
    }

    fn looked(&mut self, number: usize, found: Option<Found>) {
        let file = &self.commit().files[number];
        if !found.is_some_and(|found| is_it(file, &found)) {
            self.fail(PublicationError::Lost { key: file.key.clone() });
        }
    }

    fn failed(&mut self, command: Command, error: S3Error) {
        self.tries += 1;
        if error.may_pass() && self.tries < TRIES_MAX {
            self.waiting.push_back(command);
        } else if self.is_made {
            self.fail(PublicationError::Unfinished(error));
        } else {
            self.fail(PublicationError::Undecided(error));
        }
    }

    /// The first failure counts.
    fn fail(&mut self, error: PublicationError) {
        if self.outcome.is_ok() {
            self.outcome = Err(error);
        }
    }

    fn commit(&self) -> &Commit {
        self.decision.commit().expect("only a commit has steps")
    }

    /// Goes to the next phase that has something to do.
    fn advance(&mut self) {
        while self.waiting.is_empty() && self.phase != Phase::Over {
            self.tries = 0;
            self.phase = match self.phase {
                Phase::Deciding => Phase::Clearing,
                Phase::Clearing => Phase::Completing,
                Phase::Completing => Phase::Succeeding,
                Phase::Succeeding => Phase::Marking,
                Phase::Marking | Phase::Over => Phase::Over,
            };
            let commands: Vec<Command> = match self.phase {
                Phase::Clearing => self
                    .commit()
                    .replaced
                    .chunks(DELETED_AT_ONCE)
                    .map(|some| Command::Delete(some.to_vec()))
                    .collect(),
                Phase::Completing => (0..self.commit().files.len()).map(Command::Complete).collect(),
                Phase::Succeeding => (0..self.commit().outputs.len()).map(Command::Succeed).collect(),
                Phase::Marking => vec![Command::Mark],
                Phase::Deciding | Phase::Over => Vec::new(),
            };
            self.waiting.extend(commands);
        }
    }
}

/// Whether an object is what an upload became.
fn is_it(file: &File, found: &Found) -> bool {
    let tag = tag_of_parts(&file.receipt.tags);
    let same_tag = match (&tag, &found.tag) {
        (Some(tag), Some(found)) if found.contains('-') => tag.trim_matches('"') == found.trim_matches('"'),
        // Some stores have tags of their own.
        _ => true,
    };
    file.bytes == found.bytes && same_tag
}
