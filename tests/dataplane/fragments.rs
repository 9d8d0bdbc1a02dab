// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fragments, of both families: all of a datagram go where its first one goes, and put together
//! again they are the datagram as it would have gone in one piece.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;
use lb_agent::config::model::{ForwardMethod, GueChecksum, Protocol, Scheduler, ServiceId, Tunnel};
use lb_agent::health::{DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

use crate::frames::{CLIENT_MAC, DIRECTOR_MAC};
use crate::host::TICK_NS;
use crate::lab::{INGRESS, Lab, last_octet, server_mac};
use crate::packets::{Packet, read};
use crate::world;

/// Client, service, server; its port is another one than the service's.
const FAMILIES: [[&str; 3]; 2] = [
    ["192.0.2.9:40000", "198.51.100.1:80", "10.1.0.1:8080"],
    ["[2001:db8::9]:40000", "[2001:db8::1]:80", "[fd00::1]:8080"],
];

/// Bytes of a fragment but the last.
const PIECE: usize = 512;

const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

fn ends(of: [&str; 3]) -> [SocketAddr; 3] {
    of.map(|end| end.parse().unwrap())
}

fn lab(protocol: Protocol, method: ForwardMethod, virt: SocketAddr, servers: &[SocketAddr]) -> Lab {
    let id = ServiceId {
        addr: virt.ip(),
        port: virt.port(),
        protocol,
    };
    let server = |addr: &SocketAddr| DesiredServer::new(*addr, method, 1);
    let servers = servers.iter().map(server).collect();
    let mut lab = Lab::with_services(vec![DesiredService::new(id, Scheduler::Rr, servers)]);
    lab.route(|addr| Some(world::next_hop(addr)));
    lab
}

/// A datagram of three fragments.
fn datagram(from: SocketAddr, to: SocketAddr) -> Packet {
    Packet {
        payload: (0..=255).cycle().take(1400).collect(),
        ..Packet::new(Protocol::Udp, from, to, "")
    }
}

/// The address after this one.
fn next(addr: IpAddr) -> IpAddr {
    let last = last_octet(addr) + 1;
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, c, _] = addr.octets();
            [a, b, c, last].into()
        }
        IpAddr::V6(addr) => {
            let mut octets = addr.octets();
            octets[15] = last;
            octets.into()
        }
    }
}

fn is_v6(frame: &[u8]) -> bool {
    frame[14] >> 4 == 6
}

/// The fragments of an untagged frame's datagram, as the sender or, in IPv4, a router cuts it.
fn cut(whole: &[u8], id: u32) -> Vec<Vec<u8>> {
    let header = if is_v6(whole) { 54 } else { 34 };
    let pieces: Vec<&[u8]> = whole[header..].chunks(PIECE).collect();
    let piece = |(n, part): (usize, &&[u8])| {
        let more = n + 1 < pieces.len();
        fragment(whole, id, (n * PIECE, more), part)
    };
    pieces.iter().enumerate().map(piece).collect()
}

/// A fragment with the headers of `whole`: where it is, whether more follow, and what is in it.
fn fragment(whole: &[u8], id: u32, (offset, more): (usize, bool), part: &[u8]) -> Vec<u8> {
    if is_v6(whole) {
        let mut header = whole[..54].to_vec();
        let next = std::mem::replace(&mut header[20], FRAGMENT);
        header[18..20].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
        let place = offset as u16 | u16::from(more);
        return [
            &header[..],
            &[next, 0],
            &place.to_be_bytes(),
            &id.to_be_bytes(),
            part,
        ]
        .concat();
    }
    let mut header = etherparse::Ipv4Header::from_slice(&whole[14..]).unwrap().0;
    header.identification = id as u16;
    header.dont_fragment = false;
    header.more_fragments = more;
    header.fragment_offset = (offset as u16 / 8).try_into().unwrap();
    header.total_len = 20 + part.len() as u16;
    header.header_checksum = header.calc_header_checksum();
    [&whole[..14], &header.to_bytes(), part].concat()
}

