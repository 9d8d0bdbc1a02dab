// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a packet reaches its real server, or its client: one match, a file a method.

pub mod back;
mod direct;
mod inner_sum;
mod link;
pub mod nat;
mod sctp;
mod too_big;
pub mod tun;

use lb_common::abi::{Dest, FAMILY_IPV4, METHOD_LOCAL, METHOD_NAT, METHOD_TUNNEL};
use lb_common::verdict::Verdict;
use lb_common::wire::Macs;

use crate::Outcome;
use crate::family::Addr;
use crate::packet::Packet;
use crate::parse::Flow;
use crate::tables::Steps;

/// How much of a packet there is to translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Network and transport header.
    Whole,
    /// The same of a datagram's first fragment: what a checksum covers is not all here.
    First,
    /// The network header: there is no transport header (a later fragment), or what has ports is
    /// translated already (an ICMP error).
    Network,
}

/// Rewrites the frame for a real server and says by which interface it leaves. `hash` is the
/// flow's.
#[inline(always)]
pub fn to_server<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    (id, dest): (u32, &Dest),
    hash: u32,
    part: Part,
) -> Outcome {
    if dest.method == METHOD_LOCAL {
        return Verdict::PassLocal.into();
    }
    let Some(macs) = dest.macs() else {
        return Verdict::DropNoNeighbor.into();
    };
    let done = match dest.method {
        METHOD_TUNNEL => {
            if A::FAMILY == FAMILY_IPV4
                && let Some(outcome) = tun::ipip(pkt, tables, flow.ip_offset, (id, dest), hash)
            {
                return outcome;
            }
            return tables.encapsulate(pkt, flow.ip_offset, A::FAMILY, id, hash);
        }
        METHOD_NAT => nat::to_server(pkt, tables, flow, dest, part),
        _ => direct::one_hop(pkt, flow),
    };
    let ifindex = dest.ifindex;
    match done.and_then(|()| frame(pkt, macs)) {
        Ok(()) => Outcome::by(pkt, ifindex),
        Err(verdict) => verdict.into(),
    }
}

/// Gives the frame new addresses.
#[inline(always)]
fn frame<P: Packet>(pkt: &mut P, macs: Macs) -> Result<(), Verdict> {
    if pkt.set_macs(macs) {
        Ok(())
    } else {
        Err(Verdict::DropInternal)
    }
}
