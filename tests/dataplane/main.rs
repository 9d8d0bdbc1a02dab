// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packet cases, each run twice: by the pipeline on the host and by the loaded program in the
//! kernel (BPF_PROG_TEST_RUN), which must agree on verdict, XDP code, frame and counters.

mod budget;
mod conns;
mod damage;
mod extensions;
mod flood;
mod fragments;
mod frames;
mod host;
mod icmp;
mod lab;
mod nat;
mod oracle;
mod packets;
mod sched;
mod services;
mod short;
mod tun;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use lb_agent::config::model::Protocol;
use lb_agent::dataplane::plan::NextHopRow;
use lb_agent::health::Desired;
use lb_common::verdict::Verdict;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use frames::{DIRECTOR_MAC, Segment, assert_direct_routed, ping, udp};
use lab::{INGRESS, Lab, OTHER, OTHER_MAC, VIP, last_octet, server_mac};

fn syn(port: u16) -> Vec<u8> {
    Segment::tcp(port, VIP, "S").frame()
}

fn ack(port: u16) -> Vec<u8> {
    Segment::tcp(port, VIP, "A").frame()
}

#[test]
fn syn_goes_to_a_real_server_by_direct_routing() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    let frame = syn(40000);
    let (verdict, after) = lab.send(&frame);
    assert_eq!(verdict, Verdict::Transmit);
    assert_direct_routed(&frame, &after, server_mac(1), DIRECTOR_MAC);
}

#[test]
fn server_behind_another_interface_is_redirected() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    lab.route(|_| {
        Some(NextHopRow {
            ifindex: OTHER,
            mac: Some(server_mac(1)),
            from: OTHER_MAC,
            ..NextHopRow::default()
        })
    });
    let frame = syn(40000);
    let (verdict, after) = lab.send(&frame);
    assert_eq!(verdict, Verdict::Redirect);
    assert_direct_routed(&frame, &after, server_mac(1), OTHER_MAC);
}

#[test]
fn wrr_shares_connections_in_the_order_of_ipvs() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 3), (2, 2), (3, 1)]);
    let order: Vec<u8> = (0..12).map(|n| lab.forward(&syn(40000 + n))).collect();
    assert_eq!(order, [3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1]);
    let (service, servers) = lab.traffic(Protocol::Tcp);
    assert_eq!(
        (service.conns, service.in_packets, service.in_bytes),
        (12, 12, 12 * 40)
    );
    let conns: Vec<u64> = servers.values().map(|counts| counts.conns).collect();
    assert_eq!(conns, [6, 4, 2]);
}

#[test]
fn packets_of_a_connection_follow_it() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1), (2, 1), (3, 1)]);
    let chosen: BTreeMap<u16, u8> = (0..9).map(|n| (n, lab.forward(&syn(40000 + n)))).collect();
    for (n, server) in &chosen {
        for flags in ["A", "FA", "A"] {
            let frame = Segment::tcp(40000 + n, VIP, flags).frame();
            assert_eq!(lab.forward(&frame), *server);
        }
    }
    assert_eq!(lab.traffic(Protocol::Tcp).0.conns, 9);
}

#[test]
fn repeated_syn_stays_with_its_server() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1), (2, 1)]);
    let first = lab.forward(&syn(40000));
    assert_eq!(lab.forward(&syn(40000)), first);
    assert_eq!(lab.traffic(Protocol::Tcp).0.conns, 1);
}

#[test]
fn reused_port_of_a_closing_connection_is_scheduled_at_once() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1), (2, 1)]);
    let first = lab.forward(&syn(40000));
    lab.forward(&ack(40000));
    lab.forward(&Segment::tcp(40000, VIP, "FA").frame());
    assert_ne!(lab.forward(&syn(40000)), first);
    assert_eq!(lab.traffic(Protocol::Tcp).0.conns, 2);
}

