// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands between the outer and the inner IP header: GRE (RFC 2784) and GUE
//! (draft-ietf-intarea-gue, as Linux's `fou` has it).

use bytemuck::{Pod, Zeroable};

/// GRE without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Gre {
    /// Bit 0 (0x8000): a checksum follows; network byte order.
    pub flags: u16,
    /// EtherType of the inner packet, network byte order.
    pub ethertype: u16,
}

impl Gre {
    /// Length, bytes.
    pub const LEN: usize = 4;
    /// A checksum follows, network byte order.
    pub const HAS_CHECKSUM: u16 = 0x8000_u16.to_be();
}

/// What follows [`Gre`] if its first flag is set.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct GreChecksum {
    /// Checksum of the GRE header and all that follows.
    pub check: u16,
    /// Zero.
    pub reserved: u16,
}

impl GreChecksum {
    /// Length, bytes.
    pub const LEN: usize = 4;
}

/// GUE version 0, a data message without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Gue {
    /// Version (2 bits), control bit, length of the options in words (5 bits).
    pub version_len: u8,
    /// IP protocol of the inner packet.
    pub proto: u8,
    /// Flags, none.
    pub flags: u16,
}

impl Gue {
    /// Length, bytes.
    pub const LEN: usize = 4;
}
