// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells of virtual servers and their real servers: `notify_up`, `quorum_down` and so on.
//!
//! In: [`ServiceNotice`]s in their order. Out: programs started, and the line for the FIFOs. Called
//! by the notifier. Invariant: the programs of one virtual server start in the order of what they
//! tell.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::find;
use super::queue::{Job, Queue};
use crate::config::model::{Config, Protocol, ServiceId, VirtualServer};
use crate::health::{ServiceNotice, Subject};
use crate::track::program::Runnable;

/// A virtual server, or one of its real servers.
type Key = (ServiceId, Option<SocketAddr>);

/// What is run for services.
#[derive(Debug, Default)]
pub(super) struct Services {
    programs: BTreeMap<Key, Programs>,
    /// Names of services that are groups.
    groups: BTreeMap<ServiceId, String>,
    queues: BTreeMap<ServiceId, Queue>,
}

#[derive(Debug, Default)]
struct Programs {
    up: Option<Runnable>,
    down: Option<Runnable>,
}

impl Services {
    /// Takes over the programs of `config`; what only the one before had stays.
    pub(super) fn adopt(&mut self, config: &Config) {
        let security = config.global.script_security;
        for vs in &config.virtual_servers {
            let name = format!("virtual server {}", vs.id);
            let mut add = |server, up, down| {
                let programs = Programs {
                    up: find(&name, up, security),
                    down: find(&name, down, security),
                };
                self.programs.insert((vs.id, server), programs);
            };
            add(None, vs.quorum_up.as_ref(), vs.quorum_down.as_ref());
            for rs in &vs.real_servers {
                add(
                    Some(rs.addr),
                    rs.notify_up.as_ref(),
                    rs.notify_down.as_ref(),
                );
            }
            if let Some(group) = &vs.group {
                self.groups.insert(vs.id, group.clone());
            }
        }
    }

    /// Forgets what `config` does not have.
    pub(super) fn forget_others(&mut self, config: &Config) {
        let keys: BTreeSet<Key> = config.virtual_servers.iter().flat_map(keys).collect();
        self.programs.retain(|key, _| keys.contains(key));
        let stays = |id: &ServiceId| keys.contains(&(*id, None));
        self.queues.retain(|id, _| stays(id));
        let grouped = config
            .virtual_servers
            .iter()
            .filter(|vs| vs.group.is_some());
        let grouped: BTreeSet<ServiceId> = grouped.map(|vs| vs.id).collect();
        self.groups.retain(|id, _| grouped.contains(id));
    }

    /// Starts what is to be run, and gives the FIFOs' line.
    pub(super) fn tell(&mut self, notice: ServiceNotice) -> String {
        let server = match notice.what {
            Subject::Server(server) => Some(server),
            Subject::Quorum { .. } => None,
        };
        let programs = self.programs.get(&(notice.service, server));
        let program = programs.and_then(|programs| {
            let program = if notice.up {
                &programs.up
            } else {
                &programs.down
            };
            program.as_ref()
        });
        if let Some(runnable) = program {
            let queue = self.queues.entry(notice.service);
            let queue = queue
                .or_insert_with(|| Queue::start(&format!("virtual server {}", notice.service)));
            queue.add(Job {
                runnable: runnable.clone(),
                more: Vec::new(),
            });
        }
        self.line(notice)
    }

    /// All queues with their names, to be waited for.
    pub(super) fn take_queues(&mut self) -> impl Iterator<Item = (String, Queue)> + use<> {
        std::mem::take(&mut self.queues)
            .into_iter()
            .map(|(id, queue)| (format!("virtual server {id}"), queue))
    }

    /// KEEPALIVED: `VS [192.0.2.1]:tcp:80 UP`, `RS [192.0.2.2]:tcp:80 [192.0.2.1]:tcp:80 DOWN`; a
    /// group is `[NAME]:0`.
    fn line(&self, notice: ServiceNotice) -> String {
        let id = notice.service;
        let service = match self.groups.get(&id) {
            Some(group) => format!("[{group}]:0"),
            None => trio(SocketAddr::new(id.addr, id.port), id.protocol),
        };
        let state = if notice.up { "UP" } else { "DOWN" };
        match notice.what {
            Subject::Quorum { .. } => format!("VS {service} {state}\n"),
            Subject::Server(server) => {
                format!("RS {} {service} {state}\n", trio(server, id.protocol))
            }
        }
    }
}

fn keys(vs: &VirtualServer) -> impl Iterator<Item = Key> {
    let servers = vs.real_servers.iter().map(|rs| Some(rs.addr));
    std::iter::once(None)
        .chain(servers)
        .map(|server| (vs.id, server))
}

fn trio(addr: SocketAddr, protocol: Protocol) -> String {
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("[{}]:{protocol}:{}", addr.ip(), addr.port())
}
