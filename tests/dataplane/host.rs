// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pipeline on the host: the same source over collections, with a clock that tests set.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};

use lb_agent::dataplane::plan::Op;
use lb_common::abi::{
    CONN_SLOTS, CONN_TICK_MASK, CONN_WORDS, CONN6_SHARE, CONN6_WORDS, ConnKey, Dest, FILTER_ROWS,
    Fragment, FragmentKey, HASH_LINE_ENTRIES, HashLine, Hop, Link, Load, MAX_HOPS, MemberLine,
    STATE_TIMEOUT_BITS, STATES, Service, ServiceKey, Settings, Traffic, Tunnel, conn_lines,
    filter_bit,
};
use lb_common::crc32c;
use lb_common::hash::{self, HashKey, bucket, flow};
use lb_common::state;
use lb_common::verdict::Verdict;
use lb_common::wire::Mac;
use lb_ebpf::Outcome;
use lb_ebpf::conntrack::{self, claim};
use lb_ebpf::family::{V4, V6};
use lb_ebpf::frame::Frame;
use lb_ebpf::schedule;
use lb_ebpf::tables::{Line, Steps, Tables};

/// Length of a tick.
pub(crate) const TICK_NS: u64 = 100_000_000;

/// Room for connections.
pub(crate) const CAPACITY: u32 = 4096;

type Words = [Cell<u64>; CONN_WORDS];
type Words6 = [Cell<u64>; CONN6_WORDS];

/// A line that no other CPU writes.
#[derive(Clone, Copy)]
pub(crate) struct HostLine<'t>(&'t [Cell<u64>]);

impl<'t> HostLine<'t> {
    fn at(self, index: usize) -> &'t Cell<u64> {
        &self.0[index % self.0.len()]
    }
}

impl Line for HostLine<'_> {
    fn word(self, index: usize) -> u64 {
        self.at(index).get()
    }

    fn set_word(self, index: usize, word: u64) {
        self.at(index).set(word);
    }

    fn swap_word(self, index: usize, old: u64, new: u64) -> bool {
        assert_eq!(self.at(index).replace(new), old, "one thread only");
        true
    }
}

/// The maps, as collections.
pub(crate) struct HostTables {
    pub(crate) now_ns: Cell<u64>,
    pub(crate) settings: Settings,
    filter: Vec<u64>,
    services: HashMap<ServiceKey, u32>,
    service_rows: HashMap<u32, Service>,
    member_lines: HashMap<u32, MemberLine>,
    hash_lines: HashMap<u32, HashLine>,
    dests: HashMap<u32, Dest>,
    tunnels: HashMap<u32, Tunnel>,
    loads: RefCell<HashMap<u32, Load>>,
    links: HashMap<u32, Link>,
    macs: HashSet<u64>,
    hops: RefCell<HashMap<u32, Hop>>,
    fragments: RefCell<HashMap<FragmentKey, Fragment>>,
    fragment_key: Cell<Option<FragmentKey>>,
    cursors: RefCell<HashMap<u32, u64>>,
    ranks: RefCell<HashMap<u32, u32>>,
    first_cursors: HashMap<u32, u64>,
    scan: RefCell<schedule::Scan>,
    conns: Vec<Words>,
    conns6: Vec<Words6>,
    pub(crate) dest_traffic: RefCell<HashMap<u32, Traffic>>,
}

/// All that packets change in [`HostTables`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Of the connection tables.
    words: Vec<u64>,
    /// By server.
    traffic: Vec<(u32, Traffic)>,
    loads: Vec<(u32, Load)>,
}

impl Default for HostTables {
    fn default() -> Self {
        Self {
            now_ns: Cell::default(),
            settings: settings(),
            filter: vec![0; FILTER_ROWS as usize],
            services: HashMap::default(),
            service_rows: HashMap::default(),
            member_lines: HashMap::default(),
            hash_lines: HashMap::default(),
            dests: HashMap::default(),
            tunnels: HashMap::default(),
            loads: RefCell::default(),
            links: HashMap::default(),
            macs: HashSet::default(),
            hops: RefCell::default(),
            fragments: RefCell::default(),
            fragment_key: Cell::default(),
            cursors: RefCell::default(),
            ranks: RefCell::default(),
            first_cursors: HashMap::default(),
            conns: (0..conn_lines(CAPACITY))
                .map(|_| Words::default())
                .collect(),
            conns6: (0..conn_lines(CAPACITY / CONN6_SHARE))
                .map(|_| Words6::default())
                .collect(),
            scan: RefCell::default(),
            dest_traffic: RefCell::default(),
        }
    }
}

