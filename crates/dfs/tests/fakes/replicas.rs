//! What a fake worker has: replicas in memory, with the rules of a real one as assertions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use gristmill_proto::chunks::CHUNK_BYTES;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::write_block::Stage;
use gristmill_proto::messages::{Packet, WriteBlock};

#[derive(Clone, Debug, Default)]
pub struct Replica {
    pub generation: u64,
    pub data: Vec<u8>,
    pub synced_bytes: u64,
    pub finished: bool,
}

#[derive(Clone, Default)]
pub struct Replicas(Arc<Mutex<HashMap<u64, Replica>>>);

impl Replicas {
    pub fn get(&self, block: u64) -> Option<Replica> {
        self.0.lock().unwrap().get(&block).cloned()
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn forget(&self, block: u64) {
        self.0.lock().unwrap().remove(&block);
    }

    pub fn adopt(&self, block: u64, replica: Replica) {
        self.0.lock().unwrap().insert(block, replica);
    }

    pub fn open(&self, write: &WriteBlock) -> Result<(), Kind> {
        let mut replicas = self.0.lock().unwrap();
        let there = replicas.get_mut(&write.block);
        match (Stage::try_from(write.stage).expect("a stage"), there) {
            (Stage::Create, None) => {
                assert_eq!(write.offset, 0);
                let replica = Replica { generation: write.generation, ..Replica::default() };
                replicas.insert(write.block, replica);
                Ok(())
            }
            (Stage::Rebuild | Stage::Append, Some(replica)) => {
                if !(write.generation_before..write.generation).contains(&replica.generation) {
                    return Err(Kind::StaleGeneration);
                }
                let kept = write.offset as usize;
                assert!(kept <= replica.data.len(), "{kept} bytes are to be kept of {}", replica.data.len());
                replica.data.truncate(kept);
                replica.synced_bytes = replica.synced_bytes.min(write.offset);
                replica.generation = write.generation;
                replica.finished = false;
                Ok(())
            }
            (Stage::Create, Some(_)) => Err(Kind::BusyReplica),
            (_, None) => Err(Kind::NotFound),
            (Stage::Copy, Some(_)) => unreachable!("no client copies"),
        }
    }

    /// Writes a packet. One that rewrites the last chunk must repeat what is there.
    pub fn write(&self, block: u64, generation: u64, packet: &Packet, data: &[u8]) -> Result<(), Kind> {
        let mut replicas = self.0.lock().unwrap();
        let replica = replicas.get_mut(&block).ok_or(Kind::NotFound)?;
        if replica.generation != generation || replica.finished {
            return Err(Kind::StaleGeneration);
        }
        let offset = packet.offset as usize;
        let kept = replica.data.len();
        assert!(offset.is_multiple_of(CHUNK_BYTES as usize), "a packet starts at {offset}");
        assert!(offset <= kept && kept - offset < CHUNK_BYTES as usize, "at {offset} after {kept} bytes");
        assert!(data.starts_with(&replica.data[offset..]), "the last chunk was rewritten differently");
        replica.data.truncate(offset);
        replica.data.extend_from_slice(data);
        if packet.sync || packet.last {
            replica.synced_bytes = replica.data.len() as u64;
        }
        replica.finished = packet.last;
        Ok(())
    }
}
