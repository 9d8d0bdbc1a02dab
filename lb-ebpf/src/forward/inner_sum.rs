// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one's complement sum of a whole datagram, without a look at its payload.
//!
//! A TCP or UDP segment with a correct checksum and its pseudo-header sum up to all ones, so the
//! segment's sum is the complement of its pseudo-header's; an IPv4 header sums up to all ones by
//! itself. (Linux calls this local checksum offload.)

use lb_common::abi::FAMILY_IPV4;
use lb_common::csum;
use lb_common::wire::{Ipv4, Ipv6, PROTO_TCP, PROTO_UDP, Udp};

use crate::packet::Packet;

/// The sum, not folded; `None` for a datagram whose transport has no such checksum.
#[inline(always)]
pub(super) fn of<P: Packet>(pkt: &P, ip_offset: usize, family: u8) -> Option<u32> {
    if family == FAMILY_IPV4 {
        let ip: Ipv4 = pkt.load(ip_offset)?;
        // Behind options a transport header is not looked for; a fragment is no whole segment. (IPv6:
        // neither is one behind an extension header, and that is what a fragment has.)
        if ip.header_len() != Ipv4::LEN
            || ip.is_fragment()
            || !summed(pkt, ip.proto, ip_offset + Ipv4::LEN)?
        {
            return None;
        }
        let len = (ip.total_len() - Ipv4::LEN) as u16;
        let pseudo = csum::words_sum(&[ip.src, ip.dst, 0, 0]) + rest(ip.proto, len);
        Some(u32::from(!(csum::fold(pseudo) as u16)))
    } else {
        let ip: Ipv6 = pkt.load(ip_offset)?;
        if !summed(pkt, ip.next_header, ip_offset + Ipv6::LEN)? {
            return None;
        }
        let addresses = csum::words_sum(&ip.src) + csum::words_sum(&ip.dst);
        let pseudo = addresses + rest(ip.next_header, ip.payload_len() as u16);
        let header = addresses
            + csum::words_sum(&[ip.version_class_label, 0, 0, 0])
            + u32::from(ip.payload_len)
            + u32::from(u16::from_ne_bytes([ip.next_header, ip.hop_limit]));
        Some(header + u32::from(!(csum::fold(pseudo) as u16)))
    }
}

/// Length and protocol in a pseudo-header.
#[inline(always)]
fn rest(proto: u8, len: u16) -> u32 {
    u32::from(len.to_be()) + u32::from(u16::from_ne_bytes([0, proto]))
}

/// True if the transport header at `offset` has a checksum over all.
#[inline(always)]
fn summed<P: Packet>(pkt: &P, proto: u8, offset: usize) -> Option<bool> {
    Some(match proto {
        PROTO_TCP => true,
        PROTO_UDP => pkt.load::<Udp>(offset)?.check != 0,
        _ => false,
    })
}
