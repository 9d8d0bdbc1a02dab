// SPDX-License-Identifier: MIT OR Apache-2.0
//! What followers are told of a packet: how it arrived, and whether they want to hear of it. Not on
//! any packet's journey while nobody follows.

use lb_common::abi::{
    AddrWords, FAMILY_IPV4, FAMILY_IPV6, FOLLOW_DST, FOLLOW_DST_PORT, FOLLOW_NO_DEST,
    FOLLOW_NOT_IP, FOLLOW_ON, FOLLOW_PROTO, FOLLOW_SRC, FOLLOW_SRC_PORT, FOLLOW_VERDICT,
    FollowEvent, FollowFilter,
};
use lb_common::verdict::Verdict;
use lb_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, EXT_FRAGMENT, Eth, Ipv4, Ipv6,
    Ipv6Fragment, PROTO_SCTP, PROTO_TCP, PROTO_UDP, Ports, Vlan,
};

use crate::family::Addr;
use crate::packet::Packet;
use crate::parse::{self, Flow};

/// VLAN tags looked through, as on the journey itself.
const MAX_VLAN_TAGS: usize = 2;

/// Writes down a packet as it arrives; everything else of `event` is as for a packet that nothing
/// became of yet.
#[inline(always)]
pub fn arrived<P: Packet>(pkt: &P, event: &mut FollowEvent) {
    event.ifindex = pkt.ingress_ifindex();
    event.dest = FOLLOW_NO_DEST;
    event.family = FOLLOW_NOT_IP;
    ends(event, [0; 4], [0; 4], 0);
    let Some(eth) = pkt.load::<Eth>(0) else {
        return;
    };
    let (mut ethertype, mut offset) = (eth.ethertype(), Eth::LEN);
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        let Some(tag) = pkt.load::<Vlan>(offset) else {
            return;
        };
        ethertype = tag.ethertype();
        offset += Vlan::LEN;
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(pkt, offset, event),
        ETHERTYPE_IPV6 => ipv6(pkt, offset, event),
        _ => {}
    }
}

#[inline(always)]
fn ipv4<P: Packet>(pkt: &P, offset: usize, event: &mut FollowEvent) {
    event.family = FAMILY_IPV4;
    let flow = match parse::ipv4(pkt, offset) {
        Err(Verdict::PassFragment) => parse::first_fragment(pkt, offset),
        other => other,
    };
    match flow {
        Ok(flow) => whole(event, &flow),
        // Malformed, or neither TCP, UDP nor SCTP.
        Err(_) => {
            if let Some(ip) = pkt.load::<Ipv4>(offset) {
                ends(event, [ip.src, 0, 0, 0], [ip.dst, 0, 0, 0], ip.proto);
            }
        }
    }
}

#[inline(always)]
fn ipv6<P: Packet>(pkt: &P, offset: usize, event: &mut FollowEvent) {
    event.family = FAMILY_IPV6;
    if let Ok(flow) = parse::ipv6(pkt, offset) {
        return whole(event, &flow);
    }
    let Some(ip) = pkt.load::<Ipv6>(offset) else {
        return;
    };
    ends(event, ip.src, ip.dst, ip.next_header);
    if ip.next_header == EXT_FRAGMENT {
        fragment6(pkt, offset + Ipv6::LEN, event);
    }
}

/// What is behind a fragment header. VERIFIER: the parser on the way here once more would be too
/// much stack, so it is looked for right behind the IPv6 header only, where senders put it.
#[inline(always)]
fn fragment6<P: Packet>(pkt: &P, offset: usize, event: &mut FollowEvent) {
    let Some(header) = pkt.load::<Ipv6Fragment>(offset) else {
        return;
    };
    event.proto = header.next_header;
    let has_ports = matches!(event.proto, PROTO_TCP | PROTO_UDP | PROTO_SCTP);
    if has_ports
        && header.is_first()
        && let Some(ports) = pkt.load::<Ports>(offset + Ipv6Fragment::LEN)
    {
        event.src_port = ports.src();
        event.dst_port = ports.dst();
        event.has_ports = 1;
    }
}

