// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replays what clients did to the real IPVS (`recorded.txt`, see `cargo xtask record-ipvs`) to the
//! packet pipeline: for every arrival the same real server, in order, and at the end the same
//! active and inactive connections, as the table says and as `Load` has counted them. There is no
//! difference that would have to be excused.

#[path = "../dataplane/host.rs"]
#[allow(dead_code, reason = "the packet cases use the rest")]
mod host;

mod events;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

use etherparse::PacketBuilder;
use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, SchedulerFlags, ServiceId};
use lb_agent::dataplane::plan::{NextHopRow, Op, Plan};
use lb_agent::health::{Desired, DesiredServer, DesiredService};
use lb_common::abi::{ConnMeta, Link};
use lb_common::state::tcp;
use lb_common::verdict::Verdict;
use lb_common::wire::Mac;

use events::{ARRIVALS, Event, Kind, VIP, client, events, pack, records, server, title};
use host::HostTables;

const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xd1];
const INGRESS: u32 = 1;

/// One block of the recording.
struct Record {
    /// See [`title`].
    name: String,
    /// The chosen server of each arrival, 0 for none.
    sequence: Vec<u8>,
    /// Active and inactive connections of each server at the end.
    counts: Vec<(u32, u32)>,
}

fn recorded() -> Vec<Record> {
    let text = include_str!("recorded.txt");
    text.split("\n\n")
        .filter(|block| !block.trim().is_empty())
        .map(|block| {
            let mut lines = block.trim().lines();
            let name = lines.next().unwrap().to_owned();
            let sequence = unpack(lines.next().unwrap());
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

/// The other way round of [`pack`].
fn unpack(text: &str) -> Vec<u8> {
    let mut sequence: Vec<u8> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        rest = &rest[1..];
        let mut n = 1;
        if let Some(number) = rest.strip_prefix('(') {
            let (digits, behind) = number.split_once(')').unwrap();
            (n, rest) = (digits.parse().unwrap(), behind);
        }
        sequence.extend(std::iter::repeat_n(first - b'0', n));
    }
    sequence
}

fn scheduler(name: &str) -> Scheduler {
    match name {
        "rr" => Scheduler::Rr,
        "wrr" => Scheduler::Wrr,
        "lc" => Scheduler::Lc,
        "wlc" => Scheduler::Wlc,
        "sed" => Scheduler::Sed,
        "nq" => Scheduler::Nq,
        "sh" => Scheduler::Sh,
        "dh" => Scheduler::Dh,
        "mh" => Scheduler::Mh,
        "fo" => Scheduler::Fo,
        "ovf" => Scheduler::Ovf,
        "lblc" => Scheduler::Lblc,
        "lblcr" => Scheduler::Lblcr,
        other => panic!("{other}"),
    }
}

/// The pipeline with one service, servers added in order.
fn director(record: usize, kind: Kind, weights: &[u32]) -> (HostTables, Plan) {
    let mut tables = HostTables::default();
    // So that no connection has to make room for another.
    tables.shrink(8 * ARRIVALS as u32);
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
        .map(|(n, weight)| DesiredServer {
            upper_threshold: kind.upper,
            ..DesiredServer::new(server(record, n).into(), ForwardMethod::Dr, *weight)
        })
        .collect();
    let id = ServiceId {
        addr: IpAddr::V4(*VIP.ip()),
        port: VIP.port(),
        protocol: Protocol::Tcp,
    };
    let service = DesiredService {
        flags: SchedulerFlags {
            port: kind.flags.contains("port"),
            fallback: kind.flags.contains("fallback"),
        },
        ..DesiredService::new(id, scheduler(kind.scheduler), servers)
    };
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

/// What our pipeline makes of the events.
struct Replayed {
    sequence: Vec<u8>,
    /// Active and inactive connections of each server, by the slots of the table.
    counts: Vec<(u32, u32)>,
    /// The same, as counted in `Load`.
    counted: Vec<(u32, u32)>,
}

fn replay(number: usize, kind: Kind, weights: &[u32]) -> Replayed {
    let (tables, plan) = director(number, kind, weights);
    let mut sequence = Vec::with_capacity(ARRIVALS);
    for event in events() {
        match event {
            Event::Open(n) => {
                let chosen = send(&tables, client(number, n), "S");
                sequence.push(chosen);
                if chosen != 0 {
                    send(&tables, client(number, n), "A");
                }
            }
            Event::Close(n) if sequence[n] == 0 => {}
            Event::Close(n) => drop(send(&tables, client(number, n), "FA")),
        }
    }
    let counts = counts(&tables);
    let service = ServiceId {
        addr: IpAddr::V4(*VIP.ip()),
        port: VIP.port(),
        protocol: Protocol::Tcp,
    };
    let ids: Vec<u32> = plan.servers(service).map(|(_, id)| id).collect();
    let of_table = ids.iter().map(|id| counts.get(id).copied());
    Replayed {
        sequence,
        counts: of_table.map(Option::unwrap_or_default).collect(),
        counted: ids.iter().map(|id| tables.counted(*id)).collect(),
    }
}

#[test]
fn same_servers_in_the_same_order_and_same_counts_as_ipvs() {
    let recorded = recorded();
    assert_eq!(recorded.len(), records().count(), "records are missing");
    let mut differ = Vec::new();
    for (number, (wanted, record)) in records().zip(&recorded).enumerate() {
        let name = title(wanted);
        assert_eq!(record.name, name, "the records are out of date");
        let (kind, weights) = wanted;
        let replayed = replay(number, kind, weights);
        differ.extend(difference(record, &replayed.sequence));
        if record.counts != replayed.counts {
            let Replayed { counts, .. } = &replayed;
            differ.push(format!("{name}: ipvs {:?}, ours {counts:?}", record.counts));
        }
        assert_eq!(replayed.counts, replayed.counted, "{name}: as counted");
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// Names the first arrival that went elsewhere.
fn difference(record: &Record, sequence: &[u8]) -> Option<String> {
    let pairs = record.sequence.iter().zip(sequence);
    let at = pairs.clone().position(|(a, b)| a != b)?;
    let all = pairs.filter(|(a, b)| a != b).count();
    let show = |sequence: &[u8]| pack(&sequence[at.saturating_sub(20)..sequence.len().min(at + 5)]);
    Some(format!(
        "{}: arrival {at} differs, {all} in all\n ipvs …{}\n ours …{}",
        record.name,
        show(&record.sequence),
        show(sequence)
    ))
}

/// Whoever has been chosen too often shows in a sequence that was packed and unpacked.
#[test]
fn sequences_go_there_and_back() {
    let sequence = [1, 2, 2, 3, 3, 3, 0, 0, 0, 0, 0, 1, 1, 1, 1];
    assert_eq!(pack(&sequence), "1223330(5)1(4)");
    assert_eq!(unpack(&pack(&sequence)), sequence);
}
