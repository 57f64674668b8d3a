//! Long answers, page by page.

use gristmill_proto::namespace::{CheckReport, Entry};

use super::DfsClient;
use super::connection::block_on;
use super::errors::DfsError;

/// The entries of a directory, in order. Each page shows the directory at one moment.
pub struct Entries {
    client: DfsClient,
    path: String,
    page: std::vec::IntoIter<Entry>,
    /// The last name of the page, if there are more pages.
    after: Option<String>,
}

impl Entries {
    pub(crate) fn first_page(client: DfsClient, path: &str) -> Result<Entries, DfsError> {
        let mut entries = Entries {
            client,
            path: path.to_owned(),
            page: Vec::new().into_iter(),
            after: Some(String::new()),
        };
        entries.next_page()?;
        Ok(entries)
    }

    fn next_page(&mut self) -> Result<(), DfsError> {
        let Some(after) = self.after.take() else { return Ok(()) };
        let listing = block_on(self.client.list_page(&self.path, &after, 0))?;
        let last = listing.entries.last().map(|entry| name_of(&entry.path).to_owned());
        self.after = last.filter(|_| listing.more);
        self.page = listing.entries.into_iter();
        Ok(())
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, DfsError>;

    fn next(&mut self) -> Option<Result<Entry, DfsError>> {
        if self.page.len() == 0
            && let Err(error) = self.next_page()
        {
            return Some(Err(error));
        }
        self.page.next().map(Ok)
    }
}

/// The last name of a path.
pub(crate) fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The pages of a check. It ends after the last page, or after an error.
pub struct Checks {
    client: DfsClient,
    path: String,
    after: Option<String>,
}

impl Checks {
    pub(crate) fn new(client: DfsClient, path: &str) -> Checks {
        Checks { client, path: path.to_owned(), after: Some(String::new()) }
    }
}

impl Iterator for Checks {
    type Item = Result<CheckReport, DfsError>;

    fn next(&mut self) -> Option<Result<CheckReport, DfsError>> {
        let after = self.after.take()?;
        let page = self.client.check_page(&self.path, &after);
        if let Ok(report) = &page
            && !report.last.is_empty()
        {
            self.after = Some(report.last.clone());
        }
        Some(page)
    }
}
