//! Why an attempt failed, as the master is told.

use gristmill_dataflow::MergeError;
use gristmill_dataflow::attempt::TaskError;
use gristmill_dataflow::map_output::MapOutputError;
use gristmill_dataflow::part::PartError;
use gristmill_dataflow::run::ReadRunError;
use gristmill_dataflow::shuffle::FetchError;
use gristmill_proto::task::AttemptFailure;
use gristmill_proto::task::attempt_failure::Kind;

/// Of the sentence.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// A kind for the master, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }

    /// As it is sent. What the program said on stderr is the worker's to add.
    pub(super) fn into_message(mut self) -> AttemptFailure {
        if self.message.len() > MESSAGE_BYTES_MAX {
            self.message.truncate(self.message.floor_char_boundary(MESSAGE_BYTES_MAX - "...".len()));
            self.message.push_str("...");
        }
        AttemptFailure { kind: self.kind.into(), message: self.message, ..AttemptFailure::default() }
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Failure {
        Failure::new(kind(&error), error.to_string())
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Failure {
        let kind = match &error {
            FetchError::Cancelled => Kind::Killed,
            FetchError::Closed { .. } => Kind::Worker,
            FetchError::TooMany { .. } | FetchError::Thread(_) | FetchError::Descriptors(_) => Kind::Fetch,
            FetchError::Scratch(_) => Kind::Scratch,
            FetchError::Cuts(_) => Kind::Damaged,
        };
        Failure::new(kind, error.to_string())
    }
}

fn kind(error: &TaskError) -> Kind {
    match error {
        TaskError::Read(_) => Kind::Input,
        TaskError::Merge(error) => merge(error),
        TaskError::ReadRun(error) => read_run(error),
        TaskError::Scratch(_) => Kind::Scratch,
        TaskError::MapOutput { source, .. } => match source {
            MapOutputError::Spill(_) => Kind::Scratch,
            MapOutputError::Merge(error) => merge(error),
            MapOutputError::RecordTooLarge { .. } => Kind::Record,
        },
        TaskError::Part(PartError::RecordTooLarge { .. } | PartError::Format { .. })
        | TaskError::Decode { .. } => Kind::Record,
        TaskError::Part(PartError::TooManyDirectories { .. }) => Kind::Author,
        TaskError::Part(PartError::Stage(_) | PartError::Write { .. }) => Kind::Output,
        TaskError::Author { .. } | TaskError::TooManyBad { .. } => Kind::Author,
        TaskError::Panic { .. } => Kind::Panic,
        TaskError::Cancelled => Kind::Killed,
    }
}

fn merge(error: &MergeError) -> Kind {
    match error {
        MergeError::Read(error) => read_run(error),
        MergeError::Write(_) => Kind::Scratch,
    }
}

fn read_run(error: &ReadRunError) -> Kind {
    match error {
        ReadRunError::Open(_) => Kind::Scratch,
        ReadRunError::Run(_) => Kind::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_dataflow::attempt::Position;

    #[test]
    fn a_failure_keeps_its_sentence_up_to_a_limit() {
        let error = TaskError::Panic { message: "é".repeat(MESSAGE_BYTES_MAX), at: Position::Row(7) };
        let told = Failure::from(error).into_message();
        assert_eq!(told.kind(), Kind::Panic);
        assert!(told.message.len() <= MESSAGE_BYTES_MAX && told.message.ends_with("é..."));
    }
}
