// SPDX-License-Identifier: MIT OR Apache-2.0
//! A `real_server` of one service as the packet program sees it.

use bytemuck::{Pod, Zeroable};

use crate::wire::Mac;

/// Flag: this row holds a server. A connection whose row lost it leads nowhere.
pub const DEST_PRESENT: u8 = 1;

/// Direct routing (`lb_kind DR`): only the MAC addresses change.
pub const METHOD_DIRECT: u8 = 1;

/// Row of `DESTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Dest {
    /// Where the frame goes: eight bytes that are written and read as one word, so that no packet
    /// sees half of a changed address.
    pub next_hop: NextHop,
    /// IPv4 address, network byte order.
    pub addr: [u8; 4],
    /// Port, network byte order.
    pub port: [u8; 2],
    /// `METHOD_*`.
    pub method: u8,
    /// `DEST_*` flags.
    pub flags: u8,
    /// Raised each time the row is given to another server, so that an old connection is not sent
    /// to its successor.
    pub generation: u32,
    /// Interface the frame leaves by.
    pub ifindex: u32,
    /// Id of the service that this server belongs to, for the counters.
    pub service: u32,
    /// Virtual address of that service, as it stands in the packet: a connection's slot does not
    /// hold it.
    pub virt: u32,
}

/// MAC address of the next hop towards a real server, as the agent learnt it from the kernel's
/// neighbour table.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct NextHop {
    /// Destination MAC of the frame.
    pub mac: Mac,
    /// 1 once the address is known.
    pub resolved: u8,
    /// Zero.
    pub zero: u8,
}
