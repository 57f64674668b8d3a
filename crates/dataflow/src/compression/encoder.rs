//! Compression of what a job writes.

use super::Compression;
use super::zstd_frames::{SEEK_TABLE_MAGIC, SEEKABLE_MAGIC};
use flate2::write::GzEncoder;
use std::io::{self, Write};
use zstd::bulk::Compressor;

/// Level 1: nearly as fast as LZ4 at half the size.
const ZSTD_LEVEL: i32 = 1;
/// Each frame of a zstd file holds so much data: readers may begin at any frame, and a frame loses little by beginning anew.
const FRAME_BYTES: usize = 4 << 20;

/// Compresses a file of an output, piece by piece.
pub(crate) enum Encoder {
    /// Not at all.
    Plain,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdWriter),
}

impl Encoder {
    /// An encoder for a new file.
    pub(crate) fn new(compression: Option<Compression>) -> io::Result<Self> {
        Ok(match compression {
            None => Self::Plain,
            Some(Compression::Gzip) => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default())),
            Some(Compression::Zstd) => Self::Zstd(ZstdWriter::new()?),
            Some(other) => {
                let sentence = format!("files are not written as {other}: zstd and gzip are");
                return Err(io::Error::new(io::ErrorKind::Unsupported, sentence));
            }
        })
    }

    /// Takes `bytes` and appends to `out` what is compressed by now.
    pub(crate) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Plain => out.extend_from_slice(bytes),
            Self::Gzip(gzip) => {
                gzip.write_all(bytes)?;
                out.append(gzip.get_mut());
            }
            Self::Zstd(zstd) => zstd.write(bytes, out)?,
        }
        Ok(())
    }

    /// Appends the rest.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Plain => {}
            Self::Gzip(gzip) => {
                gzip.try_finish()?;
                out.append(gzip.get_mut());
            }
            Self::Zstd(zstd) => zstd.finish(out)?,
        }
        Ok(())
    }
}

/// Zstd frames of [`FRAME_BYTES`], and a seek table that says where they are.
pub(crate) struct ZstdWriter {
    compressor: Compressor<'static>,
    frame: Vec<u8>,
    /// Stored and raw length of each frame.
    frames: Vec<(u32, u32)>,
}

impl ZstdWriter {
    fn new() -> io::Result<Self> {
        let mut compressor = Compressor::new(ZSTD_LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Self { compressor, frame: Vec::new(), frames: Vec::new() })
    }

    fn write(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while self.frame.len() + bytes.len() >= FRAME_BYTES {
            let (now, later) = bytes.split_at(FRAME_BYTES - self.frame.len());
            self.frame.extend_from_slice(now);
            self.end_frame(out)?;
            bytes = later;
        }
        self.frame.extend_from_slice(bytes);
        Ok(())
    }

    fn end_frame(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let stored = self.compressor.compress(&self.frame)?;
        self.frames.push((stored.len() as u32, self.frame.len() as u32));
        out.extend_from_slice(&stored);
        self.frame.clear();
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if !self.frame.is_empty() || self.frames.is_empty() {
            self.end_frame(out)?;
        }
        let table_bytes = 8 * self.frames.len() + 9;
        out.extend_from_slice(&SEEK_TABLE_MAGIC.to_le_bytes());
        out.extend_from_slice(&(table_bytes as u32).to_le_bytes());
        for (stored, raw) in &self.frames {
            out.extend_from_slice(&stored.to_le_bytes());
            out.extend_from_slice(&raw.to_le_bytes());
        }
        out.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        out.push(0);
        out.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
        Ok(())
    }
}
