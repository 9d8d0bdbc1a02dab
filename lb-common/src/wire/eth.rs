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