/// IPVS's timeouts, in ticks of this host.
fn settings() -> Settings {
    let mut states = [0; STATES];
    for (code, row) in (0u8..).zip(&mut states) {
        *row = state::class(code) << STATE_TIMEOUT_BITS | timeout_ticks(code);
    }
    Settings {
        flags: 0,
        heartbeat: 0,
        watchdog: 0,
        zero: 0,
        states,
        locality: (86_400 * 1_000_000_000 / TICK_NS) as u32,
        reserved: [0; 11],
    }
}

/// The key of both executors.
pub(crate) fn hash_key() -> HashKey {
    [1, 3, 5, 7, 9, 11].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// How long a connection in this state is kept, ticks.
pub(crate) fn timeout_ticks(code: u8) -> u32 {
    let ticks = u64::from(state::timeout_secs(code)) * 1_000_000_000 / TICK_NS;
    ticks.min((1 << STATE_TIMEOUT_BITS) - 1) as u32
}

impl HostTables {
    pub(crate) fn perform(&mut self, op: &Op) {
        match op {
            Op::PutLink { ifindex, row } => {
                self.links.insert(*ifindex, *row);
            }
            Op::PutMac { key } => {
                self.macs.insert(*key);
            }
            Op::RemoveMac { key } => {
                self.macs.remove(key);
            }
            Op::PutDest { id, row } => {
                self.dests.insert(*id, *row);
            }
            Op::PutSettings { row } => self.settings = *row,
            Op::PutFilter { index, row } => self.filter[*index as usize] = *row,
            Op::PutTunnel { id, row } => {
                self.tunnels.insert(*id, *row);
            }
            Op::SetThresholds { id, upper, lower } => {
                let load = self.loads.get_mut().entry(*id).or_default();
                (load.upper, load.lower) = (*upper, *lower);
            }
            Op::PutMembers { first, rows } => {
                self.member_lines
                    .extend((*first..).zip(rows.iter().copied()));
            }
            Op::PutHashLines { first, rows } => {
                self.hash_lines.extend((*first..).zip(rows.iter().copied()));
            }
            Op::PutCursor { service, cursor } => {
                self.cursors.get_mut().insert(*service, *cursor);
                self.first_cursors.insert(*service, *cursor);
            }
            Op::PutServiceRow { row, service } => {
                self.service_rows.insert(*row, *service);
            }
            Op::PutService { key, row } => {
                self.services.insert(*key, *row);
            }
            Op::RemoveService { key } => {
                self.services.remove(key);
            }
            Op::ZeroDest { id } => {
                self.dest_traffic.get_mut().remove(id);
                self.loads.get_mut().remove(id);
            }
        }
    }

    /// Active and inactive connections, as counted.
    pub(crate) fn counted(&self, dest: u32) -> (u32, u32) {
        let load = self.load(dest).unwrap();
        (load.active(), load.inactive())
    }

    /// Empties the connection table and leaves room for so few connections.
    pub(crate) fn shrink(&mut self, conns: u32) {
        let lines = |conns| 0..conn_lines(conns);
        self.conns = lines(conns).map(|_| Words::default()).collect();
        self.conns6 = lines(conns / CONN6_SHARE)
            .map(|_| Words6::default())
            .collect();
    }

    /// Forgets all connections, counters and ways: as if no packet had come yet.
    #[allow(dead_code, reason = "only for the fuzzer, which shares this file")]
    pub(crate) fn forget(&self) {
        let lines = self.conns.iter().flatten();
        lines
            .chain(self.conns6.iter().flatten())
            .for_each(|word| word.set(0));
        self.hops.borrow_mut().clear();
        self.fragments.borrow_mut().clear();
        self.dest_traffic.borrow_mut().clear();
        for load in self.loads.borrow_mut().values_mut() {
            (load.conns, load.overloaded) = (0, 0);
        }
        self.cursors.borrow_mut().clone_from(&self.first_cursors);
        self.now_ns.set(0);
    }

    /// Words of all IPv4 slots: meta and key.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (u64, u64)> {
        let slots = self.conns.iter().flat_map(|line| line.as_chunks::<2>().0);
        slots.map(|[meta, key]| (meta.get(), key.get()))
    }

    /// Numbers of the slots that the flow of this TCP frame may be in.
    pub(crate) fn places(&self, frame: &[u8]) -> BTreeSet<usize> {
        let key = key_of(frame);
        let ports = u32::from(key.client_port) | u32::from(key.other_port) << 16;
        let virt = u32::from_ne_bytes([frame[30], frame[31], frame[32], frame[33]]);
        let hash = flow(&self.hash_key4(), key.client, virt, ports, frame[23]);
        let first_slot = |half: u32| bucket(half, self.conns.len() as u32) as usize * CONN_SLOTS;
        [
            first_slot(hash::first(hash)),
            first_slot(hash::second(hash)),
        ]
        .into_iter()
        .flat_map(|first| first..first + CONN_SLOTS)
        .collect()
    }

    /// All that packets change.
    #[allow(dead_code, reason = "not for the fuzzer, which shares this file")]
    pub(crate) fn written(&self) -> Written {
        let lines = self.conns.iter().flatten();
        let words = lines.chain(self.conns6.iter().flatten()).map(Cell::get);
        let rows = self.dest_traffic.borrow();
        let mut traffic: Vec<_> = rows.iter().map(|(id, row)| (*id, *row)).collect();
        traffic.sort_by_key(|(id, _)| *id);
        let rows = self.loads.borrow();
        let mut loads: Vec<_> = rows.iter().map(|(id, row)| (*id, *row)).collect();
        loads.sort_by_key(|(id, _)| *id);
        Written {
            words: words.collect(),
            traffic,
            loads,
        }
    }

    /// One frame through the pipeline: verdict and the frame as it left.
    pub(crate) fn run(&self, frame: &[u8], ifindex: u32) -> (Verdict, Vec<u8>) {
        self.short(frame, ifindex)
            .unwrap_or_else(|| self.long(frame, ifindex))
    }

    /// The same by the short way alone; `None` if the frame is not for it.
    pub(crate) fn short(&self, frame: &[u8], ifindex: u32) -> Option<(Verdict, Vec<u8>)> {
        let mut bytes = frame.to_vec();
        match lb_ebpf::short::ingress(&mut Frame::new(&mut bytes, ifindex), self) {
            Some(outcome) => Some((outcome.verdict, bytes)),
            None => {
                assert_eq!(bytes, frame, "left as it was");
                None
            }
        }
    }

    /// The same by the long way alone.
    pub(crate) fn long(&self, frame: &[u8], ifindex: u32) -> (Verdict, Vec<u8>) {
        let mut bytes = frame.to_vec();
        let outcome = lb_ebpf::ingress(&mut Frame::new(&mut bytes, ifindex), self);
        (outcome.verdict, bytes)
    }
}

