//! The way to a worker: straight, or through the master's port where the workers' addresses lead nowhere.

use std::net::TcpStream;
use std::time::Duration;

use gristmill_proto::auth::{Role, Secret};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::messages::{Reply, bulk_failure};
use gristmill_proto::namespace::Welcome;
use gristmill_proto::passage::{GATEWAY_AUDIENCE, Passage};

use super::ClientOptions;
use super::address;
use super::connection::wall_ms;
use super::errors::TransferError;
use super::pipeline::read_reply;

/// Which way the bytes of a client go.
pub(crate) enum Route<'c> {
    /// To the worker itself.
    Straight,
    /// By way of the master, which passes on what comes.
    Gateway { master: &'c str, secret: Option<&'c Secret> },
}

impl Route<'_> {
    /// As the master's greeting says: straight if this client calls the master as the workers' network does, or if
    /// there is no network but this one. A name in another spelling costs the way through the master, and no more.
    pub(crate) fn of<'c>(options: &'c ClientOptions, welcome: Option<&Welcome>) -> Route<'c> {
        let outside = |welcome: &Welcome| {
            !welcome.inside_address.is_empty() && welcome.inside_address != options.master
        };
        if options.inside || !welcome.is_some_and(outside) {
            return Route::Straight;
        }
        Route::Gateway { master: &options.master, secret: options.secret.as_ref() }
    }

    pub(crate) fn is_straight(&self) -> bool {
        matches!(self, Route::Straight)
    }

    /// A connection to a worker's bulk listener; `address` is where the worker's own network finds that. Reads and
    /// writes then fail when nothing moves for `timeout`.
    pub(crate) fn connect(
        &self,
        worker: WorkerId,
        address: &str,
        timeout: Duration,
    ) -> Result<TcpStream, TransferError> {
        let Route::Gateway { master, secret } = self else { return address::connect(address, timeout) };
        let stream = address::connect(master, timeout)?;
        let token = secret.map(|secret| secret.caller_token_bytes(Role::Client, GATEWAY_AUDIENCE, wall_ms()));
        let passage = Passage { worker, token: token.unwrap_or_default().into() };
        passage.write(&mut &stream).map_err(|error| {
            TransferError::io("asking the master for a worker", error, timeout.as_millis() as u64)
        })?;
        match read_reply(&stream, timeout)? {
            Reply { failure: None, .. } => Ok(stream),
            Reply { failure: Some(failure), .. } => {
                let kind = bulk_failure::Kind::try_from(failure.kind);
                let kind = kind.unwrap_or(bulk_failure::Kind::Unspecified);
                Err(TransferError::Gateway { kind, detail: failure.detail })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_straight(dialled: &str, inside: bool, said: &str) -> bool {
        let options = ClientOptions { inside, ..ClientOptions::new(dialled) };
        let welcome = Welcome { inside_address: said.to_owned(), ..Welcome::default() };
        Route::of(&options, Some(&welcome)).is_straight()
    }

    #[test]
    fn the_masters_name_tells_inside_from_outside() {
        assert!(is_straight("127.0.0.1:7070", false, ""), "one network for all");
        assert!(is_straight("master:7070", false, "master:7070"));
        assert!(!is_straight("127.0.0.1:17070", false, "master:7070"));
        assert!(!is_straight("MASTER:7070", false, "master:7070"), "the safe side");
        assert!(is_straight("127.0.0.1:7070", true, "master:7070"), "who knows is not told");
    }
}
