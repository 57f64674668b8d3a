//! What the master has passed on between clients and workers, by its own page of metrics.

use std::io::{Read, Write};
use std::net::TcpStream;

use gristmill_proto::auth::Secret;

use crate::cluster::Cluster;

/// The numbers of the master's gateway since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Connections now.
    pub connections: u64,
    /// All that were led to a worker.
    pub passages: u64,
    /// All that were not.
    pub refused: u64,
    /// Both ways.
    pub bytes: u64,
}

impl Cluster {
    /// What has passed until now. The master's pages have to be on this process's network.
    #[track_caller]
    pub fn passed(&self) -> Passed {
        let page = self.metrics();
        let number = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
        };
        Passed {
            connections: number("gristmill_gateway_connections"),
            passages: number("gristmill_gateway_passages_total"),
            refused: number("gristmill_gateway_refused_total"),
            bytes: number("gristmill_gateway_bytes_total"),
        }
    }

    #[track_caller]
    fn metrics(&self) -> String {
        let address = std::fs::read_to_string(self.path("master/http-address")).expect("an address");
        let token = self.secret_file().map(|file| Secret::read(&file).expect("the secret").http_token());
        let mut stream = TcpStream::connect(address.trim()).expect("it listens");
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\n\r\n")
            .expect("a request");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("an answer");
        page
    }
}
