// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the first fragment of an IPv4 datagram went.

use bytemuck::{Pod, Zeroable};

/// Datagrams in fragments that are remembered, the longest unused making room.
pub const MAX_FRAGMENTS: u32 = 16_384;

/// Key of `FRAGMENTS`: what the fragments of one datagram share (RFC 791), as in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FragmentKey {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Identification.
    pub id: u16,
    /// Protocol.
    pub proto: u8,
    /// Zero.
    pub zero: u8,
}

/// Value of `FRAGMENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Fragment {
    /// Id of the real server.
    pub dest: u32,
    /// Its `Dest::generation`.
    pub generation: u32,
    /// 1 if the datagram is the server's.
    pub reply: u32,
}
