//! A core worker's attendance at its master: registers, gives signs of life, tells what changed, takes orders.
//! (Hadoop: BPServiceActor)

use std::sync::Arc;
use std::time::Duration;

use gristmill_process::Pause;
use gristmill_proto::auth::Secret;
use gristmill_proto::ids::Incarnation;
use thiserror::Error;
use tokio::sync::watch;

use super::block_store::{AdoptError, BlockStore, Identity};
use super::news::News;
use super::orders::Orders;
use super::server::BulkServer;
use super::session::{Lost, Session};
use super::standing::Standing;

/// Who this worker says it is, and how it finds its master.
#[derive(Clone, Debug)]
pub struct AttendanceOptions {
    /// HOST:PORT of the master.
    pub master: String,
    /// Of the cluster, if it has one.
    pub secret: Option<Secret>,
    /// HOST:PORT of the bulk listener, for others; `:PORT` if the master sees the host best.
    pub address: String,
    /// Name of this machine, the same for all processes on it.
    pub host: String,
    /// Where it stands, as `/rack1`.
    pub rack: String,
    /// Path of the short-circuit socket; empty: there is none.
    pub socket: String,
    /// Between two tries to reach the master: the first and the longest.
    pub retry: (Duration, Duration),
}

/// Why a worker cannot be part of its cluster, ever: the process should end.
#[derive(Debug, Error)]
pub enum AttendanceError {
    /// The master refused this worker for good.
    #[error("the master at {master} refuses this worker ({reason}): {detail}")]
    Refused {
        /// HOST:PORT.
        master: String,
        /// As `WRONG_CLUSTER`.
        reason: &'static str,
        /// What the master says.
        detail: String,
    },
    /// The master is of another version.
    #[error("the master at {master} speaks version {theirs}, this worker version {ours}")]
    WrongVersion {
        /// HOST:PORT.
        master: String,
        /// Of the master.
        theirs: u32,
        /// Of this build.
        ours: u32,
    },
    /// The disks belong to another cluster or are another worker's, or the identity could not be written to them.
    #[error("the disks here cannot be those of the worker that the master has welcomed")]
    Adopt(#[source] AdoptError),
    /// The address of the master is none.
    #[error("{master} is no address of a master: {detail}")]
    Address {
        /// As given.
        master: String,
        /// What is wrong.
        detail: String,
    },
    /// Threads for orders cannot be started.
    #[error("cannot start the threads for orders")]
    Threads(#[source] std::io::Error),
}

/// The attendance of a worker. It lives as long as the process does.
pub struct Attendance {
    pub(crate) options: AttendanceOptions,
    pub(crate) store: BlockStore,
    pub(crate) standing: Arc<Standing>,
    pub(crate) server: Arc<BulkServer>,
    pub(crate) incarnation: Incarnation,
    pub(crate) news: Arc<News>,
    pub(crate) orders: Orders,
}

impl Attendance {
    /// Listens to what changes in `store` from now on. If the worker is in a cluster with a secret already, it honours
    /// tokens at once.
    pub fn new(
        options: AttendanceOptions,
        store: BlockStore,
        standing: Arc<Standing>,
        server: Arc<BulkServer>,
    ) -> Result<Attendance, AttendanceError> {
        let news = Arc::new(News::default());
        let orders = Orders::start(Arc::clone(server.service()), Arc::clone(&news))
            .map_err(AttendanceError::Threads)?;
        let ear = Arc::clone(&news);
        store.set_listener(Box::new(move |change| ear.change(change)));
        if let (Some(Identity { cluster, worker }), Some(secret)) = (store.identity(), &options.secret) {
            standing.join(cluster, worker, gristmill_proto::auth::BlockKey::from_secret(secret, cluster));
        }
        let incarnation = Incarnation::random();
        Ok(Attendance { options, store, standing, server, incarnation, news, orders })
    }

    /// Attends until `stop` is true; or until the master refuses this worker for good. A master that cannot be reached
    /// is tried for ever.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) -> Result<(), AttendanceError> {
        let mut pause = Pause::new(self.options.retry, self.incarnation);
        let mut told = false;
        while !*stop.borrow() {
            let mut welcomed = false;
            let lost = tokio::select! {
                lost = Session::attend(self, &mut welcomed) => lost,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            if welcomed {
                pause.start_over();
                told = false;
            }
            match lost {
                Lost::ForGood(error) => return Err(error),
                // Once for each change of state.
                Lost::ForNow(reason) if !told => {
                    tracing::warn!(master = %self.options.master, %reason, "no master; trying again");
                    told = true;
                }
                Lost::ForNow(reason) => tracing::debug!(%reason, "still no master"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause.next_wait()) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
        Ok(())
    }
}
