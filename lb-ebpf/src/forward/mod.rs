// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a packet reaches its real server: one match, a file a method.

mod dr;

use lb_common::abi::Dest;
use lb_common::verdict::Verdict;

use crate::Outcome;
use crate::packet::Packet;
use crate::parse::Flow;
use crate::tables::Tables;

/// Rewrites the frame for a real server and says by which interface it leaves.
#[inline(always)]
pub fn forward<P: Packet, T: Tables>(pkt: &mut P, tables: &T, flow: &Flow, dest: &Dest) -> Outcome {
    // The next hop is one word: read once, it is either the old address or the new one.
    let next_hop = dest.next_hop;
    if next_hop.resolved == 0 {
        return Verdict::DropNoNeighbor.into();
    }
    let ifindex = dest.ifindex;
    let Some(link) = tables.link(ifindex).filter(|link| link.known != 0) else {
        return Verdict::DropNoNeighbor.into();
    };
    if let Err(verdict) = dr::rewrite(pkt, flow, next_hop.mac, link.mac) {
        return verdict.into();
    }
    if ifindex == pkt.ingress_ifindex() {
        Verdict::Transmit.into()
    } else {
        Outcome {
            verdict: Verdict::Redirect,
            ifindex,
        }
    }
}
