// SPDX-License-Identifier: MIT OR Apache-2.0
//! IPv4 (RFC 791).

use bytemuck::{Pod, Zeroable};

use crate::csum;

/// Protocol number of ICMP.
pub const PROTO_ICMP: u8 = 1;
/// Protocol number of IPv4 in IP.
pub const PROTO_IPIP: u8 = 4;
/// Protocol number of TCP.
pub const PROTO_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTO_UDP: u8 = 17;
/// Protocol number of IPv6 in IP.
pub const PROTO_IPV6: u8 = 41;
/// Protocol number of GRE.
pub const PROTO_GRE: u8 = 47;
/// Protocol number of SCTP.
pub const PROTO_SCTP: u8 = 132;

/// The fixed part of the header; options may follow, see [`Ipv4::header_len`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ipv4 {
    /// Version (4 bits) and header length in words (4 bits).
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of the datagram, network byte order.
    pub total_len: u16,
    /// Identification, network byte order.
    pub id: u16,
    /// Flags (3 bits) and fragment offset in 8-byte units (13 bits), network byte order.
    pub frag: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub proto: u8,
    /// Header checksum.
    pub check: u16,
    /// Source address, network byte order.
    pub src: u32,
    /// Destination address, network byte order.
    pub dst: u32,
}

impl Ipv4 {
    /// Length without options, bytes.
    pub const LEN: usize = 20;

    /// Length with options, bytes: a multiple of 4 up to 60; below 20 the header is malformed.
    #[inline(always)]
    pub const fn header_len(&self) -> usize {
        ((self.version_ihl & 0x0f) as usize) << 2
    }

    /// Version field.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Length of the datagram, host byte order.
    #[inline(always)]
    pub const fn total_len(&self) -> usize {
        u16::from_be(self.total_len) as usize
    }

    /// True for every fragment of a datagram that has more than one.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        // More fragments (0x2000) or an offset (0x1fff); "don't fragment" (0x4000) is no matter.
        self.frag & 0x3fff_u16.to_be() != 0
    }

    /// "Don't fragment" is set.
    #[inline(always)]
    pub const fn dont_fragment(&self) -> bool {
        self.frag & 0x4000_u16.to_be() != 0
    }

    /// Bytes before this fragment, 0 in the first.
    #[inline(always)]
    pub const fn fragment_offset(&self) -> usize {
        ((u16::from_be(self.frag) & 0x1fff) as usize) << 3
    }

    /// One hop less, the checksum updated by RFC 1624. Call with a TTL above 1 only.
    #[inline(always)]
    pub const fn decrement_ttl(&mut self) {
        let old = u16::from_ne_bytes([self.ttl, self.proto]);
        self.ttl = self.ttl.wrapping_sub(1);
        let new = u16::from_ne_bytes([self.ttl, self.proto]);
        self.check = csum::update16(self.check, old, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decremented_ttl_keeps_the_checksum_valid() {
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_len: 60u16.to_be(),
            id: 0x1c46,
            frag: 0x4000u16.to_be(),
            ttl: 64,
            proto: PROTO_TCP,
            check: 0,
            src: u32::from_ne_bytes([192, 0, 2, 9]),
            dst: u32::from_ne_bytes([198, 51, 100, 1]),
        };
        ip.check = csum::finish(csum::sum(bytemuck::bytes_of(&ip), 0));
        for ttl in (1..64).rev() {
            ip.decrement_ttl();
            assert_eq!(ip.ttl, ttl);
            assert_eq!(csum::sum(bytemuck::bytes_of(&ip), 0), 0xffff);
        }
    }

    #[test]
    fn dont_fragment_is_no_fragment() {
        let mut ip: Ipv4 = Zeroable::zeroed();
        ip.frag = 0x4000u16.to_be();
        assert!(!ip.is_fragment());
        ip.frag = 0x2000u16.to_be();
        assert!(ip.is_fragment());
        ip.frag = 0x0001u16.to_be();
        assert!(ip.is_fragment());
    }
}
