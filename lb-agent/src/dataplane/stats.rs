// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters of the program, by the names that users know.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_common::abi::Traffic;
use lb_common::verdict::Verdict;
use serde::Serialize;

use super::DataplaneError;
use super::loads::ConnCounts;
use super::maps::Maps;
use super::plan::Plan;
use crate::config::model::ServiceId;

/// Connections, packets and bytes from clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrafficCounts {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes of IP datagrams from clients.
    pub in_bytes: u64,
    /// Packets to clients; only those of masqueraded servers pass the director.
    pub out_packets: u64,
    /// Bytes of IP datagrams to clients.
    pub out_bytes: u64,
}

impl std::ops::AddAssign for TrafficCounts {
    fn add_assign(&mut self, other: Self) {
        self.conns += other.conns;
        self.in_packets += other.in_packets;
        self.in_bytes += other.in_bytes;
        self.out_packets += other.out_packets;
        self.out_bytes += other.out_bytes;
    }
}

impl From<Traffic> for TrafficCounts {
    fn from(t: Traffic) -> Self {
        Self {
            conns: t.conns,
            in_packets: t.in_packets,
            in_bytes: t.in_bytes,
            out_packets: t.out_packets,
            out_bytes: t.out_bytes,
        }
    }
}

/// Counters of one real server.
#[derive(Clone, Copy, Debug)]
pub struct ServerTraffic {
    /// The server.
    pub server: SocketAddr,
    /// Its counters.
    pub counts: TrafficCounts,
    /// Its connections.
    pub conns: ConnCounts,
}

/// Counters of one service.
#[derive(Clone, Debug)]
pub struct ServiceTraffic {
    /// The service.
    pub service: ServiceId,
    /// Its counters.
    pub counts: TrafficCounts,
    /// Those of its servers, also of servers that are out at the moment.
    pub servers: Vec<ServerTraffic>,
}

/// Everything the program counts.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// By verdict name.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// By service.
    pub services: Vec<ServiceTraffic>,
}

/// Reads the counters of all verdicts, services and servers.
pub(super) fn read(maps: &Maps, plan: &Plan) -> Result<Stats, DataplaneError> {
    let mut stats = Stats::default();
    for verdict in Verdict::ALL {
        stats
            .verdicts
            .insert(verdict.name(), maps.verdict(*verdict as u32)?);
    }
    for (service, _) in plan.services() {
        let mut all = TrafficCounts::default();
        // A server whose method changed has two rows.
        let mut servers: BTreeMap<SocketAddr, ServerTraffic> = BTreeMap::new();
        for (server, dest) in plan.servers(service) {
            let counts = maps.dest_traffic(dest)?.into();
            all += counts;
            let of = servers.entry(server).or_insert(ServerTraffic {
                server,
                counts: TrafficCounts::default(),
                conns: ConnCounts::default(),
            });
            of.counts += counts;
            of.conns += maps.loads.counts(dest);
        }
        stats.services.push(ServiceTraffic {
            service,
            counts: all,
            servers: servers.into_values().collect(),
        });
    }
    Ok(stats)
}
