//! The limits of a worker's bulk server: how many at once, and how long for whom.

use std::time::Duration;

/// Limits of a [`super::BulkServer`]. The defaults are for a real cluster.
#[derive(Clone, Debug)]
pub struct BulkOptions {
    /// Connections open at once; more are told BUSY and closed. Each is a thread of its own.
    pub connections_max: u32,
    /// Of them from one address: nobody takes all.
    pub peer_connections_max: u32,
    /// Blocks written and read at once; a request for more is answered with BUSY.
    pub transfers_max: u32,
    /// From the start of a connection to its first request.
    pub first_frame_timeout: Duration,
    /// Between the requests of a connection.
    pub idle_timeout: Duration,
    /// From the first byte of a frame to the last of its body.
    pub frame_timeout: Duration,
    /// Between two packets of a writer, which may have nothing to say for long and still be well: one whose machine
    /// is gone is found by TCP's keep-alive, one that lost its lease is fenced. After this it must open the block again.
    pub writer_idle_timeout: Duration,
    /// For a peer to take what is sent to it: a reader in the middle of its own work, above all.
    pub send_timeout: Duration,
    /// For the TCP connection to the next worker of a pipeline.
    pub connect_timeout: Duration,
    /// For the rest of a pipeline to be ready, for each worker of the rest.
    pub open_timeout: Duration,
    /// For the last worker of a pipeline to acknowledge a packet.
    pub ack_timeout: Duration,
    /// For each worker before the last more: so the one next to a silent worker speaks first, and blames the right one.
    pub ack_margin: Duration,
    /// Replicas copied to other workers at once, by order of the master.
    pub copies_max: u32,
    /// For all copies together; 0: no limit.
    pub copy_bytes_per_s: u64,
}

impl Default for BulkOptions {
    fn default() -> BulkOptions {
        BulkOptions {
            connections_max: 512,
            peer_connections_max: 384,
            transfers_max: 256,
            first_frame_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            frame_timeout: Duration::from_secs(30),
            writer_idle_timeout: Duration::from_secs(3600),
            send_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            open_timeout: Duration::from_secs(7),
            ack_timeout: Duration::from_secs(10),
            ack_margin: Duration::from_secs(2),
            copies_max: 2,
            copy_bytes_per_s: 0,
        }
    }
}

impl BulkOptions {
    /// How long the first of `hops` workers may take to have all of them ready. A client's own time-out for a
    /// pipeline of `hops` workers should be longer.
    pub fn pipeline_open_timeout(&self, hops: usize) -> Duration {
        self.open_timeout * hops.max(1) as u32
    }

    /// How long the first of `hops` workers may take to acknowledge a packet for all of them. A client's own time-out
    /// should be longer.
    pub fn pipeline_ack_timeout(&self, hops: usize) -> Duration {
        self.ack_timeout + self.ack_margin * hops.saturating_sub(1) as u32
    }
}
