//! What a target takes off the front of its bytes, to decide what to do with the rest.

/// Bytes, read from the front. Those that are missing are zero: every input means something.
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.number::<2>() as u16
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.number::<4>() as u32
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.number::<8>()
    }

    pub(crate) fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(bytes.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Little-endian.
    fn number<const N: usize>(&mut self) -> u64 {
        self.take(N).iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}
