//! How clusters are, as far as their members show it.

use crate::error::ClusterError;
use crate::provider::{Condition, provider};
use crate::record::Cluster;
use crate::registry::Registry;

/// How a cluster is, as far as its members show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Somebody makes it right now.
    Starting,
    /// All members run.
    Running,
    /// It has lost members, or was never finished.
    Broken,
}

/// What a look at a cluster has shown.
#[derive(Clone, Debug)]
pub struct Look {
    /// How it is.
    pub state: State,
    /// How each member is, in the order of the record.
    pub conditions: Vec<Condition>,
}

impl Look {
    /// How many members run.
    pub fn running(&self) -> usize {
        self.conditions.iter().filter(|condition| **condition == Condition::Running).count()
    }
}

impl Registry {
    /// Looks at a cluster's members.
    pub fn look(&self, cluster: &Cluster) -> Result<Look, ClusterError> {
        let conditions = provider(cluster.spec.provider)?.look(cluster)?;
        let look = Look { state: State::Broken, conditions };
        let state = if cluster.is_being_made() {
            State::Starting
        } else if cluster.ready && look.running() == cluster.members.len() {
            State::Running
        } else {
            State::Broken
        };
        Ok(Look { state, ..look })
    }
}
