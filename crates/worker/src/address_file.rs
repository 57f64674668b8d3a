//! The file that says where a worker listens: scripts that let the system choose a port read it.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Its name, in the first data directory. One line: HOST:PORT.
pub const ADDRESS_FILE: &str = "address";

/// The file, for as long as the worker listens.
pub(crate) struct AddressFile {
    path: PathBuf,
}

impl AddressFile {
    /// Writes the file, all at once. One that is there is of a former life: the directory is this process's alone.
    pub(crate) fn write(directory: &Path, address: SocketAddr) -> io::Result<AddressFile> {
        let path = directory.join(ADDRESS_FILE);
        let draft = directory.join("address.draft");
        fs::write(&draft, format!("{address}\n"))?;
        fs::rename(&draft, &path)?;
        Ok(AddressFile { path })
    }

    /// Removes what a former life left, which nobody should find.
    pub(crate) fn retract(directory: &Path) -> io::Result<()> {
        match fs::remove_file(directory.join(ADDRESS_FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(self.path)
    }
}
