// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pipeline on the host: the same source over collections, with a clock that tests set.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use lb_agent::dataplane::plan::Op;
use lb_common::abi::{Conn, ConnKey, Dest, Link, Member, Service, ServiceKey, Traffic};
use lb_common::verdict::Verdict;
use lb_ebpf::packet::Frame;
use lb_ebpf::tables::Tables;

/// The maps, as collections.
#[derive(Default)]
pub(crate) struct HostTables {
    pub(crate) now_ns: Cell<u64>,
    services: HashMap<ServiceKey, Service>,
    members: HashMap<u32, Member>,
    dests: HashMap<u32, Dest>,
    links: HashMap<u32, Link>,
    cursors: RefCell<HashMap<u32, u64>>,
    conns: RefCell<HashMap<ConnKey, Conn>>,
    pub(crate) service_traffic: RefCell<HashMap<u32, Traffic>>,
    pub(crate) dest_traffic: RefCell<HashMap<u32, Traffic>>,
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

    /// One frame through the pipeline: verdict and the frame as it left.
    pub(crate) fn run(&self, frame: &[u8], ifindex: u32) -> (Verdict, Vec<u8>) {
        let mut bytes = frame.to_vec();
        let outcome = lb_ebpf::ingress(&mut Frame::new(&mut bytes, ifindex), self);
        (outcome.verdict, bytes)
    }
}

impl Tables for HostTables {
    fn now_ns(&self) -> u64 {
        self.now_ns.get()
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

    fn with_conn<R>(&self, key: &ConnKey, change: impl FnOnce(&mut Conn) -> R) -> Option<R> {
        self.conns.borrow_mut().get_mut(key).map(change)
    }

    fn put_conn(&self, key: &ConnKey, conn: &Conn) {
        self.conns.borrow_mut().insert(*key, *conn);
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

    fn repeat(&self, limit: u32, mut step: impl FnMut() -> bool) {
        for _ in 0..limit {
            if !step() {
                break;
            }
        }
    }
}
