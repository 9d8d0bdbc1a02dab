// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fragments: all of a datagram go where its first one went.
//!
//! Only the first fragment has ports. It travels as any packet, and where it went is remembered by
//! what its followers share with it: addresses, identification and in IPv4 the protocol. A follower
//! that comes before it, or long after it, is left to the director's stack.
//!
//! IPVS reassembles first (`ip_vs_gather_frags`, `nf_defrag_ipv6`) and sends fragments of its own.

use lb_common::abi::{Dest, FAMILY_IPV4, FRAGMENT_IPV6, Fragment, FragmentKey};
use lb_common::hash;
use lb_common::verdict::Verdict;
use lb_common::wire::Ipv4;

use crate::conntrack::{self, Hit, Place, Role};
use crate::family::Addr;
use crate::forward::{Part, back};
use crate::packet::Packet;
use crate::parse::{self, Flow};
use crate::tables::{Steps, Tables};
use crate::{Outcome, forward, stats};

/// An IPv4 fragment at `ip_offset`.
#[inline(always)]
pub fn ipv4<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, ip_offset: usize) -> Outcome {
    let Some(ip) = pkt.load::<Ipv4>(ip_offset) else {
        return Verdict::DropMalformedIp.into();
    };
    tables.set_fragment_key(FragmentKey {
        src: [ip.src, 0, 0, 0],
        dst: [ip.dst, 0, 0, 0],
        id: ip.id.into(),
        proto: ip.proto.into(),
    });
    if ip.fragment_offset() == 0 {
        return match parse::first_fragment(pkt, ip_offset) {
            Ok(flow) => first(pkt, tables, &flow, true),
            Err(verdict) => verdict.into(),
        };
    }
    let flow = parse::later_fragment(&ip, ip_offset);
    later(pkt, tables, &flow)
}

/// An IPv6 fragment, the IPv6 header at `ip_offset`.
#[inline(always)]
pub fn ipv6<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, ip_offset: usize) -> Outcome {
    let (header, flow) = match parse::ipv6_fragment(pkt, ip_offset) {
        Ok(fragment) => fragment,
        Err(verdict) => return verdict.into(),
    };
    tables.set_fragment_key(FragmentKey {
        src: flow.src.words(),
        dst: flow.dst.words(),
        id: header.id,
        proto: FRAGMENT_IPV6,
    });
    if header.is_first() {
        // RFC 6946: a first one that nothing follows has nothing to do with others of its
        // identification.
        first(pkt, tables, &flow, header.has_more())
    } else {
        later(pkt, tables, &flow)
    }
}

/// An IPv6 fragment from the address of a masqueraded server, of a datagram whose key is set.
///
/// VERIFIER(6.1): in another program than what goes to servers, for the stack that both would need.
#[inline(always)]
pub fn reply6<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, ip_offset: usize) -> Outcome {
    match parse::ipv6_fragment(pkt, ip_offset) {
        Ok((header, flow)) if header.is_first() => {
            answer_first(pkt, tables, &flow, header.has_more())
        }
        Ok((_, flow)) => match known(tables) {
            Ok((known, dest)) => answer_later(pkt, tables, &flow, (known.dest, dest)),
            Err(verdict) => verdict.into(),
        },
        Err(verdict) => verdict.into(),
    }
}

/// Where the first fragment of the datagram went, if that still holds.
#[inline(always)]
fn known<T: Tables>(tables: &T) -> Result<(Fragment, &Dest), Verdict> {
    let known = tables.fragment().ok_or(Verdict::PassFragment)?;
    let dest = tables.dest(known.dest).ok_or(Verdict::PassFragment)?;
    if dest.generation != known.generation {
        return Err(Verdict::DropDestGone);
    }
    Ok((known, dest))
}

/// A fragment that is not the first: where that one went.
#[inline(always)]
fn later<A: Addr, P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, flow: &Flow<A>) -> Outcome {
    let (Some(settings), now) = (tables.settings(), tables.now()) else {
        return Verdict::DropInternal.into();
    };
    let (known, dest) = match known(tables) {
        Ok(known) => known,
        Err(verdict) => return verdict.into(),
    };
    if crate::unattended(settings, now) {
        return Verdict::PassUnattended.into();
    }
    if known.reply == 0 {
        stats::count_in(tables, flow, known.dest, 0);
        return forward::to_server(pkt, tables, flow, (known.dest, dest), 0, Part::Network);
    }
    if A::FAMILY == FAMILY_IPV4 {
        answer_later(pkt, tables, flow, (known.dest, dest))
    } else {
        tables.reply(pkt, Verdict::PassFragment)
    }
}

/// The first fragment: as any packet, but if there are `more`, they will know.
#[inline(always)]
fn first<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    more: bool,
) -> Outcome {
    let (Some(settings), now) = (tables.settings(), tables.now()) else {
        return Verdict::DropInternal.into();
    };
    if crate::unattended(settings, now) {
        return Verdict::PassUnattended.into();
    }
    if tables.of_interest(flow.dst.fold()) {
        let place = Place::of(tables, flow, Role::Request);
        match crate::server(pkt, tables, settings, flow, &place, now) {
            Ok((id, dest, opened)) => {
                remember(tables, (id, dest), 0, more);
                stats::count_in(tables, flow, id, opened);
                let hash = hash::first(place.hash);
                return forward::to_server(pkt, tables, flow, (id, dest), hash, Part::First);
            }
            Err(Verdict::DropDestGone) => return Verdict::DropDestGone.into(),
            Err(_) => {}
        }
    }
    if !tables.of_interest(flow.src.fold()) {
        return Verdict::PassFragment.into();
    }
    if A::FAMILY == FAMILY_IPV4 {
        answer_first(pkt, tables, flow, more)
    } else {
        tables.reply(pkt, Verdict::PassFragment)
    }
}

/// The same of a masqueraded server's datagram.
#[inline(always)]
fn answer_first<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    more: bool,
) -> Outcome {
    let (Some(settings), now) = (tables.settings(), tables.now()) else {
        return Verdict::DropInternal.into();
    };
    let place = Place::of(tables, flow, Role::Reply);
    match conntrack::find(tables, settings, flow, Role::Reply, &place, now) {
        Hit::Dest(id, dest) => {
            remember(tables, (id, dest), 1, more);
            stats::count_out(tables, flow, id);
            back::to_client(pkt, tables, flow, dest, now, Part::First)
        }
        _ => Verdict::PassFragment.into(),
    }
}

/// A later fragment of a masqueraded server's datagram.
#[inline(always)]
fn answer_later<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    (id, dest): (u32, &Dest),
) -> Outcome {
    stats::count_out(tables, flow, id);
    back::to_client(pkt, tables, flow, dest, tables.now(), Part::Network)
}

/// Lets those behind the first fragment know where it goes, if there are `more`.
#[inline(always)]
fn remember<T: Tables>(tables: &T, (id, dest): (u32, &Dest), reply: u32, more: bool) {
    if more {
        tables.remember_fragment(&Fragment {
            dest: id,
            generation: dest.generation,
            reply,
        });
    }
}
