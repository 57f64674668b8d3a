//! `custodian`: what `create` leaves behind on this machine for a cluster that may end by itself.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use gristmill_cluster::{Kept, NEW_SESSION_VARIABLE, Registry};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::daemon_logs;
use super::scaler::Scaler;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;

/// Keeps a cluster as it is to be, and removes it when it is over. `create` starts it
#[derive(Args)]
pub(crate) struct Custodian {
    /// The cluster
    name: String,
}

impl Custodian {
    pub(crate) fn run(self, console: &mut Console) -> Result<Exit, Failure> {
        if std::env::var_os(NEW_SESSION_VARIABLE).is_some() {
            // It fails where there is a session of its own already.
            if let Err(error) = rustix::process::setsid() {
                tracing::debug!(%error, "no new session");
            }
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&interrupted)).map_err(Failure::Signals)?;
        }
        let registry = Registry::from_environment()?;
        let _scaler = Scaler::start(&registry.find(&self.name)?)?;
        match registry.keep(&self.name, &interrupted, &mut daemon_logs::push)? {
            Kept::Over(_) => console.line(format!("The cluster {} is over.", self.name))?,
            Kept::Terminated => console.line(format!("The cluster {} was terminated.", self.name))?,
            Kept::Interrupted => {}
        }
        Ok(Exit::Done)
    }
}
