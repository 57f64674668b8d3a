//! Finds what nobody looks after: clusters that were never finished or are over, members that have ended, and what an
//! engine has of clusters that nobody knows any more. Mends it, if wanted.

use crate::docker::{Docker, DockerError};
use crate::error::ClusterError;
use crate::look::State;
use crate::provider::{Condition, provider};
use crate::record::Cluster;
use crate::registry::Registry;
use crate::spec::ProviderKind;

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Finding {
    /// One sentence.
    pub what: String,
    /// What is to be done about it.
    pub remedy: Remedy,
    /// Whether that was done: `None` if it was not wanted, or is not the doctor's to do.
    pub done: Option<Result<(), ClusterError>>,
}

/// What is to be done about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The cluster of this name is removed.
    Remove(String),
    /// What an engine has of the cluster of this id is removed.
    RemoveLeftovers(String),
    /// Members of a cluster are started again.
    Revive(String, Vec<String>),
    /// The cluster gets a new custodian.
    LeaveCustodian(String),
    /// Somebody has to decide.
    None,
}

impl Registry {
    /// Looks at all clusters of this user and at the engine; with `mend` does what is to be done.
    pub fn doctor(&self, mend: bool) -> Result<Vec<Finding>, ClusterError> {
        // First what there is, then who is known: whoever makes a cluster right now has written its record before.
        let objects = self.ids_of_engine();
        let clusters = self.list()?;
        let mut findings = Vec::new();
        for cluster in &clusters {
            self.examine(cluster, &mut findings);
        }
        let containers = clusters.iter().any(|cluster| cluster.spec.provider == ProviderKind::Docker);
        match objects {
            Ok(ids) => {
                let unknown = ids.into_iter().filter(|id| clusters.iter().all(|cluster| cluster.id != *id));
                findings.extend(unknown.map(|id| Finding {
                    what: format!("the Docker engine has things of a cluster with id {id}, which is no more"),
                    remedy: Remedy::RemoveLeftovers(id),
                    done: None,
                }));
            }
            // Somebody without containers needs no engine.
            Err(ClusterError::Docker(DockerError::Unreachable { .. })) if !containers => {}
            Err(error) => findings.push(Finding {
                what: gristmill_process::sentence(&error),
                remedy: Remedy::None,
                done: None,
            }),
        }
        if mend {
            for finding in &mut findings {
                finding.done = self.mend(&finding.remedy);
            }
        }
        Ok(findings)
    }

    fn ids_of_engine(&self) -> Result<Vec<String>, ClusterError> {
        Docker::connect()?.clusters(self.home())
    }

    fn examine(&self, cluster: &Cluster, findings: &mut Vec<Finding>) {
        let name = cluster.name.clone();
        let mut find = |what: String, remedy| findings.push(Finding { what, remedy, done: None });
        if !cluster.ready {
            if !cluster.is_being_made() {
                find(format!("the cluster {name} was never finished"), Remedy::Remove(name));
            }
            return;
        }
        let looked = self.look(cluster).and_then(|look| {
            let is_over = provider(cluster.spec.provider)?.end_report(cluster)?.is_some();
            Ok((look, is_over))
        });
        let (look, is_over) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                let why = gristmill_process::sentence(&error);
                return find(format!("the cluster {name} cannot be looked at: {why}"), Remedy::None);
            }
        };
        if is_over {
            return find(format!("the cluster {name} is over, and still there"), Remedy::Remove(name));
        }
        if look.state == State::Broken {
            let mut ended = Vec::new();
            for (member, condition) in cluster.members.iter().zip(&look.conditions) {
                if let Condition::Ended(end, _) = condition {
                    ended.push((member.role.clone(), end.to_string()));
                }
            }
            let said: Vec<String> = ended.iter().map(|(role, end)| format!("{role} {end}")).collect();
            let remedy = match cluster.spec.provider {
                ProviderKind::Processes => Remedy::None,
                ProviderKind::Docker => {
                    Remedy::Revive(name.clone(), ended.into_iter().map(|(role, _)| role).collect())
                }
            };
            find(format!("of the cluster {name}, {}", said.join(", ")), remedy);
        }
        if cluster.needs_custodian() && !cluster.has_custodian() {
            find(format!("nobody keeps the cluster {name}"), Remedy::LeaveCustodian(name));
        }
    }

    fn mend(&self, remedy: &Remedy) -> Option<Result<(), ClusterError>> {
        Some(match remedy {
            Remedy::Remove(name) => self.terminate(name),
            Remedy::RemoveLeftovers(id) => {
                Docker::connect().map_err(Into::into).and_then(|docker| docker.remove_leftovers(id))
            }
            Remedy::Revive(name, roles) => self.revive(name, roles),
            Remedy::LeaveCustodian(name) => self.leave_custodian(name),
            Remedy::None => return None,
        })
    }

    fn revive(&self, name: &str, roles: &[String]) -> Result<(), ClusterError> {
        let (cluster, _lock) = self.find_locked(name)?;
        let mut provider = provider(cluster.spec.provider)?;
        roles.iter().try_for_each(|role| provider.revive(&cluster, role))
    }
}
