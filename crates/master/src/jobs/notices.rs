//! What workers say, as events: held to limits, and to this master's epoch.

use std::net::SocketAddr;

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::ids::{AttemptId, BadAttemptId, ClusterId, Epoch, Incarnation, JobId, WorkerId};
use gristmill_proto::task::ended::Outcome;
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::{AttemptFailure, AttemptProgress, Ended, Held, Refused, Register, refused};

use super::shared::wall_ms;
use super::turns::Turn;
use crate::core::{Event, Joining, SessionId, TaskReport};

/// The largest notice: the end of an attempt that cut the ranges of 65,536 partitions.
pub(super) const NOTICE_BYTES_MAX: usize = 16 << 20;
/// Attempts of one heartbeat or registration.
const RUNNING_MAX: usize = 4096;
/// Map outputs of one page.
const HELD_MAX: usize = 1000;
/// Hosts, racks and addresses are names, not texts.
const NAME_BYTES_MAX: usize = 255;
/// What a failure says to people, and the end of what the attempt wrote.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Why a notice ends the stream.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadNotice {
    #[error("a notice says nothing that this master knows")]
    Empty,
    #[error("a worker registers once on a stream, and first of all")]
    RegisteredTwice,
    #[error(transparent)]
    Attempt(#[from] BadAttemptId),
    #[error("a notice names no job")]
    Job,
    #[error("a notice has {count} {what}, of at most {max}")]
    TooMany { what: &'static str, count: usize, max: usize },
}

/// What a notice is for the thread of turns; none: it was said to another master.
pub(super) fn turn_of(
    session: SessionId,
    epoch: Epoch,
    notice: Option<Notice>,
) -> Result<Option<Turn>, BadNotice> {
    let event = match notice.ok_or(BadNotice::Empty)? {
        Notice::Register(_) => return Err(BadNotice::RegisteredTwice),
        Notice::LogPage(page) => return Ok(Some(Turn::LogPage { session, page })),
        Notice::Heartbeat(heartbeat) => {
            if is_stale(session, epoch, heartbeat.epoch, "heartbeat") {
                return Ok(None);
            }
            limit("attempts", heartbeat.running.len(), RUNNING_MAX)?;
            let id = |progress: &AttemptProgress| progress.attempt.as_ref().map(AttemptId::from_wire);
            let running = heartbeat.running.into_iter();
            let running = running.map(|progress| Ok((id(&progress).ok_or(BadAttemptId)??, progress)));
            Event::Heartbeat { session, running: running.collect::<Result<_, BadAttemptId>>()? }
        }
        Notice::Ended(ended) => {
            if is_stale(session, epoch, ended.epoch, "end of an attempt") {
                return Ok(None);
            }
            ended_event(session, ended)?
        }
        Notice::FetchFailed(report) => {
            if is_stale(session, epoch, report.epoch, "failed fetch") {
                return Ok(None);
            }
            let reader = AttemptId::from_wire(report.reader.as_ref().ok_or(BadAttemptId)?)?;
            let output = AttemptId::from_wire(report.output.as_ref().ok_or(BadAttemptId)?)?;
            Event::FetchFailed { session, reader, output, report }
        }
        Notice::Held(Held { job, outputs }) => {
            limit("map outputs", outputs.len(), HELD_MAX)?;
            Event::Held { session, job: JobId::from_wire(&job).ok_or(BadNotice::Job)?, outputs }
        }
        Notice::Leaving(_) => Event::Leaving { session },
        Notice::Drained(_) => Event::Drained { session },
    };
    Ok(Some(Turn::Notice { session, event }))
}

fn limit(what: &'static str, count: usize, max: usize) -> Result<(), BadNotice> {
    if count > max { Err(BadNotice::TooMany { what, count, max }) } else { Ok(()) }
}

fn is_stale(session: SessionId, ours: Epoch, theirs: u64, what: &str) -> bool {
    let stale = theirs != ours.0;
    if stale {
        tracing::warn!(session = session.0, epoch = theirs, what, "a notice for another master is dropped");
    }
    stale
}

fn ended_event(session: SessionId, ended: Ended) -> Result<Event, BadNotice> {
    let attempt = AttemptId::from_wire(&ended.attempt.ok_or(BadAttemptId)?)?;
    let report = match ended.outcome.ok_or(BadNotice::Empty)? {
        Outcome::Done(result) => TaskReport::Done(Box::new(result)),
        Outcome::Failed(failure) => TaskReport::Failed(AttemptFailure {
            message: clip(failure.message),
            stderr_tail: clip(failure.stderr_tail),
            ..failure
        }),
    };
    Ok(Event::Ended { session, attempt, report, wall_ms: wall_ms() })
}

/// At most [`TEXT_BYTES_MAX`] of a text, whole characters.
fn clip(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    }
    text
}