#[test]
fn weight_0_drains() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1), (2, 1)]);
    let first = lab.forward(&syn(40000));
    let other = 3 - first;
    lab.set_servers(Protocol::Tcp, &[(first, 0), (other, 1)]);
    assert_eq!(lab.forward(&ack(40000)), first, "an old connection goes on");
    for n in 1..9 {
        assert_eq!(lab.forward(&syn(40000 + n)), other, "new ones go elsewhere");
    }
}

#[test]
fn removed_server_loses_its_connections_and_a_new_syn_finds_another() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1), (2, 1)]);
    let first = lab.forward(&syn(40000));
    let other = 3 - first;
    lab.set_servers(Protocol::Tcp, &[(other, 1)]);
    assert_eq!(lab.send(&ack(40000)).0, Verdict::DropDestGone);
    assert_eq!(lab.forward(&syn(40000)), other);
    lab.set_servers(Protocol::Tcp, &[(first, 1), (other, 1)]);
    assert_eq!(lab.forward(&ack(40000)), other);
}

#[test]
fn datagrams_follow_their_flow_and_leave_a_removed_server_at_once() {
    let mut lab = Lab::with_servers(Protocol::Udp, &[(1, 1), (2, 1)]);
    let first = lab.forward(&udp(40000, VIP, b"a"));
    assert_eq!(lab.forward(&udp(40000, VIP, b"b")), first);
    lab.set_servers(Protocol::Udp, &[(3 - first, 1)]);
    lab.route(|addr| {
        Some(NextHopRow {
            ifindex: INGRESS,
            mac: Some(server_mac(last_octet(addr))),
            from: DIRECTOR_MAC,
            ..NextHopRow::default()
        })
    });
    assert_eq!(lab.forward(&udp(40000, VIP, b"c")), 3 - first);
}

#[test]
fn idle_connection_is_forgotten_after_its_timeout() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    lab.host.now_ns.set(1_000);
    assert_eq!(lab.host.run(&syn(40000), INGRESS).0, Verdict::Transmit);
    assert_eq!(lab.host.run(&ack(40000), INGRESS).0, Verdict::Transmit);
    lab.host.now_ns.set(1_000 + 900_000_000_000);
    assert_eq!(lab.host.run(&ack(40000), INGRESS).0, Verdict::Transmit);
    lab.host.now_ns.set(1_800_000_000_000 + host::TICK_NS);
    assert_eq!(
        lab.host.run(&ack(40000), INGRESS).0,
        Verdict::PassNoConnection
    );
    lab.apply(&Desired::default());
}

#[test]
fn vlan_tags_are_looked_through_and_kept() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    for (n, vlans) in [vec![100], vec![200, 300]].into_iter().enumerate() {
        let segment = Segment {
            vlans,
            ..Segment::tcp(40000 + n as u16, VIP, "S")
        };
        let frame = segment.frame();
        let (verdict, after) = lab.send(&frame);
        assert_eq!(verdict, Verdict::Transmit);
        assert_direct_routed(&frame, &after, server_mac(1), DIRECTOR_MAC);
    }
}

#[test]
fn ip_options_and_ethernet_padding_are_no_obstacle() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    // Router alert: header length 24, checksum made anew.
    let mut frame = syn(40000);
    frame.splice(34..34, [0x94, 0x04, 0, 0]);
    frame[14] = 0x46;
    let total = u16::from_be_bytes([frame[16], frame[17]]) + 4;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[24..26].fill(0);
    let check = lb_common::csum::finish(lb_common::csum::sum(&frame[14..38], 0));
    frame[24..26].copy_from_slice(&check.to_ne_bytes());
    assert_eq!(lab.send(&frame).0, Verdict::Transmit);
    let mut padded = syn(40001);
    padded.extend([0; 6]);
    assert_eq!(lab.send(&padded).0, Verdict::Transmit);
    assert_eq!(lab.traffic(Protocol::Tcp).0.in_bytes, 44 + 40);
}

#[test]
fn every_other_packet_has_its_reason_and_is_not_touched() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    for (what, frame, verdict) in unwanted()
        .into_iter()
        .chain(damaged())
        .chain(damaged_transport())
    {
        let (seen, after) = lab.send(&frame);
        assert_eq!(seen, verdict, "{what}");
        assert_eq!(after, frame, "{what}: not to be touched");
    }
}

