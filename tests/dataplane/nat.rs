// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masquerading: there and back, every protocol in both families.

use std::net::SocketAddr;

use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId};
use lb_agent::health::{DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

use crate::frames::{CLIENT_MAC, DIRECTOR_MAC};
use crate::lab::{Lab, server_mac};
use crate::packets::{Packet, read};

const FAMILIES: [[&str; 3]; 2] = [
    ["192.0.2.9:40000", "198.51.100.1:80", "10.1.0.1:8080"],
    ["[2001:db8::9]:40000", "[2001:db8::1]:80", "[fd00::1]:8080"],
];

/// What opens a connection, what answers it, and what goes on.
const DIALOGUES: [(Protocol, [&str; 3]); 3] = [
    (Protocol::Tcp, ["S", "SA", "A"]),
    (Protocol::Udp, ["", "", ""]),
    (Protocol::Sctp, ["1", "2", "10"]),
];

fn nat(protocol: Protocol, virt: SocketAddr, server: SocketAddr) -> DesiredService {
    let id = ServiceId {
        addr: virt.ip(),
        port: virt.port(),
        protocol,
    };
    let server = DesiredServer::new(server, ForwardMethod::Nat, 1);
    DesiredService::new(id, Scheduler::Rr, vec![server])
}

#[test]
fn packets_are_translated_there_and_back() {
    for ends in FAMILIES {
        let [client, virt, server] = ends.map(|end| end.parse::<SocketAddr>().unwrap());
        for (protocol, [open, answer, go_on]) in DIALOGUES {
            let mut lab = Lab::with_services(vec![nat(protocol, virt, server)]);
            let there = Packet::new(protocol, client, virt, open);
            let back = there.answer(server, answer, server_mac(1));
            for packet in [open, go_on].map(|what| Packet {
                what,
                ..there.clone()
            }) {
                let (verdict, after) = lab.send(&packet.frame());
                assert_eq!(verdict, Verdict::Transmit, "{packet:?}");
                assert_eq!(after[..6], server_mac(1));
                let expected = Packet {
                    to: server,
                    ttl: 63,
                    src_mac: DIRECTOR_MAC,
                    ..packet.clone()
                };
                assert_eq!(read(&after, &packet), expected);

                let (verdict, after) = lab.send(&back.frame());
                assert_eq!(verdict, Verdict::Transmit, "{back:?}");
                assert_eq!(after[..6], CLIENT_MAC, "back where it came from");
                let expected = Packet {
                    from: virt,
                    ttl: 63,
                    src_mac: DIRECTOR_MAC,
                    ..back.clone()
                };
                assert_eq!(read(&after, &back), expected);
            }
        }
    }
}

/// The key of an empty slot is that of address and ports 0: every slot of the line seems to fit.
#[test]
fn what_a_server_says_to_nobody_belongs_to_no_connection() {
    for ends in FAMILIES {
        let [_, virt, server] = ends.map(|end| end.parse::<SocketAddr>().unwrap());
        let mut nobody = virt;
        nobody.set_port(0);
        nobody.set_ip(if virt.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        });
        for (protocol, [_, answer, _]) in DIALOGUES {
            let mut lab = Lab::with_services(vec![nat(protocol, virt, server)]);
            let from = SocketAddr::new(server.ip(), 0);
            let packet = Packet::new(protocol, from, nobody, answer);
            let verdict = lab.send(&packet.frame()).0;
            assert_eq!(verdict, Verdict::PassNoService, "{packet:?}");
        }
    }
}

#[test]
fn what_a_server_says_of_its_own_accord_is_not_touched() {
    let [client, virt, server] = FAMILIES[0].map(|end| end.parse::<SocketAddr>().unwrap());
    let mut lab = Lab::with_services(vec![nat(Protocol::Tcp, virt, server)]);
    let packet = Packet::new(Protocol::Tcp, server, client, "S");
    assert_eq!(lab.send(&packet.frame()).0, Verdict::PassNoService);
}

#[test]
fn both_sides_move_the_connection_on() {
    let [client, virt, server] = FAMILIES[0].map(|end| end.parse::<SocketAddr>().unwrap());
    let mut lab = Lab::with_services(vec![nat(Protocol::Tcp, virt, server)]);
    let there = Packet::new(Protocol::Tcp, client, virt, "S");
    let mut send = |packet: &Packet, what, counts| {
        let frame = Packet {
            what,
            ..packet.clone()
        }
        .frame();
        assert_eq!(lab.send(&frame).0, Verdict::Transmit);
        assert_eq!(lab.counted(), counts, "after {what} from {}", packet.from);
    };
    let back = there.answer(server, "SA", server_mac(1));
    send(&there, "S", (1, 0));
    send(&back, "SA", (1, 0));
    send(&there, "A", (1, 0));
    send(&back, "FA", (0, 1));
    send(&there, "FA", (0, 1));
    send(&back, "A", (0, 1));
    // The same port again: one connection, scheduled anew.
    send(&there, "S", (1, 0));
}

#[test]
fn no_udp_checksum_stays_none() {
    let [client, virt, server] = FAMILIES[0].map(|end| end.parse::<SocketAddr>().unwrap());
    let mut lab = Lab::with_services(vec![nat(Protocol::Udp, virt, server)]);
    let mut frame = Packet::new(Protocol::Udp, client, virt, "").frame();
    frame[40..42].fill(0);
    let (verdict, after) = lab.send(&frame);
    assert_eq!(verdict, Verdict::Transmit);
    assert_eq!(after[40..42], [0, 0]);
}

#[test]
fn last_hop_is_not_forwarded() {
    let [client, virt, server] = FAMILIES[1].map(|end| end.parse::<SocketAddr>().unwrap());
    let mut lab = Lab::with_services(vec![nat(Protocol::Tcp, virt, server)]);
    let packet = Packet {
        ttl: 1,
        ..Packet::new(Protocol::Tcp, client, virt, "S")
    };
    assert_eq!(lab.send(&packet.frame()).0, Verdict::DropTtlExpired);
}
