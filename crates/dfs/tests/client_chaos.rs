//! Random writers among random failures: whatever was acknowledged is there, byte by byte, and readers get nothing else.

mod fakes;

use std::io::Read;

use fakes::worker::Fault;
use fakes::{FakeCluster, content};
use gristmill_dfs::client::{CreateOptions, DfsClient, DfsError};
use gristmill_proto::messages::bulk_failure::Kind;

/// Stories told; each is decided by its number.
const STORIES: u64 = 40;

/// Numbers that look random (splitmix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn write_fault(&mut self) -> Fault {
        // A block of the tests has eight.
        let packet = self.throw(8);
        match self.throw(7) {
            0 => Fault::CloseAtPacket(packet),
            1 => Fault::CloseAfterPacket(packet),
            2 => Fault::FailAtPacket(packet, Kind::Disk),
            3 => Fault::FailAtPacket(packet, Kind::Corrupt),
            4 => Fault::CloseAfterLast,
            5 => Fault::Refuse(Kind::Busy),
            _ => Fault::Down,
        }
    }

    fn read_fault(&mut self) -> Fault {
        match self.throw(6) {
            0 => Fault::CorruptReads,
            1 => Fault::CutReads(self.throw(3_000_000) as usize),
            2 => Fault::BrokenReads(Kind::Disk),
            3 => Fault::Refuse(Kind::NotFound),
            4 => Fault::Refuse(Kind::Token),
            _ => Fault::Down,
        }
    }
}

/// Writes a file in some steps, and says how many bytes of it are promised: those of the last sync, or all.
fn write(
    dice: &mut Dice,
    cluster: &FakeCluster,
    client: &DfsClient,
    bytes: &[u8],
) -> (usize, Result<(), DfsError>) {
    let mut promised = 0;
    let mut written = 0;
    let mut act = || {
        let options = CreateOptions { block_bytes: (1 + dice.throw(3)) << 20, ..CreateOptions::default() };
        let mut writer = client.create("/file", options)?;
        while written < bytes.len() {
            // One fault at a time, so that two of three workers are always well.
            if dice.throw(2) == 0 {
                cluster.workers.iter().for_each(fakes::worker::FakeWorker::mend);
                cluster.worker(1 + dice.throw(3)).break_with(dice.write_fault());
            }
            let piece = dice.throw(700_000).min((bytes.len() - written) as u64 - 1) as usize + 1;
            writer.write_whole(&bytes[written..written + piece])?;
            written += piece;
            match dice.throw(6) {
                0 => {
                    writer.sync()?;
                    promised = written;
                }
                1 => writer.flush_visible()?,
                _ => {}
            }
        }
        writer.finish()?;
        promised = written;
        Ok(())
    };
    let done = act();
    (promised, done)
}

#[test]
fn what_was_acknowledged_is_there() {
    let (mut fired, mut finished) = (0, 0);
    for story in 0..STORIES {
        let mut dice = Dice(story);
        let cluster = FakeCluster::start(3);
        let client = cluster.client();
        let bytes = content(dice.throw(6_000_000) as usize + 1);
        let (promised, done) = write(&mut dice, &cluster, &client, &bytes);
        finished += usize::from(done.is_ok());
        if let Err(error) = &done {
            assert!(matches!(error, DfsError::PipelineLost { .. }), "story {story}: {error}");
        }
        fired += cluster.workers.iter().map(fakes::worker::FakeWorker::fired).sum::<usize>();
        cluster.workers.iter().for_each(fakes::worker::FakeWorker::mend);
        let blocks = cluster.master.seen().namespace.node("/file").expect("there").blocks.clone();
        // Readers among failures of their own: one worker that has nothing else is never the one that fails.
        let culprit = 1 + dice.throw(3);
        if blocks.iter().all(|block| block.workers.iter().any(|worker| *worker != culprit)) {
            cluster.worker(culprit).break_with(dice.read_fault());
        }
        let mut read = Vec::new();
        let mut reader = cluster.client().open("/file").expect("opened");
        assert_eq!(reader.file_bytes(), promised as u64, "story {story}");
        reader.read_to_end(&mut read).unwrap_or_else(|error| panic!("story {story}: {error}"));
        assert!(read == bytes[..promised], "story {story}");
    }
    assert!(fired > 30, "only {fired} faults happened");
    assert!(finished > STORIES as usize / 2, "only {finished} files were finished");
    println!("{fired} faults, {finished} of {STORIES} files finished");
}
