// SPDX-License-Identifier: MIT OR Apache-2.0
//! "Fragmentation needed" (RFC 1191) and "packet too big" (RFC 4443 section 3.2): the answer to a
//! datagram that does not fit into the tunnel, with the size that does.

use lb_common::abi::FAMILY_IPV4;
use lb_common::csum;
use lb_common::verdict::Verdict;
use lb_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Icmp, Ipv4, Ipv6, Macs, PROTO_ICMP, PROTO_ICMPV6,
};

use super::link::LinkHeader;
use crate::Outcome;
use crate::packet::Packet;

/// Bytes of the datagram that the answer quotes: headers with options, and ports.
const QUOTED: usize = 64;

/// Time to live of the answer.
const TTL: u8 = 64;

/// Turns the frame into the answer to its sender. `mtu` is what fits, bytes.
#[inline(always)]
pub(super) fn answer<P: Packet>(
    pkt: &mut P,
    link: &LinkHeader,
    ip_offset: usize,
    family: u8,
    mtu: usize,
) -> Outcome {
    let done = if family == FAMILY_IPV4 {
        answer_v4(pkt, link, ip_offset, mtu as u16)
    } else {
        answer_v6(pkt, link, ip_offset, mtu as u32)
    };
    match done {
        Some(()) => Verdict::ReplyTooBig.into(),
        None => Verdict::DropTooBig.into(),
    }
}

#[inline(always)]
fn answer_v4<P: Packet>(pkt: &mut P, link: &LinkHeader, ip_offset: usize, mtu: u16) -> Option<()> {
    let old: Ipv4 = pkt.load(ip_offset)?;
    let quote: [u32; QUOTED / 4] = pkt.load(ip_offset)?;
    if !pkt.move_front((Ipv4::LEN + Icmp::LEN) as isize) {
        return None;
    }
    let len = Ipv4::LEN + Icmp::LEN + QUOTED;
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        // Internetwork control.
        tos: 0xc0,
        total_len: (len as u16).to_be(),
        id: 0,
        frag: 0x4000_u16.to_be(),
        ttl: TTL,
        proto: PROTO_ICMP,
        check: 0,
        src: old.dst,
        dst: old.src,
    };
    ip.check = csum::finish(csum::ipv4_sum(&ip));
    let mut icmp = Icmp {
        kind: 3,
        code: 4,
        check: 0,
        rest: u32::from(mtu).to_be(),
    };
    icmp.check = csum::finish(csum::fold(icmp.sum() + sum(&quote)));
    let stored = link
        .to(Macs::new(link.src(), link.dst()), ETHERTYPE_IPV4)
        .store(pkt, ip_offset)
        && pkt.store(ip_offset, ip)
        && pkt.store(ip_offset + Ipv4::LEN, icmp);
    (stored && pkt.truncate(ip_offset + len)).then_some(())
}

#[inline(always)]
fn answer_v6<P: Packet>(pkt: &mut P, link: &LinkHeader, ip_offset: usize, mtu: u32) -> Option<()> {
    let old: Ipv6 = pkt.load(ip_offset)?;
    let quote: [u32; QUOTED / 4] = pkt.load(ip_offset)?;
    if !pkt.move_front((Ipv6::LEN + Icmp::LEN) as isize) {
        return None;
    }
    let payload = (Icmp::LEN + QUOTED) as u16;
    let ip = Ipv6 {
        version_class_label: Ipv6::first_word(0, 0),
        payload_len: payload.to_be(),
        next_header: PROTO_ICMPV6,
        hop_limit: TTL,
        src: old.dst,
        dst: old.src,
    };
    let mut icmp = Icmp {
        kind: 2,
        code: 0,
        check: 0,
        rest: mtu.to_be(),
    };
    let pseudo = csum::words_sum(&ip.src)
        + csum::words_sum(&ip.dst)
        + u32::from(payload.to_be())
        + u32::from(u16::from_ne_bytes([0, PROTO_ICMPV6]));
    icmp.check = csum::finish(csum::fold(pseudo + icmp.sum() + sum(&quote)));
    let stored = link
        .to(Macs::new(link.src(), link.dst()), ETHERTYPE_IPV6)
        .store(pkt, ip_offset)
        && pkt.store(ip_offset, ip)
        && pkt.store(ip_offset + Ipv6::LEN, icmp);
    (stored && pkt.truncate(ip_offset + Ipv6::LEN + payload as usize)).then_some(())
}

#[inline(always)]
fn sum(quote: &[u32; QUOTED / 4]) -> u32 {
    let mut sum = 0;
    for word in quote {
        sum += (word & 0xffff) + (word >> 16);
    }
    sum
}
