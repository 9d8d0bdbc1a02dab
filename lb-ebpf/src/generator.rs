// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of `cargo xtask bench forward` and `bench ipvs`: a packet generator, a sink, and the
//! programs of comparison.
//!
//! `generate` runs under BPF_PROG_TEST_RUN with live frames and redirects each into the end of a
//! cable that the director has at the other end, so that it gets frames as from a NIC's driver.
//! `sink` counts what comes back and drops it. All happens on one CPU; a chunk's time is that of
//! generator, director and sink together, and the report subtracts what the first and last take.

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

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_load_bytes};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    Drive, GENERATE_CHUNKS, GENERATE_FRAME, GENERATE_SAMPLE, GENERATE_SERVER_WORD,
    GENERATE_SERVERS, Generate,
};
use lb_common::wire::{Eth, Ipv4};

#[btf_map]
static GENERATE: Array<Generate, 1> = Array::new();
#[btf_map]
static CHUNK_NS: Array<u64, { GENERATE_CHUNKS as usize }> = Array::new();
/// Frames that reached the sink, by server.
#[btf_map]
static ARRIVED: Array<u64, { GENERATE_SERVERS as usize }> = Array::new();
/// The beginning of the first of them.
#[btf_map]
static SAMPLE: Array<[u8; GENERATE_SAMPLE], { GENERATE_SERVERS as usize }> = Array::new();

/// GPL-compatible, as the helpers ask for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Offsets into an untagged frame with an IPv4 header of 20 bytes.
const IP_CHECK: usize = Eth::LEN + 10;
const CLIENT: usize = Eth::LEN + 12;
const L4: usize = Eth::LEN + Ipv4::LEN;
const TCP_CHECK: usize = L4 + 16;
const UDP_CHECK: usize = L4 + 6;

/// Writes the next packet of the order over what came back in its page, and sends it.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    let Some(order) = GENERATE.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: the generator runs on one CPU, and the order changes between runs only.
    let order = unsafe { &mut *order };
    let start = ctx.data();
    if start + GENERATE_FRAME > ctx.data_end() || order.chunk == 0 {
        return xdp_action::XDP_ABORTED;
    }
    if order.packets.is_multiple_of(order.chunk) {
        time_chunk(order);
    }
    order.packets += 1;
    let flow = next(order);
    let client = Drive::client(flow).to_be();
    let port = Drive::client_port(flow).to_be();
    let client_sum = (client & 0xffff) + (client >> 16);
    let ip_check = check(order.ip_sum + client_sum);
    let l4_check = check(order.l4_sum + client_sum + port as u32);
    // SAFETY: in bounds by the check above; a live frame begins on a multiple of four bytes, and
    // BPF does not ask for more.
    unsafe {
        (start as *mut [u32; GENERATE_FRAME / 4]).write(order.frame);
        ((start + IP_CHECK) as *mut u16).write(ip_check);
        ((start + CLIENT) as *mut u32).write(client);
        ((start + L4) as *mut u16).write(port);
        if order.tcp == 0 {
            ((start + UDP_CHECK) as *mut u16).write(l4_check);
        } else {
            ((start + TCP_CHECK) as *mut u16).write(l4_check);
        }
        bpf_redirect(order.ifindex, 0) as u32
    }
}

/// Number of the next packet's flow.
#[inline(always)]
fn next(order: &mut Generate) -> u32 {
    let index = order.next;
    order.next = if index + 1 < order.flows {
        index + 1
    } else {
        0
    };
    order.first.wrapping_add(index)
}

/// Folds a sum of at most 2^17 words and inverts it.
#[inline(always)]
fn check(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Notes how long the chunk took that has just ended: this packet begins a batch, so all packets
/// before it have reached the sink.
#[inline(always)]
fn time_chunk(order: &mut Generate) {
    // SAFETY: a helper call without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let ended = order.packets / order.chunk;
    if ended > 0
        && let Some(ns) = CHUNK_NS.get_ptr_mut((ended - 1) % GENERATE_CHUNKS)
    {
        // SAFETY: one CPU, see `generate`.
        unsafe { *ns = now - order.chunk_began_ns };
    }
    order.chunk_began_ns = now;
}

/// Counts what is addressed to a server, keeps the first frame of each, and drops everything.
#[xdp]
pub fn sink(ctx: XdpContext) -> u32 {
    let start = ctx.data();
    if start + Eth::LEN > ctx.data_end() {
        return xdp_action::XDP_DROP;
    }
    // SAFETY: in bounds by the check above.
    let (word, server) = unsafe {
        (
            (start as *const u32).read(),
            (start as *const u8).add(5).read(),
        )
    };
    if word != GENERATE_SERVER_WORD {
        return xdp_action::XDP_DROP;
    }
    if let Some(arrived) = ARRIVED.get_ptr_mut(server as u32) {
        // SAFETY: everything happens on one CPU.
        unsafe {
            if *arrived == 0
                && let Some(sample) = SAMPLE.get_ptr_mut(server as u32)
            {
                // A shorter frame leaves the old sample; user space then finds no packet in it.
                let length = GENERATE_SAMPLE as u32;
                bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, sample.cast(), length);
            }
            *arrived += 1;
        }
    }
    xdp_action::XDP_DROP
}

/// Drops everything: the base, of which generator and cable are the cost.
#[xdp]
pub fn drop_all(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Exchanges the MAC addresses and returns XDP_TX: the least that a forwarder can do.
#[xdp]
pub fn swap_macs(ctx: XdpContext) -> u32 {
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

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
