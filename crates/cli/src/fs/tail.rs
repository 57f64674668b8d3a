//! `tail`: the end of a file, and what is added to it.

use std::thread;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::format::parse_size;
use super::read::{GLANCE_BYTES, PIECE_BYTES, write_range};
use super::session::{Session, Target};

/// How often a file that is followed is looked at: people wait for it.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// Writes the end of a file to stdout: 1 KiB
#[derive(Args)]
pub(crate) struct Tail {
    /// Goes on with what is added, until it is interrupted
    #[arg(short = 'f', long)]
    follow: bool,
    /// So many bytes
    #[arg(short = 'c', long, value_name = "SIZE", value_parser = parse_size)]
    bytes: Option<u64>,
    /// So many lines
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "bytes")]
    lines: Option<u64>,
    /// A file
    path: String,
}

impl Tail {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let targets = session.expand(&self.path)?;
        let [target] = targets.as_slice() else {
            return Err(Failure::Usage(format!("tail is of one file, but {} names more", self.path)));
        };
        let bytes = target.fs.open(target.uri())?.bytes();
        let start = match self.lines {
            Some(lines) => last_lines(target, bytes, lines)?,
            None => bytes.saturating_sub(self.bytes.unwrap_or(GLANCE_BYTES)),
        };
        let end = write_range(session, target, start, u64::MAX)?;
        if self.follow { follow(session, target, end) } else { Ok(()) }
    }
}

/// Where the last lines of a file start. The end of the file ends a line whether a newline does or not.
fn last_lines(target: &Target, bytes: u64, lines: u64) -> Result<u64, Failure> {
    if lines == 0 {
        return Ok(bytes);
    }
    let file = target.fs.open(target.uri())?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut end, mut seen) = (bytes, 0);
    while end > 0 {
        let start = end.saturating_sub(PIECE_BYTES as u64);
        let wanted = (end - start) as usize;
        let mut filled = 0;
        while filled < wanted {
            let read = file.read_at(&mut piece[filled..wanted], start + filled as u64);
            match read.map_err(|source| Failure::Read { uri: target.uri().clone(), offset: start, source })? {
                0 => return Ok(start),
                count => filled += count,
            }
        }
        let newlines = (0..wanted).rev().filter(|&at| piece[at] == b'\n').map(|at| start + at as u64);
        for at in newlines.filter(|at| at + 1 < bytes) {
            seen += 1;
            if seen == lines {
                return Ok(at + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

/// Writes what is added after `end`, until stdout is closed or the file is gone.
fn follow(session: &mut Session, target: &Target, mut end: u64) -> Result<(), Failure> {
    loop {
        session.flush()?;
        thread::sleep(FOLLOW_INTERVAL);
        let bytes = target.fs.stat(target.uri())?.bytes;
        if bytes < end {
            session.say(&format!("{} was cut to {bytes} bytes", target.uri()));
            end = bytes;
        }
        end = write_range(session, target, end, u64::MAX)?;
    }
}
