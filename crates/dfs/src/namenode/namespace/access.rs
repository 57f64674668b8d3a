//! Who may do what: POSIX permissions as in Hadoop's `FSPermissionChecker`.

use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::record::Inode;

use super::refusal::refuse;
use super::{CallError, Caller, FsPath};

/// Bits of one class of a mode.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;
/// In the mode of a directory: only owners of it and of its entries take entries away.
const STICKY: u32 = 0o1000;

/// A caller and what it is to this namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor<'c> {
    pub(super) caller: &'c Caller,
    /// The owner of `/`, who may do everything.
    pub(super) superuser: bool,
}

impl<'c> Actor<'c> {
    pub(super) fn new(caller: &'c Caller, root: &Inode) -> Actor<'c> {
        Actor { caller, superuser: caller.user == root.owner }
    }

    /// Whether all of `bits` are granted, by the one class that the caller is in.
    pub(super) fn may(&self, inode: &Inode, bits: u32) -> bool {
        let shift = match () {
            () if self.superuser => return true,
            () if self.owns(inode) => 6,
            () if self.caller.groups.contains(&inode.group) => 3,
            () => 0,
        };
        inode.mode >> shift & bits == bits
    }

    pub(super) fn require(&self, inode: &Inode, bits: u32, path: FsPath) -> Result<(), CallError> {
        if self.may(inode, bits) {
            return Ok(());
        }
        let wanted: String = [(READ, 'r'), (WRITE, 'w'), (EXECUTE, 'x')]
            .into_iter()
            .filter_map(|(bit, letter)| (bits & bit != 0).then_some(letter))
            .collect();
        let (user, owner, group, mode) = (&self.caller.user, &inode.owner, &inode.group, inode.mode);
        let detail = format!("{user} has no {wanted} here: it is {owner}:{group} {mode:04o}");
        Err(refuse(Kind::PermissionDenied, path, detail))
    }

    pub(super) fn require_owner(&self, inode: &Inode, path: FsPath) -> Result<(), CallError> {
        if self.superuser || self.owns(inode) {
            return Ok(());
        }
        let detail = format!("{} does not own it, {} does", self.caller.user, inode.owner);
        Err(refuse(Kind::PermissionDenied, path, detail))
    }

    pub(super) fn require_superuser(&self, path: FsPath) -> Result<(), CallError> {
        if self.superuser {
            return Ok(());
        }
        let detail = format!("{} is not the superuser", self.caller.user);
        Err(refuse(Kind::PermissionDenied, path, detail))
    }

    /// Whether `entry` may be taken out of `parent`: `path` is the entry's.
    pub(super) fn require_removal(
        &self,
        parent: &Inode,
        entry: &Inode,
        path: FsPath,
    ) -> Result<(), CallError> {
        self.require(parent, WRITE | EXECUTE, path.parent())?;
        if self.may_remove_stuck(parent, entry) {
            return Ok(());
        }
        let detail = format!("{} owns neither it nor the sticky directory it is in", self.caller.user);
        Err(refuse(Kind::PermissionDenied, path, detail))
    }

    /// What the sticky bit of `parent` says of `entry`.
    pub(super) fn may_remove_stuck(&self, parent: &Inode, entry: &Inode) -> bool {
        self.superuser || !is_sticky(parent) || self.owns(parent) || self.owns(entry)
    }

    fn owns(&self, inode: &Inode) -> bool {
        self.caller.user == inode.owner
    }
}

pub(super) fn is_sticky(directory: &Inode) -> bool {
    directory.mode & STICKY != 0
}

#[cfg(test)]
mod tests {
    use super::super::inode::new_directory;
    use super::*;
    use gristmill_proto::ids::ClientId;

    fn caller(user: &str, groups: &[&str]) -> Caller {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Caller { client: ClientId([1; 16]), user: user.to_owned(), groups }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let root = new_directory("root".to_owned(), "staff".to_owned(), 0o755, 0);
        let inode = new_directory("ada".to_owned(), "staff".to_owned(), 0o174, 0);
        let granted = |user, groups: &[&str]| {
            let caller = caller(user, groups);
            let actor = Actor::new(&caller, &root);
            (0..8).filter(|&bits| actor.may(&inode, bits)).max().unwrap()
        };
        // An owner with fewer rights than the group has no more by being in the group.
        assert_eq!(granted("ada", &["staff"]), EXECUTE);
        assert_eq!(granted("bob", &["dev", "staff"]), READ | WRITE | EXECUTE);
        assert_eq!(granted("bob", &["dev"]), READ);
        assert_eq!(granted("root", &[]), READ | WRITE | EXECUTE);
    }

    #[test]
    fn a_sticky_directory_gives_entries_to_owners_only() {
        let root = new_directory("root".to_owned(), "staff".to_owned(), 0o755, 0);
        let shared = new_directory("root".to_owned(), "staff".to_owned(), 0o1777, 0);
        let of_ada = new_directory("ada".to_owned(), "staff".to_owned(), 0o777, 0);
        let path = FsPath::parse("/tmp/of-ada").unwrap();
        let tries = |user| {
            let caller = caller(user, &["staff"]);
            Actor::new(&caller, &root).require_removal(&shared, &of_ada, path).is_ok()
        };
        assert_eq!(["ada", "root", "bob"].map(tries), [true, true, false]);
    }
}
