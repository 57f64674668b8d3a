//! Things that change their names, and the atomic publication of many.

use gristmill_proto::ids::InodeId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{Done, Publish, Rename};

use super::access::{EXECUTE, WRITE};
use super::change::{Call, Change};
use super::inode::{entry, file};
use super::paths::join;
use super::refusal::{already_exists, is_a_directory, not_a_directory, refuse};
use super::tables::Child;
use super::tree::{Node, Place, Tree};
use super::{CallError, FsPath};

/// Removals and moves of one publication: it is one transaction, and all others wait for it.
pub const PUBLICATION_NAMES_MAX: usize = 100_000;
/// Of the directories that a publication makes.
const PUBLISHED_DIRECTORY_MODE: u32 = 0o755;

impl Change<'_> {
    /// As Hadoop's `rename2`: what is at `to` decides, not the caller's luck.
    pub(super) fn rename(&mut self, call: &Call, request: &Rename) -> Result<Outcome, CallError> {
        let (from, to) = (FsPath::parse(&request.from)?, FsPath::parse(&request.to)?);
        let mode = Mode::try_from(request.mode)
            .map_err(|problem| refuse(Kind::InvalidArgument, to, problem.to_string()))?;
        let from = self.walk(&call.actor, from)?;
        self.check_removal(call, &from)?;
        let target = self.walk(&call.actor, to)?;
        if mode == Mode::Into && target.node.as_ref().is_some_and(Node::is_directory) {
            let inside = join(to.as_str(), from.path.name());
            let target = self.walk(&call.actor, FsPath::parse(&inside)?)?;
            return self.rename_to(call, &from, &target, mode, request);
        }
        self.rename_to(call, &from, &target, mode, request)
    }

    fn rename_to(
        &mut self,
        call: &Call,
        from: &Place,
        to: &Place,
        mode: Mode,
        request: &Rename,
    ) -> Result<Outcome, CallError> {
        check_distinct(from, to)?;
        let parent = to.parent()?;
        call.actor.require(&*self.expect(parent)?, WRITE | EXECUTE, to.path.parent())?;
        match (mode, &to.node) {
            (Mode::Refuse | Mode::Into, Some(_)) => return Err(already_exists(to.path)),
            (Mode::Overwrite, Some(node)) => {
                check_replacement(from.existing()?, node, to.path)?;
                self.check_removal(call, to)?;
                self.detach(call, to)?;
            }
            (Mode::IfSame, node) => {
                check_precondition(node.as_ref(), request, to.path)?;
                if let Some(node) = node {
                    check_replacement(from.existing()?, node, to.path)?;
                    self.check_removal(call, to)?;
                    self.detach(call, to)?;
                }
            }
            (_, None) => {}
        }
        let id = self.move_node(call, from, to)?;
        Ok(Outcome::Entry(entry(to.path.to_string(), id, &*self.expect(id)?)))
    }

    /// All removals, then all moves, or nothing.
    pub(super) fn publish(&mut self, call: &Call, request: &Publish) -> Result<Outcome, CallError> {
        let names = request.remove.len() + request.moves.len();
        if names > PUBLICATION_NAMES_MAX {
            let detail = format!("{names} names in one publication, of at most {PUBLICATION_NAMES_MAX}");
            return Err(refuse(Kind::Limit, "", detail));
        }
        for path in &request.remove {
            let place = self.walk(&call.actor, FsPath::parse(path)?)?;
            if place.node.is_some() {
                self.remove(call, &place)?;
            }
        }
        for step in &request.moves {
            let from = self.walk(&call.actor, FsPath::parse(&step.from)?)?;
            self.check_removal(call, &from)?;
            let mut to = self.walk(&call.actor, FsPath::parse(&step.to)?)?;
            check_distinct(&from, &to)?;
            if to.node.is_some() {
                return Err(already_exists(to.path));
            }
            self.make_parents(call, &mut to, true, PUBLISHED_DIRECTORY_MODE)?;
            self.move_node(call, &from, &to)?;
        }
        Ok(Outcome::Done(Done {}))
    }

    /// Moves what is at `from` to `to`, where nothing is and the directory is there, without further questions than
    /// those of quotas. Its time of modification stays, those of both directories change.
    pub(super) fn move_node(&mut self, call: &Call, from: &Place, to: &Place) -> Result<InodeId, CallError> {
        let (node, parent) = (from.existing()?, to.parent()?);
        let shared = from.above.iter().zip(&to.above).take_while(|(a, b)| a == b).count();
        let (left, entered) = (&from.above[shared..], &to.above[shared..]);
        if self.has_quota(left)? || self.has_quota(entered)? {
            let usage = self.usage(node)?;
            self.charge(left, usage.freed(), from.path)?;
            self.charge(entered, usage, to.path)?;
        }
        let child = Child { id: node.id, is_directory: node.is_directory() };
        self.unlink(from.parent()?, from.path.name(), call.now_ms)?;
        self.link(parent, to.path.name(), child, call.now_ms, to.path.parent())?;
        self.edit(node.id, |inode| {
            inode.parent = parent.0;
            to.path.name().clone_into(&mut inode.name);
        })?;
        Ok(node.id)
    }
}

/// Nothing moves onto or into itself.
fn check_distinct(from: &Place, to: &Place) -> Result<(), CallError> {
    if to.path == from.path || to.path.is_root() {
        return Err(already_exists(to.path));
    }
    if to.path.is_at_or_below(from.path) {
        let detail = format!("{} cannot move below itself", from.path);
        return Err(refuse(Kind::RenameIntoItself, to.path, detail));
    }
    Ok(())
}

/// A file may take the place of a file, a directory that of an empty directory.
fn check_replacement(from: &Node, to: &Node, path: FsPath) -> Result<(), CallError> {
    match (from.is_directory(), to.is_directory()) {
        (true, false) => Err(not_a_directory(path)),
        (false, true) => Err(is_a_directory(path)),
        (true, true) if to.entries() > 0 => {
            Err(refuse(Kind::NotEmpty, path, format!("it has {} entries", to.entries())))
        }
        _ => Ok(()),
    }
}

fn check_precondition(node: Option<&Node>, request: &Rename, path: FsPath) -> Result<(), CallError> {
    let found = node.map_or((0, 0), |node| (node.id.0, file(&node.inode).map_or(0, |file| file.version)));
    let wanted = (request.inode, if request.inode == 0 { 0 } else { request.version });
    if found == wanted {
        return Ok(());
    }
    let detail =
        format!("inode {} version {} is there, not {} version {}", found.0, found.1, wanted.0, wanted.1);
    Err(refuse(Kind::Precondition, path, detail))
}
