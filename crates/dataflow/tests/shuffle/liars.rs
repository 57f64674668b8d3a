//! Whatever a listener answers, no wrong record is read: it is told to the master, and another attempt's output is read.
//! (After Hadoop's TestFetcher)

use crate::cluster::{CLUSTER, PARTITIONS, Reader, Worker, attempt, hash, key, outputs, records};
use crate::liar::{Answer, Liar, frame};
use gristmill_dataflow::shuffle::{ServeOptions, ShuffleKeys};
use gristmill_proto::bulk::FrameKind;
use gristmill_proto::ids::JobId;
use gristmill_proto::messages::bulk_failure::Kind as Failure;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{Broken, BulkFailure, FetchPart, PartFound, Reply, RunBytes};
use gristmill_proto::task::fetch_failed::Kind;
use gristmill_proto::task::{Holder, Outputs};

fn fetch_part(partition: u32) -> Operation {
    let output = Some(attempt(0, 0).to_wire());
    Operation::FetchPart(FetchPart { output, partition, keys: None })
}

/// Reads from a listener that spoils the right answer; returns what was reported.
#[track_caller]
fn lie(what: &str, spoil: impl Fn(Answer, u64) -> Vec<u8> + Send + Sync + 'static) -> Kind {
    let rule = hash();
    let worker = Worker::start(2);
    let maps = records(0, 40);
    let lied_about = worker.map(&rule, attempt(0, 0), &maps);
    let right = outputs(&[&worker], vec![worker.map(&rule, attempt(0, 1), &maps)], 1);
    let answers: Vec<Answer> =
        (0..PARTITIONS).map(|partition| Answer::of(&worker.address(), fetch_part(partition))).collect();
    let liar = Liar::start(move |_, id, request| {
        let Some(Operation::FetchPart(wanted)) = &request.operation else { panic!("{request:?}") };
        spoil(answers[wanted.partition as usize].clone(), id)
    });
    let holder = Holder { worker: 1, address: liar.address };
    let mut entry = lied_about;
    entry.holder = 1;

    let truth = Reader::elsewhere(0);
    truth.sources.learn(&right);
    let mut reader = Reader::elsewhere(0);
    reader.sources.learn(&Outputs { holders: vec![holder], ..outputs(&[], vec![entry], 1) });
    reader.answer_reports(move |_| Some(right.clone()));
    assert!(reader.read(&rule, 0) == truth.read(&rule, 0), "{what}");
    assert_eq!(reader.files(), 0, "{what}");
    let reports = reader.reports();
    assert_eq!(reports.len(), 1, "{what}: {reports:?}");
    assert_eq!(reports[0].holder, 1, "{what}");
    assert!(!reports[0].detail.is_empty(), "{what}");
    reports[0].kind()
}

fn respelled(change: impl Fn(&mut PartFound) + Send + Sync + 'static) -> impl Fn(Answer, u64) -> Vec<u8> {
    move |mut answer, id| {
        change(answer.reply.part.as_mut().expect("a part"));
        answer.frames(id)
    }
}

#[test]
fn an_answer_to_another_question_is_damage() {
    let other = |change: fn(&mut gristmill_proto::task::AttemptId)| {
        respelled(move |part| change(part.output.as_mut().expect("an output")))
    };
    assert_eq!(lie("job", other(|id| id.job = JobId([4; 16]).0.to_vec().into())), Kind::Damaged);
    assert_eq!(lie("stage", other(|id| id.stage = 5)), Kind::Damaged);
    assert_eq!(lie("task", other(|id| id.task = 5)), Kind::Damaged);
    assert_eq!(lie("number", other(|id| id.number = 1)), Kind::Damaged);
    assert_eq!(lie("none", respelled(|part| part.output = None)), Kind::Damaged);
    assert_eq!(lie("partition", respelled(|part| part.partition += 1)), Kind::Damaged);
    assert_eq!(lie("digest", respelled(|part| part.digest = vec![0; 16].into())), Kind::Damaged);
    assert_eq!(lie("no part", |_, id| frame(FrameKind::Reply, id, &Reply::default(), &[])), Kind::Damaged);
    assert_eq!(lie("request", |answer, id| answer.frames(id + 1)), Kind::Damaged);
}

#[test]
fn more_and_less_than_was_announced_is_damage() {
    assert_eq!(lie("records", respelled(|part| part.records -= 1)), Kind::Damaged);
    assert_eq!(lie("records", respelled(|part| part.records += 1)), Kind::Damaged);
    assert_eq!(lie("no blocks", respelled(|part| part.blocks = 0)), Kind::Damaged);
    assert_eq!(lie("blocks", respelled(|part| part.blocks += 1)), Kind::Damaged);
    assert_eq!(lie("many blocks", respelled(|part| part.blocks = u32::MAX)), Kind::Damaged);
    assert_eq!(lie("fewer bytes", respelled(|part| part.bytes -= 1)), Kind::Damaged);
    assert_eq!(lie("many bytes", respelled(|part| part.bytes = 1 << 60)), Kind::Damaged);
    assert_eq!(lie("no end", respelled(|part| part.bytes = u64::MAX)), Kind::Damaged);
    assert_eq!(lie("place", respelled(|part| part.offset += 1)), Kind::Damaged);
    assert_eq!(
        lie("gap", |answer, id| {
            let offset = answer.reply.part.as_ref().expect("a part").offset + 1;
            let mut wire = frame(FrameKind::Reply, id, &answer.reply, &[]);
            wire.extend(frame(FrameKind::RunBytes, id, &RunBytes { offset, last: true }, &answer.data));
            wire
        }),
        Kind::Damaged
    );
    assert_eq!(
        lie("an end in between", |mut answer, id| {
            answer.data.pop();
            answer.frames(id)
        }),
        Kind::Damaged
    );
    assert_eq!(
        lie("no data", |mut answer, id| {
            answer.data.clear();
            answer.frames(id)
        }),
        Kind::Damaged
    );
}

