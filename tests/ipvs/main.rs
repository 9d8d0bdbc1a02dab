// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replays what clients did to the real IPVS (`recorded.txt`, see `cargo xtask record-ipvs`) to the
//! packet pipeline: for every arrival the same real server, in order, and at the end the same
//! active and inactive connections. Records of schedulers that xlvs does not have yet wait.

#[path = "../dataplane/host.rs"]
#[allow(dead_code, reason = "the packet cases use the rest")]
mod host;

mod events;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

use etherparse::PacketBuilder;
use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId};
use lb_agent::dataplane::plan::{NextHopRow, Op, Plan};
use lb_agent::health::{Desired, DesiredServer, DesiredService};
use lb_common::abi::{ConnMeta, Link};
use lb_common::state::tcp;
use lb_common::verdict::Verdict;
use lb_common::wire::Mac;

use events::{ARRIVALS, Event, SCHEDULERS, VIP, WEIGHTS, client, events, server};
use host::HostTables;

const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xd1];
const INGRESS: u32 = 1;

/// One block of the recording.
struct Record {
    /// `SCHEDULER WEIGHTS`.
    name: String,
    /// The chosen server of each arrival, `0` for none.
    sequence: String,
    /// Active and inactive connections of each server at the end.
    counts: Vec<(u32, u32)>,
}

fn records() -> Vec<Record> {
    let text = include_str!("recorded.txt");
    text.split("\n\n")
        .filter(|block| !block.trim().is_empty())
        .map(|block| {
            let mut lines = block.trim().lines();
            let name = lines.next().unwrap().to_owned();
            let sequence = lines.next().unwrap().to_owned();
            let counts = lines
                .map(|line| {
                    let words: Vec<u32> =
                        line.split(' ').map(|word| word.parse().unwrap()).collect();
                    (words[1], words[2])
                })
                .collect();
            Record {
                name,
                sequence,
                counts,
            }
        })
        .collect()
}

/// The pipeline with one service, servers added in order.
fn director(record: usize, scheduler: Scheduler, weights: &[u32]) -> (HostTables, Plan) {
    let mut tables = HostTables::default();
    let row = Link {
        mac: Mac::new(DIRECTOR_MAC),
        known: 1,
        zero: 0,
    };
    tables.perform(&Op::PutLink {
        ifindex: INGRESS,
        row,
    });
    let servers = (1..)
        .zip(weights)
        .map(|(n, weight)| DesiredServer::new(server(record, n).into(), ForwardMethod::Dr, *weight))
        .collect();
    let id = ServiceId {
        addr: IpAddr::V4(*VIP.ip()),
        port: VIP.port(),
        protocol: Protocol::Tcp,
    };
    let service = DesiredService::new(id, scheduler, servers);
    let mut plan = Plan::default();
    let ops = plan
        .apply(
            &Desired {
                services: vec![service],
            },
            Duration::ZERO,
        )
        .unwrap();
    let hops = plan.route(|addr| {
        let IpAddr::V4(addr) = addr else { return None };
        let mac = [2, 0, 0, 0, 1, addr.octets()[3]];
        Some(NextHopRow {
            ifindex: INGRESS,
            mac: Some(mac),
            from: DIRECTOR_MAC,
            ..NextHopRow::default()
        })
    });
    ops.iter().chain(&hops).for_each(|op| tables.perform(op));
    (tables, plan)
}

/// Sends a segment; the number of the server that gets it, 0 for none.
fn send(tables: &HostTables, from: SocketAddrV4, flags: &str) -> u8 {
    let mut tcp = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0xc1], DIRECTOR_MAC)
        .ipv4(from.ip().octets(), VIP.ip().octets(), 64)
        .tcp(from.port(), VIP.port(), 1000, 4096);
    for flag in flags.chars() {
        tcp = match flag {
            'S' => tcp.syn(),
            'A' => tcp.ack(1),
            'F' => tcp.fin(),
            _ => tcp.rst(),
        };
    }
    let mut frame = Vec::new();
    tcp.write(&mut frame, &[]).unwrap();
    match tables.run(&frame, INGRESS) {
        (Verdict::Transmit, after) => after[5],
        (Verdict::PassNoDest | Verdict::PassNoConnection, _) => 0,
        (other, _) => panic!("{other:?}"),
    }
}

/// Active and inactive connections by row of `DESTS`.
fn counts(tables: &HostTables) -> BTreeMap<u32, (u32, u32)> {
    let mut counts: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for (word, _) in tables.slots().filter(|(word, _)| *word != 0) {
        let conn = ConnMeta::unpack(word);
        let (active, inactive) = counts.entry(conn.dest as u32).or_default();
        match conn.state {
            tcp::ESTABLISHED | tcp::SYN_RECV => *active += 1,
            _ => *inactive += 1,
        }
    }
    counts
}

/// Plays all events; the record that our pipeline makes.
fn replay(number: usize, scheduler: Scheduler, weights: &[u32]) -> (String, Vec<(u32, u32)>) {
    let (tables, plan) = director(number, scheduler, weights);
    let mut sequence = String::with_capacity(ARRIVALS);
    for event in events() {
        match event {
            Event::Open(n) => {
                let chosen = send(&tables, client(number, n), "S");
                sequence.push(char::from(b'0' + chosen));
                if chosen != 0 {
                    send(&tables, client(number, n), "A");
                }
            }
            Event::Close(n) => drop(send(&tables, client(number, n), "FA")),
            Event::Reset(n) => drop(send(&tables, client(number, n), "R")),
        }
    }
    let counts = counts(&tables);
    let service = ServiceId {
        addr: IpAddr::V4(*VIP.ip()),
        port: VIP.port(),
        protocol: Protocol::Tcp,
    };
    let of_servers = plan
        .servers(service)
        .map(|(_, id)| counts.get(&id).copied());
    (
        sequence,
        of_servers.map(Option::unwrap_or_default).collect(),
    )
}

#[test]
fn same_servers_in_the_same_order_and_same_counts_as_ipvs() {
    let done = [("rr", Scheduler::Rr), ("wrr", Scheduler::Wrr)];
    let kinds = SCHEDULERS
        .iter()
        .flat_map(|scheduler| WEIGHTS.map(|weights| (*scheduler, weights)));
    let records = records();
    let mut replayed = 0;
    for (number, ((name, weights), record)) in kinds.zip(&records).enumerate() {
        assert_eq!(
            record.name,
            format!("{name} {weights:?}"),
            "the records are out of date"
        );
        let Some((_, scheduler)) = done.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let (sequence, counts) = replay(number, *scheduler, weights);
        assert_same(record, &sequence);
        assert_eq!(
            counts, record.counts,
            "{}: active and inactive",
            record.name
        );
        replayed += 1;
    }
    assert_eq!(replayed, done.len() * WEIGHTS.len());
}

/// Names the first arrival that went elsewhere.
fn assert_same(record: &Record, sequence: &str) {
    let differs = record
        .sequence
        .bytes()
        .zip(sequence.bytes())
        .position(|(a, b)| a != b);
    if let Some(at) = differs {
        let from = at.saturating_sub(20);
        panic!(
            "{}: arrival {at} differs\n ipvs …{}\n ours …{}",
            record.name,
            &record.sequence[from..=at],
            &sequence[from..=at]
        );
    }
    assert_eq!(record.sequence.len(), sequence.len());
}
