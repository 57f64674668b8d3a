//! `cat`, `head` and `checksum`: what is in files.

use clap::Args;
use gristmill_dfs::file_system::FileSystem;
use gristmill_dfs::{ReadAt, Uri};
use serde_json::json;

use super::failure::Failure;
use super::format::parse_size;
use super::session::{Session, Target};

/// Files are read in pieces of this size: enough to keep a disk and a network busy.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// What Hadoop's users see of a file's head or tail.
pub(crate) const GLANCE_BYTES: u64 = 1024;

/// Writes files to stdout, one after the other
#[derive(Args)]
pub(crate) struct Cat {
    /// Files; `-` is stdin
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Cat {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for path in &self.paths {
            if path == "-" {
                copy_input(session)?;
                continue;
            }
            for target in session.targets(std::slice::from_ref(path))? {
                let written = write_range(session, &target, 0, u64::MAX);
                session.survive(written)?;
            }
        }
        Ok(())
    }
}

fn copy_input(session: &mut Session) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = session.input().read(&mut piece).map_err(Failure::Input)?;
        if count == 0 {
            return Ok(());
        }
        session.bytes(&piece[..count])?;
    }
}

/// Writes the start of files to stdout: 1 KiB
#[derive(Args)]
pub(crate) struct Head {
    /// So many bytes
    #[arg(short = 'c', long, value_name = "SIZE", value_parser = parse_size)]
    bytes: Option<u64>,
    /// So many lines
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "bytes")]
    lines: Option<u64>,
    /// Files
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Head {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for target in session.targets(&self.paths)? {
            let written = match self.lines {
                Some(lines) => write_lines(session, &target, lines),
                None => write_range(session, &target, 0, self.bytes.unwrap_or(GLANCE_BYTES)).map(drop),
            };
            session.survive(written)?;
        }
        Ok(())
    }
}

fn write_lines(session: &mut Session, target: &Target, mut lines: u64) -> Result<(), Failure> {
    let mut pieces = Pieces::of(&*target.fs, target.uri())?;
    while lines > 0
        && let Some(piece) = pieces.next_piece()?
    {
        let (mut upto, mut ended) = (0, 0);
        for line in
            piece.split_inclusive(|byte| *byte == b'\n').take(usize::try_from(lines).unwrap_or(usize::MAX))
        {
            upto += line.len();
            ended += u64::from(line.ends_with(b"\n"));
        }
        lines -= ended;
        session.bytes(&piece[..upto])?;
    }
    Ok(())
}

/// Writes the bytes of a file from `start` on to stdout, at most `count` of them; says where it ended.
pub(crate) fn write_range(
    session: &mut Session,
    target: &Target,
    start: u64,
    count: u64,
) -> Result<u64, Failure> {
    let mut pieces = Pieces::of(&*target.fs, target.uri())?;
    pieces.offset = start;
    let end = start.saturating_add(count);
    while pieces.offset < end {
        let at = pieces.offset;
        let Some(piece) = pieces.next_piece()? else { break };
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
        session.bytes(&piece[..wanted])?;
        if wanted < piece.len() {
            return Ok(end);
        }
    }
    Ok(pieces.offset)
}

/// Says the checksum of files: the CRC32C of all bytes, the same on any file system and for any block size
#[derive(Args)]
pub(crate) struct Checksum {
    /// Files
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Checksum {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for target in session.targets(&self.paths)? {
            let sum = checksum(&target);
            let Some((sum, bytes)) = session.survive(sum)? else { continue };
            if session.json {
                let path = session.path(target.uri());
                let sum = format!("{sum:08x}");
                session.object(
                    &json!({ "path": path, "algorithm": "CRC32C", "checksum": sum, "bytes": bytes }),
                )?;
            } else {
                session.line(format!("{}\tCRC32C\t{sum:08x}", session.name(target.uri())))?;
            }
        }
        Ok(())
    }
}

fn checksum(target: &Target) -> Result<(u32, u64), Failure> {
    let mut pieces = Pieces::of(&*target.fs, target.uri())?;
    let mut sum = 0;
    while let Some(piece) = pieces.next_piece()? {
        sum = crc32c::crc32c_append(sum, piece);
    }
    Ok((sum, pieces.offset))
}

/// A file, piece by piece.
pub(crate) struct Pieces {
    uri: Uri,
    file: Box<dyn ReadAt>,
    /// Where the next piece starts.
    pub(crate) offset: u64,
    piece: Vec<u8>,
}

impl Pieces {
    pub(crate) fn of(fs: &dyn FileSystem, uri: &Uri) -> Result<Pieces, Failure> {
        let file = fs.open(uri)?;
        // A small file needs no large piece; one that grows is read in more of them.
        let bytes = usize::try_from(file.bytes()).unwrap_or(usize::MAX).clamp(1, PIECE_BYTES);
        Ok(Pieces { uri: uri.clone(), file, offset: 0, piece: vec![0; bytes] })
    }

    /// The next bytes, or none at the end.
    pub(crate) fn next_piece(&mut self) -> Result<Option<&[u8]>, Failure> {
        let count = loop {
            match self.file.read_at(&mut self.piece, self.offset) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Failure::Read { uri: self.uri.clone(), offset: self.offset, source });
                }
                Ok(count) => break count,
            }
        };
        self.offset += count as u64;
        Ok((count > 0).then(|| &self.piece[..count]))
    }
}
