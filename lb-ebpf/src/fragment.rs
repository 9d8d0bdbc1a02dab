// SPDX-License-Identifier: MIT OR Apache-2.0
//! IPv4 fragments: all of a datagram go where its first one went.
//!
//! Only the first fragment has ports. It travels as any packet, and where it went is remembered by
//! what its followers share with it: addresses, protocol and identification. A follower that comes
//! before it, or long after it, is left to the director's stack.
//!
//! IPVS reassembles first (`ip_vs_gather_frags`) and sends fragments of its own.

use lb_common::abi::{Dest, Fragment, FragmentKey};
use lb_common::hash;
use lb_common::verdict::Verdict;
use lb_common::wire::Ipv4;

use crate::conntrack::{self, Hit, Place, Role};
use crate::family::{Addr, V4};
use crate::forward::{Part, back};
use crate::packet::Packet;
use crate::parse::{self, Flow};
use crate::tables::Steps;
use crate::{Outcome, forward, stats};

/// A fragment at `ip_offset`.
#[inline(always)]
pub fn ipv4<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, ip_offset: usize) -> Outcome {
    let Some(ip) = pkt.load::<Ipv4>(ip_offset) else {
        return Verdict::DropMalformedIp.into();
    };
    let key = FragmentKey {
        src: ip.src,
        dst: ip.dst,
        id: ip.id,
        proto: ip.proto,
        zero: 0,
    };
    if ip.fragment_offset() == 0 {
        return match parse::first_fragment(pkt, ip_offset) {
            Ok(flow) => first(pkt, tables, &flow, &key),
            Err(verdict) => verdict.into(),
        };
    }
    // VERIFIER: "!read_ok": a row that may not be there is kept nowhere while something else is asked.
    let Some(known) = tables.fragment(&key) else {
        return Verdict::PassFragment.into();
    };
    let now = tables.now();
    let Some(dest) = tables.dest(known.dest) else {
        return Verdict::PassFragment.into();
    };
    if dest.generation != known.generation {
        return Verdict::DropDestGone.into();
    }
    let flow = parse::later_fragment(&ip, ip_offset);
    if known.reply == 0 {
        stats::count_in(tables, &flow, known.dest, 0);
        forward::to_server(pkt, tables, &flow, (known.dest, dest), 0, Part::Network)
    } else {
        stats::count_out(tables, &flow, known.dest);
        back::to_client(pkt, tables, &flow, dest, now, Part::Network)
    }
}

/// The first fragment: as any packet, but its followers will know.
#[inline(always)]
fn first<P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<V4>,
    key: &FragmentKey,
) -> Outcome {
    let (Some(settings), now) = (tables.settings(), tables.now()) else {
        return Verdict::DropInternal.into();
    };
    let remember = |id, dest: &Dest, reply| {
        let fragment = Fragment {
            dest: id,
            generation: dest.generation,
            reply,
        };
        tables.remember_fragment(key, &fragment);
    };
    if tables.of_interest(flow.dst.fold()) {
        let place = Place::of(tables, flow, Role::Request);
        match crate::server(pkt, tables, settings, flow, &place, now) {
            Ok((id, dest, opened)) => {
                remember(id, dest, 0);
                stats::count_in(tables, flow, id, opened);
                let hash = hash::first(place.hash);
                return forward::to_server(pkt, tables, flow, (id, dest), hash, Part::Whole);
            }
            Err(Verdict::DropDestGone) => return Verdict::DropDestGone.into(),
            Err(_) => {}
        }
    }
    if tables.of_interest(flow.src.fold()) {
        let place = Place::of(tables, flow, Role::Reply);
        let hit = conntrack::find(tables, settings, flow, Role::Reply, &place, now);
        if let Hit::Dest(id, dest) = hit {
            remember(id, dest, 1);
            stats::count_out(tables, flow, id);
            return back::to_client(pkt, tables, flow, dest, now, Part::Whole);
        }
    }
    Verdict::PassFragment.into()
}
