// SPDX-License-Identifier: MIT OR Apache-2.0
//! IPv6 (RFC 8200).

use bytemuck::{Pod, Zeroable};

/// Protocol number of ICMPv6.
pub const PROTO_ICMPV6: u8 = 58;
/// Next-header number of the fragment header.
pub const EXT_FRAGMENT: u8 = 44;

/// The fixed header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ipv6 {
    /// Version (4 bits), traffic class (8 bits) and flow label (20 bits), network byte order.
    pub version_class_label: u32,
    /// Length of what follows this header, network byte order.
    pub payload_len: u16,
    /// What follows: a protocol or an extension header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: [u32; 4],
    /// Destination address.
    pub dst: [u32; 4],
}

impl Ipv6 {
    /// Length, bytes.
    pub const LEN: usize = 40;
    /// Where the hop limit stands, bytes into the header.
    pub const HOP_LIMIT: usize = 7;

    /// Version field.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        (u32::from_be(self.version_class_label) >> 28) as u8
    }

    /// Length of what follows, host byte order.
    #[inline(always)]
    pub const fn payload_len(&self) -> usize {
        u16::from_be(self.payload_len) as usize
    }

    /// Traffic class: DSCP and ECN.
    #[inline(always)]
    pub const fn traffic_class(&self) -> u8 {
        (u32::from_be(self.version_class_label) >> 20) as u8
    }

    /// The first word of a header with this traffic class and flow label (20 bits).
    #[inline(always)]
    pub const fn first_word(traffic_class: u8, label: u32) -> u32 {
        (6 << 28 | (traffic_class as u32) << 20 | (label & 0x000f_ffff)).to_be()
    }
}

/// The fragment header (RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ipv6Fragment {
    /// What the fragmentable part begins with; that of the first fragment counts.
    pub next_header: u8,
    /// Reserved.
    pub reserved: u8,
    /// Offset in 8-byte units (13 bits), reserved (2 bits), more fragments (1 bit), network byte
    /// order.
    pub place: u16,
    /// Identification, network byte order.
    pub id: u32,
}

impl Ipv6Fragment {
    /// Length, bytes.
    pub const LEN: usize = 8;

    /// Nothing of the fragmentable part is before this fragment.
    #[inline(always)]
    pub const fn is_first(&self) -> bool {
        self.place & 0xfff8_u16.to_be() == 0
    }

    /// More fragments follow.
    #[inline(always)]
    pub const fn has_more(&self) -> bool {
        self.place & 1_u16.to_be() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_s_place_is_offset_and_flag() {
        let place = |place: u16| {
            let header = Ipv6Fragment {
                place: place.to_be(),
                ..Zeroable::zeroed()
            };
            (header.is_first(), header.has_more())
        };
        assert_eq!(place(0x0000), (true, false));
        assert_eq!(place(0x0001), (true, true));
        assert_eq!(place(0x0006), (true, false), "reserved bits");
        assert_eq!(place(0x0008), (false, false));
        assert_eq!(place(0xfff9), (false, true));
    }

    #[test]
    fn first_word_holds_class_and_label() {
        let mut ip: Ipv6 = Zeroable::zeroed();
        ip.version_class_label = Ipv6::first_word(0xb9, 0x1_2345);
        assert_eq!((ip.version(), ip.traffic_class()), (6, 0xb9));
        assert_eq!(
            ip.version_class_label.to_ne_bytes(),
            [0x6b, 0x91, 0x23, 0x45]
        );
    }
}
