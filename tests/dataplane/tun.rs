// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tunnels: each kind, either family in either, what the outer header says, and what does not fit.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lb_agent::config::model::{ForwardMethod, GueChecksum, Protocol, Scheduler, ServiceId, Tunnel};
use lb_agent::dataplane::plan::NextHopRow;
use lb_agent::health::{DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

use crate::frames::DIRECTOR_MAC;
use crate::lab::{INGRESS, Lab, last_octet, server_mac};
use crate::packets::{Packet, outer_protocol};

const CLIENTS: [(&str, &str); 2] = [
    ("192.0.2.9:40000", "198.51.100.1:80"),
    ("[2001:db8::9]:40000", "[2001:db8::1]:80"),
];
const SERVERS: [&str; 2] = ["10.1.0.1:80", "[fd00::1]:80"];
const KINDS: [Tunnel; 6] = [
    Tunnel::Ipip,
    Tunnel::Gre { checksum: false },
    Tunnel::Gre { checksum: true },
    gue(GueChecksum::None),
    gue(GueChecksum::Full),
    gue(GueChecksum::Remote),
];

const fn gue(checksum: GueChecksum) -> Tunnel {
    Tunnel::Gue {
        port: 6080,
        checksum,
    }
}

fn local(of: IpAddr) -> IpAddr {
    if of.is_ipv4() {
        "10.1.0.254"
    } else {
        "fd00::fe"
    }
    .parse()
    .unwrap()
}

fn lab(virt: SocketAddr, server: SocketAddr, tunnel: Tunnel) -> Lab {
    let id = ServiceId {
        addr: virt.ip(),
        port: virt.port(),
        protocol: Protocol::Tcp,
    };
    let server = DesiredServer::new(server, ForwardMethod::Tun(tunnel), 1);
    let mut lab = Lab::with_services(vec![DesiredService::new(id, Scheduler::Rr, vec![server])]);
    lab.route(|addr| {
        Some(NextHopRow {
            ifindex: INGRESS,
            mac: Some(server_mac(last_octet(addr))),
            from: DIRECTOR_MAC,
            source: Some(local(addr)),
            mtu: 1500,
            local: false,
        })
    });
    lab
}

/// Length of what stands between the Ethernet header and the inner one.
fn overhead(outer: IpAddr, tunnel: Tunnel) -> usize {
    let between = match tunnel {
        Tunnel::Ipip => 0,
        Tunnel::Gre { checksum } => 4 + 4 * usize::from(checksum),
        Tunnel::Gue { .. } => 12,
    };
    between + if outer.is_ipv4() { 20 } else { 40 }
}

#[test]
fn datagrams_get_an_outer_header() {
    for (client, virt) in CLIENTS {
        let (client, virt): (SocketAddr, SocketAddr) =
            (client.parse().unwrap(), virt.parse().unwrap());
        for server in SERVERS.map(|server| server.parse::<SocketAddr>().unwrap()) {
            for tunnel in KINDS {
                let mut lab = lab(virt, server, tunnel);
                let mut frame = Packet::new(Protocol::Tcp, client, virt, "S").frame();
                class(&mut frame, 0xb9);
                let (verdict, after) = lab.send(&frame);
                assert_eq!(verdict, Verdict::Transmit);
                assert_eq!(after[..6], server_mac(1));
                assert_eq!(after[6..12], DIRECTOR_MAC);
                let inner = &after[14 + overhead(server.ip(), tunnel)..];
                assert_eq!(one_hop_more(inner, client.ip()), frame[14..], "{tunnel:?}");
                assert_outer(&after, server.ip(), inner, tunnel);
            }
        }
    }
}

/// Sets the traffic class of the inner packet.
fn class(frame: &mut [u8], class: u8) {
    if frame[14] >> 4 == 4 {
        frame[15] = class;
        let sum: u32 = (14..34)
            .step_by(2)
            .filter(|at| *at != 24)
            .map(|at| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]])))
            .sum();
        let check = !(((sum & 0xffff) + (sum >> 16)) as u16);
        frame[24..26].copy_from_slice(&check.to_be_bytes());
    } else {
        frame[14] = 0x60 | class >> 4;
        frame[15] = class << 4;
    }
}

fn one_hop_more(inner: &[u8], family: IpAddr) -> Vec<u8> {
    let mut inner = inner.to_vec();
    if family.is_ipv4() {
        inner[8] += 1;
        // RFC 1624 for a word that grew by 0x100.
        let check = u16::from_be_bytes([inner[10], inner[11]]);
        let sum = u32::from(!check) + 0x100;
        let check = !(((sum & 0xffff) + (sum >> 16)) as u16);
        inner[10..12].copy_from_slice(&check.to_be_bytes());
    } else {
        inner[7] += 1;
    }
    inner
}

