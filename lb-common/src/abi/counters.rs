// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters, summed over CPUs by the agent.

use bytemuck::{Pod, Zeroable};

/// Slots of `VERDICTS`: more than there are verdicts, so that the map need not grow with each one.
pub const VERDICT_SLOTS: u32 = 64;

/// Per real server, as `ipvsadm --stats` names them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Traffic {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes from clients: the length of the IP datagram, as IPVS counts (no Ethernet header).
    pub in_bytes: u64,
    /// Packets to clients; only masqueraded replies pass the director.
    pub out_packets: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}
