// SPDX-License-Identifier: MIT OR Apache-2.0
//! ICMP errors about our flows.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, PacketBuilder};
use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId};
use lb_agent::health::{DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

use crate::frames::{CLIENT_MAC, DIRECTOR_MAC};
use crate::host::TICK_NS;
use crate::lab::{INGRESS, Lab, server_mac};
use crate::packets::Packet;

const FAMILIES: [[&str; 3]; 2] = [
    ["192.0.2.9:40000", "198.51.100.1:80", "10.1.0.1:8080"],
    ["[2001:db8::9]:40000", "[2001:db8::1]:80", "[fd00::1]:8080"],
];
const ROUTER: [&str; 2] = ["203.0.113.7", "2001:db8:77::7"];

fn ends(of: [&str; 3]) -> [SocketAddr; 3] {
    of.map(|end| end.parse().unwrap())
}

fn lab(method: ForwardMethod, virt: SocketAddr, server: SocketAddr) -> Lab {
    let id = ServiceId {
        addr: virt.ip(),
        port: virt.port(),
        protocol: Protocol::Udp,
    };
    let server = DesiredServer::new(server, method, 1);
    Lab::with_services(vec![DesiredService::new(id, Scheduler::Rr, vec![server])])
}

/// "Destination unreachable" from `router` about a packet from `from` to `to`, of which 8 bytes of
/// the transport header are quoted.
fn unreachable(router: IpAddr, from: SocketAddr, to: SocketAddr, src_mac: [u8; 6]) -> Vec<u8> {
    let quoted = Packet::new(Protocol::Udp, from, to, "").frame();
    let header = if from.is_ipv4() { 20 } else { 40 };
    error(router, from.ip(), &quoted[14..14 + header + 8], src_mac)
}

fn error(router: IpAddr, to: IpAddr, quoted: &[u8], src_mac: [u8; 6]) -> Vec<u8> {
    let eth = PacketBuilder::ethernet2(src_mac, DIRECTOR_MAC);
    let mut frame = Vec::new();
    match (router, to) {
        (IpAddr::V4(router), IpAddr::V4(to)) => eth
            .ipv4(router.octets(), to.octets(), 60)
            .icmpv4_raw(3, 1, [0; 4])
            .write(&mut frame, quoted),
        (IpAddr::V6(router), IpAddr::V6(to)) => eth
            .ipv6(router.octets(), to.octets(), 60)
            .icmpv6_raw(1, 4, [0; 4])
            .write(&mut frame, quoted),
        mixed => panic!("{mixed:?}"),
    }
    .unwrap();
    frame
}

/// Panics unless this is the error with these ends, quoting a packet with those, all checksums
/// right.
fn assert_error(frame: &[u8], (src, dst): (IpAddr, IpAddr), quoted: (SocketAddr, SocketAddr)) {
    let len = if src.is_ipv4() { 20 } else { 40 };
    let address = |at: usize| -> IpAddr {
        if src.is_ipv4() {
            IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap())
        } else {
            IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap())
        }
    };
    let (size, first) = if src.is_ipv4() { (4, 12) } else { (16, 8) };
    assert_eq!(
        (address(14 + first), address(14 + first + size)),
        (src, dst)
    );
    let message = &frame[14 + len..];
    match (src, dst) {
        (IpAddr::V4(_), _) => {
            let sum = |header: &[u8]| {
                let words = header
                    .chunks(2)
                    .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
                let mut sum: u32 = words.sum();
                while sum > 0xffff {
                    sum = (sum & 0xffff) + (sum >> 16);
                }
                sum
            };
            assert_eq!(sum(&frame[14..34]), 0xffff, "IPv4 checksum");
            assert_eq!(sum(&message[8..28]), 0xffff, "quoted IPv4 checksum");
            let (header, payload) = Icmpv4Header::from_slice(message).unwrap();
            assert!(matches!(
                header.icmp_type,
                Icmpv4Type::DestinationUnreachable(_)
            ));
            assert_eq!(header.checksum, header.icmp_type.calc_checksum(payload));
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (header, payload) = Icmpv6Header::from_slice(message).unwrap();
            assert!(matches!(
                header.icmp_type,
                Icmpv6Type::DestinationUnreachable(_)
            ));
            let right = header
                .icmp_type
                .calc_checksum(src.octets(), dst.octets(), payload)
                .unwrap();
            assert_eq!(header.checksum, right);
        }
        mixed => panic!("{mixed:?}"),
    }
    let quote = 14 + len + 8;
    let ports = quote + len;
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let from = SocketAddr::new(address(quote + first), port(ports));
    let to = SocketAddr::new(address(quote + first + size), port(ports + 2));
    assert_eq!((from, to), quoted);
}

