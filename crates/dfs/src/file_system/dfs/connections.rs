//! The connections of this process, one for each master and caller.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gristmill_proto::auth::Secret;

use super::failures;
use crate::client::{ClientOptions, DfsClient};
use crate::file_system::Cause;
use crate::file_system::accounts::groups_of;

/// Who asks, and what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::file_system) struct Caller {
    user: Arc<str>,
    secret_file: Option<PathBuf>,
}

/// A connection that is made once, by whoever needs it first; others wait for it, and only for it.
type Slot = Arc<Mutex<Option<DfsClient>>>;

type Slots = HashMap<(Arc<str>, Caller), Slot>;

impl Caller {
    pub(in crate::file_system) fn new(user: &str, secret_file: Option<PathBuf>) -> Caller {
        Caller { user: Arc::from(user), secret_file }
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The connection to the master; what could not be made is tried again by the next who asks.
    pub(super) fn client(&self, master: &Arc<str>) -> Result<DfsClient, Cause> {
        static SLOTS: OnceLock<Mutex<Slots>> = OnceLock::new();
        let slot = {
            let slots = SLOTS.get_or_init(Mutex::default);
            let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry((master.clone(), self.clone())).or_default().clone()
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let client = DfsClient::connect(self.options(master)?).map_err(failures::cause)?;
        Ok(slot.insert(client).clone())
    }

    fn options(&self, master: &str) -> Result<ClientOptions, Cause> {
        let mut options = ClientOptions::new(master);
        self.user.as_ref().clone_into(&mut options.user);
        options.groups = groups_of(&self.user);
        if let Some(file) = &self.secret_file {
            options.secret = Some(Secret::read(file).map_err(Cause::Secret)?);
        }
        Ok(options)
    }
}
