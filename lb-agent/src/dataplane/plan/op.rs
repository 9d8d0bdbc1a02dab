// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes to the maps, as data: what a plan is made of.

use lb_common::abi::{Dest, HashLine, Link, MemberLine, Service, ServiceKey, Settings, Tunnel};
use serde::{Deserialize, Serialize};

use super::keep;

/// One write to a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "fields are the map's key and value")]
pub enum Op {
    /// Writes what holds for all services.
    PutSettings {
        #[serde(with = "keep::pod")]
        row: Settings,
    },
    /// Writes 64 bits of the address filter.
    PutFilter { index: u32, row: u64 },
    /// Makes an interface known.
    PutLink {
        ifindex: u32,
        #[serde(with = "keep::pod")]
        row: Link,
    },
    /// Makes a virtual MAC address ours.
    PutMac { key: u64 },
    /// It is another director's from now on.
    RemoveMac { key: u64 },
    /// Writes a real server's row.
    PutDest {
        id: u32,
        #[serde(with = "keep::pod")]
        row: Dest,
    },
    /// Writes what the outer header towards a real server needs.
    PutTunnel {
        id: u32,
        #[serde(with = "keep::pod")]
        row: Tunnel,
    },
    /// Sets the thresholds of a real server; its connections stay counted.
    SetThresholds { id: u32, upper: u32, lower: u16 },
    /// Writes a server list, line by line from `first`.
    PutMembers {
        first: u32,
        #[serde(with = "keep::pods")]
        rows: Vec<MemberLine>,
    },
    /// Writes the table of a hashing scheduler, line by line from `first`.
    PutHashLines {
        first: u32,
        #[serde(with = "keep::pods")]
        rows: Vec<HashLine>,
    },
    /// Sets a scheduler's cursor.
    PutCursor { service: u32, cursor: u64 },
    /// Writes a row that no service points to.
    PutServiceRow {
        row: u32,
        #[serde(with = "keep::pod")]
        service: Service,
    },
    /// Points a service to its row, or adds it.
    PutService {
        #[serde(with = "keep::pod")]
        key: ServiceKey,
        row: u32,
    },
    /// Removes a service.
    RemoveService {
        #[serde(with = "keep::pod")]
        key: ServiceKey,
    },
    /// Starts the counters of a real server, and of its connections, at zero.
    ZeroDest { id: u32 },
}
