//! 10,000 maps and 1,000 reduces: no message grows with their product.

use std::collections::BTreeMap;

use gristmill_master::core::{
    Command, Core, CoreOptions, Event, Joining, PAGE_ENTRIES_MAX, SessionId, TaskReport,
};
use gristmill_proto::ids::{AttemptId, Epoch, Incarnation, WorkerId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::task::register::Role;

use crate::plans;

const WORKERS: u64 = 100;
const MAPS: u32 = 10_000;
const REDUCES: u32 = 1_000;

#[test]
fn no_message_grows_with_maps_times_reduces() {
    let mut core = Core::new(CoreOptions::default(), Epoch(1));
    let mut out = Vec::new();
    for worker in 1..=WORKERS {
        core.handle(0, registered(worker), &mut out);
    }
    let spec = plans::chain(1, &[MAPS, REDUCES], false);
    let job = plans::id_of(&spec);
    let hints = plans::hints(MAPS, WORKERS);
    core.handle(0, Event::Submit { spec: Box::new(spec.clone()), hints, wall_ms: 0 }, &mut out);
    core.handle(0, Event::Staged { job, result: Ok(()) }, &mut out);
    let (mut now_ms, mut entries, mut largest) = (0, 0, 0);
    let mut told: BTreeMap<SessionId, usize> = BTreeMap::new();
    while core.status(job).is_some_and(|status| status.state() == State::Running) {
        now_ms += 100;
        let commands = std::mem::take(&mut out);
        assert!(now_ms < 10_000_000, "it does not end: {:?}", core.status(job));
        for command in commands {
            match command {
                Command::Launch { session, launch } => {
                    let attempt = AttemptId::from_wire(&launch.attempt.expect("an attempt")).expect("whole");
                    let result = plans::result(&spec, attempt, session.0, 0);
                    let report = TaskReport::Done(Box::new(result));
                    // A reduce is done only when it was told all outputs.
                    core.handle(now_ms, Event::Ended { session, attempt, report, wall_ms: now_ms }, &mut out);
                }
                Command::Outputs { session, entries: page, holders, .. } => {
                    largest = largest.max(page.len()).max(holders.len());
                    entries += page.len();
                    *told.entry(session).or_default() += page.len();
                }
                _ => {}
            }
        }
        for worker in 1..=WORKERS {
            core.handle(
                now_ms,
                Event::Heartbeat { session: SessionId(worker), running: Vec::new() },
                &mut out,
            );
        }
        core.handle(now_ms, Event::Tick { wall_ms: now_ms }, &mut out);
    }
    assert_eq!(core.status(job).map(|status| status.state()), Some(State::Committing));
    assert!(largest <= PAGE_ENTRIES_MAX, "a message has {largest} entries");
    assert!(told.values().all(|entries| *entries <= MAPS as usize), "a worker is told an output twice");
    assert!(entries as u64 <= u64::from(MAPS) * WORKERS, "{entries} entries were told");
    assert!(entries > 0);
    assert_eq!(core.parts(job).len(), REDUCES as usize);
}

fn registered(worker: u64) -> Event {
    Event::Registered {
        worker: WorkerId(worker),
        joining: Joining {
            session: SessionId(worker),
            incarnation: Incarnation([worker as u8; 16]),
            role: Role::Core,
            slots: 4,
            memory_bytes: 4 << 30,
            host: format!("host{worker}"),
            rack: format!("rack{}", worker % 10),
            address: format!("host{worker}:1"),
            pid: 1,
            running: Vec::new(),
            held_pages: 0,
        },
    }
}
