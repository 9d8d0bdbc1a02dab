// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the data plane should hold, given the configuration and the servers' health.
//!
//! Comes in: the `virtual_server` blocks and a [`Snapshot`]. Goes out: a [`Desired`], plain data
//! that can be compared with what the data plane holds.
//!
//! Invariant: the same inputs give the same result; a server's health touches nothing but its own
//! line. Pure. Called by the agent whenever either input changed; read by `dataplane::plan`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::board::Snapshot;
use crate::config::model::{
    ForwardMethod, Persistence, RealServer, Scheduler, SchedulerFlags, ServiceId, VirtualServer,
};

/// All services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// In the order of the file. A service without a server that is up is here with no servers.
    pub services: Vec<DesiredService>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredService {
    /// Its identity.
    pub id: ServiceId,
    /// `lb_algo`.
    pub scheduler: Scheduler,
    /// `sh-port`, `mh-fallback` and so on.
    pub flags: SchedulerFlags,
    /// `persistence_timeout` and `persistence_granularity`.
    pub persistence: Option<Persistence>,
    /// `ops`: each packet is scheduled for itself.
    pub one_packet: bool,
    /// Its servers in the order of the file.
    pub servers: Vec<DesiredServer>,
}

/// One server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredServer {
    /// Address and port.
    pub addr: SocketAddr,
    /// `lb_kind` / `lvs_method`.
    pub method: ForwardMethod,
    /// Weight in effect; 0 keeps its connections and takes no new one.
    pub weight: u32,
    /// `uthreshold`; 0 for no limit.
    pub upper_threshold: u32,
    /// `lthreshold`; 0 for three quarters of the upper one.
    pub lower_threshold: u32,
}

impl DesiredService {
    /// A service without flags, persistence and one-packet scheduling.
    pub fn new(id: ServiceId, scheduler: Scheduler, servers: Vec<DesiredServer>) -> Self {
        Self {
            id,
            scheduler,
            flags: SchedulerFlags::default(),
            persistence: None,
            one_packet: false,
            servers,
        }
    }
}

impl DesiredServer {
    /// A server without thresholds.
    pub fn new(addr: SocketAddr, method: ForwardMethod, weight: u32) -> Self {
        Self {
            addr,
            method,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }
}

/// Folds configuration and health into what the data plane should hold.
///
/// A failed server is left out, or has weight 0 with `inhibit_on_failure`. Of services, and of
/// servers in a service, with the same identity the first counts. Each address of a group is a
/// service.
pub fn desired(virtual_servers: &[VirtualServer], health: &Snapshot) -> Desired {
    let mut seen = BTreeSet::new();
    Desired {
        services: virtual_servers
            .iter()
            .flat_map(|vs| vs.ids().map(move |id| (vs, id)))
            .filter(|(_, id)| seen.insert(*id))
            .map(|(vs, id)| DesiredService {
                id,
                scheduler: vs.scheduler,
                flags: vs.flags,
                persistence: vs.persistence,
                one_packet: vs.one_packet,
                servers: servers_of(vs, id, health),
            })
            .collect(),
    }
}

/// The servers of one of the services of `vs`, which share their health.
fn servers_of(vs: &VirtualServer, id: ServiceId, health: &Snapshot) -> Vec<DesiredServer> {
    let mut seen = BTreeSet::new();
    vs.real_servers
        .iter()
        .filter(|rs| seen.insert(rs.addr_for(id)))
        .filter_map(|rs| {
            effective_weight(rs, health.is_up(vs.id, rs.addr)).map(|weight| DesiredServer {
                addr: rs.addr_for(id),
                method: rs.method,
                weight,
                upper_threshold: rs.upper_threshold,
                lower_threshold: rs.lower_threshold,
            })
        })
        .collect()
}

/// The weight in effect, or None if the server is to be left out.
fn effective_weight(rs: &RealServer, up: bool) -> Option<u32> {
    match (up, rs.inhibit_on_failure) {
        (true, _) => Some(rs.weight),
        (false, true) => Some(0),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::{ServerHealth, ServerKey};
    use super::super::fixture::{real_server, server, service, virtual_server};
    use super::*;
    use proptest::prelude::*;

    /// Health of the servers 1, 2, … of service `n`.
    fn health(n: u8, states: &[bool]) -> Snapshot {
        Snapshot {
            servers: (1u8..)
                .zip(states)
                .map(|(s, &up)| {
                    let key = ServerKey {
                        service: service(n),
                        server: server(s),
                    };
                    let checks = Vec::new();
                    (key, ServerHealth { up, checks })
                })
                .collect(),
        }
    }

    #[test]
    fn failed_server_is_left_out_and_the_order_of_the_file_stays() {
        let vs = virtual_server(1, [3, 1, 2].map(|n| real_server(server(n))).to_vec());
        let desired = desired(&[vs], &health(1, &[false, true, true]));
        let addrs: Vec<_> = desired.services[0].servers.iter().map(|s| s.addr).collect();
        assert_eq!(addrs, [server(3), server(2)]);
    }

    #[test]
    fn inhibit_on_failure_keeps_a_failed_server_with_weight_0() {
        let mut rs = real_server(server(1));
        (rs.weight, rs.inhibit_on_failure) = (7, true);
        let vs = [virtual_server(1, vec![rs])];
        let weight = |up| desired(&vs, &health(1, &[up])).services[0].servers[0].weight;
        assert_eq!((weight(true), weight(false)), (7, 0));
    }

    #[test]
    fn service_without_a_server_that_is_up_stays_a_service() {
        let vs = [virtual_server(1, vec![real_server(server(1))])];
        let desired = desired(&vs, &health(1, &[false]));
        assert_eq!(desired.services.len(), 1);
        assert_eq!(desired.services[0].servers, []);
    }

    #[test]
    fn second_server_with_the_same_address_is_ignored() {
        let mut twin = real_server(server(1));
        twin.weight = 9;
        let vs = [virtual_server(1, vec![real_server(server(1)), twin])];
        let desired = desired(&vs, &Snapshot::default());
        assert_eq!(desired.services[0].servers.len(), 1);
        assert_eq!(desired.services[0].servers[0].weight, 1);
    }

    proptest! {
        #[test]
        fn each_server_depends_on_its_own_state_only(
            servers in prop::collection::vec((0u32..5, any::<bool>(), any::<bool>()), 0..12),
        ) {
            let real_servers = (1u8..).zip(&servers).map(|(n, &(weight, inhibit, _))| {
                let mut rs = real_server(server(n));
                (rs.weight, rs.inhibit_on_failure) = (weight, inhibit);
                rs
            });
            let vs = [virtual_server(1, real_servers.collect())];
            let states: Vec<bool> = servers.iter().map(|s| s.2).collect();
            let result = desired(&vs, &health(1, &states));
            prop_assert_eq!(&result, &desired(&vs, &health(1, &states)));

            let mut rest = result.services[0].servers.iter();
            for (n, (weight, inhibit, up)) in (1u8..).zip(servers) {
                if up || inhibit {
                    let line = rest.next().unwrap();
                    prop_assert_eq!(line.addr, server(n));
                    prop_assert_eq!(line.weight, if up { weight } else { 0 });
                }
            }
            prop_assert!(rest.next().is_none());
        }
    }
}
