// SPDX-License-Identifier: MIT OR Apache-2.0
//! The XDP program: BPF maps and the driver's buffer behind the pipeline's two seams, and the global
//! functions. The programs themselves are in `bpf/programs.rs`.
//!
//! VERIFIER: what an established IPv4 packet needs is inlined into the entry point. Steps with loops
//! are global functions, which are verified once, on their own, for any arguments; longer ways are
//! programs that the entry point goes on in (see `lb_ebpf::tables`): each is verified on its own and
//! has a stack of its own.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the xdp macro makes an undocumented public item"
)]
#![allow(
    unsafe_code,
    reason = "map and packet memory is reached by pointers that the verifier checks"
)]

mod bpf;

use aya_ebpf::bindings::{bpf_fib_lookup as FibLookup, xdp_md};
use aya_ebpf::helpers::{
    bpf_fib_lookup, bpf_jiffies64, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
    generated::bpf_xdp_get_buff_len,
};
use aya_ebpf::programs::XdpContext;
use bpf::instructions::{compare_exchange, fetch_add, opaque, run_loop};
use bpf::maps::*;
use bytemuck::Pod;
use lb_common::abi::{
    CONN_TICK_MASK, CONN_WORDS, CONN6_WORDS, Dest, FAMILY_IPV4, Fragment, FragmentKey,
    HASH_LINE_ENTRIES, Hop, Link, Load, MAX_HOPS, MemberLine, STEP_FRAGMENT, STEP_FRAGMENT6,
    STEP_ICMP, STEP_IPV6, STEP_REPLY, STEP_TUNNEL, Service, ServiceKey, Settings, Traffic, Tunnel,
    filter_bit,
};
use lb_common::crc32c;
use lb_common::hash::{self, HashKey};
use lb_common::verdict::Verdict;
use lb_common::wire::{Mac, Macs};
use lb_ebpf::family::{V4, V6};
use lb_ebpf::packet::Packet;
use lb_ebpf::tables::{Line, Steps, Tables};
use lb_ebpf::{Outcome, conntrack, forward, schedule};

/// GPL-compatible, as the helpers ask for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Covers where an IP header may start.
const IP_OFFSET: usize = 31;

/// [`Tables::crc32c`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_crc32c(change: u64, behind: u64) -> u64 {
    crc32c::of_change(change as u32, behind as u32).into()
}

/// [`Tables::best`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_best(row: u64, scheduler: u64) -> u64 {
    schedule::best(&PLAIN, row as u32, scheduler as u8).into()
}

/// [`Tables::search`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_search(row: u64, scheduler: u64, heaviest: u64) -> u64 {
    schedule::search(&PLAIN, row as u32, scheduler as u8, heaviest as u32)
}

/// [`Tables::next`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_next(row: u64) -> u64 {
    schedule::next(&PLAIN, row as u32)
}

/// [`Tables::take`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_take(row: u64, index: u64, heaviest: u64) -> u64 {
    schedule::take(&PLAIN, row as u32, index as u32, heaviest as u32).into()
}

/// [`Tables::by_table`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_by_table(row: u64, client: u64, virt: u64, port: u64) -> u64 {
    let (client, virt, port) = (client as u32, virt as u32, port as u16);
    schedule::by_table(&PLAIN, row as u32, client, virt, port).into()
}

/// [`Tables::kept`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_kept(row: u64) -> u64 {
    schedule::kept(&PLAIN, row as u32)
}

/// [`Tables::keep`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_keep(row: u64, dest: u64) -> u64 {
    schedule::keep(&PLAIN, row as u32, dest as u32);
    0
}

/// [`Tables::replicas`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_replicas(row: u64, most: u64) -> u64 {
    schedule::replicas(&PLAIN, row as u32, most != 0);
    0
}

/// [`Tables::leave`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_leave(row: u64) -> u64 {
    schedule::leave(&PLAIN, row as u32);
    0
}

