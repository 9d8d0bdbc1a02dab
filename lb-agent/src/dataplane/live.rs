// SPDX-License-Identifier: MIT OR Apache-2.0
//! The live maps as the packet's journey sees them, for a packet that is only asked about.
//!
//! `lb-ebpf`'s source runs here on the host, as in the tests: it reads the rows that the loaded
//! program reads, at this moment; what it writes goes to copies that are thrown away. Running the
//! loaded program itself (BPF_PROG_TEST_RUN) would open connections, move the scheduler on and
//! count packets that never were.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;

use lb_common::abi::{
    Dest, Fragment, FragmentKey, HASH_LINE_ENTRIES, HashLine, Hop, Link, Load, MemberLine, Service,
    ServiceKey, Settings, Traffic, Tunnel, filter_bit,
};
use lb_common::crc32c;
use lb_common::hash::{HashKey, bucket};
use lb_common::verdict::Verdict;
use lb_common::wire::Mac;
use lb_ebpf::family::{V4, V6};
use lb_ebpf::frame::Frame;
use lb_ebpf::tables::{Line, Steps, Tables};
use lb_ebpf::{Outcome, conntrack, schedule};

use super::conns::Conns;
use super::maps::Maps;

/// Rows that one packet may look at: a walk over all servers of a service, and some more.
const ROWS: usize = 1024;

/// Rows of one map, read once each.
struct Rows<K, V>(Vec<OnceCell<(K, Option<V>)>>);

impl<K: PartialEq, V> Rows<K, V> {
    fn new() -> Self {
        Self((0..ROWS).map(|_| OnceCell::new()).collect())
    }

    fn get(&self, key: K, load: impl FnOnce() -> Option<V>) -> Option<&V> {
        let place = self
            .0
            .iter()
            .find(|cell| cell.get().is_none_or(|(known, _)| *known == key))?;
        place.get_or_init(|| (key, load())).1.as_ref()
    }
}

/// What the journey did that its outcome does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes {
    /// The real server that the packet was counted for.
    pub(super) dest: Option<u32>,
    /// The packet opened a connection, or was scheduled for itself.
    pub(super) opened: bool,
    /// The scheduler was asked.
    pub(super) scheduled: bool,
}

/// See the module.
pub(super) struct LiveTables<'a> {
    maps: &'a Maps,
    conns: &'a Conns,
    key: HashKey,
    now: u32,
    settings: Option<Settings>,
    lines: [Rows<u32, Vec<Cell<u64>>>; 2],
    links: Rows<u32, Link>,
    services: Rows<u32, Service>,
    member_lines: Rows<u32, MemberLine>,
    hash_lines: Rows<u32, HashLine>,
    dests: Rows<u32, Dest>,
    tunnels: Rows<u32, Tunnel>,
    loads: RefCell<BTreeMap<u32, Load>>,
    cursors: RefCell<BTreeMap<u32, u64>>,
    ranks: RefCell<BTreeMap<u32, u32>>,
    scan: RefCell<schedule::Scan>,
    notes: Cell<Notes>,
}

impl<'a> LiveTables<'a> {
    pub(super) fn new(maps: &'a Maps, conns: &'a Conns, key: HashKey, now: u32) -> Self {
        Self {
            maps,
            conns,
            key,
            now,
            settings: Some(maps.settings()),
            lines: [Rows::new(), Rows::new()],
            links: Rows::new(),
            services: Rows::new(),
            member_lines: Rows::new(),
            hash_lines: Rows::new(),
            dests: Rows::new(),
            tunnels: Rows::new(),
            loads: RefCell::default(),
            cursors: RefCell::default(),
            ranks: RefCell::default(),
            scan: RefCell::default(),
            notes: Cell::default(),
        }
    }

    pub(super) fn notes(&self) -> Notes {
        self.notes.get()
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        let mut notes = self.notes.get();
        change(&mut notes);
        self.notes.set(notes);
    }

    fn line(&self, table: usize, half: u32) -> Option<LiveLine<'_>> {
        let index = bucket(half, self.conns.lines(table));
        let load = || {
            let words = self.conns.line(table, index)?;
            Some(words.into_iter().map(Cell::new).collect())
        };
        self.lines
            .get(table)?
            .get(index, load)
            .map(|line| LiveLine(line))
    }

    fn change_load(&self, dest: u32, change: impl FnOnce(&mut Load)) {
        let mut loads = self.loads.borrow_mut();
        change(
            loads
                .entry(dest)
                .or_insert_with(|| self.maps.loads.row(dest)),
        );
    }
}

/// The copy of a line.
#[derive(Clone, Copy)]
pub(super) struct LiveLine<'t>(&'t [Cell<u64>]);

impl LiveLine<'_> {
    fn at(&self, index: usize) -> &Cell<u64> {
        &self.0[index % self.0.len()]
    }
}

impl Line for LiveLine<'_> {
    fn word(self, index: usize) -> u64 {
        self.at(index).get()
    }

    fn set_word(self, index: usize, word: u64) {
        self.at(index).set(word);
    }

    fn swap_word(self, index: usize, old: u64, new: u64) -> bool {
        let same = self.word(index) == old;
        if same {
            self.set_word(index, new);
        }
        same
    }
}

