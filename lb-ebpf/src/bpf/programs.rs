// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs that the kernel runs: the entry point, and those that it goes on in.
//!
//! Each is there twice. Those named `follow_` tell followers of each packet; the agent puts them in
//! the place of the others while somebody follows. They are compiled twice, not told apart when they
//! run: who is not followed pays nothing.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::verdict::{Fate, Verdict};
use lb_ebpf::tables::Tables as _;
use lb_ebpf::{Outcome, forward};

use super::follow::{step_arrived, step_tell};
use super::maps::*;
use crate::{BpfTables, IP_OFFSET, PLAIN, XdpPacket};

/// Entry point: one packet.
#[xdp(frags)]
#[inline(always)]
pub fn xlvs(ctx: XdpContext) -> u32 {
    begin::<false>(ctx)
}

/// [`lb_ebpf::tables::Steps::ipv6`], from the Ethernet header on.
#[xdp(frags)]
#[inline(always)]
pub fn xlvs_ipv6(ctx: XdpContext) -> u32 {
    ipv6::<false>(ctx)
}

/// [`lb_ebpf::tables::Steps::encapsulate`]; its order is in `ORDER`.
#[xdp(frags)]
pub fn xlvs_tunnel(ctx: XdpContext) -> u32 {
    tunnel::<false>(ctx)
}

/// [`lb_ebpf::tables::Steps::reply`]; what stands otherwise is in `ORDER`.
#[xdp(frags)]
pub fn xlvs_reply(ctx: XdpContext) -> u32 {
    reply::<false>(ctx)
}

/// [`lb_ebpf::tables::Steps::icmp`]
#[xdp(frags)]
pub fn xlvs_icmp(ctx: XdpContext) -> u32 {
    icmp::<false>(ctx)
}

/// [`lb_ebpf::tables::Steps::fragment4`]
#[xdp(frags)]
pub fn xlvs_fragment(ctx: XdpContext) -> u32 {
    fragment4::<false>(ctx)
}

/// [`lb_ebpf::tables::Steps::fragment6`]
#[xdp(frags)]
pub fn xlvs_fragment6(ctx: XdpContext) -> u32 {
    fragment6::<false>(ctx)
}

/// The connection table's time as the return value, for the agent.
#[xdp]
pub fn xlvs_clock(_ctx: XdpContext) -> u32 {
    PLAIN.now()
}

/// `xlvs`, followed.
#[xdp(frags)]
pub fn follow_xlvs(ctx: XdpContext) -> u32 {
    begin::<true>(ctx)
}

/// `xlvs_ipv6`, followed.
#[xdp(frags)]
pub fn follow_ipv6(ctx: XdpContext) -> u32 {
    ipv6::<true>(ctx)
}

/// `xlvs_tunnel`, followed.
#[xdp(frags)]
pub fn follow_tunnel(ctx: XdpContext) -> u32 {
    tunnel::<true>(ctx)
}

/// `xlvs_reply`, followed.
#[xdp(frags)]
pub fn follow_reply(ctx: XdpContext) -> u32 {
    reply::<true>(ctx)
}

/// `xlvs_icmp`, followed.
#[xdp(frags)]
pub fn follow_icmp(ctx: XdpContext) -> u32 {
    icmp::<true>(ctx)
}

/// `xlvs_fragment`, followed.
#[xdp(frags)]
pub fn follow_fragment(ctx: XdpContext) -> u32 {
    fragment4::<true>(ctx)
}

/// `xlvs_fragment6`, followed.
#[xdp(frags)]
pub fn follow_fragment6(ctx: XdpContext) -> u32 {
    fragment6::<true>(ctx)
}

#[inline(always)]
fn begin<const FOLLOWED: bool>(ctx: XdpContext) -> u32 {
    if FOLLOWED {
        step_arrived(ctx.ctx);
    }
    let mut pkt = XdpPacket::<true>::new(ctx);
    if let Some(outcome) = lb_ebpf::short::ingress(&mut pkt, &BpfTables::<FOLLOWED>) {
        return conclude_short::<FOLLOWED>(outcome);
    }
    let mut pkt = XdpPacket::<false>::new(pkt.ctx);
    let outcome = lb_ebpf::ingress(&mut pkt, &BpfTables::<FOLLOWED>);
    #[cfg(feature = "packet-log")]
    aya_log_ebpf::debug!(&pkt.ctx, "{}", outcome.verdict.name());
    conclude::<FOLLOWED>(outcome)
}

