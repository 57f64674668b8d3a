//! One message of HTTP/1.1, as its bytes: to be passed on, cut short, or kept for later.

use std::io::{self, BufRead, ErrorKind};

/// Of the lines before a body; a server takes 32 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Of a body: those of these stories are small.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Its first line, headers, and body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    head_bytes: usize,
}

impl Message {
    /// The next message; none at the end of the connection. `is_bare` says that none like it has a body, whatever its headers
    /// announce.
    pub(crate) fn read(
        from: &mut impl BufRead,
        is_bare: impl Fn(&Message) -> bool,
    ) -> io::Result<Option<Message>> {
        let mut message = Message { bytes: Vec::new(), head_bytes: 0 };
        while !message.bytes.ends_with(b"\r\n\r\n") {
            if read_line(from, &mut message.bytes)? == 0 {
                return if message.bytes.is_empty() { Ok(None) } else { Err(cut_short()) };
            }
            if message.bytes.len() > HEAD_BYTES_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "the head is too long"));
            }
        }
        message.head_bytes = message.bytes.len();
        if is_bare(&message) {
            return Ok(Some(message));
        }
        if message.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            message.read_chunks(from)?;
        } else if let Some(length) = message.header("content-length") {
            let length = length.parse().map_err(|_| io::Error::new(ErrorKind::InvalidData, "no length"))?;
            message.read_exactly(from, length)?;
        }
        Ok(Some(message))
    }

    fn read_chunks(&mut self, from: &mut impl BufRead) -> io::Result<()> {
        loop {
            let start = self.bytes.len();
            if read_line(from, &mut self.bytes)? == 0 {
                return Err(cut_short());
            }
            let line = String::from_utf8_lossy(&self.bytes[start..]).into_owned();
            let digits = line.trim().split(';').next().unwrap_or_default();
            let length = usize::from_str_radix(digits, 16)
                .map_err(|_| io::Error::new(ErrorKind::InvalidData, "no length of a chunk"))?;
            // With the end of its line.
            self.read_exactly(from, length + 2)?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn read_exactly(&mut self, from: &mut impl BufRead, count: usize) -> io::Result<()> {
        if count > BODY_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the body is too long"));
        }
        let start = self.bytes.len();
        self.bytes.resize(start + count, 0);
        from.read_exact(&mut self.bytes[start..])
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What follows the headers.
    pub(crate) fn body(&self) -> String {
        String::from_utf8_lossy(&self.bytes[self.head_bytes..]).into_owned()
    }

    /// A word of the first line, from 0.
    pub(crate) fn word(&self, number: usize) -> &str {
        let line = self.head().lines().next().unwrap_or_default();
        line.split(' ').nth(number).unwrap_or_default()
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head().lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(':'));
        pairs.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn head(&self) -> &str {
        let end = if self.head_bytes == 0 { self.bytes.len() } else { self.head_bytes };
        std::str::from_utf8(&self.bytes[..end]).expect("headers of our own programs are text")
    }
}

fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    from.read_until(b'\n', line)
}

fn cut_short() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the message is cut short")
}
