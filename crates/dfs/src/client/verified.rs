//! A range of a block as a stream of verified bytes, wherever they come from.

use gristmill_proto::chunks::CHUNK_BYTES;

use super::errors::TransferError;

/// Bytes taken ahead for a reader with a small buffer.
const STAGE_BYTES: usize = 128 << 10;
const CHUNK: usize = CHUNK_BYTES as usize;
const _: () = assert!(STAGE_BYTES.is_multiple_of(CHUNK));

/// Where the chunks of a replica come from, in order.
pub(crate) trait ChunkSource {
    /// How many bytes can be taken now, from a chunk border on; 0: all were taken. No more than are still in the cache when
    /// their checksums are computed.
    fn available(&mut self) -> Result<u64, TransferError>;

    /// Fills `into` with the next bytes, verified: whole chunks, or all that are available.
    fn take(&mut self, into: &mut [u8]) -> Result<(), TransferError>;
}

/// Exactly the bytes that are wanted. Whole chunks go straight into the reader's buffer.
pub(crate) struct Verified<S> {
    pub(crate) source: S,
    /// Of the source, before the first wanted byte: less than a chunk.
    skip: usize,
    /// Wanted and not yet given.
    left: u64,
    staged: Vec<u8>,
    staged_at: usize,
}

impl<S: ChunkSource> Verified<S> {
    /// `bytes` bytes of `source`, which starts at the border of the chunk that holds `offset`.
    pub(crate) fn new(source: S, offset: u64, bytes: u64) -> Verified<S> {
        let skip = (offset % CHUNK_BYTES) as usize;
        Verified { source, skip, left: bytes, staged: Vec::new(), staged_at: 0 }
    }

    /// Gives some bytes; 0: that was all, or `into` is empty.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, TransferError> {
        let wanted = (into.len() as u64).min(self.left) as usize;
        let into = &mut into[..wanted];
        if into.is_empty() {
            return Ok(0);
        }
        if self.staged_at == self.staged.len() {
            let available = self.source.available()? as usize;
            if available == 0 {
                return Err(TransferError::Protocol("fewer bytes came than were announced"));
            }
            let direct = if into.len() >= available { available } else { into.len() / CHUNK * CHUNK };
            if direct > 0 && self.skip == 0 {
                self.source.take(&mut into[..direct])?;
                self.left -= direct as u64;
                return Ok(direct);
            }
            self.stage(available.min(STAGE_BYTES))?;
        }
        let staged = &self.staged[self.staged_at..];
        let given = staged.len().min(into.len());
        into[..given].copy_from_slice(&staged[..given]);
        self.staged_at += given;
        self.left -= given as u64;
        Ok(given)
    }

    fn stage(&mut self, bytes: usize) -> Result<(), TransferError> {
        if bytes <= self.skip {
            return Err(TransferError::Protocol("a packet that ends before the range begins"));
        }
        self.staged.resize(bytes, 0);
        // What is in there counts only once it is verified.
        self.staged_at = bytes;
        self.source.take(&mut self.staged)?;
        self.staged_at = std::mem::take(&mut self.skip);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes in packets of a size.
    struct Packets {
        bytes: Vec<u8>,
        at: usize,
        packet: usize,
    }

    impl ChunkSource for Packets {
        fn available(&mut self) -> Result<u64, TransferError> {
            let packet_end = (self.at / self.packet + 1) * self.packet;
            Ok((packet_end.min(self.bytes.len()) - self.at) as u64)
        }

        fn take(&mut self, into: &mut [u8]) -> Result<(), TransferError> {
            let all = self.available()? as usize;
            assert!(into.len() == all || (into.len() < all && into.len().is_multiple_of(CHUNK)));
            assert!(self.at.is_multiple_of(CHUNK));
            into.copy_from_slice(&self.bytes[self.at..self.at + into.len()]);
            self.at += into.len();
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn any_range_in_any_pieces_is_that_range(
            start in 0_usize..3 * CHUNK,
            bytes in 0_usize..40 * CHUNK,
            packet_chunks in 1_usize..70,
            pieces in proptest::collection::vec(1_usize..5 * CHUNK, 1..20),
        ) {
            let replica: Vec<u8> = (0..start + bytes).map(|at| (at % 251) as u8).collect();
            let from = start / CHUNK * CHUNK;
            let source = Packets { bytes: replica[from..].to_vec(), at: 0, packet: packet_chunks * CHUNK };
            let mut range = Verified::new(source, start as u64, bytes as u64);
            let mut read = Vec::new();
            for piece in pieces.iter().cycle() {
                let mut buffer = vec![0; *piece];
                let got = range.read(&mut buffer).expect("a good source");
                if got == 0 {
                    break;
                }
                read.extend_from_slice(&buffer[..got]);
            }
            prop_assert_eq!(read, &replica[start..]);
        }
    }

    #[test]
    fn a_source_that_ends_early_is_an_error() {
        let source = Packets { bytes: vec![7; 10], at: 0, packet: CHUNK };
        let mut range = Verified::new(source, 0, 11);
        let mut buffer = [0; 64];
        assert_eq!(range.read(&mut buffer[..10]).expect("there"), 10);
        assert!(range.read(&mut buffer).is_err());
    }

    #[test]
    fn a_packet_that_ends_before_the_range_begins_is_an_error_and_not_the_end() {
        for packet in [99, 100] {
            let source = Packets { bytes: vec![7; CHUNK], at: 0, packet };
            let mut range = Verified::new(source, 100, 10);
            assert!(range.read(&mut [0; 10]).is_err(), "{packet} bytes");
        }
    }
}
