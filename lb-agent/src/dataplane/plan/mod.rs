// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what is desired and what is there to an ordered list of map operations. Pure.
//!
//! The order is what keeps a change atomic for the packets that pass: new real servers, the new
//! server list and the service's new row are written first, where no packet looks; then the
//! service's entry, replaced as a whole, points to that row; only then are removed servers marked
//! as gone. Rows that a packet may still be reading are not written again for [`QUARANTINE`].
//!
//! IPVS: a new server goes to the head of the service's list; a server that comes back while its
//! old row is still there keeps it, and with it its old connections (the "trash" of
//! `ip_vs_ctl.c`).

mod filter;
mod hashed;
mod keep;
mod op;
mod ranges;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::abi::{
    DEST_PRESENT, Dest, MAX_DESTS, MAX_HASH_LINES, MAX_MEMBER_LINES, MAX_SERVICE_DESTS,
    MAX_SERVICE_ROWS, MAX_SERVICES, Member, Service, Tunnel, member_lines,
};
use lb_common::sched::locality::Set;
use lb_common::sched::{Cursor, wrr};
use lb_common::wire::Mac;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::model::{ForwardMethod, Scheduler, ServiceId};
use crate::health::{Desired, DesiredServer, DesiredService};

use filter::Filter;
pub use op::Op;
pub use ranges::QUARANTINE;
use ranges::Ranges;
use rows::key;
pub use rows::{address, client_mask, proto, words};

/// Where frames to an address go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHopRow {
    /// Interface they leave by.
    pub ifindex: u32,
    /// MAC of the next hop, when known.
    pub mac: Option<[u8; 6]>,
    /// MAC of the interface.
    pub from: [u8; 6],
    /// The address is the director's own.
    pub local: bool,
    /// The director's address towards it, for the outer header of a tunnel.
    pub source: Option<IpAddr>,
    /// Largest datagram that the interface takes, bytes.
    pub mtu: u32,
}

/// What does not fit.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// More services than `MAX_SERVICES`.
    #[error("more than {MAX_SERVICES} virtual servers")]
    TooManyServices,
    /// More real servers than `MAX_DESTS`.
    #[error("more than {MAX_DESTS} real servers in all")]
    TooManyDests,
    /// More real servers in one service than `MAX_SERVICE_DESTS`.
    #[error("virtual server {0} has more than {MAX_SERVICE_DESTS} real servers")]
    TooManyServiceDests(ServiceId),
    /// No contiguous room for a server list.
    #[error("no room for the server list of {0}: try again in a second")]
    NoMemberRange(ServiceId),
    /// No contiguous room for the table of sh, dh or mh.
    #[error(
        "no room for the hash table of {0}: all tables of sh, dh and mh have {MAX_HASH_LINES} lines"
    )]
    NoHashLines(ServiceId),
}

/// A real server of a service, reached in one way: what a row of `DESTS` belongs to. A server whose
/// method changes gets another row, so that its old connections go on as they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DestKey {
    /// The service.
    pub service: ServiceId,
    /// The server.
    pub addr: SocketAddr,
    /// How it is reached.
    pub method: ForwardMethod,
}

