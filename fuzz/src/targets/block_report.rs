//! Slices of full block reports.

use super::Target;
use crate::input::Input;
use gristmill_dfs::namenode::blocks::replicas_of;
use gristmill_proto::attendance::BlockReport;
use prost::Message;

pub(super) const TARGET: Target = Target {
    name: "block_report",
    input_bytes_max: 1024,
    memory_bytes: 4 << 10,
    memory_bytes_per_byte: 200,
    run,
};

/// How: as it comes, or with as many of each, in the range of the blocks; the rest is the message.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let how = input.byte();
    let Ok(mut report) = BlockReport::decode(input.rest()) else { return };
    if how & 1 == 1 {
        report.generations.resize(report.block_steps.len(), 1);
        report.bytes.resize(report.block_steps.len(), 2);
    }
    if how & 2 == 2 {
        (report.first, report.last) = (report.first.min(report.last), u64::MAX);
    }
    match replicas_of(&report) {
        Err(error) => assert!(error.to_string().contains(&report.report_id.to_string()), "{error}"),
        Ok(replicas) => {
            assert!(report.first <= report.last);
            assert!(replicas.is_sorted_by(|one, next| one.block < next.block));
            let range = report.first..=report.last;
            assert!(replicas.iter().all(|replica| range.contains(&replica.block)));
            let before = replicas
                .iter()
                .map(|replica| replica.block)
                .scan(0, |before, block| Some(std::mem::replace(before, block)));
            let steps: Vec<u64> =
                replicas.iter().zip(before).map(|(replica, before)| replica.block - before).collect();
            assert_eq!(steps, report.block_steps);
            let generations: Vec<u64> = replicas.iter().map(|replica| replica.generation).collect();
            assert_eq!(generations, report.generations);
            let bytes: Vec<u64> = replicas.iter().map(|replica| replica.bytes).collect();
            assert_eq!(bytes, report.bytes);
        }
    }
}
