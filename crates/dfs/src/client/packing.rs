//! Cuts what is written into packets. Pure.

use gristmill_proto::chunks::{self, CHUNK_BYTES};

/// Data of a full packet: 64 chunks, so that what a packet costs vanishes, and few enough bytes to stay in the cache
/// from the checksum to the socket.
pub(crate) const PACKET_DATA_BYTES: usize = 1 << 20;
const _: () = assert!(PACKET_DATA_BYTES.is_multiple_of(CHUNK_BYTES as usize));
/// Data of the first packet of a block. A packet is as long as all before it: so a worker behind a slow link is known
/// by a few small ones, long before a full one would have it taken for dead.
const FIRST_PACKET_DATA_BYTES: u64 = 64 << 10;
const _: () = assert!(FIRST_PACKET_DATA_BYTES.is_multiple_of(CHUNK_BYTES));
/// Buffers kept for later packets: as many as a window has.
const SPARE_BUFFERS_MAX: usize = 32;

/// A packet of a block, with its checksums.
pub(crate) struct Packet {
    /// In the block, a multiple of a chunk.
    pub(crate) offset: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) sums: Vec<u8>,
    /// The block ends with it.
    pub(crate) last: bool,
    /// To be on disk before it is acknowledged.
    pub(crate) sync: bool,
}

impl Packet {
    /// Where it ends, in the block.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

/// Buffers of packets that are done with: memory that is mapped already.
#[derive(Default)]
pub(crate) struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    pub(crate) fn give_back(&mut self, mut data: Vec<u8>) {
        if self.0.len() < SPARE_BUFFERS_MAX && data.capacity() >= PACKET_DATA_BYTES {
            data.clear();
            self.0.push(data);
        }
    }

    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| Vec::with_capacity(PACKET_DATA_BYTES))
    }
}

/// The packet that is being filled.
///
/// A packet starts at a chunk border. When one must leave in the middle of a chunk, for a flush, the next starts with
/// the same chunk again: its first `repeated` bytes were sent before.
pub(crate) struct Packer {
    block_bytes: u64,
    /// In the block.
    start: u64,
    data: Vec<u8>,
    repeated: usize,
}

impl Packer {
    /// Goes on in a block that ends with `tail`, a part of a chunk at `start`. `block_bytes` is at least 1.
    pub(crate) fn new(block_bytes: u64, start: u64, tail: Vec<u8>) -> Packer {
        let repeated = tail.len();
        Packer { block_bytes, start, data: tail, repeated }
    }