/// The datagram that these are the fragments of, in one frame.
fn join(fragments: &[Vec<u8>]) -> Vec<u8> {
    let first = &fragments[0];
    let mut parts = fragments.to_vec();
    parts.sort_by_key(|fragment| place(fragment));
    if is_v6(first) {
        let mut whole = first[..54].to_vec();
        whole[20] = first[54];
        for part in &parts {
            assert_eq!(part[22..54], first[22..54], "addresses");
            assert_eq!(part[21], first[21], "hop limit");
            assert_eq!(place(part) / 8 * 8, whole.len() - 54);
            whole.extend(&part[62..]);
        }
        let len = (whole.len() - 54) as u16;
        whole[18..20].copy_from_slice(&len.to_be_bytes());
        return whole;
    }
    let mut header = etherparse::Ipv4Header::from_slice(&first[14..]).unwrap().0;
    let mut whole = first[..34].to_vec();
    for part in &parts {
        let one = etherparse::Ipv4Header::from_slice(&part[14..]).unwrap().0;
        assert_eq!(one.header_checksum, one.calc_header_checksum());
        assert_eq!(
            (one.source, one.destination),
            (header.source, header.destination)
        );
        assert_eq!(
            usize::from(one.fragment_offset.byte_offset()),
            whole.len() - 34
        );
        whole.extend(&part[34..]);
    }
    header.identification = 0;
    header.dont_fragment = true;
    header.more_fragments = false;
    header.fragment_offset = 0.try_into().unwrap();
    header.total_len = (whole.len() - 14) as u16;
    header.header_checksum = header.calc_header_checksum();
    whole[14..34].copy_from_slice(&header.to_bytes());
    whole
}

/// Where an IPv6 fragment's content belongs, bytes, and in the lowest bit whether more follow; for
/// order alone in IPv4.
fn place(fragment: &[u8]) -> usize {
    if is_v6(fragment) {
        u16::from_be_bytes([fragment[56], fragment[57]]).into()
    } else {
        (u16::from_be_bytes([fragment[20], fragment[21]]) & 0x1fff).into()
    }
}

/// All of them, forwarded.
fn forwarded(lab: &mut Lab, fragments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let send = |fragment: &Vec<u8>| {
        let (verdict, after) = lab.send(fragment);
        assert_eq!(verdict, Verdict::Transmit);
        after
    };
    fragments.iter().map(send).collect()
}

#[test]
fn fragments_of_a_datagram_go_together() {
    for family in FAMILIES {
        let [client, virt, server] = ends(family);
        for method in [ForwardMethod::Dr, ForwardMethod::Nat] {
            let mut lab = lab(Protocol::Udp, method, virt, &[server]);
            let packet = datagram(client, virt);
            let whole = packet.frame();
            let in_order = forwarded(&mut lab, &cut(&whole, 77));
            for after in &in_order {
                assert_eq!(after[..6], server_mac(1));
            }
            let (_, in_one) = lab.send(&whole);
            assert_eq!(join(&in_order), in_one);
            // With checksums that are right for what it is now.
            let to = if method == ForwardMethod::Nat {
                server
            } else {
                virt
            };
            assert_eq!(read(&join(&in_order), &packet).to, to);

            // The last before the one in the middle.
            let [first, middle, last] = cut(&whole, 78).try_into().unwrap();
            let shuffled = forwarded(&mut lab, &[first, last, middle]);
            assert_eq!(join(&shuffled), in_one);

            // Who comes before the first is the stack's.
            let [first, middle, last] = cut(&whole, 79).try_into().unwrap();
            assert_eq!(lab.send(&middle).0, Verdict::PassFragment);
            forwarded(&mut lab, &[first, last]);
            let other = fragment(&whole, 80, (PIECE, true), &[0; PIECE]);
            assert_eq!(lab.send(&other).0, Verdict::PassFragment);
        }
    }
}

#[test]
fn fragments_of_an_answer_go_together() {
    for family in FAMILIES {
        let [client, virt, server] = ends(family);
        let mut lab = lab(Protocol::Udp, ForwardMethod::Nat, virt, &[server]);
        let open = datagram(client, virt);
        assert_eq!(lab.send(&open.frame()).0, Verdict::Transmit);
        let answer = open.answer(server, "", server_mac(1));
        let [first, middle, last] = cut(&answer.frame(), 5).try_into().unwrap();
        assert_eq!(
            lab.send(&last).0,
            Verdict::PassFragment,
            "the first is to come"
        );
        let after = forwarded(&mut lab, &[first, middle, last]);
        for fragment in &after {
            assert_eq!(fragment[..6], CLIENT_MAC);
        }
        let came = read(&join(&after), &answer);
        assert_eq!((came.from, came.to), (virt, client));
        let stranger = open.answer(SocketAddr::new(server.ip(), 1), "", server_mac(1));
        for fragment in cut(&stranger.frame(), 6) {
            assert_eq!(lab.send(&fragment).0, Verdict::PassFragment, "no answer");
        }
        lab.assert_same_counters();
    }
}

