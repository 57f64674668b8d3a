//! What is asked of the namespace, and what it says to have done. The shell around it logs nothing else and decides
//! nothing else.

use gristmill_proto::ids::{BlockId, ClientId, Generation, InodeId, WorkerId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::{call, set_worker_state};

/// One change to make. Commands are applied in the order of their group.
#[derive(Clone, Debug)]
pub struct Command {
    /// Which call of which client it is: a call applied before gets its first answer. `None`: the master's own.
    pub id: Option<RequestId>,
    /// The client is done with all calls of smaller sequence; their answers may be forgotten.
    pub settled_below: u64,
    /// For whom.
    pub caller: Caller,
    /// Wall time, for times of modification and the names of trash; nothing is ordered or timed out by it.
    pub now_ms: u64,
    /// What to do.
    pub action: Action,
}

/// The name of a call, over all streams and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Who calls.
    pub client: ClientId,
    /// Rises from 1 with each call of the client.
    pub sequence: u64,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The program: it owns leases.
    pub client: ClientId,
    /// The person: it owns files.
    pub user: String,
    /// The person's groups.
    pub groups: Vec<String>,
}

/// What a command does.
#[derive(Clone, Debug)]
pub enum Action {
    /// A write call of a client. A call that changes nothing here (a read, say) is refused as `INVALID_ARGUMENT`.
    Request(call::Request, Facts),
    /// Fences the writer of an open file, or starts an unfinished recovery or truncation over, with a new generation.
    /// Does nothing if the file is closed or gone. A file whose blocks are all complete is closed at once.
    BeginRecovery {
        /// The file.
        inode: InodeId,
        /// Only if this client still writes it; `None`: whoever does.
        holder: Option<ClientId>,
    },
    /// The replicas of the last block were cut to `bytes`: closes the file. Refused as `STALE_GENERATION` if another
    /// recovery has begun since.
    FinishRecovery {
        /// The file.
        inode: InodeId,
        /// Its last block.
        block: BlockId,
        /// The one of [`Effect::StopWriters`].
        generation: Generation,
        /// What all good replicas have.
        bytes: u64,
    },
    /// Forgets some of what was deleted: at most this many inodes and blocks together.
    Reclaim {
        /// The bound, at least 1.
        records_max: u32,
    },
    /// Deletes for good what was moved to the trash before this time: at most [`TRASH_BUCKETS_PER_ACTION`] buckets.
    ExpireTrash {
        /// Milliseconds since 1970.
        before_ms: u64,
    },
    /// What an operator wanted of a worker is over by itself.
    EndMaintenance {
        /// The worker.
        worker: WorkerId,
    },
    /// Forgets the answers of clients that were last heard of before this time, at most `answers_max` answers.
    ForgetSessions {
        /// Milliseconds since 1970.
        before_ms: u64,
        /// The bound, at least 1.
        answers_max: u32,
    },
}

/// How many trash buckets one [`Action::ExpireTrash`] detaches: keeps a group of commands short.
pub const TRASH_BUCKETS_PER_ACTION: usize = 256;

/// What only the block side knows about a call.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `AddBlock`: the workers chosen for the new block, in order. None: the call is refused as `NO_WORKERS`.
    pub targets: Vec<WorkerId>,
    /// `AddBlock` and `Complete`: enough replicas of the block they end are durable. If not, and there is such a
    /// block, the call is refused as `NOT_YET`.
    pub durable: bool,
    /// `SetWorkerState`: the worker has registered with this master.
    pub is_known: bool,
}

/// What came of one command.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The answer. `LocatedBlock`s in it have replicas with their worker only, and no token.
    pub outcome: Outcome,
    /// What the block side must hear of, in order. None is needed for correctness: after a crash block reports and
    /// [`super::Snapshot::open_files`] tell the same.
    pub effects: Vec<Effect>,
    /// The call had been applied before; this is the answer of then, and there are no effects.
    pub replayed: bool,
}

/// What a change of the namespace means to the keepers of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A block exists and is about to be written.
    BlockAdded {
        /// The block.
        block: BlockId,
        /// Its first.
        generation: Generation,
        /// Of its file.
        replication: u32,
        /// The pipeline.
        workers: Vec<WorkerId>,
    },
    /// A pipeline goes on with fewer workers under a new generation.
    BlockRebuilt {
        /// The block.
        block: BlockId,
        /// The new one.
        generation: Generation,
        /// Who is left.
        workers: Vec<WorkerId>,
    },
    /// A complete block is about to be appended to: replicas of `generation_before` are good until it is complete
    /// again.
    BlockReopened {
        /// The block.
        block: BlockId,
        /// What its replicas have.
        generation_before: Generation,
        /// What they get.
        generation: Generation,
    },
    /// A block is final: from now on it must have `replication` replicas of exactly this.
    BlockComplete {
        /// The block.
        block: BlockId,
        /// The final one.
        generation: Generation,
        /// The final length.
        bytes: u64,
        /// How many replicas it should have.
        replication: u32,
    },
    /// Complete blocks of a file should have another number of replicas.
    ReplicationChanged {
        /// The blocks.
        blocks: Vec<BlockId>,
        /// How many.
        replication: u32,
    },
    /// Blocks are in no file any more: their replicas may be deleted.
    Forgotten(Vec<BlockId>),
    /// Replicas of the last block of a file must be fenced, brought to one length and settled under `generation`;
    /// then [`Action::FinishRecovery`].
    StopWriters {
        /// The file.
        inode: InodeId,
        /// Its last block.
        block: BlockId,
        /// The new one: older writers are fenced.
        generation: Generation,
        /// At least so many bytes must survive: a replica with fewer is no good.
        synced_bytes: u64,
        /// A replica of an older generation than this may lack synced bytes.
        synced_generation: Generation,
        /// The length to cut to, if it is a truncation.
        target_bytes: Option<u64>,
        /// The last pipeline; empty: whoever has a replica.
        workers: Vec<WorkerId>,
    },
    /// An operator wants this of a worker.
    WorkerStateSet {
        /// The worker.
        worker: WorkerId,
        /// What it is to do.
        state: set_worker_state::State,
    },
    /// An operator has set or ended the safe mode.
    SafeModeSet(bool),
    /// A bounded action has left something to do: send it again.
    Unfinished,
}

/// How long clients have been silent. Time is the shell's: monotonic, and starting anew with the master.
pub trait LeaseClock {
    /// Since the client's last sign of life.
    fn idle_ms(&self, client: ClientId) -> u64;
}

/// What the namespace knows of one block: as much as block reports are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRecord {
    /// The file it is in.
    pub inode: InodeId,
    /// The current one.
    pub generation: Generation,
    /// Final length of a complete block; else what is visible of it.
    pub bytes: u64,
    /// How many replicas it should have.
    pub replication: u32,
    /// Nobody writes it.
    pub complete: bool,
}
