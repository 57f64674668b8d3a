//! Goes through the files below a directory, in the order of their paths.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use futures::stream::{self, BoxStream, StreamExt};
use gristmill_proto::namespace::Entry;
use gristmill_proto::namespace::failure::Kind;
use object_store::{Error, ObjectMeta, Result};

use super::DfsStore;
use crate::client::DfsError;

/// A walk through a tree, depth first. Each directory is read page by page.
///
/// A directory gives its entries by name, but paths sort otherwise: below `a` comes `a/x`, and `a b` is before it, as
/// a space is before a slash. So a directory waits until no name that is before it with its slash can come.
pub(super) struct Walk {
    store: DfsStore,
    levels: Vec<Level>,
    /// Only paths behind this one.
    offset: Option<String>,
}

struct Level {
    path: String,
    page: VecDeque<Entry>,
    /// The last name of the page before the next one, if there is one.
    after: Option<String>,
    /// Names with a slash of directories that wait, the first on top.
    waiting: BinaryHeap<Reverse<String>>,
}

impl Level {
    fn new(path: String) -> Level {
        Level { path, page: VecDeque::new(), after: Some(String::new()), waiting: BinaryHeap::new() }
    }

    fn child(&self, name: &str) -> String {
        if self.path == "/" { format!("/{name}") } else { format!("{}/{name}", self.path) }
    }
}

impl Walk {
    pub(super) fn new(store: &DfsStore, directory: &str, offset: Option<String>) -> Walk {
        Walk { store: store.clone(), levels: vec![Level::new(directory.to_owned())], offset }
    }

    pub(super) fn objects(self) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::try_unfold(self, |mut walk| async move {
            let Some(entry) = walk.next().await? else { return Ok::<_, Error>(None) };
            let meta = walk.store.meta_of(&entry)?;
            Ok(Some((meta, walk)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<Entry>, DfsError> {
        while let Some(level) = self.levels.last_mut() {
            if level.page.is_empty()
                && let Some(after) = level.after.take()
            {
                let (page, more) = page(&self.store, &level.path, &after).await?;
                level.page = page;
                level.after = more;
                continue;
            }
            let before_all = |waiting: &Reverse<String>| {
                level.page.front().is_none_or(|next| waiting.0.as_str() < name_of(next))
            };
            if level.waiting.peek().is_some_and(before_all) {
                if let Some(Reverse(name)) = level.waiting.pop() {
                    let path = level.child(name.trim_end_matches('/'));
                    self.levels.push(Level::new(path));
                }
                continue;
            }
            let Some(entry) = level.page.pop_front() else {
                self.levels.pop();
                continue;
            };
            if entry.is_directory {
                if self.offset.as_ref().is_none_or(|offset| reaches_behind(&entry.path, offset)) {
                    level.waiting.push(Reverse(format!("{}/", name_of(&entry))));
                }
            } else if self.offset.as_ref().is_none_or(|offset| entry.path > *offset) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

/// Whether anything below a directory can be behind `offset`.
fn reaches_behind(directory: &str, offset: &str) -> bool {
    let inside = offset.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
    inside || format!("{directory}/").as_str() > offset
}

/// The directories and the objects in a directory, sorted.
pub(super) async fn children(store: &DfsStore, directory: &str) -> Result<(Vec<String>, Vec<ObjectMeta>)> {
    let (mut directories, mut objects) = (Vec::new(), Vec::new());
    let mut after = Some(String::new());
    while let Some(last) = after {
        let (entries, more) = page(store, directory, &last).await?;
        for entry in entries {
            if entry.is_directory {
                directories.push(entry.path);
            } else {
                objects.push(store.meta_of(&entry)?);
            }
        }
        after = more;
    }
    Ok((directories, objects))
}

/// A page of a directory, and after which name the next one starts. A directory that is not there is empty.
async fn page(
    store: &DfsStore,
    directory: &str,
    after: &str,
) -> Result<(VecDeque<Entry>, Option<String>), DfsError> {
    let listing = match store.client.list_page(directory, after, 0).await {
        Ok(listing) => listing,
        Err(DfsError::Refused { kind: Kind::NotFound | Kind::NotADirectory, .. }) => {
            return Ok(Default::default());
        }
        Err(error) => return Err(error),
    };
    let more = listing.entries.last().filter(|_| listing.more).map(|last| name_of(last).to_owned());
    // A file lists itself. Nothing is below it.
    let hidden = store.staging();
    let below = |entry: &Entry| entry.path != directory && entry.path != hidden;
    Ok((listing.entries.into_iter().filter(below).collect(), more))
}

fn name_of(entry: &Entry) -> &str {
    entry.path.rsplit_once('/').map_or(&entry.path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_before_an_offset_are_not_read() {
        assert!(reaches_behind("/a", "/a"));
        assert!(reaches_behind("/a", "/a/b"));
        assert!(reaches_behind("/b", "/a/b"));
        assert!(!reaches_behind("/a", "/a0"), "a slash is before a zero");
        assert!(reaches_behind("/a", "/a b"), "and behind a space");
        assert!(!reaches_behind("/a", "/b"));
    }
}
