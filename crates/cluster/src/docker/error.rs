//! What can go wrong with a Docker engine: each a sentence with what to do.

use bollard::errors::Error;
use thiserror::Error as ThisError;

/// Why an engine did not do what a cluster needs.
#[derive(Debug, ThisError)]
pub enum DockerError {
    /// Nobody answers.
    #[error(
        "cannot reach the Docker engine: start it, or say where it is with DOCKER_HOST, and see that this user may use it"
    )]
    Unreachable {
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// There is no such image.
    #[error(
        "the Docker engine has no image {image}: `deploy/build` makes it, or `docker pull` brings it, or --image names another"
    )]
    ImageMissing {
        /// Its name.
        image: String,
    },
    /// Somebody else listens there.
    #[error("cannot publish the master at 127.0.0.1:{port}: the port is taken; --port names another")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// No free port was found.
    #[error("cannot find a free port of this machine for the master")]
    NoPort {
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// All of the engine's address ranges are in use.
    #[error(
        "the Docker engine has no addresses left for one more network: `gristmill cluster doctor` or `docker network prune` removes those that nobody uses"
    )]
    NetworksExhausted {
        /// The engine's words.
        #[source]
        source: Box<Error>,
    },
    /// No room.
    #[error(
        "the disk of the Docker engine is full, while it was to {operation}: free some of it, as with `docker system prune`"
    )]
    DiskFull {
        /// What was to be done.
        operation: &'static str,
        /// The engine's words.
        #[source]
        source: Box<Error>,
    },
    /// A thread's runtime.
    #[error("cannot start to talk to the Docker engine")]
    Start(#[source] std::io::Error),
    /// A file for a container cannot be packed.
    #[error("cannot pack {name} for a container")]
    Pack {
        /// Which file.
        name: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Objects that do not go away.
    #[error(
        "the Docker engine still has {left} of the cluster {cluster} after it was to remove them: `gristmill cluster doctor` tries again"
    )]
    Left {
        /// Whose.
        cluster: String,
        /// Kinds and names.
        left: String,
    },
    /// An answer without what it is there for.
    #[error("the Docker engine does not say {what}: it is broken, or of a release that is not known here")]
    Unsaid {
        /// What was asked.
        what: &'static str,
    },
    /// Anything else that the engine refuses.
    #[error("the Docker engine cannot {operation}")]
    Engine {
        /// What was to be done.
        operation: &'static str,
        /// The engine's words.
        #[source]
        source: Box<Error>,
    },
}

/// Says of an engine's refusal what it means. The engine tells most causes apart by words only; those that are known here
/// are those of moby since 19.03.
pub(super) fn because(operation: &'static str) -> impl FnOnce(Error) -> DockerError {
    move |error| {
        let said = match &error {
            Error::DockerResponseServerError { message, .. } => message.as_str(),
            Error::SocketNotFoundError(_)
            | Error::HyperLegacyError { .. }
            | Error::HyperResponseError { .. }
            | Error::IOError { .. }
            | Error::RequestTimeoutError
            | Error::UnsupportedURISchemeError { .. } => {
                return DockerError::Unreachable { source: Box::new(error) };
            }
            _ => "",
        };
        let networks = ["non-overlapping", "fully subnetted"];
        if networks.iter().any(|words| said.contains(words)) {
            return DockerError::NetworksExhausted { source: Box::new(error) };
        }
        if said.contains("no space left on device") {
            return DockerError::DiskFull { operation, source: Box::new(error) };
        }
        DockerError::Engine { operation, source: Box::new(error) }
    }
}

/// Whether a port cannot be had.
pub(super) fn is_port_taken(error: &DockerError) -> bool {
    let DockerError::Engine { source, .. } = error else { return false };
    let Error::DockerResponseServerError { message, .. } = source.as_ref() else { return false };
    ["port is already allocated", "address already in use"].iter().any(|words| message.contains(words))
}

/// Whether something is not there, or is being removed already: then nobody needs to remove it.
pub(super) fn is_gone(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => true,
        Error::DockerResponseServerError { status_code: 409, message } => {
            ["is already in progress", "marked for removal"].iter().any(|words| message.contains(words))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Error {
        Error::DockerResponseServerError { status_code: 500, message: message.to_owned() }
    }

    #[test]
    fn what_the_engine_says_has_a_meaning() {
        let mean = |message: &str| because("make a network")(said(message));
        let pool = "could not find an available, non-overlapping IPv4 address pool among the defaults";
        assert!(matches!(mean(pool), DockerError::NetworksExhausted { .. }));
        let full = mean("mkdir /var/lib/docker/volumes/x: no space left on device");
        assert!(full.to_string().starts_with("the disk of the Docker engine is full"), "{full}");
        let port = mean("driver failed: Bind for 127.0.0.1:7070 failed: port is already allocated");
        assert!(is_port_taken(&port) && !is_port_taken(&mean("else")));
        let socket = because("be asked")(Error::SocketNotFoundError("/none".to_owned()));
        assert!(socket.to_string().starts_with("cannot reach the Docker engine"), "{socket}");
        let gone = Error::DockerResponseServerError { status_code: 404, message: String::new() };
        assert!(is_gone(&gone) && !is_gone(&said("No such container")));
        let message = "can not get logs from container which is dead or marked for removal".to_owned();
        assert!(is_gone(&Error::DockerResponseServerError { status_code: 409, message }));
    }
}
