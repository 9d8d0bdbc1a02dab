// SPDX-License-Identifier: MIT OR Apache-2.0
//! Telling followers of packets (`xlvs trace --follow`): what the programs of `programs.rs` do
//! besides while they are followed.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    DEST_IPV6, FAMILY_IPV4, FAMILY_IPV6, FOLLOW_NO_DEST, FOLLOW_RATE, FollowEvent, MAX_FOLLOWERS,
};
use lb_ebpf::follow;

use super::maps::*;
use crate::XdpPacket;

const SECOND: u64 = 1_000_000_000;

/// Writes the packet down as it arrives, before anything is rewritten.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_arrived(ctx: *mut xdp_md) -> u64 {
    let Some(event) = FOLLOW_PACKET.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a per-CPU slot; only integers, so zeros are a value.
    let event = unsafe { &mut *event };
    // SAFETY: a helper call.
    event.frame_len = unsafe { bpf_xdp_get_buff_len(ctx) } as u32;
    let pkt = XdpPacket::<false>::new(XdpContext::new(ctx));
    follow::arrived(&pkt, event);
    0
}

/// Notes the real server that a packet is counted for.
#[inline(always)]
pub(crate) fn counted_for(dest: u32) {
    if let Some(event) = FOLLOW_PACKET.get_ptr_mut(0) {
        // SAFETY: a per-CPU slot.
        unsafe { (*event).dest = dest };
    }
}

/// Tells those who want to hear of it what became of the packet; more of them than the meter allows
/// are only counted.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_tell(verdict: u64, out_ifindex: u64) -> u64 {
    let (Some(event), Some(meter)) = (FOLLOW_PACKET.get_ptr_mut(0), FOLLOW_METER.get_ptr_mut(0))
    else {
        return 0;
    };
    // SAFETY: per-CPU slots; only integers, so zeros are a value.
    let (event, meter) = unsafe { (&mut *event, &mut *meter) };
    event.verdict = verdict as u8;
    event.followers = 0;
    for row in 0..MAX_FOLLOWERS {
        if let Some(filter) = FOLLOW_FILTERS.get(row)
            && follow::is_wanted(filter, event)
        {
            event.followers |= 1 << row;
        }
    }
    if event.followers == 0 {
        return 0;
    }
    // SAFETY: a helper call without arguments.
    event.time_ns = unsafe { bpf_ktime_get_ns() };
    if event.time_ns - meter.since_ns > SECOND {
        meter.since_ns = event.time_ns;
        meter.told = 0;
    }
    event.out_ifindex = out_ifindex as u32;
    if let Some(dest) = DESTS.get(event.dest)
        && event.dest != FOLLOW_NO_DEST
    {
        event.server = dest.addr;
        event.server_port = dest.port;
        event.method = dest.method;
        event.server_family = if dest.flags & DEST_IPV6 == 0 {
            FAMILY_IPV4
        } else {
            FAMILY_IPV6
        };
    }
    if meter.told < FOLLOW_RATE
        && FOLLOW_EVENTS
            .output_untyped::<FollowEvent>(&*event, 0)
            .is_ok()
    {
        meter.told += 1;
        return 0;
    }
    for (row, lost) in meter.lost.iter_mut().enumerate() {
        if event.followers >> row & 1 != 0 {
            *lost += 1;
        }
    }
    0
}