/// What a registration is for the core, or why the stream is refused.
pub(super) fn registered(
    session: SessionId,
    cluster: ClusterId,
    register: Register,
    peer: Option<SocketAddr>,
) -> Result<Event, Refused> {
    if register.version != PROTOCOL_VERSION {
        let detail =
            format!("the worker speaks version {}, this master {PROTOCOL_VERSION}", register.version);
        return Err(Refused { reason: refused::Reason::WrongVersion.into(), detail });
    }
    if !register.cluster_id.is_empty() && register.cluster_id[..] != cluster.0 {
        let detail = format!("it belongs to another cluster than {cluster}");
        return Err(Refused { reason: refused::Reason::WrongCluster.into(), detail });
    }
    let role = register.role();
    let incarnation = Incarnation::from_wire(&register.incarnation)
        .ok_or_else(|| nonsense("an incarnation has 16 bytes".to_owned()))?;
    if register.running.len() > RUNNING_MAX || register.slots as usize > RUNNING_MAX {
        return Err(nonsense(format!("a worker runs at most {RUNNING_MAX} attempts")));
    }
    for name in [&register.host, &register.rack, &register.address] {
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(nonsense(format!("a host, rack or address is no plain name: {name:?}")));
        }
    }
    let running = register.running.iter().map(AttemptId::from_wire).collect::<Result<_, _>>();
    Ok(Event::Registered {
        worker: WorkerId(register.worker),
        joining: Joining {
            session,
            incarnation,
            role,
            slots: register.slots,
            memory_bytes: register.memory_bytes,
            address: address_of(&register.address, peer)?,
            host: register.host,
            rack: register.rack,
            pid: register.pid,
            running: running.map_err(|error| nonsense(error.to_string()))?,
            held_pages: register.held_pages,
        },
    })
}

fn nonsense(detail: String) -> Refused {
    Refused { reason: refused::Reason::Unspecified.into(), detail }
}

