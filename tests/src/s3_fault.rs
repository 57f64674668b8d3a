//! What may happen to a request to S3 on its way.

use std::fmt;

use crate::http_message::Message;

/// What a request asks for, as far as faults and the order of a commit are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A put with `If-None-Match: *`.
    Create,
    /// A part of an upload, or an object.
    Put,
    BeginUpload,
    Complete,
    AbortUpload,
    Delete,
    Look,
}

impl Call {
    pub(crate) fn of(request: &Message) -> Call {
        let query = request.word(1).split_once('?').map_or("", |(_, query)| query);
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        match request.word(0) {
            "PUT" if request.header("if-none-match").is_some() => Call::Create,
            "PUT" => Call::Put,
            "POST" if has("uploads") => Call::BeginUpload,
            "POST" if has("uploadId") => Call::Complete,
            "DELETE" if has("uploadId") => Call::AbortUpload,
            "POST" | "DELETE" => Call::Delete,
            _ => Call::Look,
        }
    }
}

/// One of the ways in which S3 fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum S3Fault {
    /// 503, and nothing was done.
    Unavailable,
    /// The connection breaks in the middle of the request: the server has half of it.
    ResetInRequest,
    /// It is done, and the connection breaks in the middle of the answer.
    ResetInAnswer,
    /// It is done, and no answer comes.
    AnswerLost,
    /// It is done, and the answer is 500.
    FailedAfterSuccess,
    /// No answer comes, and it is done much later.
    Late,
    /// A conditional put: 409, and nothing was done.
    Conflict,
    /// A conditional put: it is done, and the answer is 412.
    OwnPrecondition,
    /// A completion: 200 with an error in the body, and nothing was done.
    ErrorInBody,
    /// A completion: it is done, and the answer is 404 NoSuchUpload.
    NoSuchUpload,
}

impl S3Fault {
    /// Every one of them.
    pub const ALL: [S3Fault; 10] = [
        S3Fault::Unavailable,
        S3Fault::ResetInRequest,
        S3Fault::ResetInAnswer,
        S3Fault::AnswerLost,
        S3Fault::FailedAfterSuccess,
        S3Fault::Late,
        S3Fault::Conflict,
        S3Fault::OwnPrecondition,
        S3Fault::ErrorInBody,
        S3Fault::NoSuchUpload,
    ];

    /// Whether it can happen to such a request.
    pub(crate) fn meets(self, call: Call) -> bool {
        match self {
            S3Fault::Conflict | S3Fault::OwnPrecondition => call == Call::Create,
            S3Fault::ErrorInBody | S3Fault::NoSuchUpload => call == Call::Complete,
            // A record or an upload that comes late is told from none by nobody: sweeps are for those.
            S3Fault::Late => matches!(call, Call::Create | Call::Complete),
            _ => true,
        }
    }

    /// Whether the server is asked at once.
    pub(crate) fn is_done(self) -> bool {
        matches!(
            self,
            S3Fault::ResetInAnswer
                | S3Fault::AnswerLost
                | S3Fault::FailedAfterSuccess
                | S3Fault::OwnPrecondition
                | S3Fault::NoSuchUpload
        )
    }

    /// What is answered; nothing if the connection breaks.
    pub(crate) fn answer(self) -> Option<String> {
        let (status, code) = match self {
            S3Fault::Unavailable => ("503 Service Unavailable", "SlowDown"),
            S3Fault::FailedAfterSuccess => ("500 Internal Server Error", "InternalError"),
            S3Fault::Conflict => ("409 Conflict", "ConditionalRequestConflict"),
            S3Fault::OwnPrecondition => ("412 Precondition Failed", "PreconditionFailed"),
            S3Fault::ErrorInBody => ("200 OK", "InternalError"),
            S3Fault::NoSuchUpload => ("404 Not Found", "NoSuchUpload"),
            S3Fault::ResetInRequest | S3Fault::ResetInAnswer | S3Fault::AnswerLost | S3Fault::Late => {
                return None;
            }
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>trouble</Message></Error>"
        );
        let length = body.len();
        Some(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }
}

impl fmt::Display for S3Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a master is killed in its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KillPoint {
    /// It has asked for the decision, and the server has not heard of it.
    BeforeDecision,
    /// The decision is there; the master has not heard of it.
    AfterDecision,
    /// So many uploads are completed, from 1.
    BetweenCompletions,
    /// All are completed.
    BeforeSuccess,
    /// `_SUCCESS` is there; the master has not heard of it.
    AfterSuccess,
    /// Everything is said to be done, and nothing is cleaned up.
    AfterDone,
}

impl KillPoint {
    /// Every one of them, in order.
    pub const ALL: [KillPoint; 6] = [
        KillPoint::BeforeDecision,
        KillPoint::AfterDecision,
        KillPoint::BetweenCompletions,
        KillPoint::BeforeSuccess,
        KillPoint::AfterSuccess,
        KillPoint::AfterDone,
    ];

    /// Whether this request is the one; and whether it is still done.
    pub(crate) fn meets(self, call: Call, path: &str) -> Option<bool> {
        let ends = |name: &str| call != Call::Look && path.ends_with(name);
        match self {
            KillPoint::BeforeDecision => ends("/decision").then_some(false),
            KillPoint::AfterDecision => ends("/decision").then_some(true),
            KillPoint::BetweenCompletions => (call == Call::Complete).then_some(true),
            KillPoint::BeforeSuccess => ends("/_SUCCESS").then_some(false),
            KillPoint::AfterSuccess => ends("/_SUCCESS").then_some(true),
            KillPoint::AfterDone => ends("/done").then_some(true),
        }
    }
}
