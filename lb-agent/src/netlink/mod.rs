// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room `netlink`.

pub mod addrs;
pub mod links;
pub mod neigh;
pub mod nexthop;
pub mod routes;
pub mod watch;
