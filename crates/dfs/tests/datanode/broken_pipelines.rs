//! Pipelines that break at each place and at each time: what was acked is there, and the right worker is blamed.

use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::messages::Hop;
use gristmill_proto::messages::Packet;
use gristmill_proto::messages::bulk_failure::Kind;

use super::client::{Blame, BlockWriter, rebuild, write_block};
use super::cluster::{Cluster, Worker, content, eventually};
use super::proxy::{Fault, Proxy, Stopped};

const CHUNK: usize = 16 << 10;
/// Packets of these tests: two chunks and eight bytes of sums, and a head of about fifty.
const PACKET: usize = 2 * CHUNK;

/// Writes ten packets to three workers with a fault between two of them. Then goes on with the others under a new
/// generation, from what was acked, and looks whether everything is there.
fn survive(broken_link: usize, forth: Fault, back: Fault) -> Blame {
    let cluster = Cluster::new();
    let workers: [Worker; 3] = cluster.workers();
    let proxy = Proxy::start(workers[broken_link].address(), forth, back);
    let mut hops = [workers[1].hop(), workers[2].hop()];
    hops[broken_link - 1].address = proxy.address();
    let data = content(10 * PACKET - 100);

    let opened = BlockWriter::open(&cluster, &workers[0], write_block(1, 1, &hops));
    let (acked, blame) = match opened {
        Ok(mut writer) => {
            let (acked, blame) = writer.write(0, &data, PACKET, true);
            (acked, blame.expect("it breaks"))
        }
        Err(blame) => (0, blame),
    };
    assert!(proxy.fired(), "the fault never happened");
    let all = || workers.iter().filter(|worker| worker.replica(1).is_some());
    for worker in all() {
        let (_, bytes) = worker.replica(1).expect("it is there");
        assert!(
            bytes.len() as u64 >= acked && data.starts_with(&bytes),
            "{}: {} bytes",
            worker.id,
            bytes.len()
        );
    }
    if blame.0 == Kind::Hop {
        assert_eq!(blame.1, workers[broken_link].id.0, "the one behind the broken link");
    }

    // Those that have something go on without the one that is blamed.
    let living: Vec<&Worker> = all().filter(|worker| worker.id.0 != blame.1).collect();
    if let [first, rest @ ..] = &living[..] {
        let next: Vec<Hop> = rest.iter().map(|worker| worker.hop()).collect();
        let again = BlockWriter::open(&cluster, first, rebuild(1, 1, 2, acked, &next));
        let mut again = again.expect("a pipeline");
        let from = acked as usize / CHUNK * CHUNK;
        let (end, blame) = again.write(from as u64, &data[from..], PACKET, true);
        assert_eq!((end, blame), (data.len() as u64, None));
        for worker in &living {
            assert_eq!(worker.replica(1), Some((Generation(2), data.clone())), "{}", worker.id);
        }
    } else {
        assert_eq!(acked, 0);
    }
    blame
}

#[test]
fn a_link_is_cut_anywhere() {
    // Before the request, in it, in the first packets and between them, before the last, in the last.
    let places = [0, 20, 150, 400, 5_000, 33_000, 33_100, 200_000, 280_000, 296_500, 300_000, 328_000];
    for link in [1, 2] {
        for place in places {
            assert_eq!(
                survive(link, Fault::Cut(place), Fault::None).0,
                Kind::Hop,
                "link {link}, byte {place}"
            );
        }
    }
}

#[test]
fn acks_are_lost() {
    // The reply, the first acks, later ones, the last: heads of 28 bytes and headers of none to two.
    for link in [1, 2] {
        for place in [0, 10, 40, 70, 100, 200, 280, 300] {
            let blame = survive(link, Fault::None, Fault::Cut(place));
            assert_eq!(blame.0, Kind::Hop, "link {link}, byte {place} back");
        }
    }
}

#[test]
fn a_link_goes_silent() {
    for link in [1, 2] {
        assert_eq!(survive(link, Fault::Swallow(100_000), Fault::None).0, Kind::Hop);
        assert_eq!(survive(link, Fault::None, Fault::Swallow(100)).0, Kind::Hop);
    }
}

#[test]
fn a_bit_flips_on_the_wire() {
    // In data: the worker behind the link sees it, and says so itself.
    for link in [1, 2] {
        let blame = survive(link, Fault::Flip(50_000), Fault::None);
        assert_eq!(blame, (Kind::Corrupt, link as u64 + 1));
    }
    // In the sums, which come before the data.
    assert_eq!(survive(1, Fault::Flip(250), Fault::None).0, Kind::Corrupt);
    // In the head of the request, and in that of the reply: what comes after is not looked at.
    assert_eq!(survive(1, Fault::Flip(20), Fault::None), (Kind::Protocol, 2));
    assert_eq!(survive(2, Fault::None, Fault::Flip(10)), (Kind::Hop, 3));
}

