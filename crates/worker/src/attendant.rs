//! The worker's attendance at its master for jobs: what it is told to run, and what it tells of it.
//!
//! ```text
//!   master ── orders ──> session ──> agent (pure) ── actions ──> hands ──> threads of attempts, housekeeper
//!          <── notices ──            agent <── events ─────────────────────────┘
//! ```
//!
//! Modules, in reading order: `job` (what is known of one), `agent` (what runs here, and what the master still has to
//! hear of it: pure), `hands` (carries out), `housekeeper` (what may wait for disks), `session` (one stream), `life`
//! (one session after the other), `identity` (who a task worker is).

mod agent;
mod hands;
mod housekeeper;
mod identity;
mod job;
mod life;
mod session;

pub use identity::IdentityError;
pub(crate) use identity::{Identity, IdentityFile};
pub(crate) use life::{Attendant, AttendantOptions, Who};
pub use session::TasksError;
