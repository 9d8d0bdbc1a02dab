// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pipeline on the host: the same source over collections, with a clock that tests set.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};

use lb_agent::dataplane::plan::Op;
use lb_common::abi::{
    CONN_BUSY, CONN_SLOTS, CONN_TICK_MASK, ConnKey, ConnMeta, Dest, Link, Member, Service,
    ServiceKey, Traffic, conn_buckets,
};
use lb_common::hash::{HashKey, bucket, flow};
use lb_common::verdict::Verdict;
use lb_ebpf::packet::Frame;
use lb_ebpf::tables::{Bucket, Tables};

/// Length of a tick.
pub(crate) const TICK_NS: u64 = 100_000_000;

/// Room for connections.
pub(crate) const CAPACITY: u32 = 4096;

type Slots = [(Cell<u64>, Cell<u64>); CONN_SLOTS];

/// A bucket that no other CPU writes.
#[derive(Clone, Copy)]
pub(crate) struct HostBucket<'t>(&'t Slots);

impl Bucket for HostBucket<'_> {
    fn meta(self, slot: usize) -> u64 {
        self.0[slot].0.get()
    }

    fn key(self, slot: usize) -> u64 {
        self.0[slot].1.get()
    }

    fn set_key(self, slot: usize, key: u64) {
        assert_eq!(ConnMeta::unpack(self.meta(slot)).state, CONN_BUSY);
        self.0[slot].1.set(key);
    }

    fn swap_meta(self, slot: usize, old: u64, new: u64) -> bool {
        assert_eq!(self.0[slot].0.replace(new), old, "one thread only");
        true
    }
}

/// The maps, as collections.
pub(crate) struct HostTables {
    pub(crate) now_ns: Cell<u64>,
    services: HashMap<ServiceKey, Service>,
    members: HashMap<u32, Member>,
    dests: HashMap<u32, Dest>,
    links: HashMap<u32, Link>,
    cursors: RefCell<HashMap<u32, u64>>,
    conns: Vec<Slots>,
    pub(crate) service_traffic: RefCell<HashMap<u32, Traffic>>,
    pub(crate) dest_traffic: RefCell<HashMap<u32, Traffic>>,
}

impl Default for HostTables {
    fn default() -> Self {
        Self {
            now_ns: Cell::default(),
            services: HashMap::default(),
            members: HashMap::default(),
            dests: HashMap::default(),
            links: HashMap::default(),
            cursors: RefCell::default(),
            conns: (0..conn_buckets(CAPACITY))
                .map(|_| Slots::default())
                .collect(),
            service_traffic: RefCell::default(),
            dest_traffic: RefCell::default(),
        }
    }
}

impl HostTables {
    pub(crate) fn perform(&mut self, op: &Op) {
        match op {
            Op::PutLink { ifindex, row } => {
                self.links.insert(*ifindex, *row);
            }
            Op::PutDest { id, row } => {
                self.dests.insert(*id, *row);
            }
            Op::PutMembers { first, rows } => {
                self.members.extend((*first..).zip(rows.iter().copied()));
            }
            Op::PutCursor { service, cursor } => {
                self.cursors.get_mut().insert(*service, *cursor);
            }
            Op::PutService { key, row } => {
                self.services.insert(*key, *row);
            }
            Op::RemoveService { key } => {
                self.services.remove(key);
            }
            Op::ZeroDestTraffic { id } => {
                self.dest_traffic.get_mut().remove(id);
            }
            Op::ZeroServiceTraffic { id } => {
                self.service_traffic.get_mut().remove(id);
            }
        }
    }

    /// Empties the connection table and leaves room for so few connections.
    pub(crate) fn shrink(&mut self, conns: u32) {
        self.conns = (0..conn_buckets(conns)).map(|_| Slots::default()).collect();
    }

    /// Words of all slots: meta and key.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (u64, u64)> {
        let slots = self.conns.iter().flatten();
        slots.map(|(meta, key)| (meta.get(), key.get()))
    }

    /// Numbers of the slots that the flow of this TCP frame may be in.
    pub(crate) fn places(&self, frame: &[u8]) -> BTreeSet<usize> {
        let key = key_of(frame);
        let ports = u32::from(key.client_port) | u32::from(key.virt_port) << 16;
        let virt = u32::from_ne_bytes([frame[30], frame[31], frame[32], frame[33]]);
        let hash = flow(&self.hash_key(), key.client, virt, ports, frame[23]);
        let first_slot = |half: u32| bucket(half, self.conns.len() as u32) as usize * CONN_SLOTS;
        [first_slot(hash as u32), first_slot((hash >> 32) as u32)]
            .into_iter()
            .flat_map(|first| first..first + CONN_SLOTS)
            .collect()
    }

    /// One frame through the pipeline: verdict and the frame as it left.
    pub(crate) fn run(&self, frame: &[u8], ifindex: u32) -> (Verdict, Vec<u8>) {
        let mut bytes = frame.to_vec();
        let outcome = lb_ebpf::ingress(&mut Frame::new(&mut bytes, ifindex), self);
        (outcome.verdict, bytes)
    }
}

impl Tables for HostTables {
    type Bucket<'t> = HostBucket<'t>;

    fn now(&self) -> u32 {
        (self.now_ns.get() / self.tick_ns()) as u32 & CONN_TICK_MASK
    }

    fn tick_ns(&self) -> u64 {
        TICK_NS
    }

    fn hash_key(&self) -> HashKey {
        [1, 3, 5, 7, 9].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn bucket(&self, half: u32) -> Option<HostBucket<'_>> {
        let slots = self
            .conns
            .get(bucket(half, self.conns.len() as u32) as usize)?;
        Some(HostBucket(slots))
    }

    fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)
    }

    fn member(&self, row: u32) -> Option<&Member> {
        self.members.get(&row)
    }

    fn dest(&self, id: u32) -> Option<&Dest> {
        self.dests.get(&id)
    }

    fn cursor(&self, service: u32) -> Option<u64> {
        self.cursors.borrow().get(&service).copied()
    }

    fn swap_cursor(&self, service: u32, old: u64, new: u64) -> bool {
        let mut cursors = self.cursors.borrow_mut();
        let cursor = cursors.get_mut(&service).unwrap();
        assert_eq!(*cursor, old, "one thread only");
        *cursor = new;
        true
    }

    fn count_service(&self, service: u32, add: impl Fn(&mut Traffic)) {
        add(self
            .service_traffic
            .borrow_mut()
            .entry(service)
            .or_default());
    }

    fn count_dest(&self, dest: u32, add: impl Fn(&mut Traffic)) {
        add(self.dest_traffic.borrow_mut().entry(dest).or_default());
    }

    fn opaque(&self, value: u64) -> u64 {
        value
    }

    fn repeat(&self, limit: u32, mut step: impl FnMut() -> bool) {
        for _ in 0..limit {
            if !step() {
                break;
            }
        }
    }
}

/// The key of a flow in the table, from its frame.
pub(crate) fn key_of(frame: &[u8]) -> ConnKey {
    let word = |at: usize| [frame[at], frame[at + 1]];
    ConnKey {
        client: u32::from_ne_bytes([frame[26], frame[27], frame[28], frame[29]]),
        client_port: u16::from_ne_bytes(word(34)),
        virt_port: u16::from_ne_bytes(word(36)),
    }
}
