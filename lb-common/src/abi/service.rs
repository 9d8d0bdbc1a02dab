// SPDX-License-Identifier: MIT OR Apache-2.0
//! A `virtual_server` as the packet program sees it.

use bytemuck::{Pod, Zeroable};

/// Round robin (`lb_algo rr`).
pub const SCHED_RR: u8 = 1;
/// Weighted round robin (`lb_algo wrr`).
pub const SCHED_WRR: u8 = 2;

/// Address, port and protocol of a virtual service, as they stand in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct ServiceKey {
    /// IPv4 address, network byte order (the bytes of the address in order).
    pub addr: [u8; 4],
    /// Port, network byte order.
    pub port: [u8; 2],
    /// IP protocol number (6 TCP, 17 UDP).
    pub proto: u8,
    /// Zero.
    pub zero: u8,
}

/// What a packet needs to know of a virtual service.
///
/// The row is replaced as a whole, so a packet sees either the old server list or the new one:
/// members are written to a fresh range of `MEMBERS` first, then this row points to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Service {
    /// Index into `CURSORS` and `SERVICE_TRAFFIC`.
    pub id: u32,
    /// First row of this service in `MEMBERS`.
    pub first_member: u32,
    /// Number of rows in `MEMBERS`, at most `MAX_SERVICE_DESTS`.
    pub members: u32,
    /// Greatest weight less (gcd - 1): what IPVS's wrr starts its descent from; 0 if all weights
    /// are 0.
    pub max_weight: u32,
    /// Greatest common divisor of all weights above 0, or 1.
    pub weight_gcd: u32,
    /// Raised with each change of the server list; a scheduler's cursor of another epoch is reset.
    pub epoch: u16,
    /// `SCHED_*`.
    pub scheduler: u8,
    /// Zero.
    pub zero: u8,
    /// Zero; room for flags, timeouts and persistence.
    pub reserved: u64,
}

/// One real server in a service's list, in scheduling order.
///
/// IPVS puts a new server at the head of the list; the agent writes them in that order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Member {
    /// Index into `DESTS`.
    pub dest: u32,
    /// Weight; 0 takes no new connection and keeps those it has.
    pub weight: u32,
}
