// SPDX-License-Identifier: MIT OR Apache-2.0
//! The XDP program: BPF maps and the driver's buffer behind the pipeline's two seams, and the one
//! place where a verdict becomes an XDP code and a counter.
//!
//! VERIFIER: everything on the packet path is inlined into one program; the only calls are helpers
//! and the two `bpf_loop` bodies of the scheduler.

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

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::helpers::{bpf_jiffies64, bpf_loop, bpf_redirect};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use bytemuck::Pod;
use lb_common::abi::{
    CONN_SLOTS, CONN_TICK_MASK, ConnBucket, ConnSlot, DEFAULT_CONNS, Dest, Link, MAX_DESTS,
    MAX_LINKS, MAX_MEMBERS, MAX_SERVICES, Member, Service, ServiceKey, Traffic, VERDICT_SLOTS,
    conn_buckets,
};
use lb_common::hash::{self, HashKey};
use lb_common::verdict::{Fate, Verdict};
use lb_ebpf::Outcome;
use lb_ebpf::packet::Packet;
use lb_ebpf::tables::{Bucket, Tables};

#[btf_map]
static SERVICES: HashMap<ServiceKey, Service, { MAX_SERVICES as usize }> = HashMap::new();
#[btf_map]
static MEMBERS: Array<Member, { MAX_MEMBERS as usize }> = Array::new();
#[btf_map]
static CURSORS: Array<u64, { MAX_SERVICES as usize }> = Array::new();
#[btf_map]
static DESTS: Array<Dest, { MAX_DESTS as usize }> = Array::new();
#[btf_map]
static LINKS: Array<Link, { MAX_LINKS as usize }> = Array::new();
#[btf_map]
static CONNS: Array<ConnBucket, { conn_buckets(DEFAULT_CONNS) as usize }, MMAPABLE> = Array::new();
#[btf_map]
static VERDICTS: PerCpuArray<u64, { VERDICT_SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static DEST_TRAFFIC: PerCpuArray<Traffic, { MAX_DESTS as usize }> = PerCpuArray::new();
#[btf_map]
static SERVICE_TRAFFIC: PerCpuArray<Traffic, { MAX_SERVICES as usize }> = PerCpuArray::new();

/// The agent maps the table into its memory (`BPF_F_MMAPABLE`).
const MMAPABLE: usize = 1 << 10;

// Set by the agent at load, constants to the verifier from then on.
#[unsafe(no_mangle)]
static CONN_BUCKETS: Global<u32> = Global::new(conn_buckets(DEFAULT_CONNS));
#[unsafe(no_mangle)]
static TICK_SHIFT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TICK_NS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static HASH_0: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static HASH_1: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static HASH_2: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static HASH_3: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static HASH_4: Global<u64> = Global::new(0);

/// GPL-compatible, as the helpers ask for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Entry point: one packet.
#[xdp]
pub fn xlvs(ctx: XdpContext) -> u32 {
    let mut pkt = XdpPacket { ctx };
    let outcome = lb_ebpf::ingress(&mut pkt, &BpfTables);
    #[cfg(feature = "packet-log")]
    aya_log_ebpf::debug!(&pkt.ctx, "{}", outcome.verdict.name());
    conclude(outcome)
}

/// The connection table's time as the return value, for the agent.
#[xdp]
pub fn xlvs_clock(_ctx: XdpContext) -> u32 {
    BpfTables.now()
}

/// Counts the verdict and turns it into an XDP code.
#[inline(always)]
fn conclude(outcome: Outcome) -> u32 {
    if let Some(count) = VERDICTS.get_ptr_mut(outcome.verdict as u32) {
        // SAFETY: a per-CPU slot; the program is not preempted by another run on this CPU.
        unsafe { *count += 1 };
    }
    match outcome.verdict {
        Verdict::Transmit => xdp_action::XDP_TX,
        // SAFETY: a helper call without pointers.
        Verdict::Redirect => unsafe { bpf_redirect(outcome.ifindex, 0) as u32 },
        other => match other.fate() {
            Fate::Pass => xdp_action::XDP_PASS,
            Fate::Forward | Fate::Drop => xdp_action::XDP_DROP,
        },
    }
}

/// The driver's buffer.
struct XdpPacket {
    ctx: XdpContext,
}

impl XdpPacket {
    /// Pointer to `size_of::<T>()` bytes at `offset`, all inside the frame.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.ctx.data();
        if start + offset + size_of::<T>() > self.ctx.data_end() {
            return None;
        }
        Some((start + offset) as *mut T)
    }
}

impl Packet for XdpPacket {
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
    fn has(&self, len: usize) -> bool {
        // VERIFIER(6.1): "math between pkt pointer and register with unbounded min value": a length
        // that was byte-swapped has no bound there, and the mask is one (a datagram is shorter).
        self.ctx.data() + (opaque(len) & 0x1_ffff) <= self.ctx.data_end()
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }
}