    /// Takes as much of `bytes` as fits, and says how much that was, never 0 unless `bytes` is empty.
    /// When [`Packer::is_full`] the packet is to be sealed before the next call.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let fits = bytes.len().min(self.room() - self.data.len());
        self.data.extend_from_slice(&bytes[..fits]);
        fits
    }

    pub(crate) fn is_full(&self) -> bool {
        self.data.len() == self.room()
    }

    /// Whether the block has any bytes yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.start > 0 || !self.data.is_empty()
    }

    /// Whether there are bytes that were not sent before.
    pub(crate) fn has_news(&self) -> bool {
        self.data.len() > self.repeated
    }

    /// Seals the packet. If it fills the block, or if `last`, the next one starts another block.
    pub(crate) fn seal(&mut self, last: bool, sync: bool, buffers: &mut Buffers) -> Packet {
        let offset = self.start;
        let end = offset + self.data.len() as u64;
        let last = last || end == self.block_bytes;
        let data = std::mem::take(&mut self.data);
        self.repeated = 0;
        if last {
            self.start = 0;
        } else {
            let tail = data.len() % CHUNK_BYTES as usize;
            self.start = end - tail as u64;
            self.repeated = tail;
        }
        // Who fills one packet will fill more; a small file never takes a whole buffer.
        if data.capacity() >= PACKET_DATA_BYTES {
            self.data = buffers.take();
        }
        self.data.extend_from_slice(&data[data.len() - self.repeated..]);
        let mut sums = Vec::new();
        chunks::append_sums(&data, &mut sums);
        Packet { offset, data, sums, last, sync }
    }

    /// Data that the present packet can have.
    fn room(&self) -> usize {
        let packet_bytes = self.start.clamp(FIRST_PACKET_DATA_BYTES, PACKET_DATA_BYTES as u64);
        // At most a packet: it fits.
        (self.block_bytes - self.start).min(packet_bytes) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: usize = CHUNK_BYTES as usize;

    /// A block as a worker has it: each packet starts at a chunk border, and repeats what it rewrites.
    fn apply(block: &mut Vec<u8>, packet: &Packet) {
        let offset = packet.offset as usize;
        assert!(offset.is_multiple_of(CHUNK) && offset <= block.len() && block.len() - offset < CHUNK);
        assert!(packet.data.starts_with(&block[offset..]));
        chunks::verify(&packet.data, &packet.sums).expect("its own sums");
        block.truncate(offset);
        block.extend_from_slice(&packet.data);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize),
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0..3 * PACKET_DATA_BYTES / 2).prop_map(Step::Write);
        let little = (0..2 * CHUNK).prop_map(Step::Write);
        proptest::collection::vec(prop_oneof![write, little, Just(Step::Flush)], 0..12)
    }

    #[test]
    fn a_block_begins_with_small_packets() {
        let (mut packer, mut buffers) = (Packer::new(64 << 20, 0, Vec::new()), Buffers::default());
        let kib: Vec<usize> = (0..7)
            .map(|_| {
                while !packer.is_full() {
                    packer.fill(&[7; CHUNK]);
                }
                packer.seal(false, false, &mut buffers).data.len() >> 10
            })
            .collect();
        assert_eq!(kib, [64, 64, 128, 256, 512, 1024, 1024]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn packets_make_the_blocks(steps in steps(), block_chunks in 1_u64..100) {
            let block_bytes = block_chunks * CHUNK_BYTES;
            let (mut packer, mut buffers) = (Packer::new(block_bytes, 0, Vec::new()), Buffers::default());
            let (mut written, mut blocks) = (Vec::new(), vec![Vec::new()]);
            let take = |packet: Packet, blocks: &mut Vec<Vec<u8>>, buffers: &mut Buffers| {
                apply(blocks.last_mut().expect("one"), &packet);
                if packet.last {
                    blocks.push(Vec::new());
                }
                buffers.give_back(packet.data);
            };
            for step in steps {
                match step {
                    Step::Write(bytes) => {
                        let bytes: Vec<u8> = (0..bytes).map(|at| (at + written.len()) as u8).collect();
                        written.extend_from_slice(&bytes);
                        let mut left = &bytes[..];
                        while !left.is_empty() {
                            let taken = packer.fill(left);
                            prop_assert!(taken > 0);
                            left = &left[taken..];
                            if packer.is_full() {
                                take(packer.seal(false, false, &mut buffers), &mut blocks, &mut buffers);
                            }
                        }
                    }
                    Step::Flush if packer.has_news() => {
                        take(packer.seal(false, true, &mut buffers), &mut blocks, &mut buffers);
                        prop_assert!(!packer.has_news());
                        prop_assert_eq!(blocks.concat().len(), written.len());
                    }
                    Step::Flush => {}
                }
            }
            if packer.has_begun() {
                take(packer.seal(true, false, &mut buffers), &mut blocks, &mut buffers);
            }
            prop_assert!(!packer.has_begun());
            prop_assert_eq!(blocks.pop(), Some(Vec::new()), "the last block has ended");
            let (full, rest) = blocks.split_at(blocks.len().saturating_sub(1));
            prop_assert!(full.iter().all(|block| block.len() as u64 == block_bytes));
            prop_assert!(rest.iter().all(|block| !block.is_empty()));
            prop_assert_eq!(blocks.concat(), written);
        }
    }
}