impl Tables for LiveTables<'_> {
    type Line<'t>
        = LiveLine<'t>
    where
        Self: 't;

    fn now(&self) -> u32 {
        self.now
    }

    fn hash_key(&self) -> HashKey {
        self.key
    }

    fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    fn of_interest(&self, fold: u32) -> bool {
        let bit = filter_bit(fold);
        let row = self.maps.filter_row(bit / 64);
        row.is_some_and(|row| row >> (bit % 64) & 1 != 0)
    }

    fn line4(&self, half: u32) -> Option<LiveLine<'_>> {
        self.line(0, half)
    }

    fn line6(&self, half: u32) -> Option<LiveLine<'_>> {
        self.line(1, half)
    }

    fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(ifindex, || self.maps.link(ifindex))
    }

    fn service_row(&self, key: &ServiceKey) -> Option<u32> {
        self.maps.service_row(key)
    }

    fn service(&self, row: u32) -> Option<&Service> {
        self.services.get(row, || self.maps.service(row).ok())
    }

    fn member_line(&self, row: u32) -> Option<&MemberLine> {
        self.member_lines
            .get(row, || self.maps.member_line(row).ok())
    }

    fn hash_entry(&self, first_line: u32, entry: u32) -> Option<u16> {
        let line = first_line + entry / HASH_LINE_ENTRIES as u32;
        let line = self
            .hash_lines
            .get(line, || self.maps.hash_line(line).ok())?;
        line.entries
            .get(entry as usize % HASH_LINE_ENTRIES)
            .copied()
    }

    fn is_virtual_mac(&self, key: u64) -> bool {
        self.maps.is_virtual_mac(key)
    }

    fn dest(&self, id: u32) -> Option<&Dest> {
        self.dests.get(id, || self.maps.dest(id).ok())
    }

    fn tunnel(&self, dest: u32) -> Option<&Tunnel> {
        self.tunnels.get(dest, || self.maps.tunnel(dest).ok())
    }

    fn load(&self, dest: u32) -> Option<Load> {
        let known = self.loads.borrow().get(&dest).copied();
        Some(known.unwrap_or_else(|| self.maps.loads.row(dest)))
    }

    fn add_conns(&self, dest: u32, delta: u64) {
        self.change_load(dest, |load| load.conns = load.conns.wrapping_add(delta));
    }

    fn set_overloaded(&self, dest: u32, overloaded: bool) {
        self.change_load(dest, |load| load.overloaded = overloaded.into());
    }

    fn cursor(&self, service: u32) -> Option<u64> {
        let known = self.cursors.borrow().get(&service).copied();
        known.or_else(|| self.maps.cursor(service).ok())
    }

    fn swap_cursor(&self, service: u32, _old: u64, new: u64) -> bool {
        self.cursors.borrow_mut().insert(service, new);
        true
    }

    fn rank(&self, dest: u32) -> u32 {
        let known = self.ranks.borrow().get(&dest).copied();
        known.unwrap_or_else(|| self.maps.rank(dest).unwrap_or(0))
    }

    fn set_rank(&self, dest: u32, rank: u32) {
        self.ranks.borrow_mut().insert(dest, rank);
    }

    fn count_dest(&self, dest: u32, add: impl Fn(&mut Traffic)) {
        let mut traffic = Traffic::default();
        add(&mut traffic);
        self.note(|notes| {
            notes.dest = Some(dest);
            notes.opened = traffic.conns > 0;
        });
    }

    fn hop(&self, hash: u32) -> Option<Hop> {
        self.maps.hop(hash).ok()
    }

    fn set_hop(&self, _hash: u32, _hop: &Hop) {}

    /// A question is about a whole packet.
    fn fragment(&self) -> Option<Fragment> {
        None
    }

    fn set_fragment_key(&self, _key: FragmentKey) {}

    fn remember_fragment(&self, _fragment: &Fragment) {}

    fn crc32c(&self, change: u32, behind: u32) -> u32 {
        crc32c::of_change(change, behind)
    }

    fn best(&self, row: u32, scheduler: u8) -> u32 {
        self.note(|notes| notes.scheduled = true);
        schedule::best(self, row, scheduler)
    }

    fn search(&self, row: u32, scheduler: u8, heaviest: u32) -> u64 {
        self.note(|notes| notes.scheduled = true);
        schedule::search(self, row, scheduler, heaviest)
    }

    fn next(&self, row: u32) -> u64 {
        self.note(|notes| notes.scheduled = true);
        schedule::next(self, row)
    }

    fn take(&self, row: u32, index: u32, heaviest: u32) -> u32 {
        schedule::take(self, row, index, heaviest)
    }

    fn by_table(&self, row: u32, client: u32, virt: u32, port: u16) -> u32 {
        self.note(|notes| notes.scheduled = true);
        schedule::by_table(self, row, client, virt, port)
    }

    fn kept(&self, row: u32) -> u64 {
        self.note(|notes| notes.scheduled = true);
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

    fn scan(&self, with: impl FnOnce(&mut schedule::Scan) -> bool) -> bool {
        with(&mut self.scan.borrow_mut())
    }

    fn claim4(&self, hash: u64, old: u32, key: u64, word: u64, now: u32) {
        conntrack::claim::<V4, _>(self, hash, old, &key, word, now);
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

impl Steps<Frame<'_>> for LiveTables<'_> {
    /// The loaded program asks the kernel; here the answer it remembers has to do.
    fn route(
        &self,
        _pkt: &Frame<'_>,
        _family: u8,
        _src: &[u32; 4],
        _dst: &[u32; 4],
    ) -> Option<(u32, Mac, Mac)> {
        None
    }

    fn remember(&self, _pkt: &Frame<'_>, _ip_offset: usize, _family: u8, _now: u32) {}

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

    fn ipv6(&self, pkt: &mut Frame<'_>, ip_offset: usize) -> Outcome {
        lb_ebpf::ipv6(pkt, self, ip_offset)
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