#[test]
fn errors_follow_a_masqueraded_flow_in_both_directions() {
    for (family, router) in FAMILIES.into_iter().zip(ROUTER) {
        let [client, virt, server] = ends(family);
        let router: IpAddr = router.parse().unwrap();
        let mut lab = lab(ForwardMethod::Nat, virt, server);
        let open = Packet::new(Protocol::Udp, client, virt, "").frame();
        assert_eq!(lab.send(&open).0, Verdict::Transmit);

        // About what the virtual address sent to the client.
        let (verdict, after) = lab.send(&unreachable(router, virt, client, CLIENT_MAC));
        assert_eq!(verdict, Verdict::Transmit);
        assert_eq!(after[..6], server_mac(1));
        assert_error(&after, (router, server.ip()), (server, client));

        // About what the client sent to the server.
        let (verdict, after) = lab.send(&unreachable(server.ip(), client, server, server_mac(1)));
        assert_eq!(verdict, Verdict::Transmit);
        assert_eq!(after[..6], CLIENT_MAC);
        assert_error(&after, (virt.ip(), client.ip()), (client, virt));
    }
}

#[test]
fn errors_follow_a_directly_routed_flow_untouched() {
    for (family, router) in FAMILIES.into_iter().zip(ROUTER) {
        let [client, virt, server] = ends(family);
        let router: IpAddr = router.parse().unwrap();
        let mut lab = lab(ForwardMethod::Dr, virt, server);
        let open = Packet::new(Protocol::Udp, client, virt, "").frame();
        assert_eq!(lab.send(&open).0, Verdict::Transmit);
        let error = unreachable(router, virt, client, CLIENT_MAC);
        let (verdict, after) = lab.send(&error);
        assert_eq!(verdict, Verdict::Transmit);
        assert_eq!(after[..6], server_mac(1));
        assert_error(&after, (router, virt.ip()), (virt, client));
    }
}

#[test]
fn other_icmp_is_the_stack_s() {
    for (family, router) in FAMILIES.into_iter().zip(ROUTER) {
        let [client, virt, server] = ends(family);
        let router: IpAddr = router.parse().unwrap();
        let mut lab = lab(ForwardMethod::Dr, virt, server);
        let stranger = unreachable(router, virt, client, CLIENT_MAC);
        assert_eq!(
            lab.send(&stranger).0,
            Verdict::PassOtherProtocol,
            "no such flow"
        );
        let mut echo = Vec::new();
        let eth = PacketBuilder::ethernet2(CLIENT_MAC, DIRECTOR_MAC);
        match (client.ip(), virt.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => eth
                .ipv4(from.octets(), to.octets(), 64)
                .icmpv4_echo_request(1, 1)
                .write(&mut echo, b"abc"),
            (IpAddr::V6(from), IpAddr::V6(to)) => eth
                .ipv6(from.octets(), to.octets(), 64)
                .icmpv6_echo_request(1, 1)
                .write(&mut echo, b"abc"),
            mixed => panic!("{mixed:?}"),
        }
        .unwrap();
        assert_eq!(lab.send(&echo).0, Verdict::PassEcho);
    }
}

#[test]
fn without_the_agent_no_error_is_forwarded_any_more() {
    for (ends_of, router) in FAMILIES.into_iter().zip(ROUTER) {
        let [client, virt, server] = ends(ends_of);
        let mut lab = lab(ForwardMethod::Dr, virt, server);
        lab.host.settings.watchdog = 50;
        let request = Packet::new(Protocol::Udp, client, virt, "").frame();
        let about = unreachable(router.parse().unwrap(), virt, client, CLIENT_MAC);
        lab.host.now_ns.set(50 * TICK_NS);
        for frame in [&request, &about] {
            assert_eq!(lab.host.run(frame, INGRESS).0, Verdict::Transmit);
        }
        lab.host.now_ns.set(51 * TICK_NS);
        assert_eq!(lab.host.run(&about, INGRESS).0, Verdict::PassUnattended);
    }
}