type Case = (&'static str, Vec<u8>, Verdict);

/// Well-formed packets that are not for a real server.
fn unwanted() -> Vec<Case> {
    let tcp = |port, to, flags| Segment::tcp(port, to, flags);
    let other_port = SocketAddrV4::new(*VIP.ip(), 81);
    vec![
        (
            "ACK of nothing known",
            ack(40000),
            Verdict::PassNoConnection,
        ),
        (
            "RST of nothing known",
            tcp(1, VIP, "R").frame(),
            Verdict::PassNoConnection,
        ),
        (
            "other port",
            tcp(1, other_port, "S").frame(),
            Verdict::PassNoService,
        ),
        ("other protocol", udp(1, VIP, b""), Verdict::PassNoService),
        ("ping", ping(*VIP.ip()), Verdict::PassEcho),
        (
            "TTL 1",
            Segment {
                ttl: 1,
                ..tcp(2, VIP, "S")
            }
            .frame(),
            Verdict::DropTtlExpired,
        ),
        (
            "TTL 0",
            Segment {
                ttl: 0,
                ..tcp(3, VIP, "S")
            }
            .frame(),
            Verdict::DropTtlExpired,
        ),
    ]
}

const WHOLE: usize = usize::MAX;

/// A SYN to the service with some bytes overwritten, then cut to a length.
fn syn_with(changes: &[(usize, &[u8])], len: usize) -> Vec<u8> {
    let mut frame = syn(50000);
    for (at, bytes) in changes {
        frame[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    frame.truncate(len);
    frame
}

/// Damaged below the transport header.
fn damaged() -> Vec<Case> {
    let ethertype = 12;
    let (version, total_len, fragment) = (14, 16, 20);
    vec![
        (
            "ARP",
            syn_with(&[(ethertype, &[8, 6])], WHOLE),
            Verdict::PassNotIp,
        ),
        (
            "IPv4 header behind the EtherType of IPv6",
            syn_with(&[(ethertype, &[0x86, 0xdd])], WHOLE),
            Verdict::DropMalformedIp,
        ),
        (
            "other host's MAC",
            syn_with(&[(5, &[0xd0])], WHOLE),
            Verdict::PassOtherHost,
        ),
        (
            "broadcast",
            syn_with(&[(0, &[0xff; 6])], WHOLE),
            Verdict::PassOtherHost,
        ),
        (
            "later fragment",
            syn_with(&[(fragment, &[0, 16])], WHOLE),
            Verdict::PassFragment,
        ),
        (
            "version 6",
            syn_with(&[(version, &[0x65])], WHOLE),
            Verdict::DropMalformedIp,
        ),
        (
            "header of 16 bytes",
            syn_with(&[(version, &[0x44])], WHOLE),
            Verdict::DropMalformedIp,
        ),
        (
            "header beyond datagram",
            syn_with(&[(version, &[0x4f])], WHOLE),
            Verdict::DropMalformedIp,
        ),
        (
            "total length 19",
            syn_with(&[(total_len, &[0, 19])], WHOLE),
            Verdict::DropMalformedIp,
        ),
        (
            "longer than frame",
            syn_with(&[(total_len, &[2, 40])], WHOLE),
            Verdict::DropMalformedIp,
        ),
        (
            "frame ends in IPv4",
            syn_with(&[], 30),
            Verdict::DropMalformedIp,
        ),
        (
            "frame ends two bytes after Ethernet",
            syn_with(&[], 16),
            Verdict::DropMalformedIp,
        ),
        (
            "frame ends after Ethernet",
            syn_with(&[], 14),
            Verdict::DropTruncatedFrame,
        ),
        (
            "frame ends in Ethernet",
            syn_with(&[], 13),
            Verdict::DropTruncatedFrame,
        ),
        (
            "frame ends in VLAN",
            syn_with(&[(ethertype, &[0x81, 0])], 16),
            Verdict::DropTruncatedFrame,
        ),
    ]
}

/// Damaged in the transport header.
fn damaged_transport() -> Vec<Case> {
    let (total_len, proto, udp_len, offset) = (16, 23, 38, 46);
    vec![
        (
            "ends in TCP",
            syn_with(&[(total_len, &[0, 39])], WHOLE),
            Verdict::DropTruncatedTransport,
        ),
        (
            "TCP header shorter than itself",
            syn_with(&[(offset, &[0x40])], WHOLE),
            Verdict::DropTruncatedTransport,
        ),
        (
            "TCP options beyond the datagram",
            syn_with(&[(offset, &[0x60])], WHOLE),
            Verdict::DropTruncatedTransport,
        ),
        (
            "UDP data beyond the datagram",
            syn_with(&[(proto, &[17]), (udp_len, &[0, 21])], WHOLE),
            Verdict::DropTruncatedTransport,
        ),
        (
            "UDP header shorter than itself",
            syn_with(&[(proto, &[17]), (udp_len, &[0, 7])], WHOLE),
            Verdict::DropTruncatedTransport,
        ),
        (
            "ends in UDP",
            syn_with(&[(proto, &[17]), (total_len, &[0, 27])], WHOLE),
            Verdict::DropTruncatedTransport,
        ),
    ]
}

#[test]
fn service_without_usable_server_leaves_the_packet_to_the_stack() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 0)]);
    assert_eq!(lab.send(&syn(40000)).0, Verdict::PassNoDest);
    lab.set_servers(Protocol::Tcp, &[]);
    assert_eq!(lab.send(&syn(40000)).0, Verdict::PassNoDest);
    lab.apply(&Desired::default());
    assert_eq!(lab.send(&syn(40000)).0, Verdict::PassNoService);
}

