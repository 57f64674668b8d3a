//! Who writes a file, and what becomes of it when the writer is gone.
//!
//! ```text
//!              create, append                       complete
//!   closed ────────────────────> WRITING ──────────────────────────> closed
//!      │                            │ begin_recovery                   ^
//!      │ truncate                   v                                  │ finish_recovery
//!      └─────────> TRUNCATING   RECOVERING ────────────────────────────┤
//!                      └───────────────────────────────────────────────┘
//! ```
//!
//! Beginning again, in RECOVERING and TRUNCATING, gives a new generation: the answers to the attempt before are stale.

use gristmill_proto::ids::{BlockId, ClientId, Generation, InodeId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{Done, Failure, RecoverLease, Recovering};
use gristmill_proto::record::construction::Phase;

use super::access::WRITE;
use super::change::{Call, Change};
use super::draft::Draft;
use super::inode::{file, holder, open_extent};
use super::refusal::{failure, is_a_directory, refuse, refuse_inode};
use super::tree::{Node, Place, Tree};
use super::{CallError, FsPath};

/// Whether a caller may write a file from now on.
pub(super) enum Lease {
    /// Nobody writes it.
    Free,
    /// The caller's own client writes it.
    Own,
    /// Somebody writes it. A recovery may have begun, so this is an answer and no refusal.
    Held(Failure),
}

impl Change<'_> {
    /// Who stands in the way of a caller who wants to write the file. A writer silent for the soft limit is fenced.
    pub(super) fn take_lease(&mut self, call: &Call, place: &Place, node: &Node) -> Result<Lease, CallError> {
        let path = place.path;
        let Some(construction) = node.file(path)?.construction.as_ref() else { return Ok(Lease::Free) };
        let Some(holder) = ClientId::from_wire(&construction.client_id) else {
            let detail = "the file is being recovered after its last writer, or cut";
            return Ok(Lease::Held(failure(Kind::LeaseHeld, path, detail)));
        };
        if holder == call.actor.caller.client {
            return Ok(Lease::Own);
        }
        let idle_ms = self.leases.idle_ms(holder);
        if idle_ms <= self.options.lease_soft_limit_ms {
            let detail = format!("client {holder} writes it, last heard of {idle_ms} ms ago");
            return Ok(Lease::Held(failure(Kind::LeaseHeld, path, detail)));
        }
        if self.fence(node, &place.above, path, call.now_ms)? {
            return Ok(Lease::Free);
        }
        let detail = format!("client {holder} is gone; its last block is being recovered");
        Ok(Lease::Held(failure(Kind::LeaseHeld, path, detail)))
    }

    pub(super) fn recover_lease(
        &mut self,
        call: &Call,
        request: &RecoverLease,
    ) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let place = self.walk(&call.actor, path)?;
        let node = place.existing()?;
        let file = node.file(path)?;
        call.actor.require(&node.inode, WRITE, path)?;
        let closed = match holder(file) {
            Some(_) => self.fence(node, &place.above, path, call.now_ms)?,
            None => file.construction.is_none(),
        };
        Ok(Outcome::Recovering(Recovering { closed }))
    }

    /// [`super::Action::BeginRecovery`].
    pub(super) fn begin_recovery(
        &mut self,
        id: InodeId,
        of: Option<ClientId>,
        now_ms: u64,
    ) -> Result<Outcome, CallError> {
        if let Some(inode) = self.inode(id)?
            && let Some(file) = file(&inode)
            && file.construction.is_some()
            && (of.is_none() || of == holder(file))
        {
            let node = Node { id, inode: inode.clone() };
            if let Some((above, path)) = self.climb(&node)? {
                self.fence(&node, &above, FsPath::of_tree(&path), now_ms)?;
            }
        }
        Ok(Outcome::Done(Done {}))
    }

    /// [`super::Action::FinishRecovery`].
    pub(super) fn finish_recovery(
        &mut self,
        id: InodeId,
        (block, generation): (BlockId, Generation),
        bytes: u64,
        now_ms: u64,
    ) -> Result<Outcome, CallError> {
        let stale = |detail| refuse_inode(Kind::StaleGeneration, id.0, detail);
        let Some(inode) = self.inode(id)? else { return Err(stale("the file is gone")) };
        let node = Node { id, inode };
        let Some((above, path)) = self.climb(&node)? else { return Err(stale("the file is gone")) };
        let Some(mut draft) = Draft::of(&node) else { return Err(stale("it is a directory")) };
        let (Some(open), Some(construction)) = (open_extent(&draft.file), &draft.file.construction) else {
            return Err(stale("its last block is complete"));
        };
        if (open.block, open.generation) != (block.0, generation.0) || construction.phase() == Phase::Writing
        {
            return Err(stale("another recovery, or a writer, has the last block"));
        }
        let most = match construction.phase() {
            Phase::Truncating => construction.target_bytes,
            _ => draft.file.block_bytes.max(construction.synced_bytes),
        };
        if bytes > most {
            let detail = format!("{block} has at most {most} bytes, not {bytes}");
            return Err(refuse_inode(Kind::InvalidArgument, id.0, detail));
        }
        self.settle_last(&mut draft, bytes)?;
        self.close(&mut draft, now_ms)?;
        self.write_back(draft, &above, FsPath::of_tree(&path))?;
        Ok(Outcome::Done(Done {}))
    }

    /// Takes a file from its writer, and says whether that closed it. If not, its last block is to be recovered.
    fn fence(
        &mut self,
        node: &Node,
        above: &[InodeId],
        path: FsPath,
        now_ms: u64,
    ) -> Result<bool, CallError> {
        let mut draft = Draft::of(node).ok_or_else(|| is_a_directory(path))?;
        let closed = open_extent(&draft.file).is_none();
        if closed {
            self.close(&mut draft, now_ms)?;
        } else {
            self.stop_writers(&mut draft)?;
        }
        self.write_back(draft, above, path)?;
        Ok(closed)
    }
}

/// A refusal of a caller who does not write the file.
pub(super) fn lease_lost(path: FsPath) -> CallError {
    refuse(Kind::LeaseLost, path, "this client does not write the file, or not any more")
}
