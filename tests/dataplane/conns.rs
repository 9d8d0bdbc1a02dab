// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection table: who is found again, who makes room, and what the agent reads of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use lb_agent::config::model::Protocol;
use lb_common::abi::ConnMeta;
use lb_common::state::{self, tcp};
use lb_common::verdict::Verdict;
use proptest::prelude::*;

use crate::frames::{Segment, udp};
use crate::host::{self, HostTables};
use crate::lab::{INGRESS, Lab, VIP, last_octet, server};

/// Flow number `n`, whose client no other flow shares.
fn frame(n: u32, flags: &'static str) -> Vec<u8> {
    let client = Ipv4Addr::from(0x0a00_0000 + n / 16);
    Segment {
        from: SocketAddrV4::new(client, 40_000 + (n % 16) as u16),
        ..Segment::tcp(0, VIP, flags)
    }
    .frame()
}

fn open(tables: &HostTables, n: u32) {
    assert_eq!(tables.run(&frame(n, "S"), INGRESS).0, Verdict::Transmit);
}

fn acknowledged(tables: &HostTables, n: u32) -> bool {
    tables.run(&frame(n, "A"), INGRESS).0 == Verdict::Transmit
}

#[test]
fn table_three_quarters_full_loses_nothing() {
    let lab = Lab::with_servers(Protocol::Tcp, &[(1, 1), (2, 1)]);
    let flows = host::CAPACITY / 4 * 3;
    (0..flows).for_each(|n| open(&lab.host, n));
    assert!((0..flows).all(|n| acknowledged(&lab.host, n)));
}

/// The slots that hold a connection which is not past its time: key and state.
fn live(tables: &HostTables) -> Vec<(usize, u64, ConnMeta)> {
    let now = (tables.now_ns.get() / host::TICK_NS) as u32;
    let fresh = |meta: ConnMeta| meta.age(now) <= host::timeout_ticks(meta.state);
    tables
        .slots()
        .map(|(meta, key)| (key, ConnMeta::unpack(meta)))
        .enumerate()
        .filter(|(_, (_, meta))| meta.pack() != 0 && fresh(*meta))
        .map(|(at, (key, meta))| (at, key, meta))
        .collect()
}

fn class(state: u8) -> u8 {
    match state {
        tcp::ESTABLISHED => 4,
        state::UDP => 3,
        tcp::SYN_RECV => 2,
        _ => 1,
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Packet(u32, &'static str),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let packet = (
        0u32..200,
        prop::sample::select(vec!["S", "S", "A", "A", "FA", "R"]),
    )
        .prop_map(|(n, flags)| Step::Packet(n, flags));
    let step = prop_oneof![30 => packet, 1 => (1u64..200).prop_map(Step::Wait)];
    prop::collection::vec(step, 1..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// In a table so small that it always overflows: one live slot a flow, and who makes room for a
    /// new flow matters no more than anybody else in the two buckets.
    #[test]
    fn what_matters_least_makes_room(steps in steps()) {
        let mut lab = Lab::on_the_host(Protocol::Tcp, &[(1, 1), (2, 1)]);
        lab.host.shrink(8);
        for step in steps {
            let before = live(&lab.host);
            let (n, flags) = match step {
                Step::Packet(n, flags) => (n, flags),
                Step::Wait(seconds) => {
                    let later = lab.host.now_ns.get() + seconds * 1_000_000_000;
                    lab.host.now_ns.set(later);
                    continue;
                }
            };
            let bytes = frame(n, flags);
            let _any = lab.host.run(&bytes, INGRESS);
            let after = live(&lab.host);
            let keys: BTreeSet<u64> = after.iter().map(|(_, key, _)| *key).collect();
            prop_assert_eq!(keys.len(), after.len(), "two live slots for one flow");
            let gone = |entry: &&(usize, u64, ConnMeta)| !keys.contains(&entry.1);
            let lost: Vec<_> = before.iter().filter(gone).collect();
            prop_assert!(lost.len() <= 1);
            let places = lab.host.places(&bytes);
            for (_, _, victim) in lost {
                let there: Vec<_> = before.iter().filter(|(at, ..)| places.contains(at)).collect();
                prop_assert_eq!(there.len(), places.len(), "a slot was free or expired");
                let least = there.iter().map(|(_, _, meta)| class(meta.state)).min();
                prop_assert_eq!(least, Some(class(victim.state)));
            }
        }
    }
}

#[test]
fn one_client_port_may_talk_to_two_protocols() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    lab.add_servers(Protocol::Udp, &[(2, 1)]);
    lab.route_directly();
    assert_eq!(lab.forward(&Segment::tcp(40000, VIP, "S").frame()), 1);
    assert_eq!(lab.forward(&udp(40000, VIP, b"a")), 2);
    assert_eq!(lab.forward(&Segment::tcp(40000, VIP, "A").frame()), 1);
    assert_eq!(lab.forward(&udp(40000, VIP, b"b")), 2);
}

#[test]
fn agent_lists_and_counts_the_connections() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1), (2, 1)]);
    let mut expected = BTreeSet::new();
    for (port, more, state) in [
        (40_000, &[][..], tcp::SYN_RECV),
        (40_001, &["A"][..], tcp::ESTABLISHED),
        (40_002, &["A", "FA"][..], tcp::FIN_WAIT),
        (40_003, &["A", "R"][..], tcp::CLOSE),
    ] {
        let to = lab.forward(&Segment::tcp(port, VIP, "S").frame());
        for flags in more {
            lab.forward(&Segment::tcp(port, VIP, flags).frame());
        }
        expected.insert((port, to, state));
    }
    let Some(kernel) = lab.kernel() else { return };
    let mut seen = BTreeSet::new();
    for conn in kernel.conns().unwrap() {
        assert_eq!(
            (conn.virt, conn.client.ip()),
            (VIP.into(), IpAddr::from([192, 0, 2, 9]))
        );
        let timeout = Duration::from_secs(state::timeout_secs(conn.state).into());
        assert!(
            conn.remaining <= timeout + Duration::from_secs(2)
                && conn.remaining + Duration::from_secs(30) > timeout
        );
        let n = last_octet(conn.server.ip());
        assert_eq!(conn.server, server(n).into());
        seen.insert((conn.client.port(), n, conn.state));
    }
    assert_eq!(seen, expected);
    let stats = kernel.stats().unwrap();
    let servers = stats.services.iter().flat_map(|service| &service.servers);
    let (active, inactive) = servers.fold((0, 0), |(active, inactive), server| {
        (
            active + server.conns.active,
            inactive + server.conns.inactive,
        )
    });
    assert_eq!((active, inactive), (2, 2));
}
