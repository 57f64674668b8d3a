//! The connections of this process, one for each master and caller.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gristmill_proto::auth::Secret;

use super::failures;
use crate::client::{ClientOptions, DfsClient};
use crate::file_system::accounts::groups_of;
use crate::file_system::{Cause, Credential, DfsIdentity};

/// Connections kept for who asks next: a master that acts for many users has one for each.
const CONNECTIONS_KEPT_MAX: usize = 64;

/// Who asks, and what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::file_system) struct Caller {
    user: Arc<str>,
    proof: Proof,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Proof {
    /// As this machine's accounts and this file say.
    File(Option<PathBuf>),
    Known(Arc<Known>),
}

/// The rest of an identity.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Known {
    groups: Vec<String>,
    credential: Credential,
    host: Option<String>,
    inside: bool,
}

/// A connection that is made once, by whoever needs it first; others wait for it, and only for it.
type Slot = Arc<Mutex<Option<DfsClient>>>;

type Slots = HashMap<(Arc<str>, Caller), Slot>;

impl Caller {
    pub(in crate::file_system) fn new(user: &str, secret_file: Option<PathBuf>) -> Caller {
        Caller { user: Arc::from(user), proof: Proof::File(secret_file) }
    }

    pub(in crate::file_system) fn known(identity: &DfsIdentity) -> Caller {
        let DfsIdentity { user, groups, credential, aliases: _, host, inside } = identity.clone();
        let known = Known { groups, credential, host, inside };
        Caller { user: Arc::from(user), proof: Proof::Known(Arc::new(known)) }
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
            let key = (master.clone(), self.clone());
            if slots.len() >= CONNECTIONS_KEPT_MAX && !slots.contains_key(&key) {
                // Whoever uses one has it still.
                slots.clear();
            }
            slots.entry(key).or_default().clone()
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
        match &self.proof {
            Proof::File(file) => {
                options.groups = groups_of(&self.user);
                if let Some(file) = file {
                    options.secret = Some(Secret::read(file).map_err(Cause::Secret)?);
                }
            }
            Proof::Known(known) => {
                options.groups.clone_from(&known.groups);
                options.inside = known.inside;
                if let Some(host) = &known.host {
                    options.host.clone_from(host);
                }
                match &known.credential {
                    Credential::None => {}
                    Credential::Secret(secret) => options.secret = Some(secret.clone()),
                    Credential::Token(token) => options.token = Some(token.clone()),
                }
            }
        }
        Ok(options)
    }
}
