// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct routing: the datagram stays as it is but for one hop less, the frame gets new addresses.
//!
//! IPVS: `ip_vs_dr_xmit`; since 5.0 the director decrements the time to live (`decrement_ttl`).

use lb_common::abi::FAMILY_IPV4;
use lb_common::verdict::Verdict;
use lb_common::wire::{Ipv4Hop, Ipv6};

use crate::family::Addr;
use crate::packet::Packet;
use crate::parse::Flow;

/// One hop less.
#[inline(always)]
pub(super) fn one_hop<A: Addr, P: Packet>(pkt: &mut P, flow: &Flow<A>) -> Result<(), Verdict> {
    let left = if A::FAMILY == FAMILY_IPV4 {
        pkt.change(flow.ip_offset + Ipv4Hop::OFFSET, |hop: &mut Ipv4Hop| {
            let left = hop.ttl() > 1;
            if left {
                *hop = hop.decrement();
            }
            left
        })
    } else {
        pkt.change(flow.ip_offset + Ipv6::HOP_LIMIT, |limit: &mut u8| {
            let left = *limit > 1;
            if left {
                *limit -= 1;
            }
            left
        })
    };
    match left {
        Some(true) => Ok(()),
        Some(false) => Err(Verdict::DropTtlExpired),
        None => Err(Verdict::DropInternal),
    }
}
