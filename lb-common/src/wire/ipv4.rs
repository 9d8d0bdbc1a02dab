// SPDX-License-Identifier: MIT OR Apache-2.0
//! IPv4 (RFC 791).

use bytemuck::{Pod, Zeroable};

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

    /// One hop less, see [`Ipv4Hop::decrement`].
    #[inline(always)]
    pub const fn decrement_ttl(&mut self) {
        let hop = Ipv4Hop::new(self.ttl, self.proto, self.check).decrement();
        (self.ttl, self.check) = (hop.ttl(), hop.check());
    }
}

/// Time to live, protocol and checksum: the word of the header that each hop changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ipv4Hop(u32);

impl Ipv4Hop {
    /// Where it stands, bytes into the header.
    pub const OFFSET: usize = 8;

    #[inline(always)]
    const fn new(ttl: u8, proto: u8, check: u16) -> Self {
        let [a, b] = check.to_ne_bytes();
        Self(u32::from_ne_bytes([ttl, proto, a, b]))
    }

    /// Time to live.
    #[inline(always)]
    pub const fn ttl(self) -> u8 {
        u32::from_le(self.0) as u8
    }

    /// Header checksum, as it stands in memory.
    #[inline(always)]
    pub const fn check(self) -> u16 {
        let [_, _, a, b] = self.0.to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    /// One hop less, the checksum updated by RFC 1624. Call with a TTL above 1 only.
    ///
    /// The kernel's `ip_decrease_ttl`: the time to live is the first byte of its word of the sum, so
    /// one less there is one more, in that byte, here.
    #[inline(always)]
    pub const fn decrement(self) -> Self {
        let word = u32::from_le(self.0);
        // Read in little endian, the first byte is the lowest.
        let check = (word >> 16) + 1;
        // 0xffff is 0, and what carries goes round.
        let check = check + ((check + 1) >> 16);
        Self((((word & 0xffff) - 1) | (check << 16)).to_le())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csum;

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

    /// The same as the update of RFC 1624, for every checksum.
    #[test]
    fn a_hop_is_the_update_of_one_word() {
        for check in 0..=u16::MAX {
            for ttl in [2, 64, 255] {
                let hop = Ipv4Hop::new(ttl, PROTO_TCP, check).decrement();
                let word = |ttl| u16::from_ne_bytes([ttl, PROTO_TCP]);
                let expected = csum::update16(check, word(ttl), word(ttl - 1));
                assert_eq!((hop.ttl(), hop.check()), (ttl - 1, expected), "{check:#x}");
            }
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
