// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct routing: the datagram stays as it is but for one hop less, the frame gets new addresses.
//!
//! IPVS: `ip_vs_dr_xmit`; since 5.0 the director decrements the time to live (`decrement_ttl`).

use lb_common::verdict::Verdict;
use lb_common::wire::{Eth, Ipv4, Mac};

use crate::packet::Packet;
use crate::parse::Flow;

/// Rewrites the frame in place.
#[inline(always)]
pub(super) fn rewrite<P: Packet>(
    pkt: &mut P,
    flow: &Flow,
    to: Mac,
    from: Mac,
) -> Result<(), Verdict> {
    // VERIFIER: the Ethernet header first. From a check that the frame reaches beyond the IPv4
    // header the compiler concludes that this one needs none; the verifier cannot follow.
    let eth: Eth = pkt.load(0).ok_or(Verdict::DropInternal)?;
    let eth = Eth {
        dst: to,
        src: from,
        ..eth
    };
    let mut ip: Ipv4 = pkt.load(flow.ip_offset).ok_or(Verdict::DropInternal)?;
    if ip.ttl <= 1 {
        return Err(Verdict::DropTtlExpired);
    }
    ip.decrement_ttl();
    if pkt.store(0, eth) && pkt.store(flow.ip_offset, ip) {
        Ok(())
    } else {
        Err(Verdict::DropInternal)
    }
}
