//! Names and labels of what belongs to a cluster: by its labels everything is found, whoever still knows of it.

use std::collections::HashMap;

use crate::record::Cluster;

/// The cluster's name.
const CLUSTER: &str = "dev.gristmill.cluster";
/// The cluster's id: unlike a name, no two clusters have the same.
const ID: &str = "dev.gristmill.cluster-id";
/// Whose registry has the record: a directory.
const REGISTRY: &str = "dev.gristmill.registry";
/// What the master is called.
pub(super) const MASTER: &str = "master";
/// `master`, `core-1`, `task-2`.
const ROLE: &str = "dev.gristmill.role";

/// A container's, network's or volume's labels: none is secret.
pub(super) fn labels(cluster: &Cluster, role: Option<&str>) -> HashMap<String, String> {
    let mut labels = HashMap::from([
        (CLUSTER.to_owned(), cluster.name.clone()),
        (ID.to_owned(), cluster.id.clone()),
        (REGISTRY.to_owned(), registry(cluster)),
    ]);
    if let Some(role) = role {
        labels.insert(ROLE.to_owned(), role.to_owned());
    }
    labels
}

fn registry(cluster: &Cluster) -> String {
    cluster.home.parent().map_or_else(String::new, |home| home.display().to_string())
}

/// Finds all of one cluster.
pub(super) fn of_cluster(id: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{ID}={id}")])])
}

/// Finds all of all clusters of a registry.
pub(super) fn of_registry(home: &std::path::Path) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{REGISTRY}={}", home.display())])])
}

/// The id of the cluster whose the labels are.
pub(super) fn id(labels: &HashMap<String, String>) -> Option<&str> {
    labels.get(ID).map(String::as_str)
}

/// The role of the member whose the labels are.
pub(super) fn role(labels: &HashMap<String, String>) -> Option<&str> {
    labels.get(ROLE).map(String::as_str)
}

/// The name of a cluster's network, and the beginning of all its other names.
pub(super) fn network(cluster: &Cluster) -> String {
    format!("gristmill-{}-{}", cluster.name, cluster.id)
}

/// The name of a member's container, and of its volume.
pub(super) fn object(cluster: &Cluster, role: &str) -> String {
    format!("{}-{role}", network(cluster))
}
