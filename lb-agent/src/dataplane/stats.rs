// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters of the program, by the names that users know.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_common::abi::Traffic;
use lb_common::verdict::Verdict;
use serde::Serialize;

use super::DataplaneError;
use super::conns::ConnCounts;
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
}

impl From<Traffic> for TrafficCounts {
    fn from(t: Traffic) -> Self {
        Self {
            conns: t.conns,
            in_packets: t.in_packets,
            in_bytes: t.in_bytes,
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
pub(super) fn read(
    maps: &Maps,
    plan: &Plan,
    conns: &BTreeMap<(u16, u16), ConnCounts>,
) -> Result<Stats, DataplaneError> {
    let mut stats = Stats::default();
    for verdict in Verdict::ALL {
        stats
            .verdicts
            .insert(verdict.name(), maps.verdict(*verdict as u32)?);
    }
    for (service, id) in plan.services() {
        let mut servers = Vec::new();
        for (server, dest) in plan.servers(service) {
            servers.push(ServerTraffic {
                server,
                counts: maps.dest_traffic(dest)?.into(),
                conns: plan
                    .dest_generation(service, server)
                    .and_then(|generation| conns.get(&(dest as u16, generation)))
                    .copied()
                    .unwrap_or_default(),
            });
        }
        let counts = maps.service_traffic(id)?.into();
        stats.services.push(ServiceTraffic {
            service,
            counts,
            servers,
        });
    }
    Ok(stats)
}
