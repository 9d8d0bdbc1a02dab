// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ethernet II and 802.1Q.

use bytemuck::{Pod, Zeroable};

/// EtherType of IPv4, host byte order.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6, host byte order.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad service tag (QinQ).
pub const ETHERTYPE_QINQ: u16 = 0x88a8;

/// A MAC address, as three words in memory order: a frame's address is two-byte aligned, and words
/// are what the packet program compares and copies.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Pod, Zeroable)]
pub struct Mac([u16; 3]);

impl Mac {
    /// From the six bytes in the order they are written.
    pub const fn new(b: [u8; 6]) -> Self {
        Self([
            u16::from_ne_bytes([b[0], b[1]]),
            u16::from_ne_bytes([b[2], b[3]]),
            u16::from_ne_bytes([b[4], b[5]]),
        ])
    }

    /// The six bytes in the order they are written.
    pub const fn bytes(self) -> [u8; 6] {
        let [a, b, c] = self.0;
        let (a, b, c) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes());
        [a[0], a[1], b[0], b[1], c[0], c[1]]
    }
}

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, byte) in self.bytes().into_iter().enumerate() {
            let separator = if i == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl core::fmt::Debug for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// ```text
///  0             6            12
/// +-------------+-------------+------------+
/// | destination | source      | EtherType  |
/// +-------------+-------------+------------+
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Eth {
    /// Destination MAC.
    pub dst: Mac,
    /// Source MAC.
    pub src: Mac,
    /// EtherType, network byte order.
    pub ethertype: u16,
}

/// The same as words, with the two bytes behind it: what is aligned to four bytes is loaded in four
/// instructions instead of seven. Every packet of an IP datagram is longer than this.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct EthWords {
    /// Destination MAC, the first four bytes.
    pub dst_first: u32,
    /// Destination MAC, the last two bytes.
    pub dst_last: u16,
    /// Source MAC, the first two bytes.
    pub src_first: u16,
    /// Source MAC, the last four bytes.
    pub src_last: u32,
    /// EtherType, network byte order.
    pub ethertype: u16,
    /// The beginning of what follows.
    pub next: u16,
}

/// Destination and source MAC: the first twelve bytes of a frame, as words.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Macs([u32; 3]);

impl Macs {
    /// From the two addresses.
    #[inline(always)]
    pub const fn new(dst: Mac, src: Mac) -> Self {
        let (Mac([a, b, c]), Mac([d, e, f])) = (dst, src);
        Self([pair(a, b), pair(c, d), pair(e, f)])
    }

    /// Destination MAC.
    #[inline(always)]
    pub const fn dst(self) -> Mac {
        let Self([first, second, _]) = self;
        let ([a, b], [c, _]) = (halves(first), halves(second));
        Mac([a, b, c])
    }

    /// Source MAC.
    #[inline(always)]
    pub const fn src(self) -> Mac {
        let Self([_, second, third]) = self;
        let ([_, a], [b, c]) = (halves(second), halves(third));
        Mac([a, b, c])
    }

    /// The first eight bytes and the last four, each as they are in memory.
    #[inline(always)]
    pub const fn split(self) -> (u64, u32) {
        let Self([a, b, c]) = self;
        let first = if cfg!(target_endian = "little") {
            a as u64 | (b as u64) << 32
        } else {
            (a as u64) << 32 | b as u64
        };
        (first, c)
    }

    /// From what [`Macs::split`] gives.
    #[inline(always)]
    pub const fn join(first: u64, rest: u32) -> Self {
        let (low, high) = (first as u32, (first >> 32) as u32);
        if cfg!(target_endian = "little") {
            Self([low, high, rest])
        } else {
            Self([high, low, rest])
        }
    }
}

/// Two words of two bytes as they stand one behind the other.
#[inline(always)]
const fn pair(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
const fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

impl Eth {
    /// Length, bytes.
    pub const LEN: usize = 14;

    /// EtherType, host byte order.
    #[inline(always)]
    pub const fn ethertype(&self) -> u16 {
        u16::from_be(self.ethertype)
    }
}

/// What follows a VLAN EtherType: tag control information, then the next EtherType.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Vlan {
    /// Priority (3 bits), DEI, VLAN id (12 bits), network byte order.
    pub tci: u16,
    /// EtherType of what follows, network byte order.
    pub ethertype: u16,
}

impl Vlan {
    /// Length, bytes.
    pub const LEN: usize = 4;

    /// EtherType of what follows, host byte order.
    #[inline(always)]
    pub const fn ethertype(&self) -> u16 {
        u16::from_be(self.ethertype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_as_words() {
        let (dst, src) = (
            Mac::new([1, 2, 3, 4, 5, 6]),
            Mac::new([7, 8, 9, 10, 11, 12]),
        );
        let macs = Macs::new(dst, src);
        assert_eq!(
            bytemuck::bytes_of(&macs),
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        );
        assert_eq!((macs.dst(), macs.src()), (dst, src));
        let (first, rest) = macs.split();
        assert_eq!(first.to_ne_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Macs::join(first, rest), macs);
    }
}