/// The same number, of which the compiler knows nothing.
///
/// VERIFIER(6.18): "invalid access to packet": from a check that the frame has `total_len` bytes
/// the compiler concludes that a header within `total_len` needs no check of its own; the verifier
/// cannot follow.
#[inline(always)]
fn opaque(mut value: usize) -> usize {
    // SAFETY: a register move. (Without an instruction, two lines of source would share one offset
    // in the line information, which the kernel refuses.)
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
    value
}

/// The maps.
struct BpfTables;

/// A bucket of `CONNS`; only words are read and written, never a reference made.
#[derive(Clone, Copy)]
struct BpfBucket(*mut ConnBucket);

impl BpfBucket {
    #[inline(always)]
    fn slot(self, slot: usize) -> *mut ConnSlot {
        // SAFETY: masked to the four slots of the bucket, which is a whole map value.
        unsafe { self.0.cast::<ConnSlot>().add(slot & (CONN_SLOTS - 1)) }
    }
}

impl Bucket for BpfBucket {
    #[inline(always)]
    fn meta(self, slot: usize) -> u64 {
        // SAFETY: inside a map value. Volatile: other CPUs write it, and it is read twice.
        unsafe { (&raw const (*self.slot(slot)).meta).read_volatile() }
    }

    #[inline(always)]
    fn key(self, slot: usize) -> u64 {
        // SAFETY: as in `meta`.
        unsafe { (&raw const (*self.slot(slot)).key).read_volatile() }
    }

    #[inline(always)]
    fn set_key(self, slot: usize, key: u64) {
        // SAFETY: as in `meta`.
        unsafe { (&raw mut (*self.slot(slot)).key).write_volatile(key) };
    }

    #[inline(always)]
    fn swap_meta(self, slot: usize, old: u64, new: u64) -> bool {
        // SAFETY: as in `meta`.
        let word = unsafe { &raw mut (*self.slot(slot)).meta };
        compare_exchange(word, old, new) == old
    }
}

impl Tables for BpfTables {
    type Bucket<'t> = BpfBucket;

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: a helper call without arguments; the JIT makes a load of it.
        let jiffies = unsafe { bpf_jiffies64() };
        (jiffies >> (TICK_SHIFT.load() & 63)) as u32 & CONN_TICK_MASK
    }

    #[inline(always)]
    fn tick_ns(&self) -> u64 {
        u64::from(TICK_NS.load())
    }

    #[inline(always)]
    fn hash_key(&self) -> HashKey {
        [
            HASH_0.load(),
            HASH_1.load(),
            HASH_2.load(),
            HASH_3.load(),
            HASH_4.load(),
        ]
    }

    #[inline(always)]
    fn bucket(&self, half: u32) -> Option<BpfBucket> {
        CONNS
            .get_ptr_mut(hash::bucket(half, CONN_BUCKETS.load()))
            .map(BpfBucket)
    }

    #[inline(always)]
    fn link(&self, ifindex: u32) -> Option<&Link> {
        LINKS.get(ifindex)
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<&Service> {
        // SAFETY: the agent replaces rows, it never changes one in place; the old row lives until
        // the program has returned (RCU).
        unsafe { SERVICES.get(key) }
    }

    #[inline(always)]
    fn member(&self, row: u32) -> Option<&Member> {
        MEMBERS.get(row)
    }

    #[inline(always)]
    fn dest(&self, id: u32) -> Option<&Dest> {
        DESTS.get(id)
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
    fn count_service(&self, service: u32, add: impl Fn(&mut Traffic)) {
        if let Some(traffic) = SERVICE_TRAFFIC.get_ptr_mut(service) {
            // SAFETY: a per-CPU slot.
            add(unsafe { &mut *traffic });
        }
    }

    #[inline(always)]
    fn count_dest(&self, dest: u32, add: impl Fn(&mut Traffic)) {
        if let Some(traffic) = DEST_TRAFFIC.get_ptr_mut(dest) {
            // SAFETY: a per-CPU slot.
            add(unsafe { &mut *traffic });
        }
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

#[inline(always)]
fn run_loop<F: FnMut() -> bool>(limit: u32, step: &mut F) {
    // SAFETY: `body` is given the closure it was made for, on this program's stack.
    unsafe {
        bpf_loop(
            limit,
            body::<F> as *mut c_void,
            core::ptr::from_mut(step).cast(),
            0,
        );
    }
}

/// What `bpf_loop` calls: 0 goes on, 1 ends the loop.
extern "C" fn body<F: FnMut() -> bool>(_index: u32, step: *mut c_void) -> i64 {
    // SAFETY: see `run_loop`.
    let step = unsafe { &mut *step.cast::<F>() };
    i64::from(!step())
}

/// Atomic compare-and-exchange of one word; what was there before.
///
/// The BPF target of rustc has no `AtomicU64::compare_exchange`, so this is the instruction itself
/// (kernel 5.12, `-C target-cpu=v3`).
#[inline(always)]
fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let mut seen = old;
    // SAFETY: `word` points into a map value, 8-aligned by the array's layout.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") seen,
        );
    }
    seen
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