/// Each goes with its own client's, whatever the protocol says of later ones in IPv6.
#[test]
fn datagrams_of_one_identification_are_told_apart() {
    for family in FAMILIES {
        let [client, virt, server] = ends(family);
        let mut second = server;
        second.set_ip(next(server.ip()));
        let mut lab = lab(Protocol::Udp, ForwardMethod::Dr, virt, &[server, second]);
        let mut other = client;
        other.set_ip(next(client.ip()));
        let mut pieces = [client, other].map(|from| cut(&datagram(from, virt).frame(), 9));
        if client.is_ipv6() {
            // RFC 8200 section 4.5: that of the first counts.
            pieces[0][1][54] = DESTINATION;
        }
        let mut went = [Vec::new(), Vec::new()];
        for n in 0..3 {
            for (went, pieces) in went.iter_mut().zip(&pieces) {
                let (verdict, after) = lab.send(&pieces[n]);
                assert_eq!(verdict, Verdict::Transmit);
                went.push(after[..6].to_vec());
            }
        }
        let [one, two] = &went;
        assert!(one.iter().all(|mac| *mac == one[0]), "{one:?}");
        assert!(two.iter().all(|mac| *mac == two[0]), "{two:?}");
        assert_ne!(one[0], two[0]);
    }
}

/// Each in an outer header of its own. A checksum that needs all of the datagram is left out.
#[test]
fn fragments_go_into_the_tunnel() {
    let gue = |checksum| Tunnel::Gue {
        port: 6080,
        checksum,
    };
    for family in FAMILIES {
        let [client, virt, server] = ends(family);
        let outer = if server.is_ipv4() { 20 } else { 40 };
        for (tunnel, between) in [
            (Tunnel::Ipip, 0),
            (Tunnel::Gre { checksum: false }, 4),
            (gue(GueChecksum::Full), 12),
        ] {
            let mut lab = lab(Protocol::Udp, ForwardMethod::Tun(tunnel), virt, &[server]);
            let whole = datagram(client, virt).frame();
            let inner: Vec<_> = forwarded(&mut lab, &cut(&whole, 3))
                .iter()
                .map(|after| {
                    assert_eq!(after[..6], server_mac(1));
                    if between == 12 {
                        let checksum = &after[14 + outer + 6..14 + outer + 8];
                        assert_eq!(checksum, [0, 0], "{tunnel:?}");
                    }
                    [&whole[..14], &after[14 + outer + between..]].concat()
                })
                .collect();
            let mut sent = join(&inner);
            let ttl = if client.is_ipv4() { 22 } else { 21 };
            assert_eq!(sent[ttl], whole[ttl] - 1);
            sent[ttl] += 1;
            assert_eq!(sent[34..], whole[34..], "{tunnel:?}");
        }
    }
}

/// As of a packet in one piece.
#[test]
fn fragments_too_big_for_the_tunnel_are_answered() {
    let [client, virt, server] = ends(FAMILIES[1]);
    let tunnel = ForwardMethod::Tun(Tunnel::Ipip);
    let mut lab = lab(Protocol::Udp, tunnel, virt, &[server]);
    let whole = datagram(client, virt).frame();
    let first = fragment(&whole, 1, (0, true), &whole[54..54 + PIECE]);
    forwarded(&mut lab, &[first]);
    let fits = world::MTU as usize - 2 * 40 - 8;
    let later = fragment(&whole, 1, (PIECE, false), &vec![0; fits]);
    forwarded(&mut lab, &[later]);
    let later = fragment(&whole, 1, (PIECE, false), &vec![0; fits + 1]);
    let (verdict, answer) = lab.send(&later);
    assert_eq!(verdict, Verdict::ReplyTooBig);
    assert_eq!(answer[..6], CLIENT_MAC);
    assert_eq!(answer[54..62][..2], [2, 0], "packet too big");
    assert_eq!(answer[58..62], 1460_u32.to_be_bytes());
}

/// RFC 7112: all headers are in the first fragment.
#[test]
fn a_first_fragment_without_all_of_the_transport_header_is_dropped() {
    for family in FAMILIES {
        let [client, virt, server] = ends(family);
        let mut lab = lab(Protocol::Tcp, ForwardMethod::Dr, virt, &[server]);
        let whole = Packet::new(Protocol::Tcp, client, virt, "S").frame();
        let header = if client.is_ipv4() { 34 } else { 54 };
        let short = fragment(&whole, 4, (0, true), &whole[header..header + 16]);
        assert_eq!(lab.send(&short).0, Verdict::DropTruncatedTransport);
        let rest = fragment(&whole, 4, (16, false), &whole[header + 16..]);
        assert_eq!(lab.send(&rest).0, Verdict::PassFragment);
        assert_eq!(lab.counted(), (0, 0));
    }
}

