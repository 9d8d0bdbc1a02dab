// SPDX-License-Identifier: MIT OR Apache-2.0
//! ICMP (RFC 792) and ICMPv6 (RFC 4443): their common header.

use bytemuck::{Pod, Zeroable};

/// Type, code, checksum and four bytes that depend on the type.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum; ICMPv6's covers a pseudo-header, too.
    pub check: u16,
    /// Identifier and sequence number of an echo, the size that fits of "too big", network byte
    /// order.
    pub rest: u32,
}

impl Icmp {
    /// Length, bytes.
    pub const LEN: usize = 8;

    /// Sum of its words, checksum included, not folded.
    #[inline(always)]
    pub const fn sum(&self) -> u32 {
        u16::from_ne_bytes([self.kind, self.code]) as u32
            + self.check as u32
            + (self.rest & 0xffff)
            + (self.rest >> 16)
    }
}