impl Tables for HostTables {
    type Line<'t> = HostLine<'t>;

    fn now(&self) -> u32 {
        (self.now_ns.get() / TICK_NS) as u32 & CONN_TICK_MASK
    }

    fn hash_key(&self) -> HashKey {
        hash_key()
    }

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn of_interest(&self, fold: u32) -> bool {
        let bit = filter_bit(fold);
        self.filter[bit as usize / 64] >> (bit % 64) & 1 != 0
    }

    fn line4(&self, half: u32) -> Option<HostLine<'_>> {
        let index = bucket(half, self.conns.len() as u32);
        self.conns.get(index as usize).map(|line| HostLine(line))
    }

    fn line6(&self, half: u32) -> Option<HostLine<'_>> {
        let index = bucket(half, self.conns6.len() as u32);
        self.conns6.get(index as usize).map(|line| HostLine(line))
    }

    fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    fn service_row(&self, key: &ServiceKey) -> Option<u32> {
        self.services.get(key).copied()
    }

    fn service(&self, row: u32) -> Option<&Service> {
        self.service_rows.get(&row)
    }

    fn member_line(&self, row: u32) -> Option<&MemberLine> {
        self.member_lines.get(&row)
    }

    fn hash_entry(&self, first_line: u32, entry: u32) -> Option<u16> {
        let line = self
            .hash_lines
            .get(&(first_line + entry / HASH_LINE_ENTRIES as u32))?;
        Some(line.entries[entry as usize % HASH_LINE_ENTRIES])
    }

    fn is_virtual_mac(&self, key: u64) -> bool {
        self.macs.contains(&key)
    }

    fn dest(&self, id: u32) -> Option<&Dest> {
        self.dests.get(&id)
    }

    fn tunnel(&self, dest: u32) -> Option<&Tunnel> {
        self.tunnels.get(&dest)
    }

    fn load(&self, dest: u32) -> Option<Load> {
        Some(self.loads.borrow().get(&dest).copied().unwrap_or_default())
    }

    fn add_conns(&self, dest: u32, delta: u64) {
        let mut loads = self.loads.borrow_mut();
        let load = loads.entry(dest).or_default();
        load.conns = load.conns.wrapping_add(delta);
    }

    fn set_overloaded(&self, dest: u32, overloaded: bool) {
        let mut loads = self.loads.borrow_mut();
        loads.entry(dest).or_default().overloaded = overloaded.into();
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

    fn rank(&self, dest: u32) -> u32 {
        self.ranks.borrow().get(&dest).copied().unwrap_or(0)
    }

    fn set_rank(&self, dest: u32, rank: u32) {
        self.ranks.borrow_mut().insert(dest, rank);
    }

    fn count_dest(&self, dest: u32, add: impl Fn(&mut Traffic)) {
        add(self.dest_traffic.borrow_mut().entry(dest).or_default());
    }

    fn hop(&self, hash: u32) -> Option<Hop> {
        Some(
            self.hops
                .borrow()
                .get(&(hash % MAX_HOPS))
                .copied()
                .unwrap_or_default(),
        )
    }

    fn set_hop(&self, hash: u32, hop: &Hop) {
        self.hops.borrow_mut().insert(hash % MAX_HOPS, *hop);
    }

    fn set_fragment_key(&self, key: FragmentKey) {
        self.fragment_key.set(Some(key));
    }

    fn fragment(&self) -> Option<Fragment> {
        let key = self.fragment_key.get()?;
        self.fragments.borrow().get(&key).copied()
    }

    fn remember_fragment(&self, fragment: &Fragment) {
        if let Some(key) = self.fragment_key.get() {
            self.fragments.borrow_mut().insert(key, *fragment);
        }
    }

    fn scan(&self, with: impl FnOnce(&mut schedule::Scan) -> bool) -> bool {
        with(&mut self.scan.borrow_mut())
    }

    fn crc32c(&self, change: u32, behind: u32) -> u32 {
        crc32c::of_change(change, behind)
    }

    fn best(&self, row: u32, scheduler: u8) -> u32 {
        schedule::best(self, row, scheduler)
    }

    fn search(&self, row: u32, scheduler: u8, heaviest: u32) -> u64 {
        schedule::search(self, row, scheduler, heaviest)
    }

    fn next(&self, row: u32) -> u64 {
        schedule::next(self, row)
    }

    fn take(&self, row: u32, index: u32, heaviest: u32) -> u32 {
        schedule::take(self, row, index, heaviest)
    }

    fn by_table(&self, row: u32, client: u32, virt: u32, port: u16) -> u32 {
        schedule::by_table(self, row, client, virt, port)
    }

    fn kept(&self, row: u32) -> u64 {
        schedule::kept(self, row)
    }

    fn keep(&self, row: u32, dest: u32) {
        schedule::keep(self, row, dest);
    }

    fn replicas(&self, row: u32, most: bool) {
        schedule::replicas(self, row, most);
    }

    fn leave(&self, row: u32) {
        schedule::leave(self, row);
    }

    fn claim4(&self, hash: u64, old: u32, key: u64, word: u64, now: u32) {
        claim::<V4, _>(self, hash, old, &key, word, now);
    }

    fn claim6(&self, hash: u64, old: u32, key: &[u64; 3], word: u64, now: u32) {
        conntrack::claim::<V6, _>(self, hash, old, key, word, now);
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

impl Steps<Frame<'_>> for HostTables {
    fn remember(&self, pkt: &Frame<'_>, ip_offset: usize, family: u8, now: u32) {
        lb_ebpf::forward::back::remember(pkt, self, ip_offset, family, now);
    }

    /// As where BPF_PROG_TEST_RUN runs: no route leads anywhere.
    fn route(
        &self,
        _pkt: &Frame<'_>,
        _family: u8,
        _src: &[u32; 4],
        _dst: &[u32; 4],
    ) -> Option<(u32, Mac, Mac)> {
        None
    }

    fn ipv6(&self, pkt: &mut Frame<'_>, ip_offset: usize) -> Outcome {
        lb_ebpf::ipv6(pkt, self, ip_offset)
    }

    fn icmp(&self, pkt: &mut Frame<'_>) -> Outcome {
        lb_ebpf::other_protocol(pkt, self)
    }

    fn fragment4(&self, pkt: &mut Frame<'_>) -> Outcome {
        lb_ebpf::fragment4(pkt, self)
    }

    fn fragment6(&self, pkt: &mut Frame<'_>) -> Outcome {
        lb_ebpf::fragment6(pkt, self)
    }

    fn reply(&self, pkt: &mut Frame<'_>, verdict: Verdict) -> Outcome {
        lb_ebpf::reply(pkt, self, verdict)
    }

    fn encapsulate(
        &self,
        pkt: &mut Frame<'_>,
        ip_offset: usize,
        family: u8,
        dest: u32,
        hash: u32,
    ) -> Outcome {
        lb_ebpf::forward::tun::encapsulate(pkt, self, ip_offset, family, dest, hash)
    }
}

/// The key of a flow in the table, from its frame.
pub(crate) fn key_of(frame: &[u8]) -> ConnKey {
    let word = |at: usize| [frame[at], frame[at + 1]];
    ConnKey {
        client: u32::from_ne_bytes([frame[26], frame[27], frame[28], frame[29]]),
        client_port: u16::from_ne_bytes(word(34)),
        other_port: u16::from_ne_bytes(word(36)),
    }
}
