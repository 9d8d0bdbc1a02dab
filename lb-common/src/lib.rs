// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the packet program and the agent must agree on, and the pure rules both follow.
//!
//! No I/O, no clock, no allocation, no `unsafe`: the same source is compiled for the kernel and
//! for the host, and tested on the host.
//!
//! - [`abi`]: the byte layout of every map key and value, defined once.
//! - [`wire`]: header views (Ethernet, VLAN, IPv4, IPv6, TCP, UDP, SCTP, ICMP, GRE).
//! - [`csum`]: RFC 1071 sums and RFC 1624 updates.
//! - [`crc32c`]: what a changed port does to SCTP's checksum.
//! - [`hash`]: the keyed hash that spreads flows over the connection table.
//! - [`sched`]: the schedulers, one rule a file, with IPVS's choices in IPVS's order.
//! - [`state`]: states of connections, their timeouts and transitions, a file a protocol.
//! - [`verdict`]: every way a packet can leave, with its name, sentence and counter.

#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod crc32c;
pub mod csum;
pub mod hash;
pub mod sched;
pub mod state;
pub mod verdict;
pub mod wire;