#[test]
fn unresolved_next_hop_is_counted_and_heals() {
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    lab.route(|_| {
        Some(NextHopRow {
            ifindex: INGRESS,
            mac: None,
            ..NextHopRow::default()
        })
    });
    assert_eq!(lab.send(&syn(40000)).0, Verdict::DropNoNeighbor);
    lab.route(|_| {
        Some(NextHopRow {
            ifindex: INGRESS,
            mac: Some([2, 9, 9, 9, 9, 9]),
            from: DIRECTOR_MAC,
            ..NextHopRow::default()
        })
    });
    let frame = syn(40000);
    let (verdict, after) = lab.send(&frame);
    assert_eq!(verdict, Verdict::Transmit);
    assert_direct_routed(&frame, &after, [2, 9, 9, 9, 9, 9], DIRECTOR_MAC);
}

#[test]
fn longest_server_list_is_walked_to_its_end() {
    let servers: Vec<(u8, u32)> = (0..=255).map(|n| (n, u32::from(n == 0))).collect();
    let mut lab = Lab::with_servers(Protocol::Tcp, &servers);
    for n in 0..3 {
        // The first server of the file stands last in the list.
        assert_eq!(lab.forward(&syn(40000 + n)), 0);
    }
}

/// Whatever bytes come in, both executors come to the same end, and none is forwarded that is not a
/// well-formed packet to the service.
#[test]
fn arbitrary_and_damaged_frames() {
    let lab = RefCell::new(Lab::with_servers(Protocol::Tcp, &[(1, 1), (2, 1)]));
    let damage = prop::collection::vec((0usize..60, any::<u8>()), 0..6);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 4096,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&(damage, 14usize..64), |(damage, len)| {
        let mut frame = syn(40000);
        for (at, byte) in damage {
            if let Some(b) = frame.get_mut(at) {
                *b = byte;
            }
        }
        frame.truncate(len);
        let (verdict, after) = lab.borrow_mut().send(&frame);
        if verdict == Verdict::Transmit {
            prop_assert_eq!(&frame[30..34], &VIP.ip().octets());
            prop_assert_eq!(after.len(), frame.len());
        } else {
            prop_assert_eq!(after, frame);
        }
        Ok(())
    });
    if let Err(err) = result {
        panic!("{err}");
    }
}