#[test]
fn another_partitions_blocks_are_damage() {
    // Whole and right, but elsewhere in the file.
    let worker = Worker::start(2);
    worker.map(&hash(), attempt(0, 0), &records(0, 40));
    let other = Answer::of(&worker.address(), fetch_part(1));
    let spoil = move |answer: Answer, id| {
        let (right, wrong) = (answer.reply.part.expect("a part"), other.reply.part.clone().expect("a part"));
        let part = PartFound { bytes: wrong.bytes, records: wrong.records, blocks: wrong.blocks, ..right };
        Answer { reply: Reply { part: Some(part), ..Reply::default() }, data: other.data.clone() }.frames(id)
    };
    assert_eq!(lie("another partition", spoil), Kind::Damaged);
}

#[test]
fn hostile_lengths_of_blocks_are_damage_before_anything_is_allocated() {
    for at in [8, 12] {
        let spoil = move |mut answer: Answer, id| {
            // Stored and raw length are in the block's header: with a right checksum.
            answer.data[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            let offset = answer.reply.part.as_ref().expect("a part").offset;
            let crc = crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), &answer.data[4..]);
            answer.data[..4].copy_from_slice(&crc.to_le_bytes());
            answer.frames(id)
        };
        assert_eq!(lie("a length", spoil), Kind::Damaged);
    }
}

#[test]
fn what_is_no_answer_is_damage_and_silence_is_no_connection() {
    assert_eq!(lie("another protocol", |_, _| b"HTTP/1.1 200 OK\r\n\r\n".repeat(9)), Kind::Damaged);
    assert_eq!(
        lie("a flipped bit of a head", |answer, id| {
            let mut wire = answer.frames(id);
            wire[30] ^= 1;
            wire
        }),
        Kind::Damaged
    );
    assert_eq!(lie("nothing", |_, _| Vec::new()), Kind::Unreachable);
    for keep in [10, 40] {
        let cut = move |answer: Answer, id| {
            let mut wire = answer.frames(id);
            wire.truncate(keep);
            wire
        };
        assert_eq!(lie("half a reply", cut), Kind::Unreachable);
    }
    assert_eq!(
        lie("half a part", |answer, id| {
            let mut wire = answer.frames(id);
            wire.truncate(wire.len() - 1);
            wire
        }),
        Kind::Unreachable
    );
}

#[test]
fn a_failure_is_reported_as_what_it_is() {
    let refuses = |kind: Failure| {
        lie("a failure", move |_, id| {
            let failure = Some(BulkFailure { kind: kind as i32, detail: "because".to_owned() });
            frame(FrameKind::Reply, id, &Reply { failure, ..Reply::default() }, &[])
        })
    };
    assert_eq!(refuses(Failure::NotFound), Kind::NotFound);
    assert_eq!(refuses(Failure::Corrupt), Kind::Damaged);
    assert_eq!(refuses(Failure::Disk), Kind::Damaged);
    assert_eq!(refuses(Failure::Token), Kind::Refused);
    assert_eq!(refuses(Failure::Protocol), Kind::Refused);
    let broken = |answer: Answer, id| {
        let failure = Some(BulkFailure { kind: Failure::Disk as i32, detail: "worn out".to_owned() });
        let mut wire = frame(FrameKind::Reply, id, &answer.reply, &[]);
        wire.extend(frame(FrameKind::Broken, id, &Broken { failure, offset: 16 }, &[]));
        wire
    };
    assert_eq!(lie("a broken part", broken), Kind::Damaged);
}

#[test]
fn one_bad_answer_is_asked_for_again_and_not_reported() {
    let rule = hash();
    let worker = Worker::start(2);
    let mut entry = worker.map(&rule, attempt(0, 0), &records(0, 40));
    entry.holder = 1;
    let right = Answer::of(&worker.address(), fetch_part(0));
    let liar = Liar::start(move |number, id, _| {
        let mut answer = right.clone();
        answer.data[30] ^= u8::from(number == 0);
        answer.frames(id)
    });
    let reader = Reader::elsewhere(0);
    let holders = vec![Holder { worker: 1, address: liar.address }];
    reader.sources.learn(&Outputs { holders, ..outputs(&[], vec![entry], 1) });
    assert!(!reader.read(&rule, 0).is_empty());
    assert!(reader.reports().is_empty(), "{:?}", reader.reports());
}

#[test]
fn a_worker_that_has_not_heard_its_master_yet_is_asked_again_until_it_has() {
    let rule = hash();
    let worker = Worker::with_keys(2, ShuffleKeys::new(), ServeOptions::default());
    let mut entry = worker.map(&rule, attempt(0, 0), &records(0, 40));
    entry.holder = 1;
    let (address, keys) = (worker.address(), worker.keys.clone());
    let liar = Liar::start(move |number, id, request| {
        if number == 3 {
            keys.set(CLUSTER, key());
        }
        let operation = request.operation.clone().expect("an operation");
        let answer = Answer::of(&address, operation);
        assert_eq!(answer.reply.failure.is_some(), number < 3, "{:?}", answer.reply);
        if number < 3 { frame(FrameKind::Reply, id, &answer.reply, &[]) } else { answer.frames(id) }
    });
    let reader = Reader::elsewhere(0);
    let holders = vec![Holder { worker: 1, address: liar.address }];
    reader.sources.learn(&Outputs { holders, ..outputs(&[], vec![entry], 1) });
    assert!(!reader.read(&rule, 0).is_empty());
    assert!(reader.reports().is_empty(), "{:?}", reader.reports());
}