#[inline(always)]
fn ipv6<const FOLLOWED: bool>(ctx: XdpContext) -> u32 {
    let (mut pkt, tables) = (XdpPacket::<false>::new(ctx), BpfTables::<FOLLOWED>);
    let outcome = match lb_ebpf::parse::link_layer_again(&pkt, &tables) {
        Ok((offset, _)) => lb_ebpf::ipv6(&mut pkt, &tables, offset),
        Err(verdict) => verdict.into(),
    };
    conclude::<FOLLOWED>(outcome)
}

#[inline(always)]
fn tunnel<const FOLLOWED: bool>(ctx: XdpContext) -> u32 {
    let mut pkt = XdpPacket::<false>::new(ctx);
    let outcome = match ORDER.get(0) {
        Some(order) => forward::tun::encapsulate(
            &mut pkt,
            &BpfTables::<FOLLOWED>,
            order.ip_offset as usize & IP_OFFSET,
            order.family as u8,
            order.dest,
            order.hash,
        ),
        None => Verdict::DropInternal.into(),
    };
    conclude::<FOLLOWED>(outcome)
}

#[inline(always)]
fn reply<const FOLLOWED: bool>(ctx: XdpContext) -> u32 {
    let mut pkt = XdpPacket::<false>::new(ctx);
    let verdict = ORDER.get(0).map_or(0, |order| order.verdict);
    let verdict = Verdict::from_code(verdict as u8);
    let outcome = lb_ebpf::reply(&mut pkt, &BpfTables::<FOLLOWED>, verdict);
    conclude::<FOLLOWED>(outcome)
}

#[inline(always)]
fn icmp<const FOLLOWED: bool>(ctx: XdpContext) -> u32 {
    let mut pkt = XdpPacket::<false>::new(ctx);
    conclude::<FOLLOWED>(lb_ebpf::other_protocol(&mut pkt, &BpfTables::<FOLLOWED>))
}

#[inline(always)]
fn fragment4<const FOLLOWED: bool>(ctx: XdpContext) -> u32 {
    let mut pkt = XdpPacket::<false>::new(ctx);
    conclude::<FOLLOWED>(lb_ebpf::fragment4(&mut pkt, &BpfTables::<FOLLOWED>))
}

#[inline(always)]
fn fragment6<const FOLLOWED: bool>(ctx: XdpContext) -> u32 {
    let mut pkt = XdpPacket::<false>::new(ctx);
    conclude::<FOLLOWED>(lb_ebpf::fragment6(&mut pkt, &BpfTables::<FOLLOWED>))
}

/// [`conclude`] of the short way: nearly all of its packets are transmitted, so that is laid out on its
/// own.
#[inline(always)]
fn conclude_short<const FOLLOWED: bool>(outcome: Outcome) -> u32 {
    if outcome.verdict != Verdict::Transmit {
        return conclude::<FOLLOWED>(outcome);
    }
    count(Verdict::Transmit);
    if FOLLOWED {
        step_tell(Verdict::Transmit as u64, 0);
    }
    xdp_action::XDP_TX
}

/// Counts the verdict and turns it into an XDP code.
#[inline(always)]
fn conclude<const FOLLOWED: bool>(outcome: Outcome) -> u32 {
    count(outcome.verdict);
    if FOLLOWED {
        step_tell(outcome.verdict as u64, outcome.ifindex.into());
    }
    if outcome.verdict == Verdict::Transmit {
        return xdp_action::XDP_TX;
    }
    match outcome.verdict {
        Verdict::ReplyTooBig => xdp_action::XDP_TX,
        // SAFETY: a helper call without pointers.
        Verdict::Redirect => unsafe { bpf_redirect(outcome.ifindex, 0) as u32 },
        other => match other.fate() {
            Fate::Pass => xdp_action::XDP_PASS,
            Fate::Forward | Fate::Drop => xdp_action::XDP_DROP,
        },
    }
}

#[inline(always)]
fn count(verdict: Verdict) {
    if let Some(count) = VERDICTS.get_ptr_mut(verdict as u32) {
        // SAFETY: a per-CPU slot; the program is not preempted by another run on this CPU.
        unsafe { *count += 1 };
    }
}
