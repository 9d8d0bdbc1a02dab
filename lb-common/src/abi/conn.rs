// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection: a flow and where it goes.

use bytemuck::{Pod, Zeroable};

/// The flow from a client to a virtual service, all fields in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct ConnKey {
    /// Client address.
    pub client: [u8; 4],
    /// Virtual address.
    pub virt: [u8; 4],
    /// Client port.
    pub client_port: [u8; 2],
    /// Virtual port.
    pub virt_port: [u8; 2],
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub zero: [u8; 3],
}

/// What is known of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Conn {
    /// Monotonic time of the last packet, nanoseconds (`bpf_ktime_get_ns`).
    pub last_seen_ns: u64,
    /// Index into `DESTS`.
    pub dest: u32,
    /// `Dest::generation` at the time of scheduling.
    pub generation: u32,
    /// `tcp_state::*` code; 0 for UDP.
    pub state: u8,
    /// Zero.
    pub zero: [u8; 7],
}
