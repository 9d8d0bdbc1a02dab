// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way back: what a masqueraded server answers gets the virtual address and goes to the client.
//!
//! The kernel's routing table says which way, asked once a tick for each client (see
//! `lb_common::abi::Hop`). Until it has an answer the reply goes back where the client's own packet
//! came from.

use lb_common::abi::{CONN_TICK_MASK, Dest, HOP_TICKS, Hop};
use lb_common::verdict::Verdict;
use lb_common::wire::Eth;

use super::{frame, nat};
use crate::Outcome;
use crate::family::Addr;
use crate::packet::Packet;
use crate::parse::Flow;
use crate::tables::Tables;

/// Translates a server's packet and sends it to the client.
#[inline(always)]
pub fn to_client<A: Addr, P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    dest: &Dest,
    now: u32,
) -> Outcome {
    let client = flow.dst.words();
    let mut way = Hop::default();
    tables.hop(slot(flow.dst), |hop| {
        if hop.client == client {
            way = *hop;
        }
    });
    if way.ifindex == 0 || now.wrapping_sub(way.asked) & CONN_TICK_MASK > HOP_TICKS {
        let asked = tables.route(pkt.ingress_ifindex(), A::FAMILY, &dest.virt, &client);
        if let Some((ifindex, to, from)) = asked {
            way = Hop {
                client,
                to,
                from,
                ifindex,
                asked: now,
            };
        } else if way.ifindex == 0 {
            return Verdict::DropNoNeighbor.into();
        }
        way.asked = now;
        tables.hop(slot(flow.dst), |hop| *hop = way);
    }
    match nat::to_client(pkt, flow, dest).and_then(|()| frame(pkt, way.to, way.from)) {
        Ok(()) => Outcome::by(pkt, way.ifindex),
        Err(verdict) => verdict.into(),
    }
}

/// Remembers where a client's packet came from, unless the way to it is known.
#[inline(always)]
pub(crate) fn remember<A: Addr, P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    flow: &Flow<A>,
    now: u32,
) {
    let Some(eth) = pkt.load::<Eth>(0) else {
        return;
    };
    let client = flow.src.words();
    let ifindex = pkt.ingress_ifindex();
    tables.hop(slot(flow.src), |hop| {
        if hop.client != client {
            *hop = Hop {
                client,
                to: eth.src,
                from: eth.dst,
                ifindex,
                // The routing table is asked at the first reply.
                asked: now.wrapping_sub(1 + HOP_TICKS),
            };
        }
    });
}

/// Row of a client.
#[inline(always)]
fn slot<A: Addr>(client: A) -> u32 {
    client.fold().wrapping_mul(0x9e37_79b1) >> 16
}