fn assert_outer(frame: &[u8], server: IpAddr, inner: &[u8], tunnel: Tunnel) {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a well-formed frame");
    let (from, to, ttl, class, payload): (IpAddr, IpAddr, _, _, _) = match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let class = header.dscp.value() << 2 | header.ecn.value();
            let payload = frame[34..14 + usize::from(header.total_len)].to_vec();
            (
                header.source.into(),
                header.destination.into(),
                header.time_to_live,
                class,
                payload,
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            let payload = frame[54..54 + usize::from(header.payload_length)].to_vec();
            (
                header.source.into(),
                header.destination.into(),
                header.hop_limit,
                header.traffic_class,
                payload,
            )
        }
        NetSlice::Arp(_) => panic!("ARP"),
    };
    assert_eq!((from, to, ttl, class), (local(server), server, 63, 0xb9));
    assert_eq!(payload[payload.len() - inner.len()..], *inner);
    let inner_v4 = inner[0] >> 4 == 4;
    match tunnel {
        Tunnel::Ipip => assert_eq!(outer_protocol(frame).0, if inner_v4 { 4 } else { 41 }),
        Tunnel::Gre { checksum } => {
            assert_eq!(outer_protocol(frame).0, 47);
            assert_eq!(payload[0] >> 7 == 1, checksum);
            assert_eq!(payload[2..4], if inner_v4 { [8, 0] } else { [0x86, 0xdd] });
            if checksum {
                assert_eq!(sum(&payload), 0xffff, "GRE checksum");
            }
        }
        Tunnel::Gue { checksum, .. } => {
            let Some(TransportSlice::Udp(udp)) = sliced.transport else {
                panic!("no UDP");
            };
            assert_eq!((udp.destination_port(), udp.source_port() >> 15), (6080, 1));
            assert_eq!(usize::from(udp.length()), payload.len());
            assert_eq!(payload[8..12], [0, if inner_v4 { 4 } else { 41 }, 0, 0]);
            assert_eq!(udp.checksum() == 0, checksum == GueChecksum::None);
            if checksum != GueChecksum::None {
                let header = udp.to_header();
                let right = match (from, to) {
                    (IpAddr::V4(from), IpAddr::V4(to)) => {
                        header.calc_checksum_ipv4_raw(from.octets(), to.octets(), udp.payload())
                    }
                    (IpAddr::V6(from), IpAddr::V6(to)) => {
                        header.calc_checksum_ipv6_raw(from.octets(), to.octets(), udp.payload())
                    }
                    mixed => panic!("{mixed:?}"),
                };
                assert_eq!(header.checksum, right.unwrap());
            }
        }
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The largest datagram that fits, and one byte more.
#[test]
fn what_does_not_fit_is_answered() {
    for (client, virt) in CLIENTS {
        let (client, virt): (SocketAddr, SocketAddr) =
            (client.parse().unwrap(), virt.parse().unwrap());
        for (server, tunnel) in [
            (SERVERS[0], Tunnel::Ipip),
            (SERVERS[1], gue(GueChecksum::None)),
        ] {
            let server: SocketAddr = server.parse().unwrap();
            let mut lab = lab(virt, server, tunnel);
            let headers = if client.is_ipv4() { 40 } else { 60 };
            let room = 1500 - overhead(server.ip(), tunnel);
            let sized = |payload: usize| {
                Packet {
                    payload: vec![7; payload],
                    ..Packet::new(Protocol::Tcp, client, virt, "S")
                }
                .frame()
            };
            let fits = sized(room - headers);
            assert_eq!(lab.send(&fits).0, Verdict::Transmit);
            let too_big = sized(room - headers + 1);
            let (verdict, answer) = lab.send(&too_big);
            assert_eq!(verdict, Verdict::ReplyTooBig);
            assert_too_big(&answer, &too_big, room);
        }
    }
}

fn assert_too_big(answer: &[u8], question: &[u8], room: usize) {
    assert_eq!(
        (&answer[..6], &answer[6..12]),
        (&question[6..12], &question[..6])
    );
    let sliced = SlicedPacket::from_ethernet(answer).expect("a well-formed frame");
    let quoted = match sliced.transport.unwrap() {
        TransportSlice::Icmpv4(icmp) => {
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 4));
            let header = icmp.header();
            assert_eq!(
                header.checksum,
                header.icmp_type.calc_checksum(icmp.payload())
            );
            icmp.payload().to_vec()
        }
        TransportSlice::Icmpv6(icmp) => {
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (2, 0));
            let (from, to) = (
                answer[22..38].try_into().unwrap(),
                answer[38..54].try_into().unwrap(),
            );
            assert!(icmp.is_checksum_valid(from, to));
            icmp.payload().to_vec()
        }
        other => panic!("{other:?}"),
    };
    let at = if question[14] >> 4 == 4 {
        34 + 6
    } else {
        54 + 6
    };
    assert_eq!(
        usize::from(u16::from_be_bytes([answer[at], answer[at + 1]])),
        room
    );
    assert_eq!(quoted, question[14..14 + quoted.len()]);
    assert!(quoted.len() >= 28);
}

#[test]
fn what_may_be_fragmented_is_dropped() {
    let (client, virt) = CLIENTS[0];
    let mut lab = lab(
        virt.parse().unwrap(),
        SERVERS[0].parse().unwrap(),
        Tunnel::Ipip,
    );
    let packet = Packet {
        payload: vec![7; 1450],
        ..Packet::new(
            Protocol::Tcp,
            client.parse().unwrap(),
            virt.parse().unwrap(),
            "S",
        )
    };
    let mut frame = packet.frame();
    // Clears "don't fragment", and makes up for it in the checksum.
    assert_eq!(frame[20], 0x40);
    frame[20] = 0;
    let check = u32::from(u16::from_be_bytes([frame[24], frame[25]])) + 0x4000;
    let check = ((check & 0xffff) + (check >> 16)) as u16;
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    assert_eq!(lab.send(&frame).0, Verdict::DropTooBig);
}