/// What the maps hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    #[serde(with = "keep::pairs")]
    services: BTreeMap<ServiceId, ServiceState>,
    #[serde(with = "keep::pairs")]
    dests: BTreeMap<DestKey, DestState>,
    /// Servers out of their lists that still own their row, the longest out first.
    parked: VecDeque<DestKey>,
    free_services: BTreeSet<u32>,
    next_service: u32,
    next_dest: u32,
    next_generation: u32,
    /// Number of the next set of an lblcr service.
    next_set: u16,
    member_lines: Ranges,
    hash_lines: Ranges,
    service_rows: Ranges,
    filter: Filter,
    /// What new rows begin with.
    #[serde(skip)]
    hops: BTreeMap<IpAddr, NextHopRow>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            dests: BTreeMap::new(),
            parked: VecDeque::new(),
            free_services: BTreeSet::new(),
            next_service: 0,
            next_dest: 0,
            next_generation: 0,
            next_set: 0,
            member_lines: Ranges::all(MAX_MEMBER_LINES),
            hash_lines: Ranges::all(MAX_HASH_LINES),
            service_rows: Ranges::all(MAX_SERVICE_ROWS),
            filter: Filter::default(),
            hops: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ServiceState {
    id: u32,
    epoch: u16,
    /// As it was asked for, servers in scheduling order.
    service: DesiredService,
    /// Their last weights above 0.
    last_weights: Vec<u32>,
    first_member_line: u32,
    /// First line of the table of sh, dh and mh.
    first_line: u32,
    row: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct DestState {
    id: u32,
    #[serde(with = "keep::pod")]
    row: Dest,
    #[serde(with = "keep::pod")]
    tunnel: Tunnel,
    /// `uthreshold`, `lthreshold`.
    thresholds: (u32, u32),
}

impl Plan {
    /// Plans the way to `desired`. On an error the plan is unusable: keep the one from before.
    pub fn apply(&mut self, desired: &Desired, now: Duration) -> Result<Vec<Op>, PlanError> {
        self.member_lines.reclaim(now);
        self.hash_lines.reclaim(now);
        self.service_rows.reclaim(now);
        let mut ops = Vec::new();
        for service in &desired.services {
            if service.servers.len() > MAX_SERVICE_DESTS as usize {
                return Err(PlanError::TooManyServiceDests(service.id));
            }
            self.put_service(service, now, &mut ops)?;
        }
        let stays: BTreeSet<_> = desired.services.iter().map(|service| service.id).collect();
        let gone: Vec<_> = self
            .services
            .keys()
            .filter(|id| !stays.contains(id))
            .copied()
            .collect();
        for id in gone {
            self.remove_service(id, now, &mut ops);
        }
        Ok(ops)
    }

    /// Next hops of servers to come: without one a new server's first packets would find no way.
    pub fn expect(&mut self, hops: BTreeMap<IpAddr, NextHopRow>) {
        self.hops = hops;
    }

    /// Plans the writing of next hops that differ from what the maps hold.
    pub fn route(&mut self, lookup: impl Fn(IpAddr) -> Option<NextHopRow>) -> Vec<Op> {
        let mut ops = Vec::new();
        for (key, dest) in &mut self.dests {
            let hop = lookup(key.addr.ip());
            let tunnel = rows::tunnel(key, hop);
            if tunnel != dest.tunnel {
                dest.tunnel = tunnel;
                let (id, row) = (dest.id, tunnel);
                ops.push(Op::PutTunnel { id, row });
            }
            let row = rows::routed(key, dest.row, hop);
            if row != dest.row {
                dest.row = row;
                ops.push(Op::PutDest { id: dest.id, row });
            }
        }
        ops
    }

    /// True if some service takes any port.
    pub fn any_port(&self) -> bool {
        self.services.keys().any(|id| id.port == 0)
    }

    /// Services and their ids.
    pub fn services(&self) -> impl Iterator<Item = (ServiceId, u32)> {
        self.services
            .iter()
            .map(|(service, state)| (*service, state.id))
    }

    /// Number of a service.
    pub fn number(&self, id: ServiceId) -> Option<u32> {
        self.services.get(&id).map(|state| state.id)
    }

    /// What was asked for of a service.
    pub fn service(&self, id: ServiceId) -> Option<&DesiredService> {
        self.services.get(&id).map(|state| &state.service)
    }

    /// Rows of a service's real servers, also of removed ones, with their ids.
    pub fn servers(&self, service: ServiceId) -> impl Iterator<Item = (SocketAddr, u32)> {
        self.dests_of(service)
            .map(|(key, dest)| (key.addr, dest.id))
    }

    /// Whose connections point to a row of `DESTS` in its present generation (low bits).
    pub fn owners(&self) -> BTreeMap<(u16, u16), DestKey> {
        let owner = |(key, dest): (&DestKey, &DestState)| {
            ((dest.id as u16, dest.row.generation as u16), *key)
        };
        self.dests.iter().map(owner).collect()
    }

    /// MAC that a server's frames go to.
    pub fn next_hop(&self, service: ServiceId, server: SocketAddr) -> Option<Mac> {
        let (_, dest) = self
            .dests_of(service)
            .find(|(key, dest)| key.addr == server && dest.row.flags & DEST_PRESENT != 0)?;
        Some(dest.row.macs()?.dst())
    }

    fn dests_of(&self, service: ServiceId) -> impl Iterator<Item = (&DestKey, &DestState)> {
        self.dests
            .range(first_key(service)..)
            .take_while(move |(key, _)| key.service == service)
    }

    fn put_service(
        &mut self,
        wanted: &DesiredService,
        now: Duration,
        ops: &mut Vec<Op>,
    ) -> Result<(), PlanError> {
        let id = wanted.id;
        let old = self.services.get(&id).cloned();
        let known = old.as_ref().map_or(&[][..], |old| &old.service.servers);
        let service = DesiredService {
            servers: new_list(known, &wanted.servers),
            ..wanted.clone()
        };
        if old.as_ref().is_some_and(|old| old.service == service) {
            return Ok(());
        }
        let number = match &old {
            Some(old) => old.id,
            None => self.allocate_service()?,
        };
        let mut members = Vec::with_capacity(service.servers.len());
        for server in &service.servers {
            let dest = self.put_dest(id, server, number, ops)?;
            let weight = server.weight;
            members.push(Member { dest, weight });
        }
        let old_weights = old.as_ref().map_or(&[][..], |old| &old.last_weights);
        let last_weights = hashed::last_weights(&service.servers, known, old_weights);
        let epoch = old.as_ref().map_or(1, |old| old.epoch.wrapping_add(1));
        let first_line = self
            .hash_lines
            .allocate(hashed::lines(service.scheduler))
            .ok_or(PlanError::NoHashLines(id))?;
        let members = rows::in_lines(&members);
        let first_member_line = self
            .member_lines
            .allocate(members.len() as u32)
            .ok_or(PlanError::NoMemberRange(id))?;
        let row = self
            .service_rows
            .allocate(1)
            .ok_or(PlanError::TooManyServices)?;
        let state = ServiceState {
            id: number,
            epoch,
            service,
            last_weights,
            first_member_line,
            first_line,
            row,
        };
        if old.is_none() {
            self.filter.add(id.addr, ops);
        }
        // Schedulers do not understand each other's words.
        let scheduler = old.as_ref().map(|old| old.service.scheduler);
        if scheduler != Some(state.service.scheduler) {
            self.next_set = self.next_set.wrapping_add(1);
            ops.push(first_cursor(&state, self.next_set));
        }
        let table = hashed::table(&state.service, &state.last_weights);
        if !table.is_empty() {
            ops.push(Op::PutHashLines {
                first: first_line,
                rows: table,
            });
        }
        ops.push(Op::PutMembers {
            first: first_member_line,
            rows: members,
        });
        let service = service_row(&state);
        ops.push(Op::PutServiceRow { row, service });
        ops.push(Op::PutService { key: key(id), row });
        if let Some(old) = old {
            self.retire(&old, &state.service.servers, now, ops);
        }
        self.services.insert(id, state);
        Ok(())
    }

    fn remove_service(&mut self, id: ServiceId, now: Duration, ops: &mut Vec<Op>) {
        let Some(state) = self.services.remove(&id) else {
            return;
        };
        ops.push(Op::RemoveService { key: key(id) });
        self.filter.remove(id.addr, ops);
        self.retire(&state, &[], now, ops);
        self.free_services.insert(state.id);
    }

    /// What only the old list of a service used is free, after a while.
    fn retire(
        &mut self,
        old: &ServiceState,
        stay: &[DesiredServer],
        now: Duration,
        ops: &mut Vec<Op>,
    ) {
        let service = old.service.id;
        for DesiredServer { addr, method, .. } in &old.service.servers {
            match stay.iter().find(|server| server.addr == *addr) {
                Some(server) if server.method == *method => {}
                // Reached in another way from now on; old connections go on as they began.
                Some(_) => self.parked.push_back(DestKey {
                    service,
                    addr: *addr,
                    method: *method,
                }),
                None => self.park(service, *addr, ops),
            }
        }
        let len = member_lines(old.service.servers.len() as u32);
        self.member_lines.retire(old.first_member_line, len, now);
        let lines = hashed::lines(old.service.scheduler);
        self.hash_lines.retire(old.first_line, lines, now);
        self.service_rows.retire(old.row, 1, now);
    }

    /// The row of a server, written if it is not there as wanted.
    fn put_dest(
        &mut self,
        id: ServiceId,
        server: &DesiredServer,
        service: u32,
        ops: &mut Vec<Op>,
    ) -> Result<u32, PlanError> {
        let key = DestKey {
            service: id,
            addr: server.addr,
            method: server.method,
        };
        if !self.dests.contains_key(&key) {
            self.new_dest(key, server, service, ops)?;
        }
        let Some(dest) = self.dests.get_mut(&key) else {
            return Err(PlanError::TooManyDests);
        };
        let row = Dest {
            flags: rows::dest_flags(&key, server.weight),
            service,
            ..dest.row
        };
        if row != dest.row {
            dest.row = row;
            ops.push(Op::PutDest { id: dest.id, row });
            self.parked.retain(|parked| *parked != key);
        }
        let thresholds = (server.upper_threshold, server.lower_threshold);
        if thresholds != dest.thresholds {
            dest.thresholds = thresholds;
            ops.push(Op::SetThresholds {
                id: dest.id,
                upper: thresholds.0,
                lower: thresholds.1 as u16,
            });
        }
        Ok(dest.id)
    }

    fn new_dest(
        &mut self,
        key: DestKey,
        server: &DesiredServer,
        service: u32,
        ops: &mut Vec<Op>,
    ) -> Result<(), PlanError> {
        let id = self.allocate_dest(ops)?;
        self.next_generation = self.next_generation.wrapping_add(1);
        let hop = self.hops.get(&key.addr.ip()).copied();
        let row = rows::dest(&key, service, self.next_generation, server.weight);
        let row = rows::routed(&key, row, hop);
        let tunnel = rows::tunnel(&key, hop);
        ops.push(Op::ZeroDest { id });
        ops.push(Op::PutTunnel { id, row: tunnel });
        ops.push(Op::PutDest { id, row });
        if key.method == ForwardMethod::Nat {
            self.filter.add(key.addr.ip(), ops);
        }
        let state = DestState {
            id,
            row,
            tunnel,
            thresholds: (0, 0),
        };
        self.dests.insert(key, state);
        Ok(())
    }

    /// Marks a server as gone, however it was reached.
    fn park(&mut self, service: ServiceId, addr: SocketAddr, ops: &mut Vec<Op>) {
        let of_service = self.dests.range_mut(first_key(service)..);
        for (key, dest) in of_service.take_while(|(key, _)| key.service == service) {
            if key.addr != addr || dest.row.flags & DEST_PRESENT == 0 {
                continue;
            }
            dest.row.flags &= !DEST_PRESENT;
            let (id, row) = (dest.id, dest.row);
            ops.push(Op::PutDest { id, row });
            if !self.parked.contains(key) {
                self.parked.push_back(*key);
            }
        }
    }

    fn allocate_service(&mut self) -> Result<u32, PlanError> {
        if let Some(id) = self.free_services.pop_first() {
            return Ok(id);
        }
        if self.next_service >= MAX_SERVICES {
            return Err(PlanError::TooManyServices);
        }
        self.next_service += 1;
        Ok(self.next_service - 1)
    }

    /// An unused id, or that of the server out for the longest time: a new generation keeps its old
    /// connections from its successor.
    fn allocate_dest(&mut self, ops: &mut Vec<Op>) -> Result<u32, PlanError> {
        if self.next_dest < MAX_DESTS {
            self.next_dest += 1;
            return Ok(self.next_dest - 1);
        }
        let oldest = self.parked.pop_front().ok_or(PlanError::TooManyDests)?;
        let dest = self.dests.remove(&oldest).ok_or(PlanError::TooManyDests)?;
        if oldest.method == ForwardMethod::Nat {
            self.filter.remove(oldest.addr.ip(), ops);
        }
        Ok(dest.id)
    }
}

/// Not behind any key of a service.
fn first_key(service: ServiceId) -> DestKey {
    DestKey {
        service,
        addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        method: ForwardMethod::Nat,
    }
}

/// The cursor of a new service: where IPVS's stands after its servers were added one by one. With
/// lblcr, its set of servers begins as number `set`.
fn first_cursor(state: &ServiceState, set: u16) -> Op {
    let list = &state.service.servers;
    let cursor = match state.service.scheduler {
        // No server is remembered.
        Scheduler::Lblc => 0,
        Scheduler::Lblcr => Set {
            number: set,
            changed: 0,
            used: 0,
        }
        .pack(),
        _ => {
            let added: Vec<u32> = list.iter().rev().map(|server| server.weight).collect();
            Cursor {
                epoch: state.epoch,
                index: Cursor::HEAD,
                weight: wrr::after_adding(&added),
            }
            .pack()
        }
    };
    Op::PutCursor {
        service: state.id,
        cursor,
    }
}

fn service_row(state: &ServiceState) -> Service {
    let list = &state.service.servers;
    let (max_weight, weight_gcd) = wrr::descent(list.iter().map(|server| server.weight));
    Service {
        id: state.id,
        first_member_line: state.first_member_line,
        members: list.len() as u32,
        max_weight,
        weight_gcd,
        epoch: state.epoch,
        scheduler: rows::scheduler(state.service.scheduler),
        flags: rows::flags(&state.service),
        first_line: state.first_line,
        client_mask: rows::client_mask(&state.service),
        zero: 0,
        reserved: [0; 4],
    }
}

/// The list after a change: those that stay keep their place, new ones go to the head one by one.
fn new_list(old: &[DesiredServer], wanted: &[DesiredServer]) -> Vec<DesiredServer> {
    let by_addr: BTreeMap<_, _> = wanted.iter().map(|server| (server.addr, server)).collect();
    let known: BTreeSet<_> = old.iter().map(|server| server.addr).collect();
    let new = wanted
        .iter()
        .rev()
        .filter(|server| !known.contains(&server.addr));
    let staying = old
        .iter()
        .filter_map(|server| by_addr.get(&server.addr).copied());
    new.chain(staying).cloned().collect()
}