/// [`Steps::route`]: asks for the way between the addresses in `WAY`; 0 if there is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_route(ctx: *mut xdp_md, ifindex: u64, family: u64) -> u64 {
    let Some(way) = WAY.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: a per-CPU slot; a helper call that reads and writes it.
    unsafe {
        (*way).family = if family as u8 == FAMILY_IPV4 {
            AF_INET
        } else {
            AF_INET6
        };
        (*way).l4_protocol = 0;
        (*way).sport = 0;
        (*way).dport = 0;
        (*way).__bindgen_anon_1.tot_len = 0;
        (*way).__bindgen_anon_2.flowinfo = 0;
        (*way).ifindex = ifindex as u32;
        bpf_fib_lookup(ctx.cast(), way, size_of::<FibLookup>() as i32, 0) as u64
    }
}

/// [`Steps::remember`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_remember(ctx: *mut xdp_md, ip_offset: u64, family: u64, now: u64) -> u64 {
    let pkt = XdpPacket::<false>::new(XdpContext::new(ctx));
    let ip_offset = ip_offset as usize & IP_OFFSET;
    forward::back::remember(&pkt, &PLAIN, ip_offset, family as u8, now as u32);
    0
}

/// The kernel's numbers of the address families.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// [`Tables::claim4`]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_claim4(hash: u64, old: u64, key: u64, word: u64, now: u64) -> u64 {
    conntrack::claim::<V4, _>(&PLAIN, hash, old as u32, &key, word, now as u32);
    0
}

/// [`Tables::claim6`]; the key is in `KEY6`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_claim6(hash: u64, old: u64, word: u64, now: u64) -> u64 {
    if let Some(key) = KEY6.get_ptr(0) {
        // SAFETY: a per-CPU slot, written by the caller.
        let key = unsafe { &*key };
        conntrack::claim::<V6, _>(&PLAIN, hash, old as u32, key, word, now as u32);
    }
    0
}

/// The driver's buffer. `FIXED`: all headers stand where the compiler knows.
struct XdpPacket<const FIXED: bool = false> {
    ctx: XdpContext,
    /// For `FIXED` alone: where the frame begins and ends, as long as it is not moved.
    start: usize,
    end: usize,
}

impl<const FIXED: bool> XdpPacket<FIXED> {
    #[inline(always)]
    fn new(ctx: XdpContext) -> Self {
        let (start, end) = (ctx.data(), ctx.data_end());
        Self { ctx, start, end }
    }

    /// Pointer to `size_of::<T>()` bytes at `offset`, all inside the frame.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        if FIXED {
            // Where only constants are added, the verifier can follow, and one check is enough for
            // whatever lies nearer.
            // SAFETY: addresses of a frame are far from the end of all memory.
            let (start, behind) = unsafe {
                (
                    self.start.unchecked_add(offset),
                    self.start.unchecked_add(offset + size_of::<T>()),
                )
            };
            return (behind <= self.end).then_some(start as *mut T);
        }
        // VERIFIER: from a check that the frame reaches far the compiler concludes that what lies
        // nearer needs none; the verifier cannot follow. So to the compiler each beginning is another.
        let start = opaque(self.ctx.data()) + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
            return None;
        }
        Some(start as *mut T)
    }
}

impl<const FIXED: bool> XdpPacket<FIXED> {
    /// A frame longer than a page is in several pieces; the headers are in the first.
    #[inline(always)]
    fn has_fragments(&self, len: usize) -> bool {
        // SAFETY: a helper call.
        let all = unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) };
        all >= len as u64
    }
}

impl<const FIXED: bool> Packet for XdpPacket<FIXED> {
    #[inline(always)]
    fn load<T: Pod>(&self, offset: usize) -> Option<T> {
        // SAFETY: in bounds by `at`. An aligned read of an address that is only 2-aligned: BPF
        // programs may do so on every architecture whose JIT the kernel has (the kernel is built
        // with efficient unaligned access), and byte-wise reads would hide the bounds check from
        // the verifier.
        self.at::<T>(offset).map(|p| unsafe { p.read() })
    }

