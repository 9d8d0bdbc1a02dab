// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quorum: whether enough of a virtual server's real servers are up; and who is to be told of it.
//!
//! Comes in: the configuration with a [`Snapshot`], then each [`RealServerEvent`]. Goes out: the
//! [`ServiceNotice`]s that follow, in order, and [`Quorums::holds`] for `desired`.
//!
//! Invariant: quorum is gained at a weight of `quorum + hysteresis`, lost below
//! `quorum - hysteresis` or at 0, and stays what it is in between. Pure. Called by the agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::board::{RealServerEvent, Snapshot};
use crate::config::model::{ServiceId, VirtualServer};

/// Something that scripts and FIFOs are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceNotice {
    /// The virtual server.
    pub service: ServiceId,
    /// What of it.
    pub what: Subject,
    /// Up, or quorum is there.
    pub up: bool,
}

/// What a [`ServiceNotice`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A real server.
    Server(SocketAddr),
    /// Quorum.
    Quorum {
        /// Weight of the servers that are up.
        weight: u64,
        /// At which it was gained, or below which it was lost; 0 if the service itself ended.
        threshold: u64,
    },
}

/// All virtual servers as they were last told of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quorums {
    services: BTreeMap<ServiceId, State>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    holds: bool,
    /// Weight, and whether it is up.
    servers: BTreeMap<SocketAddr, (u32, bool)>,
}

impl State {
    /// KEEPALIVED: `weigh_live_realservers`.
    fn weight(&self) -> u64 {
        let up = self.servers.values().filter(|(_, up)| *up);
        up.map(|(weight, _)| u64::from(*weight)).sum()
    }

    /// KEEPALIVED: `update_quorum_state`.
    fn update(&mut self, vs: &VirtualServer) -> Option<Subject> {
        let weight = self.weight();
        let (quorum, hysteresis) = (u64::from(vs.quorum), u64::from(vs.hysteresis));
        let (threshold, holds) = if self.holds {
            let threshold = quorum.saturating_sub(hysteresis);
            (threshold, weight > 0 && weight >= threshold)
        } else {
            (quorum + hysteresis, weight >= quorum + hysteresis)
        };
        let changed = holds != self.holds;
        self.holds = holds;
        changed.then_some(Subject::Quorum { weight, threshold })
    }
}

impl Quorums {
    /// Whether a virtual server has its quorum. One that is not known has none.
    pub fn holds(&self, service: ServiceId) -> bool {
        self.services.get(&service).is_some_and(|state| state.holds)
    }

    /// Takes in a configuration: the first one, or a new one. With `tell_first` real servers that
    /// are new and up are told of (`rs_init_notifies`).
    ///
    /// KEEPALIVED: what a reload removes is told of as down. Quorum that is there from the start is
    /// told of; that it is not there, only if the sorry server has to do with it.
    pub fn configure(
        &mut self,
        virtual_servers: &[VirtualServer],
        health: &Snapshot,
        tell_first: bool,
    ) -> Vec<ServiceNotice> {
        let mut before = std::mem::take(&mut self.services);
        let mut notices = Vec::new();
        for vs in virtual_servers {
            let old = before.remove(&vs.id);
            let is_new = old.is_none();
            let old = old.unwrap_or_default();
            let mut state = State {
                holds: old.holds,
                servers: BTreeMap::new(),
            };
            let tell = |notices: &mut Vec<_>, what, up| {
                notices.push(ServiceNotice {
                    service: vs.id,
                    what,
                    up,
                });
            };
            for rs in &vs.real_servers {
                let up = health.is_up(vs.id, rs.addr);
                state.servers.entry(rs.addr).or_insert((rs.weight, up));
                let told = match old.servers.get(&rs.addr) {
                    Some((_, was_up)) => *was_up != up,
                    None => tell_first && up,
                };
                if told {
                    tell(&mut notices, Subject::Server(rs.addr), up);
                }
            }
            for (addr, (_, up)) in old.servers {
                if up && !state.servers.contains_key(&addr) {
                    tell(&mut notices, Subject::Server(addr), false);
                }
            }
            match state.update(vs) {
                Some(what) => tell(&mut notices, what, state.holds),
                None if is_new && !state.holds && vs.sorry_server.is_some() => {
                    let weight = state.weight();
                    let threshold = u64::from(vs.quorum) + u64::from(vs.hysteresis);
                    tell(&mut notices, Subject::Quorum { weight, threshold }, false);
                }
                None => {}
            }
            self.services.insert(vs.id, state);
        }
        notices.extend(before.iter().flat_map(|(id, state)| down(*id, state)));
        notices
    }

