//! The decoders, behind one face. All of them verify what their format lets them verify, and none takes the end of the file
//! for the end of the data where the format has an end of its own.

use super::bzip2::Bzip2Reader;
use super::compressed_file::CompressedFile;
use super::{Compression, ZSTD_WINDOW_LOG_MAX};
use flate2::bufread::MultiGzDecoder;
use gristmill_dfs::ReadAt;
use lz4_flex::frame::FrameDecoder as Lz4Frame;
use snap::read::FrameDecoder as SnappyFrames;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use thiserror::Error;
use zstd::stream::read::Decoder as ZstdFrames;

/// The file ends before its data does.
#[derive(Debug, Error)]
#[error("it ends in the middle")]
pub(super) struct Truncated;

/// A piece of a file to be decompressed.
pub(super) struct Piece {
    pub(super) file: Arc<dyn ReadAt + Sync>,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file_bytes: u64,
    pub(super) read_bytes: usize,
    /// File offset up to which bytes were taken.
    pub(super) taken: Arc<AtomicU64>,
}

impl Piece {
    fn open(&self, start: u64, end: u64) -> CompressedFile {
        CompressedFile::new(self.file.clone(), start, end, self.read_bytes, self.taken.clone())
    }
}

/// Decompresses a piece: first what begins in it, then, if asked, what comes behind.
pub(super) struct Decoder {
    piece: Piece,
    form: Form,
}

enum Form {
    Gzip(Box<MultiGzDecoder<CompressedFile>>),
    Zstd(Box<ZstdFrames<'static, CompressedFile>>),
    Snappy(Box<SnappyFrames<CompressedFile>>),
    /// None while a frame makes way for the next.
    Lz4(Option<Box<Lz4Frame<NoEnd>>>),
    Bzip2(Box<Bzip2Reader>),
}

impl Decoder {
    /// A decoder that stands before the first frame or block that begins in the piece.
    pub(super) fn new(compression: Compression, piece: Piece) -> io::Result<Self> {
        let file = piece.open(piece.start, piece.end);
        let form = match compression {
            Compression::Gzip => Form::Gzip(Box::new(MultiGzDecoder::new(file))),
            Compression::Zstd => Form::Zstd(Box::new(zstd(file)?)),
            Compression::Snappy => Form::Snappy(Box::new(SnappyFrames::new(file))),
            Compression::Lz4 => Form::Lz4(Some(Box::new(Lz4Frame::new(NoEnd(file))))),
            Compression::Bzip2 => {
                let file = piece.open(piece.start, piece.file_bytes);
                Form::Bzip2(Box::new(Bzip2Reader::new(file, piece.start, piece.end)?))
            }
        };
        Ok(Self { piece, form })
    }

    /// Goes on behind the piece; false if nothing is there.
    pub(super) fn go_beyond(&mut self) -> io::Result<bool> {
        let (end, file_bytes) = (self.piece.end, self.piece.file_bytes);
        if end >= file_bytes {
            return Ok(false);
        }
        self.piece.end = file_bytes;
        match &mut self.form {
            Form::Zstd(form) => **form = zstd(self.piece.open(end, file_bytes))?,
            Form::Bzip2(form) => form.go_beyond(),
            // They are never cut.
            Form::Gzip(_) | Form::Snappy(_) | Form::Lz4(_) => return Ok(false),
        }
        Ok(true)
    }
}

fn zstd(file: CompressedFile) -> io::Result<ZstdFrames<'static, CompressedFile>> {
    let mut frames = ZstdFrames::with_buffer(file)?;
    frames.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(frames)
}

impl Read for Decoder {
    /// Zero at the end of what begins in the piece.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.form {
            Form::Gzip(form) => form.read(buffer),
            Form::Zstd(form) => form.read(buffer),
            Form::Snappy(form) => form.read(buffer),
            Form::Lz4(form) => read_lz4(form, buffer),
            Form::Bzip2(form) => form.read(buffer),
        }
    }
}

/// The decoder says zero at the end of each frame, takes the end of the file for one, and panics if the blocks of the next frame
/// are smaller: each frame gets a decoder of its own.
fn read_lz4(decoder: &mut Option<Box<Lz4Frame<NoEnd>>>, buffer: &mut [u8]) -> io::Result<usize> {
    while let Some(mut frame) = decoder.take() {
        let bytes = frame.read(buffer)?;
        let is_at_end = frame.get_ref().0.is_at_end();
        if bytes > 0 || buffer.is_empty() || is_at_end {
            *decoder = Some(frame);
            return Ok(bytes);
        }
        *decoder = Some(Box::new(Lz4Frame::new(frame.into_inner())));
    }
    Ok(0)
}

/// A file whose end is an error: whoever reads on within a frame has been cut off.
struct NoEnd(CompressedFile);

impl Read for NoEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_at_end() && !buffer.is_empty() {
            return Err(io::Error::other(Truncated));
        }
        self.0.read(buffer)
    }
}
