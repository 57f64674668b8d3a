//! Deleted things, for a while: `/.trash/USER/HOUR/` and the path they had. An hour is as `2026-11-20T18`, in UTC.

use gristmill_proto::ids::InodeId;
use gristmill_proto::namespace::Done;
use gristmill_proto::namespace::ExpungeTrash;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;

use super::change::{Call, Change};
use super::inode::{directory, new_directory};
use super::paths::{NAME_BYTES_MAX, check_name, join};
use super::quota::{Usage, quota};
use super::refusal::{already_exists, refuse};
use super::tables::{Child, ROOT};
use super::tree::{Place, Tree};
use super::{CallError, Effect, FsPath, StoreError, TRASH_BUCKETS_PER_ACTION};

/// Where trash is.
pub const TRASH: &str = "/.trash";
/// Of `/.trash`, in which only the superuser makes entries but by deleting.
const TRASH_MODE: u32 = 0o755;
/// Of all below: deleted things are as private as their user can wish.
const USER_MODE: u32 = 0o700;
/// How many directories are above the trash of a user. A quota there, or higher, is somebody's will.
const HOMES_DEPTH: usize = 2;
/// Names that are tried for something that is deleted again and again under one name in one hour.
const NAMES_TRIED_MAX: usize = 1000;

impl Change<'_> {
    /// Moves what is at `from` to the trash of the caller, if the caller may, and says where it is then.
    pub(super) fn move_to_trash(&mut self, call: &Call, from: &Place) -> Result<String, CallError> {
        let id = self.check_removal(call, from)?.id;
        let user = call.actor.caller.user.as_str();
        if check_name(user).is_err() {
            let detail = "the user's name is no name for a directory of trash: skip the trash";
            return Err(refuse(Kind::InvalidName, user.escape_debug(), detail));
        }
        let root = self.expect(ROOT)?;
        let (mut above, mut path) = (vec![ROOT], String::from("/"));
        let owners = (root.owner.as_str(), root.group.as_str());
        if let Some(child) = self.child(ROOT, &TRASH[1..])?
            && (!child.is_directory || self.expect(child.id)?.owner != root.owner)
        {
            let detail = "it is no directory of the superuser: skip the trash, or have it removed";
            return Err(refuse(Kind::AlreadyExists, TRASH, detail));
        }
        self.enter(call, &mut above, &mut path, (&TRASH[1..], id), owners, TRASH_MODE)?;
        let owners = (user, root.group.as_str());
        let hour = hour_of(call.now_ms);
        for name in [user, &hour].into_iter().chain(from.path.parent().names()) {
            self.enter(call, &mut above, &mut path, (name, id), owners, USER_MODE)?;
        }
        let parent = above[above.len() - 1];
        let name = self.free_name(parent, from.path.name(), id, |child| Ok(child.is_none()))?;
        let target = join(&path, &name);
        let to = FsPath::parse(&target)?;
        self.move_node(call, from, &Place { path: to, depth: above.len(), above, node: None })?;
        Ok(target)
    }

    /// Goes down one directory further, which is made if it is not there. A file in the way is passed by, and so is
    /// the directory of somebody else, who could look into what is put there, and a deleted one that has a quota.
    fn enter(
        &mut self,
        call: &Call,
        above: &mut Vec<InodeId>,
        path: &mut String,
        (name, id): (&str, InodeId),
        (owner, group): (&str, &str),
        mode: u32,
    ) -> Result<(), CallError> {
        let parent = above[above.len() - 1];
        let is_deleted = above.len() > HOMES_DEPTH;
        let name = self.free_name(parent, name, id, |child| {
            let Some(Child { id, .. }) = child else { return Ok(true) };
            let inode = self.expect(id)?;
            let limited = is_deleted && quota(&inode).is_some();
            Ok(directory(&inode).is_some() && inode.owner == owner && !limited)
        })?;
        let directory = match self.child(parent, &name)? {
            Some(child) => child.id,
            None => {
                let at = FsPath::of_tree(path);
                let inode = new_directory(owner.to_owned(), group.to_owned(), mode, call.now_ms);
                self.charge(above, Usage::names(1), at)?;
                self.add(parent, &name, inode, call.now_ms, at)?
            }
        };
        above.push(directory);
        *path = join(path, &name);
        Ok(())
    }

    /// `name`, or `name` with the inode of what is deleted, or with a number besides: the first that is `good`.
    fn free_name(
        &self,
        parent: InodeId,
        name: &str,
        id: InodeId,
        good: impl Fn(Option<Child>) -> Result<bool, StoreError>,
    ) -> Result<String, CallError> {
        for tried in 0..NAMES_TRIED_MAX {
            let suffix = match tried {
                0 => String::new(),
                1 => format!(".{}", id.0),
                _ => format!(".{}.{tried}", id.0),
            };
            let end = name.floor_char_boundary(NAME_BYTES_MAX - suffix.len());
            let candidate = format!("{}{suffix}", &name[..end]);
            if good(self.child(parent, &candidate)?)? {
                return Ok(candidate);
            }
        }
        Err(already_exists(FsPath::of_tree(&join(TRASH, name))))
    }

    /// Deletes trash for good, whatever its age: the caller's, or everyone's.
    pub(super) fn expunge_trash(
        &mut self,
        call: &Call,
        request: &ExpungeTrash,
    ) -> Result<Outcome, CallError> {
        let trash = FsPath::of_tree(TRASH);
        if request.all {
            call.actor.require_superuser(trash)?;
            self.detach_existing(call, trash)?;
        } else if check_name(&call.actor.caller.user).is_ok() {
            self.detach_existing(call, FsPath::of_tree(&join(TRASH, &call.actor.caller.user)))?;
        }
        Ok(Outcome::Done(Done {}))
    }

    /// [`super::Action::ExpireTrash`].
    pub(super) fn expire_trash(&mut self, call: &Call, before_ms: u64) -> Result<Outcome, CallError> {
        let oldest = hour_of(before_ms);
        let mut expired = Vec::new();
        if let Some(trash) = self.child(ROOT, &TRASH[1..])? {
            for user in self.children(trash.id, "")? {
                let (user, Child { id, is_directory }) = user?;
                if is_directory {
                    self.expired_hours(id, &join(TRASH, &user), &oldest, &mut expired)?;
                }
                if expired.len() >= TRASH_BUCKETS_PER_ACTION {
                    self.effects.push(Effect::Unfinished);
                    break;
                }
            }
        }
        for path in expired {
            self.detach_existing(call, FsPath::of_tree(&path))?;
        }
        Ok(Outcome::Done(Done {}))
    }

    /// The hours of one user before `oldest`; names that are no hours stay.
    fn expired_hours(
        &self,
        user: InodeId,
        path: &str,
        oldest: &str,
        expired: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        for hour in self.children(user, "")? {
            let (hour, _) = hour?;
            if expired.len() >= TRASH_BUCKETS_PER_ACTION || hour.as_str() >= oldest {
                break;
            }
            if is_hour(&hour) {
                expired.push(join(path, &hour));
            }
        }
        Ok(())
    }

    fn detach_existing(&mut self, call: &Call, path: FsPath) -> Result<(), CallError> {
        // The user's own trash is deleted for the user: `/.trash` itself is not the user's to look into.
        let superuser = super::access::Actor { superuser: true, ..call.actor };
        let place = self.walk(&superuser, path)?;
        if place.node.is_some() { self.detach(call, &place) } else { Ok(()) }
    }
}

/// Whether it is the trash, or in it.
pub(super) fn is_trash(path: FsPath) -> bool {
    path.is_at_or_below(FsPath::of_tree(TRASH))
}

/// `2026-11-20T18`: sorts as time does until the year 9999.
fn hour_of(ms: u64) -> String {
    let hours = ms / 3_600_000;
    // Days in years that begin in March, so that leap days are last, and in eras of 400 years.
    let days = hours / 24 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}", hours % 24)
}

fn is_hour(name: &str) -> bool {
    name.len() == 13
        && name.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_as_calendars_have_them() {
        let hours = [
            (0, "1970-01-01T00"),
            (951_782_399, "2000-02-28T23"),
            (951_782_400, "2000-02-29T00"),
            (951_868_800, "2000-03-01T00"),
            (1_795_199_000, "2026-11-20T18"),
            (4_107_542_399, "2100-02-28T23"),
            (4_107_542_400, "2100-03-01T00"),
        ];
        for (seconds, hour) in hours {
            assert_eq!(hour_of(seconds * 1000), hour);
            assert!(is_hour(hour));
        }
        assert!(!is_hour("2026-11-20 18") && !is_hour("notes") && !is_hour("2026-11-20T1x"));
    }
}
