//! Everything at and below a name, one by one.

use std::sync::Arc;

use gristmill_dfs::file_system::{FileSystem, FsError, Listing, Status};

use super::session::Target;

/// A file or directory and all below it, each directory before what is in it, in the order of their names. A directory
/// that cannot be listed is an error among the rest. Links of this machine are named, but not followed.
pub(crate) struct Walk {
    fs: Arc<dyn FileSystem>,
    /// The directory that was named last, not yet listed.
    entered: Option<Status>,
    first: Option<Status>,
    listings: Vec<Listing>,
}

impl Walk {
    pub(crate) fn at(target: Target) -> Walk {
        Walk { fs: target.fs, entered: None, first: Some(target.status), listings: Vec::new() }
    }

    fn enter(&mut self, status: Status) -> Status {
        let goes_on = status.is_directory() && (!status.is_link || self.listings.is_empty());
        self.entered = goes_on.then(|| status.clone());
        status
    }
}

impl Iterator for Walk {
    type Item = Result<Status, FsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(self.enter(first)));
        }
        if let Some(directory) = self.entered.take() {
            match self.fs.list(&directory.uri) {
                Ok(listing) => self.listings.push(listing),
                // Somebody has deleted it: nothing is below it.
                Err(error) if error.is_absence() => {}
                Err(error) => return Some(Err(error)),
            }
        }
        loop {
            match self.listings.last_mut()?.next() {
                Some(Ok(status)) => return Some(Ok(self.enter(status))),
                Some(Err(error)) => {
                    // What failed once fails again.
                    self.listings.pop();
                    return Some(Err(error));
                }
                None => drop(self.listings.pop()),
            }
        }
    }
}