/// The address of the worker's shuffle listener: an empty host is the one it comes from.
fn address_of(address: &str, peer: Option<SocketAddr>) -> Result<String, Refused> {
    let (host, port) =
        address.rsplit_once(':').ok_or_else(|| nonsense(format!("{address:?} is no HOST:PORT")))?;
    let port: u16 = port.parse().map_err(|error| nonsense(format!("{address:?} has no port: {error}")))?;
    match (host, peer) {
        ("", Some(peer)) => Ok(SocketAddr::new(peer.ip().to_canonical(), port).to_string()),
        ("", None) => Err(nonsense("the worker gave no host, and the connection has none".to_owned())),
        (host, _) => Ok(format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::task::{FetchFailed, Heartbeat, HeldOutput};

    const SESSION: SessionId = SessionId(1);

    fn register() -> Register {
        let (version, incarnation) = (PROTOCOL_VERSION, vec![1; 16].into());
        Register { version, incarnation, address: ":4000".into(), slots: 2, ..Register::default() }
    }

    fn refusal(change: impl FnOnce(&mut Register)) -> refused::Reason {
        let mut register = register();
        change(&mut register);
        let peer = Some("10.0.0.7:9999".parse().unwrap());
        registered(SESSION, ClusterId([9; 16]), register, peer).unwrap_err().reason()
    }

    #[test]
    fn a_worker_is_where_it_comes_from() {
        let peer = Some("10.0.0.7:9999".parse().unwrap());
        let event = registered(SESSION, ClusterId([9; 16]), register(), peer).unwrap();
        let Event::Registered { joining: Joining { address, slots, .. }, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!((address.as_str(), slots), ("10.0.0.7:4000", 2));
    }

    #[test]
    fn a_registration_that_makes_no_sense_is_refused() {
        assert_eq!(refusal(|register| register.version = 2), refused::Reason::WrongVersion);
        assert_eq!(
            refusal(|register| register.cluster_id = vec![8; 16].into()),
            refused::Reason::WrongCluster
        );
        for change in [
            (|register: &mut Register| register.incarnation = vec![1; 15].into()) as fn(&mut Register),
            |register| register.slots = 5000,
            |register| register.address = "node".into(),
            |register| register.address = "node:x".into(),
            |register| register.host = "h".repeat(256),
            |register| register.rack = "a\nb".into(),
            |register| register.running = vec![gristmill_proto::task::AttemptId::default()],
        ] {
            assert_eq!(refusal(change), refused::Reason::Unspecified);
        }
    }

    #[test]
    fn notices_for_another_master_are_dropped() {
        for epoch in [2, 4] {
            let heartbeat = Notice::Heartbeat(Heartbeat { epoch, ..Heartbeat::default() });
            assert!(turn_of(SESSION, Epoch(3), Some(heartbeat)).unwrap().is_none());
            let ended = Notice::Ended(Ended { epoch, ..Ended::default() });
            assert!(turn_of(SESSION, Epoch(3), Some(ended)).unwrap().is_none());
        }
        let heartbeat = Notice::Heartbeat(Heartbeat { epoch: 3, ..Heartbeat::default() });
        let turn = turn_of(SESSION, Epoch(3), Some(heartbeat)).unwrap();
        assert!(matches!(turn, Some(Turn::Notice { event: Event::Heartbeat { .. }, .. })));
    }

    #[test]
    fn notices_about_no_attempt_end_the_stream() {
        let no_attempt = gristmill_proto::task::AttemptProgress::default();
        let heartbeat = Heartbeat { epoch: 3, running: vec![no_attempt], ..Heartbeat::default() };
        let no_reader = FetchFailed { epoch: 3, ..FetchFailed::default() };
        for notice in [Notice::Heartbeat(heartbeat), Notice::FetchFailed(no_reader)] {
            let refused = turn_of(SESSION, Epoch(3), Some(notice)).err().expect("it is refused");
            assert!(matches!(refused, BadNotice::Attempt(_)), "{refused}");
        }
    }

    #[test]
    fn notices_beyond_limits_end_the_stream() {
        let refused = |notice| turn_of(SESSION, Epoch(3), notice).err().expect("it is refused");
        assert_eq!(refused(None), BadNotice::Empty);
        assert_eq!(refused(Some(Notice::Register(register()))), BadNotice::RegisteredTwice);
        let running = vec![AttemptProgress::default(); RUNNING_MAX + 1];
        let heartbeat = Heartbeat { epoch: 3, running, ..Heartbeat::default() };
        assert!(matches!(refused(Some(Notice::Heartbeat(heartbeat))), BadNotice::TooMany { .. }));
        let held = Held { job: vec![7; 16].into(), outputs: vec![HeldOutput::default(); HELD_MAX + 1] };
        assert!(matches!(refused(Some(Notice::Held(held))), BadNotice::TooMany { .. }));
        assert_eq!(refused(Some(Notice::Held(Held::default()))), BadNotice::Job);
        let ended = Ended { epoch: 3, ..Ended::default() };
        assert_eq!(refused(Some(Notice::Ended(ended))), BadNotice::Attempt(BadAttemptId));
    }

    #[test]
    fn long_texts_are_clipped_at_a_character() {
        let text = clip("ü".repeat(TEXT_BYTES_MAX));
        assert_eq!(text.len(), TEXT_BYTES_MAX);
        assert_eq!(clip(format!("x{text}")).len(), TEXT_BYTES_MAX - 1);
    }
}
