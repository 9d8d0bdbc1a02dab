// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of `cargo xtask bench packet`: a driver around a program under test, and the programs
//! that it is compared with.
//!
//! BPF_PROG_TEST_RUN repeats a program over one buffer and does not reset it, so the second run
//! would see the first one's output. The driver writes what a program may have changed and what
//! tells flows apart, then tail-calls. Its own cost is part of every row.

#![no_std]
#![no_main]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the xdp macro makes an undocumented public item"
)]
#![allow(
    unsafe_code,
    reason = "map and packet memory is reached by pointers that the verifier checks"
)]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, ProgramArray};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    ConnLine, DRIVE_CHUNK, DRIVE_CHUNKS, DRIVE_LINES, DRIVE_RANDOM, DRIVE_V6, Drive,
};
use lb_common::hash;
use lb_common::wire::Eth;

#[btf_map]
static DRIVE: Array<Drive, 1> = Array::new();
#[btf_map]
static CHUNK_NS: Array<u64, { DRIVE_CHUNKS as usize }> = Array::new();
#[btf_map]
static LINES: Array<ConnLine, { DRIVE_LINES as usize }> = Array::new();
#[btf_map]
static UNDER_TEST: ProgramArray<1> = ProgramArray::new();

/// GPL-compatible, as the helpers ask for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Offsets into an untagged frame with an IPv4 header of 20 bytes.
const V4_HOP: usize = Eth::LEN + 8;
const V4_CLIENT: usize = Eth::LEN + 12;
const V4_VIRT: usize = Eth::LEN + 16;
const V4_PORTS: usize = Eth::LEN + 20;
/// Offsets into an untagged frame with an IPv6 header alone; of addresses, the last four bytes.
const V6_HOP: usize = Eth::LEN + 4;
const V6_CLIENT: usize = Eth::LEN + 20;
const V6_VIRT: usize = Eth::LEN + 36;
const V6_PORTS: usize = Eth::LEN + 40;

/// Makes the next packet of the order and hands it to the program under test.
#[xdp(frags)]
pub fn drive(ctx: XdpContext) -> u32 {
    let Some(drive) = DRIVE.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: the benchmark runs on one CPU, and changes the row between runs only.
    let drive = unsafe { &mut *drive };
    let length = ctx.data_end() - ctx.data();
    if length != drive.length as usize {
        // The last program put a header before the frame.
        let more = length as i32 - drive.length as i32;
        // SAFETY: a helper call; the pointers into the packet are taken anew below.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, more) } != 0 {
            return xdp_action::XDP_ABORTED;
        }
    }
    if drive.packets.is_multiple_of(u64::from(DRIVE_CHUNK)) {
        time_chunk(drive);
    }
    drive.packets += 1;
    let flow = next(drive);
    let written = if drive.family == DRIVE_V6 {
        write::<V6_HOP, V6_CLIENT, V6_VIRT, V6_PORTS>(&ctx, drive, flow)
    } else {
        write::<V4_HOP, V4_CLIENT, V4_VIRT, V4_PORTS>(&ctx, drive, flow)
    };
    if written {
        // SAFETY: a helper call; it returns only if there is no program.
        unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Writes what a program may have changed and what tells flows apart, at these offsets.
#[inline(always)]
fn write<const HOP: usize, const CLIENT: usize, const VIRT: usize, const PORTS: usize>(
    ctx: &XdpContext,
    drive: &Drive,
    flow: u32,
) -> bool {
    let start = ctx.data();
    if start + PORTS + 4 > ctx.data_end() {
        return false;
    }
    let virt = drive.virt_base + Drive::service(flow, drive.services);
    let ports = [Drive::client_port(flow).to_be(), drive.virt_port];
    // SAFETY: in bounds by the check above. As wide as the programs' loads, so that these need not
    // wait for several stores.
    unsafe {
        (start as *mut [u32; 3]).write(drive.macs);
        ((start + 12) as *mut u16).write(drive.ethertype);
        ((start + HOP) as *mut u32).write(drive.hop);
        ((start + CLIENT) as *mut u32).write(Drive::client(flow).to_be());
        ((start + VIRT) as *mut u32).write(virt.to_be());
        ((start + PORTS) as *mut u32).write(ports[0] as u32 | (ports[1] as u32) << 16);
    }
    true
}

/// Notes how long the chunk took that has just ended.
#[inline(always)]
fn time_chunk(drive: &mut Drive) {
    // SAFETY: a helper call without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let ended = (drive.packets / u64::from(DRIVE_CHUNK)) as u32;
    if ended > 0
        && let Some(ns) = CHUNK_NS.get_ptr_mut((ended - 1) % DRIVE_CHUNKS)
    {
        // SAFETY: one CPU, see `drive`.
        unsafe { *ns = now - drive.chunk_began_ns };
    }
    drive.chunk_began_ns = now;
}

/// Number of the next packet's flow.
#[inline(always)]
fn next(drive: &mut Drive) -> u32 {
    let mut state = drive.state;
    let index = if drive.order == DRIVE_RANDOM {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 32) * u64::from(drive.flows)) >> 32
    } else {
        let index = state;
        state += 1;
        if state >= u64::from(drive.flows) {
            state = 0;
        }
        index
    };
    drive.state = state;
    drive.first.wrapping_add(index as u32)
}

/// Returns XDP_TX at once.
#[xdp(frags)]
pub fn transmit(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Exchanges the MAC addresses and returns XDP_TX: the least that a forwarder can do.
#[xdp(frags)]
pub fn swap_macs(ctx: XdpContext) -> u32 {
    swap(&ctx)
}

#[inline(always)]
fn swap(ctx: &XdpContext) -> u32 {
    let start = ctx.data();
    if start + Eth::LEN > ctx.data_end() {
        return xdp_action::XDP_DROP;
    }
    let eth = start as *mut Eth;
    // SAFETY: in bounds by the check above.
    unsafe {
        let Eth { dst, src, .. } = eth.read();
        (*eth).dst = src;
        (*eth).src = dst;
    }
    xdp_action::XDP_TX
}

/// Reads one word of a random cache line of a table as large as the connection table, swaps the MAC
/// addresses: what memory alone costs a forwarder with that many flows.
#[xdp(frags)]
pub fn touch_line(ctx: XdpContext) -> u32 {
    let start = ctx.data();
    if start + V4_PORTS + 4 > ctx.data_end() {
        return xdp_action::XDP_DROP;
    }
    // SAFETY: in bounds by the check above.
    let (client, ports) = unsafe {
        (
            ((start + V4_CLIENT) as *const u32).read(),
            ((start + V4_PORTS) as *const u32).read(),
        )
    };
    let hash = hash::flow(&[1, 3, 5, 7], client, 0, ports, 0);
    match LINES.get_ptr(hash::bucket(hash::first(hash), DRIVE_LINES)) {
        // SAFETY: inside a map value. All words are 0.
        Some(line) if unsafe { (*line).words[0] } == 0 => swap(&ctx),
        _ => xdp_action::XDP_DROP,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
