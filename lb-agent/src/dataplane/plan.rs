// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what is desired and what is there to an ordered list of map operations. Pure.
//!
//! The order is what keeps a change atomic for the packets that pass: new real servers and the new
//! server list are written first, where no packet looks; then the service's row, replaced as a
//! whole, points to them; only then are removed servers marked as gone. Rows of `MEMBERS` that a
//! packet may still be reading are not written again for [`QUARANTINE`].
//!
//! IPVS: a new server goes to the head of the service's list; a server that comes back while its
//! old row is still there keeps it, and with it its old connections (the "trash" of
//! `ip_vs_ctl.c`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::abi::{
    DEST_PRESENT, Dest, Link, MAX_DESTS, MAX_MEMBERS, MAX_SERVICE_DESTS, MAX_SERVICES,
    METHOD_DIRECT, Member, NextHop, SCHED_RR, SCHED_WRR, Service, ServiceKey,
};
use lb_common::sched::{Cursor, wrr};
use lb_common::wire::{Mac, PROTO_TCP, PROTO_UDP};
use thiserror::Error;

use crate::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId};
use crate::health::{Desired, DesiredServer, DesiredService};

/// How long a retired range of `MEMBERS` rests; a packet is through in microseconds.
pub const QUARANTINE: Duration = Duration::from_secs(1);

/// Where frames to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHopRow {
    /// Interface they leave by.
    pub ifindex: u32,
    /// MAC of the next hop, when known.
    pub mac: Option<[u8; 6]>,
}

/// One write to a map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are the map's key and value")]
pub enum Op {
    /// Makes an interface known.
    PutLink { ifindex: u32, row: Link },
    /// Writes a real server's row.
    PutDest { id: u32, row: Dest },
    /// Writes a server list, row by row from `first`.
    PutMembers { first: u32, rows: Vec<Member> },
    /// Sets a scheduler's cursor.
    PutCursor { service: u32, cursor: u64 },
    /// Replaces or adds a service's row.
    PutService { key: ServiceKey, row: Service },
    /// Removes a service.
    RemoveService { key: ServiceKey },
    /// Starts a real server's counters at zero.
    ZeroDestTraffic { id: u32 },
    /// Starts a service's counters at zero.
    ZeroServiceTraffic { id: u32 },
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
    /// Something that the packet program does not do.
    #[error("{0}: the packet program does not do {1}")]
    NotDone(ServiceId, String),
}

/// What the maps hold.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    services: BTreeMap<ServiceId, ServiceState>,
    dests: BTreeMap<DestKey, DestState>,
    /// Removed servers that still own their row, the longest removed first.
    parked: VecDeque<DestKey>,
    free_services: BTreeSet<u32>,
    next_service: u32,
    next_dest: u32,
    next_generation: u32,
    ranges: Ranges,
}

type DestKey = (ServiceId, SocketAddr);

#[derive(Clone, Debug)]
struct ServiceState {
    id: u32,
    epoch: u16,
    scheduler: Scheduler,
    /// In scheduling order.
    list: Vec<(SocketAddr, u32)>,
    first_member: u32,
}

#[derive(Clone, Debug)]
struct DestState {
    id: u32,
    row: Dest,
}

