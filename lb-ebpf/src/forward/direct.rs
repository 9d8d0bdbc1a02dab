// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct routing: the datagram stays as it is but for one hop less, the frame gets new addresses.
//!
//! IPVS: `ip_vs_dr_xmit`; since 5.0 the director decrements the time to live (`decrement_ttl`).

use lb_common::abi::FAMILY_IPV4;
use lb_common::verdict::Verdict;
use lb_common::wire::{Ipv4, Ipv6};

use crate::family::Addr;
use crate::packet::Packet;
use crate::parse::Flow;

/// One hop less.
#[inline(always)]
pub(super) fn one_hop<A: Addr, P: Packet>(pkt: &mut P, flow: &Flow<A>) -> Result<(), Verdict> {
    let stored = if A::FAMILY == FAMILY_IPV4 {
        let mut ip: Ipv4 = pkt.load(flow.ip_offset).ok_or(Verdict::DropInternal)?;
        if ip.ttl <= 1 {
            return Err(Verdict::DropTtlExpired);
        }
        ip.decrement_ttl();
        pkt.store(flow.ip_offset, ip)
    } else {
        let mut ip: Ipv6 = pkt.load(flow.ip_offset).ok_or(Verdict::DropInternal)?;
        if ip.hop_limit <= 1 {
            return Err(Verdict::DropTtlExpired);
        }
        ip.hop_limit -= 1;
        pkt.store(flow.ip_offset, ip)
    };
    if stored {
        Ok(())
    } else {
        Err(Verdict::DropInternal)
    }
}