#[inline(always)]
fn whole<A: Addr>(event: &mut FollowEvent, flow: &Flow<A>) {
    ends(event, flow.src.words(), flow.dst.words(), flow.proto);
    event.src_port = flow.ports.src();
    event.dst_port = flow.ports.dst();
    event.what = flow.what;
    event.has_ports = 1;
}

#[inline(always)]
fn ends(event: &mut FollowEvent, src: AddrWords, dst: AddrWords, proto: u8) {
    event.src = src;
    event.dst = dst;
    event.proto = proto;
    event.src_port = 0;
    event.dst_port = 0;
    event.what = 0;
    event.has_ports = 0;
}

/// Whether a follower wants to see this packet, whose verdict is known by now.
#[inline(always)]
pub fn is_wanted(filter: &FollowFilter, event: &FollowEvent) -> bool {
    let counts = |what: u8| filter.by & what != 0;
    if !counts(FOLLOW_ON) {
        return false;
    }
    let mut differs = false;
    if counts(FOLLOW_SRC | FOLLOW_DST) {
        differs |= filter.family != event.family;
    }
    if counts(FOLLOW_SRC) {
        differs |= !same(&filter.src, &event.src);
    }
    if counts(FOLLOW_DST) {
        differs |= !same(&filter.dst, &event.dst);
    }
    if counts(FOLLOW_SRC_PORT) {
        differs |= event.has_ports == 0 || filter.src_port != event.src_port;
    }
    if counts(FOLLOW_DST_PORT) {
        differs |= event.has_ports == 0 || filter.dst_port != event.dst_port;
    }
    if counts(FOLLOW_PROTO) {
        differs |= event.family == FOLLOW_NOT_IP || filter.proto != event.proto;
    }
    if counts(FOLLOW_VERDICT) {
        differs |= filter.verdict != event.verdict;
    }
    !differs
}