impl Plan {
    /// Plans the way to `desired`. On an error the plan is unusable: keep the one from before.
    pub fn apply(&mut self, desired: &Desired, now: Duration) -> Result<Vec<Op>, PlanError> {
        self.ranges.reclaim(now);
        let mut ops = Vec::new();
        for service in &desired.services {
            if service.servers.len() > MAX_SERVICE_DESTS as usize {
                return Err(PlanError::TooManyServiceDests(service.id));
            }
            check_done(service)?;
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

    /// Plans the writing of next hops that differ from what the maps hold.
    pub fn route(&mut self, lookup: impl Fn(IpAddr) -> Option<NextHopRow>) -> Vec<Op> {
        let mut ops = Vec::new();
        for ((_, server), dest) in &mut self.dests {
            let hop = lookup(server.ip());
            let next_hop = match hop.and_then(|hop| hop.mac) {
                Some(mac) => NextHop {
                    mac: Mac::new(mac),
                    resolved: 1,
                    zero: 0,
                },
                None => NextHop::default(),
            };
            let ifindex = hop.map_or(dest.row.ifindex, |hop| hop.ifindex);
            if (next_hop, ifindex) != (dest.row.next_hop, dest.row.ifindex) {
                dest.row.next_hop = next_hop;
                dest.row.ifindex = ifindex;
                ops.push(Op::PutDest {
                    id: dest.id,
                    row: dest.row,
                });
            }
        }
        ops
    }

    /// Services and their ids.
    pub fn services(&self) -> impl Iterator<Item = (ServiceId, u32)> {
        self.services
            .iter()
            .map(|(service, state)| (*service, state.id))
    }

    /// Real servers of a service that have a row, also removed ones, and their ids.
    pub fn servers(&self, service: ServiceId) -> impl Iterator<Item = (SocketAddr, u32)> {
        self.dests
            .iter()
            .filter(move |((of, _), _)| *of == service)
            .map(|((_, server), dest)| (*server, dest.id))
    }

    /// Whose connections point to a row of `DESTS` in its present generation (low bits).
    pub fn owners(&self) -> BTreeMap<(u16, u16), (ServiceId, SocketAddr)> {
        let owner = |(key, dest): (&DestKey, &DestState)| {
            ((dest.id as u16, dest.row.generation as u16), *key)
        };
        self.dests.iter().map(owner).collect()
    }

    /// The same number by service and server, for one of them.
    pub fn dest_generation(&self, service: ServiceId, server: SocketAddr) -> Option<u16> {
        let dest = self.dests.get(&(service, server))?;
        Some(dest.row.generation as u16)
    }

    /// MAC that a server's frames go to.
    pub fn next_hop(&self, service: ServiceId, server: SocketAddr) -> Option<Mac> {
        let next_hop = self.dests.get(&(service, server))?.row.next_hop;
        (next_hop.resolved != 0).then_some(next_hop.mac)
    }

    fn put_service(
        &mut self,
        wanted: &DesiredService,
        now: Duration,
        ops: &mut Vec<Op>,
    ) -> Result<(), PlanError> {
        let id = wanted.id;
        let old = self.services.get(&id).cloned();
        let list = new_list(old.as_ref().map_or(&[], |old| &old.list), &wanted.servers);
        if let Some(old) = &old
            && old.list == list
            && old.scheduler == wanted.scheduler
        {
            return Ok(());
        }
        let service = match &old {
            Some(old) => old.id,
            None => {
                let service = self.allocate_service()?;
                ops.push(Op::ZeroServiceTraffic { id: service });
                service
            }
        };
        let mut rows = Vec::with_capacity(list.len());
        for (server, weight) in &list {
            let dest = self.put_dest((id, *server), service, ops)?;
            rows.push(Member {
                dest,
                weight: *weight,
            });
        }
        let len = rows.len() as u32;
        let first = self
            .ranges
            .allocate(len)
            .ok_or(PlanError::NoMemberRange(id))?;
        let epoch = old.as_ref().map_or(1, |old| old.epoch.wrapping_add(1));
        ops.push(Op::PutMembers { first, rows });
        if old.is_none() {
            let added: Vec<u32> = list.iter().rev().map(|(_, weight)| *weight).collect();
            let cursor = Cursor {
                epoch,
                index: Cursor::HEAD,
                weight: wrr::after_adding(&added),
            }
            .pack();
            ops.push(Op::PutCursor { service, cursor });
        }
        let (max_weight, weight_gcd) = wrr::descent(list.iter().map(|(_, weight)| *weight));
        ops.push(Op::PutService {
            key: key(id),
            row: Service {
                id: service,
                first_member: first,
                members: len,
                max_weight,
                weight_gcd,
                epoch,
                scheduler: match wanted.scheduler {
                    Scheduler::Rr => SCHED_RR,
                    _ => SCHED_WRR,
                },
                zero: 0,
                reserved: 0,
            },
        });
        if let Some(old) = old {
            for (server, _) in &old.list {
                if !list.iter().any(|(still, _)| still == server) {
                    self.park((id, *server), ops);
                }
            }
            self.ranges
                .retire(old.first_member, old.list.len() as u32, now);
        }
        let state = ServiceState {
            id: service,
            epoch,
            scheduler: wanted.scheduler,
            list,
            first_member: first,
        };
        self.services.insert(id, state);
        Ok(())
    }

    fn remove_service(&mut self, id: ServiceId, now: Duration, ops: &mut Vec<Op>) {
        let Some(state) = self.services.remove(&id) else {
            return;
        };
        ops.push(Op::RemoveService { key: key(id) });
        for (server, _) in &state.list {
            self.park((id, *server), ops);
        }
        self.ranges
            .retire(state.first_member, state.list.len() as u32, now);
        self.free_services.insert(state.id);
    }

    /// The row of a server, written if it is not there.
    fn put_dest(
        &mut self,
        key: DestKey,
        service: u32,
        ops: &mut Vec<Op>,
    ) -> Result<u32, PlanError> {
        if let Some(dest) = self.dests.get_mut(&key) {
            if dest.row.flags & DEST_PRESENT == 0 || dest.row.service != service {
                dest.row.flags |= DEST_PRESENT;
                dest.row.service = service;
                ops.push(Op::PutDest {
                    id: dest.id,
                    row: dest.row,
                });
                self.parked.retain(|parked| *parked != key);
            }
            return Ok(dest.id);
        }
        let id = self.allocate_dest()?;
        self.next_generation = self.next_generation.wrapping_add(1);
        let row = Dest {
            next_hop: NextHop::default(),
            addr: octets(key.1.ip()),
            port: key.1.port().to_be_bytes(),
            method: METHOD_DIRECT,
            flags: DEST_PRESENT,
            generation: self.next_generation,
            ifindex: 0,
            service,
            virt: u32::from_ne_bytes(octets(key.0.addr)),
        };
        ops.push(Op::ZeroDestTraffic { id });
        ops.push(Op::PutDest { id, row });
        self.dests.insert(key, DestState { id, row });
        Ok(id)
    }

    fn park(&mut self, key: DestKey, ops: &mut Vec<Op>) {
        if let Some(dest) = self.dests.get_mut(&key) {
            dest.row.flags &= !DEST_PRESENT;
            ops.push(Op::PutDest {
                id: dest.id,
                row: dest.row,
            });
            self.parked.push_back(key);
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

    /// An unused id, or that of the server removed longest ago: a new generation keeps its old
    /// connections from its successor.
    fn allocate_dest(&mut self) -> Result<u32, PlanError> {
        if self.next_dest < MAX_DESTS {
            self.next_dest += 1;
            return Ok(self.next_dest - 1);
        }
        let oldest = self.parked.pop_front().ok_or(PlanError::TooManyDests)?;
        self.dests
            .remove(&oldest)
            .map(|dest| dest.id)
            .ok_or(PlanError::TooManyDests)
    }
}

/// The list after a change: those that stay keep their place, new ones go to the head one by one.
fn new_list(old: &[(SocketAddr, u32)], wanted: &[DesiredServer]) -> Vec<(SocketAddr, u32)> {
    let weights: BTreeMap<_, _> = wanted
        .iter()
        .map(|server| (server.addr, server.weight))
        .collect();
    let known: BTreeSet<_> = old.iter().map(|(server, _)| *server).collect();
    let new = wanted
        .iter()
        .rev()
        .filter(|server| !known.contains(&server.addr))
        .map(|server| (server.addr, server.weight));
    let staying = old
        .iter()
        .filter_map(|(server, _)| weights.get(server).map(|weight| (*server, *weight)));
    new.chain(staying).collect()
}

/// What the packet program does: IPv4, TCP and UDP, DR, rr and wrr.
fn check_done(service: &DesiredService) -> Result<(), PlanError> {
    let refuse = |what: String| Err(PlanError::NotDone(service.id, what));
    if service.id.addr.is_ipv6() || service.servers.iter().any(|s| s.addr.is_ipv6()) {
        return refuse("IPv6".into());
    }
    if service.id.protocol == Protocol::Sctp || service.id.port == 0 {
        return refuse("such a service".into());
    }
    if !matches!(service.scheduler, Scheduler::Rr | Scheduler::Wrr) {
        return refuse(format!("the scheduler {}", service.scheduler));
    }
    let other = |s: &&DesiredServer| s.method != ForwardMethod::Dr;
    match service.servers.iter().find(other) {
        Some(server) => refuse(format!("forwarding by {}", server.method)),
        None => Ok(()),
    }
}

/// An IPv4 address as it stands in a packet; others were refused.
fn octets(addr: IpAddr) -> [u8; 4] {
    match addr {
        IpAddr::V4(addr) => addr.octets(),
        IpAddr::V6(_) => [0; 4],
    }
}

/// A service's key as it stands in the packet.
fn key(id: ServiceId) -> ServiceKey {
    ServiceKey {
        addr: octets(id.addr),
        port: id.port.to_be_bytes(),
        proto: match id.protocol {
            Protocol::Tcp => PROTO_TCP,
            _ => PROTO_UDP,
        },
        zero: 0,
    }
}

/// Contiguous ranges of `MEMBERS`, first fit.
#[derive(Clone, Debug)]
struct Ranges {
    /// Free ranges: first row and length, never adjacent.
    free: BTreeMap<u32, u32>,
    /// Ranges that packets may still be reading, with the time since when.
    retired: VecDeque<(Duration, u32, u32)>,
}

impl Default for Ranges {
    fn default() -> Self {
        Self {
            free: BTreeMap::from([(0, MAX_MEMBERS)]),
            retired: VecDeque::new(),
        }
    }
}

impl Ranges {
    fn allocate(&mut self, len: u32) -> Option<u32> {
        if len == 0 {
            return Some(0);
        }
        let (first, room) = self
            .free
            .iter()
            .find(|(_, room)| **room >= len)
            .map(|(f, r)| (*f, *r))?;
        self.free.remove(&first);
        if room > len {
            self.free.insert(first + len, room - len);
        }
        Some(first)
    }

    fn retire(&mut self, first: u32, len: u32, now: Duration) {
        if len > 0 {
            self.retired.push_back((now, first, len));
        }
    }

    fn reclaim(&mut self, now: Duration) {
        while let Some((since, first, len)) = self.retired.front().copied() {
            if now.saturating_sub(since) < QUARANTINE {
                break;
            }
            self.retired.pop_front();
            self.give_back(first, len);
        }
    }

    fn give_back(&mut self, mut first: u32, mut len: u32) {
        if let Some((before, room)) = self.free.range(..first).next_back().map(|(f, r)| (*f, *r))
            && before + room == first
        {
            self.free.remove(&before);
            first = before;
            len += room;
        }
        if let Some(room) = self.free.remove(&(first + len)) {
            len += room;
        }
        self.free.insert(first, len);
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
