//! Files for a container, packed as its engine takes them: they are in its volume before it starts.

use std::fs;
use std::path::Path;

use super::error::DockerError;
use super::plan::USER;
use crate::record::{BOOTSTRAP, CLUSTER_FILE, Cluster, SECRET, STORE_KEYS};

/// What a member is given: the secrets, and what its role reads. Each is its own alone.
pub(super) fn given(cluster: &Cluster, role: &str) -> Result<Vec<u8>, DockerError> {
    let mut files =
        vec![(SECRET, cluster.secret_file.clone(), 0o400), (STORE_KEYS, cluster.store_keys(), 0o400)];
    files.push((BOOTSTRAP, cluster.bootstrap(), 0o500));
    if role == "master" {
        files.push((CLUSTER_FILE, cluster.cluster_file(), 0o400));
    }
    let mut archive = tar::Builder::new(Vec::new());
    for (name, file, mode) in files {
        let Some(file) = file else { continue };
        append(&mut archive, name, &file, mode)
            .map_err(|source| DockerError::Pack { name: name.to_owned(), source })?;
    }
    archive.into_inner().map_err(|source| DockerError::Pack { name: "files".to_owned(), source })
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, file: &Path, mode: u32) -> std::io::Result<()> {
    let bytes = fs::read(file)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_uid(u64::from(USER));
    header.set_gid(u64::from(USER));
    header.set_cksum();
    archive.append_data(&mut header, name, bytes.as_slice())
}
