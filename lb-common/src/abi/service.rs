// SPDX-License-Identifier: MIT OR Apache-2.0
//! A `virtual_server` as the packet program sees it.

use bytemuck::{Pod, Zeroable};

use super::AddrWords;

/// Round robin (`lb_algo rr`).
pub const SCHED_RR: u8 = 1;
/// Weighted round robin (`lb_algo wrr`).
pub const SCHED_WRR: u8 = 2;
/// Least connections (`lb_algo lc`).
pub const SCHED_LC: u8 = 3;
/// Weighted least connections (`lb_algo wlc`).
pub const SCHED_WLC: u8 = 4;
/// Shortest expected delay (`lb_algo sed`).
pub const SCHED_SED: u8 = 5;
/// Never queue (`lb_algo nq`).
pub const SCHED_NQ: u8 = 6;
/// Source hashing (`lb_algo sh`).
pub const SCHED_SH: u8 = 7;
/// Destination hashing (`lb_algo dh`).
pub const SCHED_DH: u8 = 8;
/// Maglev hashing (`lb_algo mh`).
pub const SCHED_MH: u8 = 9;
/// Weighted failover (`lb_algo fo`).
pub const SCHED_FO: u8 = 10;
/// Weighted overflow (`lb_algo ovf`).
pub const SCHED_OVF: u8 = 11;
/// Locality-based least connections (`lb_algo lblc`).
pub const SCHED_LBLC: u8 = 12;
/// The same with replication (`lb_algo lblcr`).
pub const SCHED_LBLCR: u8 = 13;

/// Flag: sh and mh hash the client's port, too (`sh-port`, `mh-port`).
pub const SERVICE_HASH_PORT: u8 = 1;
/// Flag: sh and mh choose another server for one that is unusable (`sh-fallback`, `mh-fallback`).
pub const SERVICE_FALLBACK: u8 = 2;
/// Flag: clients are persistent (`persistence_timeout`).
pub const SERVICE_PERSISTENT: u8 = 4;
/// Flag: every datagram is scheduled on its own (`ops`).
pub const SERVICE_ONE_PACKET: u8 = 8;

/// Flag: the service takes any port.
pub const SERVICE_ANY_PORT: u8 = 16;

/// [`ServiceKey::family`] of an IPv4 service.
pub const FAMILY_IPV4: u8 = 4;
/// [`ServiceKey::family`] of an IPv6 service.
pub const FAMILY_IPV6: u8 = 6;

/// Address, port and protocol of a virtual service, as they stand in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct ServiceKey {
    /// Virtual address.
    pub addr: AddrWords,
    /// Port, network byte order; 0 is any port.
    pub port: u16,
    /// IP protocol number (6 TCP, 17 UDP, 132 SCTP).
    pub proto: u8,
    /// `FAMILY_*`.
    pub family: u8,
}

/// What a packet needs to know of a virtual service: a row of `SERVICE_ROWS`, one cache line.
///
/// A row is written once, where no packet looks; then `SERVICES` points to it. So a packet sees
/// either the old server list or the new one.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Service {
    /// Index into `CURSORS`; stays the same while the service lives.
    pub id: u32,
    /// First row of this service in `MEMBER_LINES`.
    pub first_member_line: u32,
    /// Number of its real servers, at most `MAX_SERVICE_DESTS`.
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
    /// `SERVICE_*` flags.
    pub flags: u8,
    /// sh, dh, mh: first line of the service's table in `HASH_LINES`.
    pub first_line: u32,
    /// Persistence: which bits of a client's address count, as in the packet.
    pub client_mask: AddrWords,
    /// Zero (VERIFIER: unknown to the verifier, see `lb_common::sched`).
    pub zero: u32,
    /// Zero.
    pub reserved: [u32; 4],
}

/// One real server in a service's list, in scheduling order.
///
/// IPVS puts a new server at the head of the list; the agent writes them in that order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Member {
    /// Index into `DESTS`.
    pub dest: u32,
    /// Weight; 0 takes no new connection and keeps those it has.
    pub weight: u32,
}

/// Members of a [`MemberLine`].
pub const LINE_MEMBERS: usize = 4;

/// Part of a service's list, so that one lookup does for several members. A row of `MEMBER_LINES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct MemberLine {
    /// In scheduling order; behind the last one are zeros, whose weight nobody takes.
    pub members: [Member; LINE_MEMBERS],
}

/// The lines of a list.
pub const fn member_lines(members: u32) -> u32 {
    members.div_ceil(LINE_MEMBERS as u32)
}

/// Entries of a [`HashLine`].
pub const HASH_LINE_ENTRIES: usize = 32;

/// Entry of a [`HashLine`] that leads nowhere.
pub const HASH_NOBODY: u16 = u16::MAX;

/// Part of the table by which sh, dh and mh choose: indexes into the service's members. A row of
/// `HASH_LINES`, one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct HashLine {
    /// The entries.
    pub entries: [u16; HASH_LINE_ENTRIES],
}
