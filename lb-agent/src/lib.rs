// SPDX-License-Identifier: MIT OR Apache-2.0
//! The xlvs agent: control plane of the XDP load balancer. See ARCHITECTURE.md for the map.

pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod health;
pub mod netlink;
pub mod vrrp;
