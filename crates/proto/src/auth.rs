//! Who may do what.
//!
//! A cluster has one [`Secret`], a file that is the same on all its machines. Tokens are made with it:
//!
//! ```text
//!   caller token   whoever holds the secret -> master   opens a control stream; role, service, expiry
//!   job token      master -> worker -> attempt          the namespace as the job's user; job, user, groups, expiry
//!   http token     master -> operator                   pages of the master's HTTP port
//!   block token    master -> client -> worker           one block, its generation, read or write, expiry
//!   shuffle token  master -> attempt -> worker          one job, fetch or keep its map outputs, expiry
//! ```
//!
//! A cluster without a secret listens on loopback addresses only ([`check_bind`]); it has no caller tokens, and its
//! block tokens are made with a [`BlockKey`], its shuffle tokens with a [`TaskKey`], that the master draws at its start
//! and tells its workers. So workers always check generations and never obey a stale token, secret or not.
//!
//! Tokens name what they allow; they do not hide anything, and whoever can listen on the network can use a token again
//! until it expires. Encryption, by mutual TLS, is a layer of its own and follows.

mod block_token;
mod caller_token;
mod http_token;
mod job_token;
mod secret;
mod signature;
mod task_key;

use std::net::SocketAddr;

use thiserror::Error;

pub use block_token::{BLOCK_TOKEN_LIFETIME_MS, BlockKey, Operation, Wanted};
pub use caller_token::{CALLER_TOKEN_LIFETIME_MS, CALLER_TOKEN_METADATA, Role};
pub use job_token::{JOB_TOKEN_LIFETIME_MS, JobCaller};
pub use secret::{Secret, SecretError};
pub use signature::TOKEN_BYTES_MAX;
pub use task_key::{SHUFFLE_TOKEN_LIFETIME_MS, ShuffleOperation, ShuffleWanted, TaskKey};

use crate::ids::{BlockId, ClusterId, Generation, JobId};

/// Why a token allows nothing here.
#[derive(Debug, Error)]
pub enum TokenError {
    /// It is longer than any that is ever made.
    #[error("the token has {bytes} bytes, of at most {max}")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// [`TOKEN_BYTES_MAX`].
        max: u64,
    },
    /// A caller token is written in hexadecimal, two lower-case digits a byte.
    #[error("the token is not in hexadecimal")]
    NotHex,
    /// It was not made with this key, or was changed since.
    #[error("the token was not made with this cluster's key")]
    Forged,
    /// It was made with this key, but is no such message: the other side is of another version.
    #[error("the token cannot be decoded")]
    Decode(#[source] prost::DecodeError),
    /// For another cluster.
    #[error("the token is for cluster {}, this is {ours}", Shown(.theirs))]
    WrongCluster {
        /// In the token; `None`: not an id.
        theirs: Option<ClusterId>,
        /// This one.
        ours: ClusterId,
    },
    /// For another block.
    #[error("the token is for {theirs}, not for {wanted}")]
    WrongBlock {
        /// In the token.
        theirs: BlockId,
        /// Asked for.
        wanted: BlockId,
    },
    /// For a generation that does not allow this.
    #[error(
        "the token is for generation {theirs}: it allows no {operation} of {block} in generation {wanted}"
    )]
    WrongGeneration {
        /// The block.
        block: BlockId,
        /// In the token.
        theirs: Generation,
        /// Asked for.
        wanted: Generation,
        /// Asked for.
        operation: Operation,
    },
    /// For other operations.
    #[error("the token does not allow a {operation} of {block}")]
    NotAllowed {
        /// The block.
        block: BlockId,
        /// Asked for.
        operation: Operation,
    },
    /// Its time is over, or the clocks of two machines differ.
    #[error("the token expired {ago_ms} ms ago by this machine's clock")]
    Expired {
        /// How long ago.
        ago_ms: u64,
    },
    /// It would be good for longer than tokens are: the clock of its maker is ahead.
    #[error(
        "the token expires in {ahead_ms} ms by this machine's clock, tokens live for {lifetime_ms} ms only"
    )]
    TooFarAhead {
        /// How far ahead it expires.
        ahead_ms: u64,
        /// [`CALLER_TOKEN_LIFETIME_MS`] or [`JOB_TOKEN_LIFETIME_MS`].
        lifetime_ms: u64,
    },
    /// It is for attempts, and names no job or no user.
    #[error("the token names no job and user")]
    NoJob,
    /// For another role.
    #[error("the token is not that of a {wanted}")]
    WrongRole {
        /// Whom the service is for.
        wanted: Role,
    },
    /// For another job.
    #[error("the token is for job {}, not for job {wanted}", Shown(.theirs))]
    WrongJob {
        /// In the token; `None`: not an id.
        theirs: Option<JobId>,
        /// Asked for.
        wanted: JobId,
    },
    /// For other operations of a shuffle.
    #[error("the token does not allow a {operation} of map outputs of job {job}")]
    NoShuffle {
        /// The job.
        job: JobId,
        /// Asked for.
        operation: ShuffleOperation,
    },
    /// For another service.
    #[error("the token is for the service {theirs:?}, this is {wanted:?}")]
    WrongAudience {
        /// In the token.
        theirs: String,
        /// The service asked.
        wanted: String,
    },
}

struct Shown<'a, Id>(&'a Option<Id>);

impl<Id: std::fmt::Display> std::fmt::Display for Shown<'_, Id> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(id) => id.fmt(f),
            None => f.write_str("(no id)"),
        }
    }
}

/// A listen address that everyone on the network could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "cannot listen on {listen} without a secret, as anyone who reaches it could read and change all data: \
     give the cluster one (--secret-file FILE), or listen on a loopback address such as 127.0.0.1"
)]
pub struct BindError {
    /// The address.
    pub listen: SocketAddr,
}

/// Whether a daemon may listen there: on any address with a secret, without one on loopback only.
pub fn check_bind(listen: SocketAddr, secret: Option<&Secret>) -> Result<(), BindError> {
    if secret.is_some() || listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(BindError { listen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_secret_only_this_machine_can_call() {
        for listen in ["127.0.0.1:7070", "127.1.2.3:0", "[::1]:7070", "[::ffff:127.0.0.1]:7070"] {
            assert_eq!(check_bind(listen.parse().unwrap(), None), Ok(()), "{listen}");
        }
        let secret = Secret::from_bytes(&[b's'; 32]).unwrap();
        for listen in ["0.0.0.0:7070", "[::]:7070", "10.0.0.1:7070", "[::ffff:10.0.0.1]:1", "169.254.1.1:1"] {
            let listen = listen.parse().unwrap();
            let refused = check_bind(listen, None).unwrap_err();
            assert_eq!(refused, BindError { listen });
            assert!(refused.to_string().contains(&format!("cannot listen on {listen}")));
            assert!(refused.to_string().contains("--secret-file"), "it says what to do");
            assert_eq!(check_bind(listen, Some(&secret)), Ok(()));
        }
    }
}
