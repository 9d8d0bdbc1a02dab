// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the first fragment of a datagram went.

use bytemuck::{Pod, Zeroable};

use super::AddrWords;

/// Datagrams in fragments that are remembered, the longest unused making room.
pub const MAX_FRAGMENTS: u32 = 16_384;

/// Key of `FRAGMENTS`: what the fragments of one datagram share (RFC 791, RFC 8200 section 4.5), as
/// in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FragmentKey {
    /// Source address.
    pub src: AddrWords,
    /// Destination address.
    pub dst: AddrWords,
    /// Identification: 16 bits of it in IPv4.
    pub id: u32,
    /// Protocol in IPv4. In IPv6, whose fragments need not agree in it, [`FRAGMENT_IPV6`].
    pub proto: u32,
}

/// [`FragmentKey::proto`] of IPv6: no protocol.
pub const FRAGMENT_IPV6: u32 = 0x100;

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