/// RFC 6946: they have nothing to do with others of their identification.
#[test]
fn a_datagram_may_be_its_only_fragment() {
    let [client, virt, server] = ends(FAMILIES[1]);
    for method in [ForwardMethod::Dr, ForwardMethod::Nat] {
        let mut lab = lab(Protocol::Udp, method, virt, &[server]);
        let whole = datagram(client, virt).frame();
        let alone = fragment(&whole, 4, (0, false), &whole[54..]);
        let after = forwarded(&mut lab, &[alone]);
        assert_eq!(join(&after), lab.send(&whole).1);
        let later = fragment(&whole, 4, (PIECE, false), &[0; PIECE]);
        assert_eq!(lab.send(&later).0, Verdict::PassFragment);
        // It is all there is of the datagram.
        let short = fragment(&whole, 4, (0, false), &whole[54..54 + PIECE]);
        assert_eq!(lab.send(&short).0, Verdict::DropTruncatedTransport);
    }
}

#[test]
fn what_is_not_right_behind_the_ipv6_header_is_the_stack_s() {
    let [client, virt, server] = ends(FAMILIES[1]);
    let mut lab = lab(Protocol::Udp, ForwardMethod::Dr, virt, &[server]);
    for piece in cut(&datagram(client, virt).frame(), 7) {
        let mut frame = piece.clone();
        frame.splice(54..54, [FRAGMENT, 0, 1, 4, 0, 0, 0, 0]);
        frame[20] = DESTINATION;
        let len = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        let (verdict, after) = lab.send(&frame);
        assert_eq!((verdict, after), (Verdict::PassFragment, frame));
    }
    // Its length says that there is no fragment header.
    let mut frame = cut(&datagram(client, virt).frame(), 7).remove(2);
    frame[18..20].copy_from_slice(&7_u16.to_be_bytes());
    assert_eq!(lab.send(&frame).0, Verdict::DropMalformedIp);
}

#[test]
fn fragments_of_an_echo_are_the_stack_s() {
    let [client, virt, server] = ends(FAMILIES[1]);
    let mut lab = lab(Protocol::Udp, ForwardMethod::Dr, virt, &[server]);
    let (SocketAddr::V6(from), SocketAddr::V6(to)) = (client, virt) else {
        panic!("IPv6");
    };
    let mut echo = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, DIRECTOR_MAC)
        .ipv6(from.ip().octets(), to.ip().octets(), 64)
        .icmpv6_echo_request(1, 1)
        .write(&mut echo, &[7; 1000])
        .unwrap();
    let [first, later] = cut(&echo, 7).try_into().unwrap();
    assert_eq!(lab.send(&first).0, Verdict::PassOtherProtocol);
    assert_eq!(lab.send(&later).0, Verdict::PassFragment);
}

/// A CRC32c of a datagram whose length is not known cannot be corrected for another port.
#[test]
fn sctp_fragments_keep_their_port() {
    for family in FAMILIES {
        let [client, virt, server] = ends(family);
        let mut packet = Packet::new(Protocol::Sctp, client, virt, "1");
        packet.payload = vec![7; 40];
        let whole = packet.frame();
        let header = if client.is_ipv4() { 34 } else { 54 };
        let first = fragment(&whole, 4, (0, true), &whole[header..header + 24]);
        let rest = fragment(&whole, 4, (24, false), &whole[header + 24..]);
        let mut other_port = lab(Protocol::Sctp, ForwardMethod::Nat, virt, &[server]);
        let (verdict, after) = other_port.send(&first);
        assert_eq!((verdict, after), (Verdict::PassFragment, first.clone()));
        let server = SocketAddr::new(server.ip(), virt.port());
        let mut same_port = lab(Protocol::Sctp, ForwardMethod::Nat, virt, &[server]);
        let after = forwarded(&mut same_port, &[first, rest]);
        assert_eq!(read(&join(&after), &packet).to, server);
    }
}

#[test]
fn without_the_agent_no_fragment_is_forwarded_any_more() {
    for family in FAMILIES {
        let [client, virt, server] = ends(family);
        let mut lab = lab(Protocol::Udp, ForwardMethod::Dr, virt, &[server]);
        lab.host.settings.watchdog = 50;
        let pieces = cut(&datagram(client, virt).frame(), 7);
        lab.host.now_ns.set(50 * TICK_NS);
        for piece in &pieces {
            assert_eq!(lab.host.run(piece, INGRESS).0, Verdict::Transmit);
        }
        lab.host.now_ns.set(51 * TICK_NS);
        for piece in &pieces {
            assert_eq!(lab.host.run(piece, INGRESS).0, Verdict::PassUnattended);
        }
    }
}
