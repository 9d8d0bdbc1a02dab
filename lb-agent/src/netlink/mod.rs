// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room `netlink`.

pub mod addrs;
pub mod links;
