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

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_loop, bpf_redirect};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use bytemuck::Pod;
use lb_common::abi::{
    Conn, ConnKey, Dest, Link, MAX_CONNS, MAX_DESTS, MAX_LINKS, MAX_MEMBERS, MAX_SERVICES, Member,
    Service, ServiceKey, Traffic, VERDICT_SLOTS,
};
use lb_common::verdict::{Fate, Verdict};
use lb_ebpf::Outcome;
use lb_ebpf::packet::Packet;
use lb_ebpf::tables::Tables;

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
static CONNS: LruHashMap<ConnKey, Conn, { MAX_CONNS as usize }> = LruHashMap::new();
#[btf_map]
static VERDICTS: PerCpuArray<u64, { VERDICT_SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static DEST_TRAFFIC: PerCpuArray<Traffic, { MAX_DESTS as usize }> = PerCpuArray::new();
#[btf_map]
static SERVICE_TRAFFIC: PerCpuArray<Traffic, { MAX_SERVICES as usize }> = PerCpuArray::new();

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

impl Tables for BpfTables {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: a helper call without arguments.
        unsafe { bpf_ktime_get_ns() }
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
    fn with_conn<R>(&self, key: &ConnKey, change: impl FnOnce(&mut Conn) -> R) -> Option<R> {
        // SAFETY: an LRU element stays allocated while the program runs. Two CPUs may see two
        // packets of one flow at once: time and state are single words and the later write wins.
        CONNS
            .get_ptr_mut(key)
            .map(|conn| change(unsafe { &mut *conn }))
    }

    #[inline(always)]
    fn put_conn(&self, key: &ConnKey, conn: &Conn) {
        // An insert fails only if the LRU has no element to give for a moment; the next packet of
        // the flow tries again.
        let _ = CONNS.insert(key, conn, 0);
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
