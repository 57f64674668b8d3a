//! Some values of one group, kept to be read several times: in memory while they are few, else in a run.

use crate::cursor::Cursor;
use crate::memory::TaskMemory;
use crate::run::{ReadRunError, Run, RunPart};
use crate::run_writer::RunWriter;
use crate::scratch::{Scratch, ScratchError};
use std::sync::Arc;

/// Collects values, then lends them any number of times.
pub struct GroupBuffer {
    scratch: Scratch,
    memory_bytes_max: usize,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    overflow: Option<RunWriter>,
    run: Option<Arc<Run>>,
}

impl GroupBuffer {
    /// An empty buffer that keeps up to an eighth of the task's memory.
    pub fn new(memory: TaskMemory, scratch: Scratch) -> Self {
        let memory_bytes_max = memory.bytes / 8;
        Self { scratch, memory_bytes_max, bytes: Vec::new(), ends: Vec::new(), overflow: None, run: None }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.overflow, self.run) = (None, None);
    }

    /// Adds a value.
    pub fn push(&mut self, value: &[u8]) -> Result<(), ScratchError> {
        let held = self.bytes.len() + value.len() + (self.ends.len() + 1) * size_of::<usize>();
        if self.overflow.is_none() && held <= self.memory_bytes_max {
            self.bytes.extend_from_slice(value);
            self.ends.push(self.bytes.len());
            return Ok(());
        }
        let writer = self.overflow.get_or_insert_with(|| RunWriter::new(&self.scratch, false));
        writer.push(0, &[], value)
    }

    /// Ends collecting.
    pub fn seal(&mut self) -> Result<(), ScratchError> {
        if let Some(writer) = self.overflow.take() {
            self.run = Some(Arc::new(writer.finish()?));
        }
        Ok(())
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.run.is_none()
    }

    /// Reads from the first value on.
    pub fn values(&self) -> Result<BufferedValues<'_>, ReadRunError> {
        let cursor = self.run.as_ref().map(|run| Cursor::open(RunPart::whole(run))).transpose()?;
        Ok(BufferedValues { buffer: self, next: 0, cursor, taken: false })
    }
}

/// Reads a [`GroupBuffer`] once.
pub struct BufferedValues<'b> {
    buffer: &'b GroupBuffer,
    next: usize,
    cursor: Option<Cursor>,
    taken: bool,
}

impl BufferedValues<'_> {
    /// The next value, if there is one.
    pub fn next_value(&mut self) -> Result<Option<&[u8]>, ReadRunError> {
        if let Some(&end) = self.buffer.ends.get(self.next) {
            let start = self.next.checked_sub(1).map_or(0, |before| self.buffer.ends[before]);
            self.next += 1;
            return Ok(Some(&self.buffer.bytes[start..end]));
        }
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        if std::mem::replace(&mut self.taken, true) {
            cursor.advance()?;
        }
        Ok(if cursor.ended { None } else { Some(cursor.value()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Codec;
    use crate::memory::ResidentPool;

    #[test]
    fn values_are_read_again_and_again_from_memory_and_disk() {
        let dir = tempfile::tempdir().expect("tempdir");
        let scratch = Scratch::create(dir.path(), ResidentPool::new(0), Codec::Lz4).expect("scratch");
        let mut buffer = GroupBuffer::new(TaskMemory { bytes: 8 << 10 }, scratch.clone());
        for count in [0u32, 3, 10_000] {
            buffer.clear();
            let values: Vec<_> = (0..count).map(|i| i.to_string().into_bytes()).collect();
            values.iter().for_each(|value| buffer.push(value).expect("push"));
            buffer.seal().expect("seal");
            for _ in 0..2 {
                let (mut reader, mut found) = (buffer.values().expect("values"), Vec::new());
                while let Some(value) = reader.next_value().expect("read") {
                    found.push(value.to_vec());
                }
                assert_eq!(found, values);
            }
        }
        assert!(scratch.written_bytes() > 0, "10,000 values do not fit into 1 KiB");
    }
}
