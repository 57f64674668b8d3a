//! The index as the last change has left it. All looks share one snapshot: to begin a transaction and to open its tables
//! anew would be most of what a look costs.

use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase};

use super::failure::StoreError;
use super::tables::Snapshot;

/// Always a snapshot that is on disk. Pages that a change has replaced are kept for the one before it, until that is let go.
pub(crate) struct Latest(RwLock<Arc<Snapshot>>);

impl Latest {
    pub(crate) fn open(database: &Database) -> Result<Latest, StoreError> {
        Ok(Latest(RwLock::new(snapshot(database)?)))
    }

    pub(crate) fn get(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// After each change, and before anybody is told of it.
    pub(super) fn renew(&self, database: &Database) -> Result<(), StoreError> {
        let newest = snapshot(database)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = newest;
        Ok(())
    }
}

fn snapshot(database: &Database) -> Result<Arc<Snapshot>, StoreError> {
    Ok(Arc::new(Snapshot::open(&database.begin_read()?)?))
}
