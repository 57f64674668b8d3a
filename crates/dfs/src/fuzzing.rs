//! Entrances for the fuzz targets to readers of text that have no place of their own in the API.

pub use crate::glob::glob_names;

/// Inode and version of an ETag.
pub fn parse_e_tag(e_tag: &str) -> Option<(u64, u64)> {
    crate::dfs_store::parse_e_tag(e_tag)
}

/// Whether a staged file may have this name, of this attempt.
pub fn is_staged_name(attempt: &str, name: &str) -> bool {
    crate::staged_name::check(attempt, name).is_ok()
}
