// SPDX-License-Identifier: MIT OR Apache-2.0
//! The xlvs agent: control plane of the XDP load balancer. See ARCHITECTURE.md for the map.
//!
//! Rooms: [`config`] (text to meaning), [`vrrp`] (who is MASTER), [`health`] (which real servers
//! are fit), [`track`] (scripts that count for the election), [`notify`] (who is told of changes),
//! [`netlink`] (the kernel's links, addresses, routes, neighbours), [`dataplane`] (the packet
//! program and its maps), [`firewall`] (`no_accept`), [`control`] (the socket of `xlvs status`), [`supervisor`] (the agent's
//! parent), [`cli`]. `follow` is who follows live packets. [`app`] wires them.

pub mod app;
pub mod bfd;
pub mod cli;
pub mod config;
pub mod control;
mod counters;
pub mod dataplane;
pub mod director;
pub mod firewall;
mod follow;
pub mod health;
mod heap;
pub mod netlink;
pub mod notify;
mod realtime;
mod status;
pub mod supervisor;
mod systemd;
pub mod track;
pub mod vrrp;