    #[inline(always)]
    fn store<T: Pod>(&mut self, offset: usize, value: T) -> bool {
        match self.at::<T>(offset) {
            Some(p) => {
                // SAFETY: as in `load`.
                unsafe { p.write(value) };
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn set_macs(&mut self, macs: Macs) -> bool {
        if !FIXED {
            return self.store(0, macs);
        }
        match self.at::<Macs>(0) {
            Some(p) => {
                let (first, rest) = macs.split();
                // SAFETY: twelve bytes; else as in `load`.
                unsafe {
                    p.cast::<u64>().write(first);
                    p.cast::<u32>().add(2).write(rest);
                }
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn change<T: Pod, R>(&mut self, offset: usize, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        // SAFETY: as in `load`; nobody else has a reference into the frame.
        self.at::<T>(offset).map(|p| change(unsafe { &mut *p }))
    }

    #[inline(always)]
    fn has(&self, len: usize) -> bool {
        // VERIFIER(6.1): "math between pkt pointer and register with unbounded min value": a length
        // that was byte-swapped has no bound there, and the mask is one (a datagram is shorter).
        let len = opaque(len) & 0x1_ffff;
        let (start, end) = if FIXED {
            (self.start, self.end)
        } else {
            (self.ctx.data(), self.ctx.data_end())
        };
        start + len <= end || self.has_fragments(len)
    }

    #[inline(always)]
    fn move_front(&mut self, by: isize) -> bool {
        // SAFETY: a helper call; no pointer into the frame is kept across it.
        let moved = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(by as i32)) == 0 };
        if FIXED {
            (self.start, self.end) = (self.ctx.data(), self.ctx.data_end());
        }
        moved
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> bool {
        // SAFETY: helper calls; no pointer into the frame is kept across them.
        let cut = unsafe {
            let now = bpf_xdp_get_buff_len(self.ctx.ctx);
            bpf_xdp_adjust_tail(self.ctx.ctx, len as i32 - now as i32) == 0
        };
        if FIXED {
            (self.start, self.end) = (self.ctx.data(), self.ctx.data_end());
        }
        cut
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }
}

/// The maps.
struct BpfTables<const FOLLOWED: bool>;

/// For steps that go on nowhere.
const PLAIN: BpfTables<false> = BpfTables;

/// A line of the connection table; only words are read and written, never a reference made.
#[derive(Clone, Copy)]
struct BpfLine {
    first: *mut u64,
    /// Of an index; a constant where the line comes from is known.
    mask: usize,
}

impl BpfLine {
    #[inline(always)]
    fn at(self, index: usize) -> *mut u64 {
        // SAFETY: masked to the words of the line, which is a whole map value.
        unsafe { self.first.add(index & self.mask) }
    }
}

impl Line for BpfLine {
    #[inline(always)]
    fn word(self, index: usize) -> u64 {
        // SAFETY: inside a map value. Volatile: other CPUs write it, and it is read twice.
        unsafe { self.at(index).read_volatile() }
    }

    #[inline(always)]
    fn set_word(self, index: usize, word: u64) {
        // SAFETY: as in `word`.
        unsafe { self.at(index).write_volatile(word) };
    }

    #[inline(always)]
    fn swap_word(self, index: usize, old: u64, new: u64) -> bool {
        compare_exchange(self.at(index), old, new) == old
    }
}

impl<const FOLLOWED: bool> Tables for BpfTables<FOLLOWED> {
    type Line<'t> = BpfLine;

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: a helper call without arguments; the JIT makes a load of it.
        let jiffies = unsafe { bpf_jiffies64() };
        (jiffies >> (param(|p| &p.tick_shift) & 63)) as u32 & CONN_TICK_MASK
    }

    #[inline(always)]
    fn hash_key(&self) -> HashKey {
        let [a, b, c, d] = self.hash_key4();
        [
            a,
            b,
            c,
            d,
            param(|p| &p.hash_key[4]),
            param(|p| &p.hash_key[5]),
        ]
    }

    #[inline(always)]
    fn hash_key4(&self) -> [u64; 4] {
        [
            param(|p| &p.hash_key[0]),
            param(|p| &p.hash_key[1]),
            param(|p| &p.hash_key[2]),
            param(|p| &p.hash_key[3]),
        ]
    }

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        Some(&shared().settings)
    }

    #[inline(always)]
    fn of_interest(&self, fold: u32) -> bool {
        let bit = filter_bit(fold);
        // A bit's number has sixteen bits.
        let row = shared().filter.get(bit as usize / 64);
        row.is_some_and(|row| *row >> (bit % 64) & 1 != 0)
    }

    #[inline(always)]
    fn line4(&self, half: u32) -> Option<BpfLine> {
        CONNS
            .get_ptr_mut(hash::bucket(half, param(|p| &p.lines)))
            .map(|line| BpfLine {
                first: line.cast(),
                mask: CONN_WORDS - 1,
            })
    }

    #[inline(always)]
    fn line6(&self, half: u32) -> Option<BpfLine> {
        CONNS6
            .get_ptr_mut(hash::bucket(half, param(|p| &p.lines6)))
            .map(|line| BpfLine {
                first: line.cast(),
                mask: CONN6_WORDS - 1,
            })
    }

    #[inline(always)]
    fn link(&self, ifindex: u32) -> Option<&Link> {
        // VERIFIER: the number that is compared is the one that is used.
        let index = opaque(ifindex as usize);
        shared().links.get(index)
    }

    #[inline(always)]
    fn is_virtual_mac(&self, key: u64) -> bool {
        // SAFETY: nothing is read of the value.
        unsafe { MACS.get(&key) }.is_some()
    }

    #[inline(always)]
    fn service_row(&self, key: &ServiceKey) -> Option<u32> {
        // SAFETY: the agent replaces values, it never changes one in place; the old one lives until
        // the program has returned (RCU).
        unsafe { SERVICES.get(key) }.copied()
    }

    #[inline(always)]
    fn service(&self, row: u32) -> Option<&Service> {
        SERVICE_ROWS.get(row)
    }

    #[inline(always)]
    fn member_line(&self, row: u32) -> Option<&MemberLine> {
        MEMBER_LINES.get(row)
    }

    #[inline(always)]
    fn hash_entry(&self, first_line: u32, entry: u32) -> Option<u16> {
        let line = HASH_LINES.get(first_line + entry / HASH_LINE_ENTRIES as u32)?;
        // SAFETY: masked to the entries of the line.
        Some(unsafe {
            line.entries
                .as_ptr()
                .add(entry as usize & (HASH_LINE_ENTRIES - 1))
                .read()
        })
    }

    #[inline(always)]
    fn dest(&self, id: u32) -> Option<&Dest> {
        DESTS.get(id)
    }

    #[inline(always)]
    fn tunnel(&self, dest: u32) -> Option<&Tunnel> {
        TUNNELS.get(dest)
    }

    #[inline(always)]
    fn load(&self, dest: u32) -> Option<Load> {
        // SAFETY: inside a map value. Volatile: other CPUs change it. The agent sets thresholds, which
        // few look at.
        LOADS.get_ptr(dest).map(|row| unsafe {
            Load {
                conns: (&raw const (*row).conns).read_volatile(),
                upper: (*row).upper,
                lower: (*row).lower,
                overloaded: (&raw const (*row).overloaded).read_volatile(),
            }
        })
    }

    #[inline(always)]
    fn add_conns(&self, dest: u32, delta: u64) {
        if let Some(row) = LOADS.get_ptr_mut(dest) {
            // SAFETY: inside a map value.
            fetch_add(unsafe { &raw mut (*row).conns }, delta);
        }
    }

    #[inline(always)]
    fn set_overloaded(&self, dest: u32, overloaded: bool) {
        if let Some(row) = LOADS.get_ptr_mut(dest) {
            // SAFETY: inside a map value; one field that nobody else writes but other CPUs here.
            unsafe { (&raw mut (*row).overloaded).write_volatile(u16::from(overloaded)) };
        }
    }

    #[inline(always)]
    fn cursor(&self, service: u32) -> Option<u64> {
        CURSORS.get(service).copied()
    }

    #[inline(always)]
    fn swap_cursor(&self, service: u32, old: u64, new: u64) -> bool {
        match CURSORS.get_ptr_mut(service) {
            Some(word) => compare_exchange(word, old, new) == old,
            None => true,
        }
    }

    #[inline(always)]
    fn rank(&self, dest: u32) -> u32 {
        RANKS.get(dest).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn set_rank(&self, dest: u32, rank: u32) {
        if let Some(row) = RANKS.get_ptr_mut(dest) {
            // SAFETY: inside a map value; one word.
            unsafe { row.write_volatile(rank) };
        }
    }

    #[inline(always)]
    fn count_dest(&self, dest: u32, add: impl Fn(&mut Traffic)) {
        if FOLLOWED {
            bpf::follow::counted_for(dest);
        }
        if let Some(traffic) = DEST_TRAFFIC.get_ptr_mut(dest) {
            // SAFETY: a per-CPU slot.
            add(unsafe { &mut *traffic });
        }
    }

    #[inline(always)]
    fn hop(&self, hash: u32) -> Option<Hop> {
        let row = HOPS.get_ptr(hash % MAX_HOPS)?;
        // SAFETY: inside a map value. Volatile: other CPUs write it; what was read counts only if
        // the version is even and the same before and after.
        unsafe {
            let before = (&raw const (*row).version).read_volatile();
            let hop = row.read_volatile();
            let after = (&raw const (*row).version).read_volatile();
            (before & 1 == 0 && before == after).then_some(hop)
        }
    }

    #[inline(always)]
    fn set_hop(&self, hash: u32, hop: &Hop) {
        let Some(row) = HOPS.get_ptr_mut(hash % MAX_HOPS) else {
            return;
        };
        // SAFETY: inside a map value; who makes the version odd is the only one to write.
        unsafe {
            let version = &raw mut (*row).version;
            let before = version.read_volatile();
            let busy = before | 1;
            if before & 1 == 0 && compare_exchange(version, before, busy) == before {
                row.write_volatile(Hop {
                    version: busy,
                    ..*hop
                });
                compare_exchange(version, busy, before.wrapping_add(2));
            }
        }
    }

    #[inline(always)]
    fn set_fragment_key(&self, key: FragmentKey) {
        if let Some(slot) = FRAGMENT_KEY.get_ptr_mut(0) {
            // SAFETY: a per-CPU slot.
            unsafe { slot.write(key) };
        }
    }

    #[inline(always)]
    fn fragment(&self) -> Option<Fragment> {
        let key = FRAGMENT_KEY.get_ptr(0)?;
        // SAFETY: a per-CPU slot, and a value that is replaced as a whole; the old one lives until
        // the program returns.
        unsafe { FRAGMENTS.get(&*key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, fragment: &Fragment) {
        if let Some(key) = FRAGMENT_KEY.get_ptr(0) {
            // It fails when other CPUs hold the last free rows: the followers go to the stack.
            // SAFETY: a per-CPU slot.
            let _ = FRAGMENTS.insert(unsafe { &*key }, fragment, 0);
        }
    }

    #[inline(always)]
    fn scan(&self, with: impl FnOnce(&mut schedule::Scan) -> bool) -> bool {
        match SCAN.get_ptr_mut(0) {
            // SAFETY: a per-CPU slot; only integers, so zeros are a value.
            Some(scan) => with(unsafe { &mut *scan }),
            None => false,
        }
    }

    #[inline(always)]
    fn crc32c(&self, change: u32, behind: u32) -> u32 {
        step_crc32c(change.into(), behind.into()) as u32
    }

    #[inline(always)]
    fn best(&self, row: u32, scheduler: u8) -> u32 {
        step_best(row.into(), scheduler.into()) as u32
    }

    #[inline(always)]
    fn search(&self, row: u32, scheduler: u8, heaviest: u32) -> u64 {
        step_search(row.into(), scheduler.into(), heaviest.into())
    }

    #[inline(always)]
    fn next(&self, row: u32) -> u64 {
        step_next(row.into())
    }

    #[inline(always)]
    fn take(&self, row: u32, index: u32, heaviest: u32) -> u32 {
        step_take(row.into(), index.into(), heaviest.into()) as u32
    }

    #[inline(always)]
    fn by_table(&self, row: u32, client: u32, virt: u32, port: u16) -> u32 {
        step_by_table(row.into(), client.into(), virt.into(), port.into()) as u32
    }

    #[inline(always)]
    fn kept(&self, row: u32) -> u64 {
        step_kept(row.into())
    }

    #[inline(always)]
    fn keep(&self, row: u32, dest: u32) {
        step_keep(row.into(), dest.into());
    }

    #[inline(always)]
    fn replicas(&self, row: u32, most: bool) {
        step_replicas(row.into(), most.into());
    }

    #[inline(always)]
    fn leave(&self, row: u32) {
        step_leave(row.into());
    }

    #[inline(always)]
    fn claim4(&self, hash: u64, old: u32, key: u64, word: u64, now: u32) {
        step_claim4(hash, old.into(), key, word, now.into());
    }

    #[inline(always)]
    fn claim6(&self, hash: u64, old: u32, key: &[u64; 3], word: u64, now: u32) {
        if let Some(slot) = KEY6.get_ptr_mut(0) {
            // SAFETY: a per-CPU slot.
            unsafe { slot.write(*key) };
        }
        step_claim6(hash, old.into(), word, now.into());
    }

    #[inline(always)]
    fn opaque(&self, value: u64) -> u64 {
        opaque(value as usize) as u64
    }

    #[inline(always)]
    fn repeat(&self, limit: u32, mut step: impl FnMut() -> bool) {
        run_loop(limit, &mut step);
    }
}

impl<const FOLLOWED: bool, const FIXED: bool> Steps<XdpPacket<FIXED>> for BpfTables<FOLLOWED> {
    #[inline(always)]
    fn remember(&self, pkt: &XdpPacket<FIXED>, ip_offset: usize, family: u8, now: u32) {
        step_remember(pkt.ctx.ctx, ip_offset as u64, family.into(), now.into());
    }

    #[inline(always)]
    fn route(
        &self,
        pkt: &XdpPacket<FIXED>,
        family: u8,
        src: &[u32; 4],
        dst: &[u32; 4],
    ) -> Option<(u32, Mac, Mac)> {
        let way = WAY.get_ptr_mut(0)?;
        // SAFETY: a per-CPU slot; addresses are as in the packet.
        let way = unsafe { &mut *way };
        way.__bindgen_anon_3.ipv6_src = *src;
        way.__bindgen_anon_4.ipv6_dst = *dst;
        let ifindex = pkt.ingress_ifindex();
        if step_route(pkt.ctx.ctx, ifindex.into(), family.into()) != 0 {
            return None;
        }
        Some((way.ifindex, Mac::new(way.dmac), Mac::new(way.smac)))
    }

    #[inline(always)]
    fn ipv6(&self, pkt: &mut XdpPacket<FIXED>, _ip_offset: usize) -> Outcome {
        go_on::<FOLLOWED, FIXED>(pkt, STEP_IPV6)
    }

    #[inline(always)]
    fn icmp(&self, pkt: &mut XdpPacket<FIXED>) -> Outcome {
        go_on::<FOLLOWED, FIXED>(pkt, STEP_ICMP)
    }

    #[inline(always)]
    fn fragment4(&self, pkt: &mut XdpPacket<FIXED>) -> Outcome {
        go_on::<FOLLOWED, FIXED>(pkt, STEP_FRAGMENT)
    }

    #[inline(always)]
    fn fragment6(&self, pkt: &mut XdpPacket<FIXED>) -> Outcome {
        go_on::<FOLLOWED, FIXED>(pkt, STEP_FRAGMENT6)
    }

    #[inline(always)]
    fn reply(&self, pkt: &mut XdpPacket<FIXED>, verdict: Verdict) -> Outcome {
        if let Some(order) = ORDER.get_ptr_mut(0) {
            let verdict = verdict as u32;
            // SAFETY: a per-CPU slot.
            unsafe {
                order.write(Order {
                    verdict,
                    ..Order::default()
                });
            }
        }
        go_on::<FOLLOWED, FIXED>(pkt, STEP_REPLY)
    }

    #[inline(always)]
    fn encapsulate(
        &self,
        pkt: &mut XdpPacket<FIXED>,
        ip_offset: usize,
        family: u8,
        dest: u32,
        hash: u32,
    ) -> Outcome {
        if let Some(order) = ORDER.get_ptr_mut(0) {
            let ip_offset = ip_offset as u32;
            let family = family.into();
            // SAFETY: a per-CPU slot.
            unsafe {
                order.write(Order {
                    verdict: 0,
                    ip_offset,
                    family,
                    dest,
                    hash,
                });
            }
        }
        go_on::<FOLLOWED, FIXED>(pkt, STEP_TUNNEL)
    }
}

/// Goes on in another program, from which nothing returns.
#[inline(always)]
fn go_on<const FOLLOWED: bool, const FIXED: bool>(pkt: &XdpPacket<FIXED>, step: u32) -> Outcome {
    let steps = if FOLLOWED { &FOLLOW_STEPS } else { &STEPS };
    // SAFETY: the agent has filled the array before it attaches the program.
    unsafe { steps.tail_call(&pkt.ctx, step) };
    // The array has a hole: the program was loaded by somebody else.
    Verdict::DropInternal.into()
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
