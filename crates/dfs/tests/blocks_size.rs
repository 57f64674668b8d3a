//! What a block costs: memory, and the time of a slice of a full report.

use std::time::Duration;

use gristmill_dfs::namenode::blocks::{Blocks, BlocksOptions, KnownBlock, Outbox, Slice};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Register, ReplicaInfo};
use gristmill_proto::ids::{BlockId, ClusterId, Epoch, Generation};

const BLOCKS: u64 = 400_000;
const SLICE: u64 = 10_000;
const KNOWN: KnownBlock =
    KnownBlock { generation: Generation(7), bytes: 64 << 20, replication: 3, complete: true };

/// Ten times what a debug build takes; all of it at once would take longer by another factor of ten.
const QUICK: Duration = Duration::from_secs(1);

/// What this thread has had of a processor: it does not grow while others have it.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().expect("a first number");
    Duration::from_nanos(nanos.parse().expect("a number"))
}

/// Bytes of memory that this process uses.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

/// One worker reports all blocks: the time of the slowest slice.
fn report_all(blocks: &mut Blocks, life: u8) -> Duration {
    let register = Register {
        version: PROTOCOL_VERSION,
        incarnation: vec![life; 16].into(),
        host: format!("h{life}"),
        rack: format!("/r{life}"),
        ..Register::default()
    };
    let mut out = Outbox::default();
    let attendant = blocks.register(&register, "h:1".to_owned(), 1, &mut out).expect("it is welcome");
    let Some((_, Order::SendReport(send))) = out.orders.pop() else { panic!("a report is ordered") };
    let mut slowest = Duration::ZERO;
    for first in (0..BLOCKS).step_by(SLICE as usize) {
        let info = |block| ReplicaInfo { block, generation: KNOWN.generation.0, bytes: KNOWN.bytes };
        let replicas: Vec<_> = (first..first + SLICE).map(|block| (info(block), Some(KNOWN))).collect();
        let last = if first + SLICE == BLOCKS { u64::MAX } else { first + SLICE - 1 };
        let slice = Slice {
            worker: attendant.worker,
            incarnation: attendant.incarnation,
            report_id: send.report_id,
            first: BlockId(first),
            last: BlockId(last),
            replicas: &replicas,
        };
        let start = processor_time();
        let answer = blocks.report_slice(&slice, 1, &mut out).expect("it is taken");
        slowest = slowest.max(processor_time() - start);
        assert_eq!((answer.unknown, answer.complete), (0, last == u64::MAX));
    }
    slowest
}

#[test]
fn ten_million_blocks_fit_in_half_a_gibibyte_and_slices_are_quick() {
    let cluster = ClusterId([1; 16]);
    let mut blocks = Blocks::new(BlocksOptions::default(), cluster, Epoch(1), 1, BLOCKS, 1);
    let before = resident_bytes();
    let slowest: Vec<Duration> = (1..=3).map(|life| report_all(&mut blocks, life)).collect();
    let again = report_all(&mut blocks, 3);
    let bytes_a_block = (resident_bytes() - before) / BLOCKS;
    println!("{bytes_a_block} bytes a block with 3 replicas; slices {slowest:?}, again {again:?}");
    assert_eq!(blocks.safe_mode().reported, BLOCKS);
    assert!(bytes_a_block * 10_000_000 < 500 << 20, "{bytes_a_block} bytes a block");
    // 15 ms are promised of a release build.
    assert!(slowest.iter().max().is_some_and(|&time| time < QUICK), "{slowest:?}");
    // A pass over all blocks is cut into ticks.
    let mut out = Outbox::default();
    blocks.set_safe_mode(false);
    for tick in 1..10 {
        let start = processor_time();
        blocks.tick(1 + tick, &mut out);
        let took = processor_time() - start;
        assert!(took < QUICK, "a tick took {took:?}");
    }
    assert!(blocks.totals().settled);
}