    /// Takes in that a real server went up or down.
    pub fn server_changed(
        &mut self,
        virtual_servers: &[VirtualServer],
        event: &RealServerEvent,
    ) -> Vec<ServiceNotice> {
        let vs = virtual_servers.iter().find(|vs| vs.id == event.service);
        let (Some(vs), Some(state)) = (vs, self.services.get_mut(&event.service)) else {
            return Vec::new();
        };
        let Some((_, up)) = state.servers.get_mut(&event.server) else {
            return Vec::new();
        };
        if *up == event.up {
            return Vec::new();
        }
        *up = event.up;
        let notice = |what, up| ServiceNotice {
            service: vs.id,
            what,
            up,
        };
        let mut notices = vec![notice(Subject::Server(event.server), event.up)];
        if let Some(what) = state.update(vs) {
            notices.push(notice(what, state.holds));
        }
        notices
    }

    /// What the end of the agent has to tell: those with `omega` go down.
    pub fn farewell(&self, virtual_servers: &[VirtualServer]) -> Vec<ServiceNotice> {
        let last = virtual_servers.iter().filter(|vs| vs.omega);
        last.filter_map(|vs| Some(down(vs.id, self.services.get(&vs.id)?)))
            .flatten()
            .collect()
    }
}

/// All of a service goes down.
fn down(service: ServiceId, state: &State) -> Vec<ServiceNotice> {
    let up = state.servers.iter().filter(|(_, (_, up))| *up);
    let servers = up.map(|(addr, _)| Subject::Server(*addr));
    let quorum = state.holds.then_some(Subject::Quorum {
        weight: 0,
        threshold: 0,
    });
    servers
        .chain(quorum)
        .map(|what| ServiceNotice {
            service,
            what,
            up: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::board::{ServerHealth, ServerKey};
    use super::super::fixture::{real_server, server, service, virtual_server};
    use super::*;
    use crate::config::model::{ForwardMethod, SorryServer};
    use proptest::prelude::*;

    fn with_weights(weights: &[u32], quorum: u32, hysteresis: u32) -> VirtualServer {
        let servers = (1..).zip(weights).map(|(n, weight)| {
            let mut rs = real_server(server(n));
            rs.weight = *weight;
            rs
        });
        let mut vs = virtual_server(1, servers.collect());
        (vs.quorum, vs.hysteresis) = (quorum, hysteresis);
        vs
    }

    fn all_down(vs: &VirtualServer) -> Snapshot {
        let down = |addr| {
            let key = ServerKey {
                service: vs.id,
                server: addr,
            };
            let health = ServerHealth {
                up: false,
                checks: Vec::new(),
            };
            (key, health)
        };
        Snapshot {
            servers: vs.real_servers.iter().map(|rs| down(rs.addr)).collect(),
        }
    }

    fn event(n: u8, up: bool) -> RealServerEvent {
        RealServerEvent {
            service: service(1),
            server: server(n),
            up,
            reason: String::new(),
        }
    }

    /// `S2+` for a server that went up, `Q-` for quorum that was lost.
    fn said(notices: &[ServiceNotice]) -> String {
        let word = |notice: &ServiceNotice| {
            let what = match notice.what {
                Subject::Server(SocketAddr::V4(addr)) => format!("S{}", addr.ip().octets()[3]),
                Subject::Server(addr) => addr.to_string(),
                Subject::Quorum { .. } => "Q".to_owned(),
            };
            what + if notice.up { "+" } else { "-" }
        };
        notices.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn quorum_is_gained_and_lost_with_hysteresis() {
        let vs = [with_weights(&[1, 1, 1, 1, 1], 3, 1)];
        let mut quorums = Quorums::default();
        assert_eq!(said(&quorums.configure(&vs, &all_down(&vs[0]), false)), "");
        let mut go = |n, up| said(&quorums.server_changed(&vs, &event(n, up)));
        assert_eq!(go(1, true), "S1+");
        assert_eq!(go(2, true), "S2+");
        assert_eq!(go(3, true), "S3+", "3 is not 3 + 1");
        assert_eq!(go(4, true), "S4+ Q+");
        assert_eq!(go(4, false), "S4-");
        assert_eq!(go(3, false), "S3-", "2 is 3 - 1");
        assert_eq!(go(2, false), "S2- Q-");
        assert_eq!(go(2, false), "", "known");
    }

    #[test]
    fn without_any_weight_there_is_no_quorum() {
        let vs = [with_weights(&[5, 0], 2, 1)];
        let mut quorums = Quorums::default();
        let first = quorums.configure(&vs, &Snapshot::default(), false);
        assert_eq!(said(&first), "Q+", "it is told from the start");
        let last = quorums.server_changed(&vs, &event(1, false));
        assert_eq!(said(&last), "S1- Q-", "server 2 is up, and weighs nothing");
        assert!(!quorums.holds(service(1)));
    }

    #[test]
    fn quorum_that_lacks_from_the_start_is_told_with_a_sorry_server_only() {
        let mut vs = [with_weights(&[1], 1, 0)];
        let down = all_down(&vs[0]);
        assert_eq!(said(&Quorums::default().configure(&vs, &down, true)), "");
        vs[0].sorry_server = Some(SorryServer {
            addr: server(9),
            method: ForwardMethod::Dr,
            inhibit: false,
        });
        assert_eq!(said(&Quorums::default().configure(&vs, &down, true)), "Q-");
    }

    #[test]
    fn a_reload_tells_of_what_it_removes_and_keeps_the_rest_in_silence() {
        let before = [with_weights(&[1, 1, 1], 1, 0)];
        let mut quorums = Quorums::default();
        quorums.configure(&before, &Snapshot::default(), false);
        let mut fewer = before.clone();
        fewer[0].real_servers.pop();
        let told = quorums.configure(&fewer, &Snapshot::default(), false);
        assert_eq!(said(&told), "S3-");
        let mut heavier = fewer.clone();
        heavier[0].quorum = 3;
        let told = quorums.configure(&heavier, &Snapshot::default(), false);
        assert_eq!(said(&told), "Q-", "a new threshold counts at once");
        let told = quorums.configure(&[], &Snapshot::default(), false);
        assert_eq!(said(&told), "S1- S2-");
    }

    #[test]
    fn first_states_are_told_on_request() {
        let vs = [with_weights(&[1], 1, 0)];
        let told = Quorums::default().configure(&vs, &Snapshot::default(), true);
        assert_eq!(said(&told), "S1+ Q+");
    }

    #[test]
    fn the_end_is_told_with_omega_only() {
        let mut vs = [with_weights(&[1, 1], 1, 0)];
        let mut quorums = Quorums::default();
        quorums.configure(&vs, &Snapshot::default(), false);
        quorums.server_changed(&vs, &event(2, false));
        assert_eq!(said(&quorums.farewell(&vs)), "");
        vs[0].omega = true;
        assert_eq!(said(&quorums.farewell(&vs)), "S1- Q-");
    }

    proptest! {
        /// Whatever happens, quorum is there at enough weight, and not there without any.
        #[test]
        fn the_weight_decides_outside_of_the_hysteresis(
            weights in prop::collection::vec(0u32..4, 1..6),
            quorum in 1u32..6,
            hysteresis in 0u32..5,
            changes in prop::collection::vec((1u8..7, any::<bool>()), 0..40),
        ) {
            let hysteresis = hysteresis.min(quorum - 1);
            let vs = [with_weights(&weights, quorum, hysteresis)];
            let mut quorums = Quorums::default();
            quorums.configure(&vs, &Snapshot::default(), false);
            let mut up = vec![true; weights.len()];
            for (n, is_up) in changes {
                let before = quorums.holds(service(1));
                quorums.server_changed(&vs, &event(n, is_up));
                if let Some(state) = up.get_mut(usize::from(n) - 1) {
                    *state = is_up;
                }
                let weight: u32 = weights.iter().zip(&up).filter(|(_, up)| **up).map(|(w, _)| w).sum();
                let expected = if weight >= quorum + hysteresis {
                    true
                } else if weight == 0 || weight < quorum - hysteresis {
                    false
                } else {
                    before
                };
                prop_assert_eq!(quorums.holds(service(1)), expected);
            }
        }
    }
}