#[test]
fn a_worker_stops_in_the_middle() {
    // It takes the connection and nothing more: as after SIGSTOP.
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let stopped = Stopped::start();
    let third = Hop { worker: 3, address: stopped.address.clone() };
    let opened = BlockWriter::open(&cluster, &first, write_block(1, 1, &[second.hop(), third]));
    assert_eq!(opened.err(), Some((Kind::Hop, 3)), "the one that is silent, not the one before");
    assert!(stopped.was_called());
}

#[test]
fn nobody_listens_at_the_next_address() {
    let cluster = Cluster::new();
    let first = cluster.worker(1);
    for address in ["127.0.0.1:1", "no such host.invalid:1", "nonsense"] {
        let hop = Hop { worker: 2, address: address.to_owned() };
        let opened = BlockWriter::open(&cluster, &first, write_block(1, 1, &[hop]));
        assert_eq!(opened.err(), Some((Kind::Hop, 2)), "{address}");
    }
}

#[test]
fn the_writer_vanishes() {
    let cluster = Cluster::new();
    let workers: [Worker; 3] = cluster.workers();
    let write = write_block(1, 1, &[workers[1].hop(), workers[2].hop()]);
    let mut writer = BlockWriter::open(&cluster, &workers[0], write).expect("a pipeline");
    let data = content(3 * PACKET);
    assert_eq!(writer.write(0, &data, PACKET, false), (data.len() as u64, None));
    drop(writer);
    let busy = || workers.iter().map(|worker| worker.server.transfers()).sum::<u32>();
    eventually("all let the block go", || busy() == 0);
    for worker in &workers {
        assert_eq!(worker.replica(1), Some((Generation(1), data.clone())), "acked bytes stay");
        assert_eq!(worker.finished(1), None);
        let stopped = worker.store.stop_writer(BlockId(1), Generation(2)).expect("a disk");
        assert_eq!(stopped.map(|stopped| stopped.bytes), Some(data.len() as u64));
    }
}

#[test]
fn a_worker_that_is_fenced_in_the_middle_says_so() {
    let cluster = Cluster::new();
    let workers: [Worker; 2] = cluster.workers();
    for (index, fenced) in workers.iter().enumerate() {
        let block = index as u64 + 1;
        let write = write_block(block, 1, &[workers[1].hop()]);
        let mut writer = BlockWriter::open(&cluster, &workers[0], write).expect("a pipeline");
        let data = content(PACKET);
        assert_eq!(writer.write(0, &data, PACKET, false), (data.len() as u64, None));
        fenced.store.stop_writer(BlockId(block), Generation(2)).expect("a disk").expect("a replica");
        let (_, blame) = writer.write(data.len() as u64, &data, PACKET, false);
        assert_eq!(blame, Some((Kind::StaleGeneration, fenced.id.0)));
        // Nothing came after the fence.
        assert_eq!(fenced.replica(block).expect("it is there").1, data);
        assert_eq!(writer.client.ack(), None, "the connection is over");
    }
}

#[test]
fn packets_out_of_step_are_refused() {
    let cluster = Cluster::new();
    let [first, second] = cluster.workers();
    let data = content(PACKET);
    let good = Packet { sequence: 0, offset: 0, bytes: data.len() as u32, last: false, sync: false };
    let bad = [
        Packet { sequence: 2, offset: PACKET as u64, ..good },
        Packet { sequence: 1, offset: 2 * PACKET as u64, ..good },
        Packet { sequence: 1, offset: 1 << 63, ..good },
        Packet { sequence: 1, offset: u64::MAX - CHUNK as u64 + 1, ..good },
        Packet { sequence: 1, offset: 5, ..good },
        Packet { sequence: 1, offset: PACKET as u64, bytes: 1, ..good },
        Packet { sequence: 1, offset: PACKET as u64, bytes: u32::MAX, ..good },
    ];
    for (index, bad) in bad.iter().enumerate() {
        let block = index as u64 + 1;
        let write = write_block(block, 1, &[second.hop()]);
        let mut writer = BlockWriter::open(&cluster, &first, write).expect("a pipeline");
        writer.client.packet(&good, &data).expect("it is sent");
        assert_eq!(writer.client.ack().and_then(|ack| ack.failure), None);
        writer.client.packet(bad, &data).expect("it is sent");
        let ack = writer.client.ack().expect("a refusal");
        assert_eq!(ack.failure.map(|failure| failure.kind()), Some(Kind::Protocol), "{bad:?}");
        assert_eq!(first.replica(block).expect("it is there").1, data, "{bad:?}");
    }
    let mut writer = BlockWriter::open(&cluster, &first, write_block(90, 1, &[])).expect("a pipeline");
    let last = Packet { sequence: u64::MAX, ..good };
    writer.client.packet(&last, &data).expect("it is sent");
    assert!(writer.client.ack().expect("a refusal").failure.is_some());
}
