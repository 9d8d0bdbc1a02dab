// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel knows of this host's network, asked and followed through rtnetlink.
//!
//! `links`, `addrs`, `tables` (routes and rules) and `vmac` answer and change on request; `watch` tells of changes; `nexthop` follows
//! `routes` and `neigh` for the addresses of the real servers. Called by the VRRP driver, the
//! director and the agent's loop.

pub mod addrs;
mod ask;
pub mod links;
pub mod neigh;
pub mod nexthop;
pub mod routes;
pub mod tables;
pub mod vmac;
pub mod watch;
pub mod xdp;
