// SPDX-License-Identifier: MIT OR Apache-2.0
//! An interface of the director.

use bytemuck::{Pod, Zeroable};

use crate::wire::{EthWords, Mac};

/// A row of [`Shared`](super::Shared), by interface index.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Link {
    /// The interface's own MAC: frames to another one are not ours (a bridge floods those), frames
    /// we send carry it as their source.
    pub mac: Mac,
    /// `LINK_*` flags.
    pub known: u8,
    /// Zero.
    pub zero: u8,
}

/// Flag: the agent has written this row.
pub const LINK_KNOWN: u8 = 1;
/// Flag: frames to further MAC addresses are ours, too (`use_vmac`), see `MACS`.
pub const LINK_VIRTUAL: u8 = 2;

/// Rows of `MACS`.
pub const MAX_MACS: u32 = 4096;

/// Key of `MACS`: an interface and a MAC address.
#[inline(always)]
pub const fn mac_key(ifindex: u32, eth: &EthWords) -> u64 {
    eth.dst_first as u64 | (eth.dst_last as u64) << 32 | (ifindex as u64) << 48
}

impl Link {
    /// True if a frame is addressed to this interface.
    #[inline(always)]
    pub fn is_dst_of(&self, eth: &EthWords) -> bool {
        let words: &LinkWords = bytemuck::cast_ref(self);
        words.known != 0 && words.mac_first == eth.dst_first && words.mac_last == eth.dst_last
    }
}

/// A [`Link`] as words, to compare with [`EthWords`].
#[repr(C, align(8))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LinkWords {
    mac_first: u32,
    mac_last: u16,
    known: u8,
    zero: u8,
}

/// Rows of `HOPS`.
pub const MAX_HOPS: u32 = 4096;

/// The way to a client, as replies of masqueraded servers take it: a row of `HOPS`, by hash.
///
/// The kernel's routing table is asked when the row is older than [`HOP_TICKS`]. Until it has an
/// answer, replies go back where the client's own packet came from: the neighbour is often not
/// known, because the director's stack has seen nothing of the client.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Hop {
    /// Odd while the row is written; another number after each change.
    pub version: u64,
    /// The client, as in the packet.
    pub client: super::AddrWords,
    /// Destination MAC.
    pub to: Mac,
    /// Source MAC.
    pub from: Mac,
    /// Interface; 0 for a row not in use.
    pub ifindex: u32,
    /// Tick of the last answer of the routing table.
    pub asked: u32,
    /// Zero.
    pub zero: u32,
}

/// How long an answer of the routing table holds, ticks.
pub const HOP_TICKS: u32 = 1;
