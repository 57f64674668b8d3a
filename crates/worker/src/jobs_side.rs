//! What every worker has: slots for attempts, scratch for what they do, and a listener for map outputs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use std::net::SocketAddr;

use gristmill_dataflow::shuffle::{OutputStore, ServeOptions, ShuffleKeys, ShuffleServer};
use gristmill_proto::auth::Secret;

use crate::attempt::{
    Census, DfsFiles, DiskLimits, DiskUse, FileLimits, LogPusher, Logs, VerifiedFiles, Workplace,
};
use crate::attendant::{Attendant, AttendantOptions, Who};
use crate::cgroup::Cgroups;
use crate::options::{CgroupUse, MIB, WorkerOptions};
use crate::run::{RETRY, WorkerError, listener, told_address};
use crate::scratch::ScratchHome;

/// Programs are executables: static ones, with all their symbols, at most.
const PROGRAM_BYTES_MAX: u64 = 4 << 30;
/// Programs that are kept.
const PROGRAMS_MAX: usize = 64;
/// Of the file of a job, as in `job.proto`.
const JOB_FILE_BYTES_MAX: u64 = 256 << 20;
/// Files of jobs that nobody uses: they are small, and go with their jobs.
const JOB_FILES: (usize, u64) = (256, 1 << 30);

/// The part of a worker that runs attempts, before it attends at its master.
pub(crate) struct JobsSide {
    workplace: Workplace,
    server: ShuffleServer,
    keys: ShuffleKeys,
}

/// The listener for map outputs: it outlives the attempts.
pub(crate) struct Shuffle(ShuffleServer);

impl JobsSide {
    /// Sweeps the scratch directories, and serves the map outputs that are there.
    pub(crate) fn start(options: &WorkerOptions, secret: Option<Secret>) -> Result<JobsSide, WorkerError> {
        let scratch = ScratchHome::open(&options.scratch_dirs(), options.reserve_bytes())?;
        let store = OutputStore::open(&scratch.shuffle_dirs())?;
        let programs = FileLimits {
            file_bytes: PROGRAM_BYTES_MAX,
            bytes: options.program_cache_mib.saturating_mul(MIB),
            files: PROGRAMS_MAX,
            mode: 0o500,
        };
        let (files, bytes) = JOB_FILES;
        let job_files = FileLimits { file_bytes: JOB_FILE_BYTES_MAX, bytes, files, mode: 0o400 };
        let open = |dir, limits| VerifiedFiles::open(dir, limits).map_err(WorkerError::Start);
        let (programs, job_files) =
            (open(scratch.programs(), programs)?, open(scratch.job_files(), job_files)?);
        let logs = Logs::new(scratch.logs());
        let dfs = DfsFiles::new(options.master.clone(), secret, options.host());
        let keys = ShuffleKeys::new();
        let listener = listener(options.shuffle_listen())?;
        let server = ShuffleServer::start(listener, store.clone(), keys.clone(), ServeOptions::default());
        let server = server.map_err(WorkerError::Start)?;
        let slot_memory_bytes = options.memory_bytes() / u64::from(options.slots().max(1));
        let census = Census::default();
        let job_bytes_max = options.job_disk_mib.saturating_mul(MIB);
        let disk_use = DiskUse::new(DiskLimits { job_bytes_max, reserve_bytes: options.reserve_bytes() });
        let log_pusher = Arc::new(LogPusher::default());
        let workplace = Workplace {
            scratch,
            store,
            programs,
            job_files,
            logs,
            log_pusher,
            dfs,
            slot_memory_bytes,
            census,
            disk_use,
            cgroups: cgroups(options.cgroups),
        };
        Ok(JobsSide { workplace, server, keys })
    }

    /// Where map outputs are served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What pushes logs of attempts, until these have ended.
    pub(crate) fn log_pusher(&self) -> Arc<LogPusher> {
        Arc::clone(&self.workplace.log_pusher)
    }

    /// Who attends at the master, and the listener that goes on until that has ended.
    pub(crate) fn attendant(
        self,
        options: &WorkerOptions,
        secret: Option<Secret>,
        who: Who,
    ) -> io::Result<(Attendant, Shuffle)> {
        let JobsSide { workplace, server, keys } = self;
        let attendant = AttendantOptions {
            master: options.master.clone(),
            secret,
            who,
            slots: options.slots(),
            memory_bytes: options.memory_bytes(),
            host: options.host(),
            rack: options.rack.clone(),
            address: told_address(server.address()),
            retry: RETRY,
            notice: options.notice(),
        };
        Ok((Attendant::new(attendant, workplace, keys)?, Shuffle(server)))
    }
}

/// What attempts are put into, where that can be.
fn cgroups(wanted: CgroupUse) -> Option<Cgroups> {
    if wanted == CgroupUse::Off {
        return None;
    }
    match Cgroups::set_up() {
        Ok(groups) => Some(groups),
        Err(error) => {
            let reason = &error as &dyn std::error::Error;
            tracing::info!(reason, "attempts are bounded without control groups");
            None
        }
    }
}

impl Shuffle {
    pub(crate) fn stop(self, goodbye: Duration) -> Result<(), WorkerError> {
        let left = self.0.stop(goodbye).map_err(WorkerError::End)?;
        if left > 0 {
            tracing::warn!(connections = left, "ends in the middle of map outputs");
        }
        Ok(())
    }
}
