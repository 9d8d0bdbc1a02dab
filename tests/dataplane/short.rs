// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way: what goes it is treated as on the long one, to the last byte, counter and word of
//! the connection table; and what is none of its business leaves it with nothing written.

use std::net::SocketAddr;

use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId, Tunnel};
use lb_agent::dataplane::plan::NextHopRow;
use lb_agent::health::{DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

use crate::frames::DIRECTOR_MAC;
use crate::host::TICK_NS;
use crate::lab::{INGRESS, Lab, last_octet, server_mac};
use crate::packets::Packet;

/// A client, a virtual address, a real server.
const FAMILIES: [[&str; 3]; 2] = [
    ["192.0.2.9:40000", "198.51.100.1:80", "10.1.0.1:8080"],
    ["[2001:db8::9]:40000", "[2001:db8::1]:80", "[fd00::1]:8080"],
];
const METHODS: [ForwardMethod; 4] = [
    ForwardMethod::Dr,
    ForwardMethod::Nat,
    ForwardMethod::Tun(Tunnel::Ipip),
    ForwardMethod::Tun(Tunnel::Gre { checksum: true }),
];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Where the IP header begins.
const IP: usize = 14;

fn ends(family: [&str; 3]) -> [SocketAddr; 3] {
    family.map(|end| end.parse().unwrap())
}

fn services(method: ForwardMethod, virt: SocketAddr, server: SocketAddr) -> Vec<DesiredService> {
    let service = |protocol| {
        let (addr, port) = (virt.ip(), virt.port());
        let id = ServiceId {
            addr,
            port,
            protocol,
        };
        let server = DesiredServer::new(server, method, 1);
        DesiredService::new(id, Scheduler::Rr, vec![server])
    };
    PROTOCOLS.map(service).to_vec()
}

fn lab(method: ForwardMethod, family: [&str; 3]) -> Lab {
    let [_, virt, server] = ends(family);
    routed(Lab::in_frozen_time(services(method, virt, server)))
}

/// The same without the kernel.
fn on_the_host(method: ForwardMethod, family: [&str; 3]) -> Lab {
    let [_, virt, server] = ends(family);
    routed(Lab::serving_on_the_host(services(method, virt, server)))
}

fn routed(mut lab: Lab) -> Lab {
    lab.route(|addr| {
        let source = if addr.is_ipv4() {
            "10.1.0.254"
        } else {
            "fd00::fe"
        };
        Some(NextHopRow {
            ifindex: INGRESS,
            mac: Some(server_mac(last_octet(addr))),
            from: DIRECTOR_MAC,
            source: Some(source.parse().unwrap()),
            mtu: 1500,
            local: false,
        })
    });
    lab
}

fn packet(protocol: Protocol, family: [&str; 3], what: &'static str) -> Packet {
    let [client, virt, _] = ends(family);
    let packet = Packet::new(protocol, client, virt, what);
    // Long enough for the short way, whatever the protocol.
    let payload = vec![7; 20];
    Packet { payload, ..packet }
}

/// Packets of a connection that go on with it: like the others, with the last hop used up, and too
/// big for a tunnel.
fn going_on(protocol: Protocol, family: [&str; 3]) -> [Vec<u8>; 4] {
    let like = packet(protocol, family, "A");
    let last_hop = Packet {
        ttl: 1,
        ..like.clone()
    };
    let long = Packet {
        payload: vec![7; 1500 - 40],
        ..like.clone()
    };
    let mut padded = like.frame();
    padded.extend([0; 6]);
    [like.frame(), last_hop.frame(), long.frame(), padded]
}

#[test]
fn both_ways_do_the_same() {
    for family in FAMILIES {
        for method in METHODS {
            let mut kernel = lab(method, family);
            let (short, long) = (on_the_host(method, family), on_the_host(method, family));
            for protocol in PROTOCOLS {
                let at = |tick: u64| {
                    short.host.now_ns.set(tick * TICK_NS);
                    long.host.now_ns.set(tick * TICK_NS);
                };
                at(0);
                let open = packet(protocol, family, "S").frame();
                assert_eq!(kernel.send(&open).0, Verdict::Transmit);
                let opened = short.host.long(&open, INGRESS);
                assert_eq!(opened, long.host.long(&open, INGRESS));
                // The first of them ends the handshake; later ones come in the same tick or in another.
                for tick in [0, 0, 3] {
                    at(tick);
                    for frame in going_on(protocol, family) {
                        let expected = long.host.long(&frame, INGRESS);
                        let what = format!("{method:?} {protocol:?} {:?}", expected.0);
                        let seen = short.host.short(&frame, INGRESS);
                        assert_eq!(seen.as_ref(), Some(&expected), "{what}");
                        assert_eq!(short.host.written(), long.host.written(), "{what}");
                        assert_eq!(kernel.send(&frame), expected, "{what}");
                    }
                }
            }
            kernel.assert_same_counters();
        }
    }
}

type Case = (&'static str, Vec<u8>, Verdict);

/// TCP packets of a connection that are not for the short way.
fn elsewhere(family: [&str; 3]) -> Vec<Case> {
    let tcp = |what| packet(Protocol::Tcp, family, what).frame();
    let (tagged, mut damaged) = (tag(&tcp("A")), tcp("A"));
    damaged.truncate(damaged.len() - 21);
    let mut cases = vec![
        ("VLAN tag", tagged, Verdict::Transmit),
        ("shorter than it says", damaged, Verdict::DropMalformedIp),
        ("SYN again", tcp("S"), Verdict::Transmit),
    ];
    if family == FAMILIES[0] {
        let mut fragment = tcp("A");
        fragment[IP + 6] = 0x20;
        cases.push(("options", options(&tcp("A")), Verdict::Transmit));
        // The first of a datagram, which goes where the connection does.
        let fragment = with_checksum(fragment);
        cases.push(("first fragment", fragment, Verdict::Transmit));
    } else {
        cases.push((
            "destination options",
            extended(&tcp("A")),
            Verdict::Transmit,
        ));
    }
    cases.push(("FIN", tcp("FA"), Verdict::Transmit));
    cases.push(("RST", tcp("R"), Verdict::Transmit));
    cases
}

fn tag(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.splice(12..12, [0x81, 0, 0, 100]);
    frame
}

/// With a router alert (RFC 2113).
fn options(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.splice(IP + 20..IP + 20, [0x94, 0x04, 0, 0]);
    frame[IP] = 0x46;
    let len = u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]) + 4;
    frame[IP + 2..IP + 4].copy_from_slice(&len.to_be_bytes());
    with_checksum(frame)
}

fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    let end = IP + usize::from(frame[IP] & 15) * 4;
    frame[IP + 10..IP + 12].fill(0);
    let check = lb_common::csum::finish(lb_common::csum::sum(&frame[IP..end], 0));
    frame[IP + 10..IP + 12].copy_from_slice(&check.to_ne_bytes());
    frame
}

/// With destination options that say nothing.
fn extended(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let proto = std::mem::replace(&mut frame[IP + 6], 60);
    frame.splice(IP + 40..IP + 40, [proto, 0, 1, 4, 0, 0, 0, 0]);
    let len = u16::from_be_bytes([frame[IP + 4], frame[IP + 5]]) + 8;
    frame[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
    frame
}

#[test]
fn what_it_is_not_made_for_leaves_it_with_nothing_written() {
    for family in FAMILIES {
        for method in [ForwardMethod::Dr, ForwardMethod::Nat] {
            let mut lab = lab(method, family);
            for what in ["S", "A"] {
                lab.forward(&packet(Protocol::Tcp, family, what).frame());
            }
            for (what, frame, verdict) in elsewhere(family) {
                let before = lab.host.written();
                assert_eq!(lab.host.short(&frame, INGRESS), None, "{what}");
                assert_eq!(lab.host.written(), before, "{what}");
                assert_eq!(lab.send(&frame).0, verdict, "{what}");
            }
        }
    }
}

#[test]
fn a_removed_server_and_an_old_connection_are_for_the_long_way() {
    for family in FAMILIES {
        let [_, virt, server] = ends(family);
        let (mut lab, tcp) = (lab(ForwardMethod::Dr, family), |what| {
            packet(Protocol::Tcp, family, what).frame()
        });
        lab.forward(&tcp("S"));
        lab.forward(&tcp("A"));
        let aside = lab.host.written();
        lab.host.now_ns.set(900_000_000_000 + TICK_NS);
        assert_eq!(lab.host.short(&tcp("A"), INGRESS), None, "too old");
        assert_eq!(lab.host.written(), aside);
        let expected = Verdict::PassNoConnection;
        assert_eq!(lab.host.run(&tcp("A"), INGRESS).0, expected);
        lab.host.now_ns.set(0);

        let other = SocketAddr::new(server.ip(), server.port() + 1);
        let wanted = lb_agent::health::Desired {
            services: services(ForwardMethod::Dr, virt, other),
        };
        lab.apply(&wanted);
        assert_eq!(lab.host.short(&tcp("A"), INGRESS), None, "server gone");
        assert_eq!(lab.host.written(), aside);
        assert_eq!(lab.send(&tcp("A")).0, Verdict::DropDestGone);
    }
}

#[test]
fn what_is_none_of_ours_and_whom_nobody_attends() {
    let family = FAMILIES[0];
    let mut lab = lab(ForwardMethod::Dr, family);
    let [client, virt, _] = ends(family);
    let other = SocketAddr::new("203.0.113.77".parse().unwrap(), virt.port());
    let strange = Packet {
        payload: vec![7; 20],
        ..Packet::new(Protocol::Tcp, client, other, "A")
    };
    let frame = strange.frame();
    let there = (Verdict::PassNoService, frame.clone());
    assert_eq!(lab.host.short(&frame, INGRESS), Some(there));
    assert_eq!(lab.send(&frame).0, Verdict::PassNoService);
    for what in ["S", "A"] {
        lab.forward(&packet(Protocol::Tcp, family, what).frame());
    }
    lab.host.settings.watchdog = 50;
    let ack = packet(Protocol::Tcp, family, "A").frame();
    lab.host.now_ns.set(51 * TICK_NS);
    assert_eq!(lab.host.short(&ack, INGRESS), None);
    assert_eq!(lab.host.run(&ack, INGRESS).0, Verdict::PassUnattended);
}
