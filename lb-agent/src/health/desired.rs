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
use super::quorum::Quorums;
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
/// A failed server is left out, or has weight 0 with `inhibit_on_failure`. While quorum is lost a
/// sorry server takes the place of all others. Of services, and of servers in a service, with the
/// same identity the first counts. Each address of a group is a service.
pub fn desired(virtual_servers: &[VirtualServer], health: &Snapshot, quorums: &Quorums) -> Desired {
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
                persistence: vs.persistence.map(|persistence| of_family(persistence, id)),
                one_packet: vs.one_packet,
                servers: servers_of(vs, id, health, quorums),
            })
            .collect(),
    }
}

/// A group of both families has one granularity, which may be longer than an IPv4 address.
fn of_family(persistence: Persistence, id: ServiceId) -> Persistence {
    let width = if id.addr.is_ipv4() { 32 } else { 128 };
    Persistence {
        granularity: persistence.granularity.min(width),
        ..persistence
    }
}

/// The servers of one of the services of `vs`, which share their health.
fn servers_of(
    vs: &VirtualServer,
    id: ServiceId,
    health: &Snapshot,
    quorums: &Quorums,
) -> Vec<DesiredServer> {
    let sorry = vs.sorry_server.as_ref();
    let needed = sorry.is_some() && !quorums.holds(vs.id);
    let mut seen = BTreeSet::new();
    let mut servers = Vec::new();
    for rs in &vs.real_servers {
        if !seen.insert(rs.addr_for(id)) {
            continue;
        }
        // KEEPALIVED: gives way to the sorry server as if it had failed.
        let up = health.is_up(vs.id, rs.addr) && !needed;
        if let Some(weight) = effective_weight(rs, up) {
            servers.push(DesiredServer {
                addr: rs.addr_for(id),
                method: rs.method,
                weight,
                upper_threshold: rs.upper_threshold,
                lower_threshold: rs.lower_threshold,
            });
        }
    }
    if let Some(sorry) = sorry.filter(|sorry| needed || sorry.inhibit) {
        let addr = sorry.method.target(sorry.addr, id);
        let server = DesiredServer::new(addr, sorry.method, u32::from(needed));
        match servers.iter_mut().find(|server| server.addr == addr) {
            Some(twin) if needed => *twin = server,
            Some(_) => {}
            None => servers.push(server),
        }
    }
    servers
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
    use crate::config::model::{SorryServer, Tunnel};
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
        let desired = desired(&[vs], &health(1, &[false, true, true]), &Quorums::default());
        let addrs: Vec<_> = desired.services[0].servers.iter().map(|s| s.addr).collect();
        assert_eq!(addrs, [server(3), server(2)]);
    }

    #[test]
    fn inhibit_on_failure_keeps_a_failed_server_with_weight_0() {
        let mut rs = real_server(server(1));
        (rs.weight, rs.inhibit_on_failure) = (7, true);
        let vs = [virtual_server(1, vec![rs])];
        let weight =
            |up| desired(&vs, &health(1, &[up]), &Quorums::default()).services[0].servers[0].weight;
        assert_eq!((weight(true), weight(false)), (7, 0));
    }

    #[test]
    fn service_without_a_server_that_is_up_stays_a_service() {
        let vs = [virtual_server(1, vec![real_server(server(1))])];
        let desired = desired(&vs, &health(1, &[false]), &Quorums::default());
        assert_eq!(desired.services.len(), 1);
        assert_eq!(desired.services[0].servers, []);
    }

    #[test]
    fn second_server_with_the_same_address_is_ignored() {
        let mut twin = real_server(server(1));
        twin.weight = 9;
        let vs = [virtual_server(1, vec![real_server(server(1)), twin])];
        let desired = desired(&vs, &Snapshot::default(), &Quorums::default());
        assert_eq!(desired.services[0].servers.len(), 1);
        assert_eq!(desired.services[0].servers[0].weight, 1);
    }

    #[test]
    fn sorry_server_takes_the_place_of_all_while_quorum_is_lost() {
        let mut inhibited = real_server(server(2));
        inhibited.inhibit_on_failure = true;
        let mut vs = virtual_server(1, vec![real_server(server(1)), inhibited]);
        vs.quorum = 2;
        let mut look = |sorry_inhibit, states: &[bool]| {
            vs.sorry_server = Some(SorryServer {
                addr: server(9),
                method: ForwardMethod::Tun(Tunnel::Ipip),
                inhibit: sorry_inhibit,
            });
            let vs = std::slice::from_ref(&vs);
            let health = health(1, states);
            let mut quorums = Quorums::default();
            quorums.configure(vs, &health, false);
            let servers = desired(vs, &health, &quorums).services.remove(0).servers;
            servers
                .into_iter()
                .map(|s| (s.addr, s.weight, s.method == ForwardMethod::Dr))
                .collect::<Vec<_>>()
        };
        let both = [(server(1), 1, true), (server(2), 1, true)];
        assert_eq!(look(false, &[true, true]), both);
        let sorry = (server(9), 1, false);
        let kept = (server(2), 0, true);
        assert_eq!(look(false, &[false, true]), [kept, sorry]);
        assert_eq!(look(false, &[true, false]), [kept, sorry]);
        let asleep = (server(9), 0, false);
        assert_eq!(look(true, &[true, true]), [both[0], both[1], asleep]);
        assert_eq!(look(true, &[true, false]), [kept, sorry]);
    }

    #[test]
    fn each_address_of_a_group_is_a_service_with_the_health_of_the_first() {
        let mut vs = virtual_server(1, vec![real_server(server(1)), real_server(server(2))]);
        let other = ServiceId {
            port: 443,
            ..service(2)
        };
        let six = ServiceId {
            addr: "2001:db8::1".parse().unwrap(),
            ..service(1)
        };
        vs.also = vec![other, six];
        vs.real_servers[1].method = ForwardMethod::Nat;
        vs.persistence = Some(Persistence {
            timeout: std::time::Duration::from_secs(9),
            granularity: 128,
        });
        let all = desired(&[vs], &health(1, &[true, true]), &Quorums::default()).services;
        let ids: Vec<_> = all.iter().map(|s| s.id).collect();
        assert_eq!(ids, [service(1), other, six]);
        let ports: Vec<_> = all[1].servers.iter().map(|s| s.addr.port()).collect();
        assert_eq!(
            ports,
            [443, 80],
            "DR takes the service's port, NAT has its own"
        );
        let bits = |n: usize| all[n].persistence.unwrap().granularity;
        assert_eq!((bits(0), bits(2)), (32, 128));
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
            let result = desired(&vs, &health(1, &states), &Quorums::default());
            prop_assert_eq!(&result, &desired(&vs, &health(1, &states), &Quorums::default()));

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
