// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way back: what a masqueraded server answers gets the virtual address and goes to the client.
//!
//! The kernel's routing table says which way, asked once a tick for each client (see
//! `lb_common::abi::Hop`). Until it has an answer the reply goes back where the client's own packet
//! came from.

use lb_common::abi::{AddrWords, CONN_TICK_MASK, Dest, FAMILY_IPV4, HOP_TICKS, Hop, fold};
use lb_common::verdict::Verdict;
use lb_common::wire::{Eth, Ipv4, Ipv6, Macs};

use super::{Part, frame, nat};
use crate::Outcome;
use crate::family::Addr;
use crate::packet::Packet;
use crate::parse::Flow;
use crate::tables::{Steps, Tables};

/// Translates a server's packet and sends it to the client.
#[inline(always)]
pub fn to_client<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    dest: &Dest,
    now: u32,
    part: Part,
) -> Outcome {
    let client = flow.dst.words();
    let mut way = match tables.hop(slot(&client)) {
        Some(hop) if hop.client == client => hop,
        _ => Hop::default(),
    };
    if way.ifindex == 0 || now.wrapping_sub(way.asked) & CONN_TICK_MASK > HOP_TICKS {
        let asked = tables.route(pkt, A::FAMILY, &dest.virt, &client);
        if let Some((ifindex, to, from)) = asked {
            way = Hop {
                client,
                to,
                from,
                ifindex,
                ..Hop::default()
            };
        } else if way.ifindex == 0 {
            return Verdict::DropNoNeighbor.into();
        }
        way.asked = now;
        tables.set_hop(slot(&client), &way);
    }
    match nat::to_client(pkt, tables, flow, dest, part)
        .and_then(|()| frame(pkt, Macs::new(way.to, way.from)))
    {
        Ok(()) => Outcome::by(pkt, way.ifindex),
        Err(verdict) => verdict.into(),
    }
}

/// Remembers where a client's packet, whose IP header is at `ip_offset`, came from, unless the way to
/// it is known.
#[inline(always)]
pub fn remember<P: Packet, T: Tables>(pkt: &P, tables: &T, ip_offset: usize, family: u8, now: u32) {
    let Some(eth) = pkt.load::<Eth>(0) else {
        return;
    };
    let client = if family == FAMILY_IPV4 {
        pkt.load::<Ipv4>(ip_offset).map(|ip| [ip.src, 0, 0, 0])
    } else {
        pkt.load::<Ipv6>(ip_offset).map(|ip| ip.src)
    };
    let Some(client) = client else {
        return;
    };
    let known = tables.hop(slot(&client));
    if known.is_some_and(|hop| hop.client == client) {
        return;
    }
    let hop = Hop {
        client,
        to: eth.src,
        from: eth.dst,
        ifindex: pkt.ingress_ifindex(),
        // The routing table is asked at the first reply.
        asked: now.wrapping_sub(1 + HOP_TICKS),
        ..Hop::default()
    };
    tables.set_hop(slot(&client), &hop);
}

/// Row of a client.
#[inline(always)]
fn slot(client: &AddrWords) -> u32 {
    fold(client).wrapping_mul(0x9e37_79b1) >> 16
}