#[inline(always)]
fn same(one: &AddrWords, other: &AddrWords) -> bool {
    let ([a, b, c, d], [e, f, g, h]) = (one, other);
    (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use bytemuck::Zeroable;
    use etherparse::PacketBuilder;
    use std::vec::Vec;

    fn seen(mut frame: Vec<u8>) -> FollowEvent {
        // What an earlier packet left must not show.
        let mut event = FollowEvent {
            what: 9,
            has_ports: 1,
            src_port: 9,
            ..FollowEvent::zeroed()
        };
        arrived(&Frame::new(&mut frame, 7), &mut event);
        event
    }

    fn frame(packet: etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8> {
        let mut frame = Vec::new();
        packet.write(&mut frame, &[]).unwrap();
        frame
    }

    #[test]
    fn a_segment_is_written_down_in_both_families_and_behind_tags() {
        let mac = [2; 6];
        let v4 = || {
            PacketBuilder::ethernet2(mac, mac)
                .ipv4([192, 0, 2, 1], [192, 0, 2, 9], 64)
                .tcp(1000, 80, 1, 1)
                .syn()
        };
        let tagged = PacketBuilder::ethernet2(mac, mac)
            .single_vlan(7.try_into().unwrap())
            .ipv4([192, 0, 2, 1], [192, 0, 2, 9], 64)
            .tcp(1000, 80, 1, 1)
            .syn();
        for bytes in [frame(v4()), frame(tagged)] {
            let event = seen(bytes);
            assert_eq!((event.ifindex, event.family, event.proto), (7, 4, 6));
            assert_eq!(event.src, [u32::from_ne_bytes([192, 0, 2, 1]), 0, 0, 0]);
            assert_eq!(event.dst, [u32::from_ne_bytes([192, 0, 2, 9]), 0, 0, 0]);
            let ports = (event.src_port, event.dst_port);
            assert_eq!(ports, (1000_u16.to_be(), 80_u16.to_be()));
            assert_eq!((event.what, event.has_ports), (2, 1));
            assert_eq!(event.dest, FOLLOW_NO_DEST);
        }
        let v6 = PacketBuilder::ethernet2(mac, mac)
            .ipv6([1; 16], [2; 16], 64)
            .tcp(1000, 80, 1, 1)
            .syn();
        let event = seen(frame(v6));
        assert_eq!((event.family, event.src), (6, [0x0101_0101; 4]));
        assert_eq!(event.dst_port, 80_u16.to_be());
    }

    #[test]
    fn of_fragments_the_first_has_ports() {
        let mac = [2; 6];
        let udp = PacketBuilder::ethernet2(mac, mac)
            .ipv6([1; 16], [2; 16], 64)
            .udp(1000, 53);
        let mut bytes = Vec::new();
        udp.write(&mut bytes, &[0; 24]).unwrap();
        bytes.splice(54..54, [17, 0, 0, 1, 0, 0, 0, 7]);
        bytes[19] += 8;
        bytes[20] = 44;
        let event = seen(bytes.clone());
        assert_eq!((event.family, event.proto, event.has_ports), (6, 17, 1));
        assert_eq!(event.src, [0x0101_0101; 4]);
        let ports = (event.src_port, event.dst_port);
        assert_eq!(ports, (1000_u16.to_be(), 53_u16.to_be()));
        bytes[57] = 8;
        let event = seen(bytes);
        assert_eq!((event.proto, event.has_ports, event.dst_port), (17, 0, 0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let mac = [2; 6];
        let packet = PacketBuilder::ethernet2(mac, mac)
            .ipv4([192, 0, 2, 1], [192, 0, 2, 9], 64)
            .tcp(1000, 80, 1, 1)
            .syn();
        let mut bytes = frame(packet);
        bytes.truncate(40);
        let event = seen(bytes.clone());
        let known = (event.family, event.proto, event.has_ports, event.src_port);
        assert_eq!(known, (4, 6, 0, 0));
        assert_ne!(event.src, [0; 4]);
        bytes.truncate(20);
        assert_eq!(seen(bytes.clone()).src, [0; 4]);
        bytes[12] = 0;
        assert_eq!(seen(bytes).family, FOLLOW_NOT_IP);
        assert_eq!(seen(Vec::new()).family, FOLLOW_NOT_IP);
    }

    #[test]
    fn a_filter_takes_what_it_names() {
        let event = FollowEvent {
            src: [1, 0, 0, 0],
            dst: [2, 0, 0, 0],
            src_port: 3,
            dst_port: 4,
            family: FAMILY_IPV4,
            proto: 6,
            has_ports: 1,
            verdict: 7,
            ..FollowEvent::zeroed()
        };
        let exact = FollowFilter {
            src: [1, 0, 0, 0],
            dst: [2, 0, 0, 0],
            src_port: 3,
            dst_port: 4,
            by: 0x7f,
            family: FAMILY_IPV4,
            proto: 6,
            verdict: 7,
        };
        assert!(is_wanted(&exact, &event));
        assert!(!is_wanted(&FollowFilter { by: 0x7e, ..exact }, &event));
        let any = FollowFilter {
            by: FOLLOW_ON,
            ..FollowFilter::zeroed()
        };
        assert!(is_wanted(&any, &event));
        let others = [
            FollowFilter {
                src: [1, 0, 0, 1],
                ..exact
            },
            FollowFilter {
                dst: [3, 0, 0, 0],
                ..exact
            },
            FollowFilter {
                src_port: 4,
                ..exact
            },
            FollowFilter {
                dst_port: 3,
                ..exact
            },
            FollowFilter {
                family: FAMILY_IPV6,
                ..exact
            },
            FollowFilter { proto: 17, ..exact },
            FollowFilter {
                verdict: 8,
                ..exact
            },
        ];
        for other in others {
            assert!(!is_wanted(&other, &event), "{other:?}");
        }
        let without_ports = FollowEvent {
            has_ports: 0,
            ..event
        };
        assert!(!is_wanted(&exact, &without_ports));
    }
}
