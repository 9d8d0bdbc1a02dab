// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every limit of the data plane, with its reason. A configuration that exceeds one gets a
//! diagnostic that names it.

use super::member_lines;

/// Virtual services (rows of `SERVICES`).
pub const MAX_SERVICES: u32 = 32_768;

/// Rows of `SERVICE_ROWS`. A changed service gets a new row before the old one is freed.
pub const MAX_SERVICE_ROWS: u32 = 2 * MAX_SERVICES;

/// Lines of `HASH_LINES`, 64 bytes each. A service with mh needs 128 of them, one with sh or dh 8,
/// and while it changes twice that.
pub const MAX_HASH_LINES: u32 = 65_536;

/// Real servers over all services (rows of `DESTS`); ids are reused after removal.
pub const MAX_DESTS: u32 = 65_536;

/// Rows of `MEMBER_LINES`: the full lines of all servers, and one more a service that is not full. A
/// change of a service's server list writes a new range before the old one is freed, so there must be
/// room for twice that.
pub const MAX_MEMBER_LINES: u32 = 2 * (member_lines(MAX_DESTS) + MAX_SERVICES);

/// Real servers of one service: one scheduling decision may look at each of them twice.
pub const MAX_SERVICE_DESTS: u32 = 256;

/// Interface indexes are used as an array index, which costs the packet no helper call.
pub const MAX_LINKS: u32 = 4_096;

/// Connections kept unless configured otherwise; beyond it those that matter least make room.
pub const DEFAULT_CONNS: u32 = 1 << 20;

/// IPv6 connections kept for each IPv4 connection of the capacity: a quarter.
pub const CONN6_SHARE: u32 = 4;

/// Most connections that may be configured: 32 bytes each, 512 MiB (and 256 MiB for IPv6).
pub const MAX_CONNS: u32 = 16 << 20;
