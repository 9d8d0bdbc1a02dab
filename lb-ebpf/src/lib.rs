// SPDX-License-Identifier: MIT OR Apache-2.0
//! One packet's journey, in reading order.
//!
//! ```text
//! frame ─ parse ─▸ Flow ─ conntrack ─hit──────────────────────────────────────────┐
//!            │        └─miss▸ open: lookup ▸ schedule ▸ conntrack.create ─────────┴▸ forward ─▸ Outcome
//!            │        └─ a masqueraded server's ▸ conntrack ─hit▸ forward/back ───────────────▸
//!            └──────────────── whatever is not ours: a Verdict ───────────────────────────────▸
//! ```
//!
//! Before all that a frame is tried on the short way ([`short`]), which almost every packet of a
//! connection goes; what is said above is the long one, for whatever that is not made for.
//!
//! The source is generic over [`packet::Packet`] (bytes of a frame), [`tables::Tables`] (the maps)
//! and [`family::Addr`] (IPv4 or IPv6), and is compiled twice: into the XDP program (`main.rs`) and
//! into the tests, where a frame is a vector and the maps are collections. It never logs and never
//! fails: it returns a [`Verdict`], which `bpf/programs.rs` turns into an XDP code and a counter.

#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[cfg(not(target_arch = "bpf"))]
extern crate std;

pub mod conntrack;
pub mod family;
pub mod follow;
pub mod forward;
pub mod fragment;
#[cfg(not(target_arch = "bpf"))]
pub mod frame;
pub mod icmp;
pub mod lookup;
pub mod open;
pub mod packet;
pub mod parse;
pub mod schedule;
pub mod short;
pub mod stats;
pub mod tables;

use lb_common::abi::{CONN_TICK_MASK, Dest, Settings};
use lb_common::hash;
use lb_common::verdict::Verdict;

use conntrack::{Hit, Place, Role};
use family::Addr;
use forward::Part;
use packet::Packet;
use parse::{Carries, Flow};
use tables::Steps;

/// Where the frame goes, and for a redirect, by which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of it, and why.
    pub verdict: Verdict,
    /// Interface index, for [`Verdict::Redirect`] only.
    pub ifindex: u32,
}

impl From<Verdict> for Outcome {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            ifindex: 0,
        }
    }
}

impl Outcome {
    /// Out of interface `ifindex`.
    #[inline(always)]
    fn by<P: Packet>(pkt: &P, ifindex: u32) -> Self {
        if ifindex == pkt.ingress_ifindex() {
            Verdict::Transmit.into()
        } else {
            Self {
                verdict: Verdict::Redirect,
                ifindex,
            }
        }
    }
}

/// Takes a frame that came in, and is not for the short way ([`short::ingress`]), and decides its fate;
/// the frame is rewritten if it is forwarded.
#[inline(always)]
pub fn ingress<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T) -> Outcome {
    match parse::link_layer(pkt, tables) {
        Ok((offset, Carries::Ipv4)) => match parse::ipv4(pkt, offset) {
            Ok(flow) => balance(pkt, tables, &flow),
            Err(Verdict::PassOtherProtocol) => tables.icmp(pkt),
            Err(Verdict::PassFragment) => tables.fragment4(pkt),
            Err(verdict) => verdict.into(),
        },
        Ok((offset, Carries::Ipv6)) => tables.ipv6(pkt, offset),
        Err(verdict) => verdict.into(),
    }
}

/// The journey of an IPv6 packet from its IP header on.
#[inline(always)]
pub fn ipv6<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, ip_offset: usize) -> Outcome {
    match parse::ipv6(pkt, ip_offset) {
        Ok(flow) => balance(pkt, tables, &flow),
        Err(Verdict::PassOtherProtocol) => tables.icmp(pkt),
        Err(Verdict::PassFragment) => tables.fragment6(pkt),
        Err(verdict) => verdict.into(),
    }
}

/// A packet that is neither TCP, UDP nor SCTP, from its Ethernet header on.
#[inline(always)]
pub fn other_protocol<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T) -> Outcome {
    match parse::link_layer_again(pkt, tables) {
        Ok((offset, Carries::Ipv4)) => icmp::ipv4(pkt, tables, offset),
        Ok((offset, Carries::Ipv6)) => icmp::ipv6(pkt, tables, offset),
        Err(verdict) => verdict.into(),
    }
}

/// An IPv4 fragment, from its Ethernet header on.
#[inline(always)]
pub fn fragment4<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T) -> Outcome {
    match parse::link_layer_again(pkt, tables) {
        Ok((offset, _)) => fragment::ipv4(pkt, tables, offset),
        Err(verdict) => verdict.into(),
    }
}

/// An IPv6 fragment, from its Ethernet header on.
#[inline(always)]
pub fn fragment6<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T) -> Outcome {
    match parse::link_layer_again(pkt, tables) {
        Ok((offset, _)) => fragment::ipv6(pkt, tables, offset),
        Err(verdict) => verdict.into(),
    }
}

/// A packet to a virtual address goes to a real server; one from a masqueraded server to its
/// client.
#[inline(always)]
fn balance<A: Addr, P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, flow: &Flow<A>) -> Outcome {
    let (Some(settings), now) = (tables.settings(), tables.now()) else {
        return Verdict::DropInternal.into();
    };
    if unattended(settings, now) {
        return Verdict::PassUnattended.into();
    }
    let mut verdict = Verdict::PassNoService;
    if tables.of_interest(flow.dst.fold()) {
        match request(pkt, tables, settings, flow, now) {
            Ok(outcome) => return outcome,
            Err(why) => verdict = why,
        }
    }
    if tables.of_interest(flow.src.fold()) {
        return tables.reply(pkt, verdict);
    }
    verdict.into()
}

/// The agent has shown no sign of life for longer than the watchdog allows.
#[inline(always)]
fn unattended(settings: &Settings, now: u32) -> bool {
    let quiet = now.wrapping_sub(settings.heartbeat) & CONN_TICK_MASK;
    settings.watchdog != 0 && quiet > settings.watchdog
}

/// A packet from the address of a masqueraded server, from its Ethernet header on: if it answers a
/// client, it goes there; else `verdict` stands.
#[inline(always)]
pub fn reply<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, verdict: Verdict) -> Outcome {
    match parse::link_layer_again(pkt, tables) {
        Ok((offset, Carries::Ipv4)) => match parse::ipv4(pkt, offset) {
            Ok(flow) => answer(pkt, tables, &flow, verdict),
            Err(verdict) => verdict.into(),
        },
        Ok((offset, Carries::Ipv6)) => match parse::ipv6(pkt, offset) {
            Ok(flow) => answer(pkt, tables, &flow, verdict),
            Err(Verdict::PassFragment) => fragment::reply6(pkt, tables, offset),
            Err(verdict) => verdict.into(),
        },
        Err(verdict) => verdict.into(),
    }
}

#[inline(always)]
fn answer<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    verdict: Verdict,
) -> Outcome {
    let (Some(settings), now) = (tables.settings(), tables.now()) else {
        return Verdict::DropInternal.into();
    };
    let place = Place::of(tables, flow, Role::Reply);
    match conntrack::find(tables, settings, flow, Role::Reply, &place, now) {
        Hit::Dest(id, dest) => {
            stats::count_out(tables, flow, id);
            forward::back::to_client(pkt, tables, flow, dest, now, Part::Whole)
        }
        Hit::DestGone => Verdict::DropDestGone.into(),
        Hit::Miss(_) => verdict.into(),
    }
}

/// Finds or makes the connection of a client's packet and forwards it along; or says why it is
/// none of a service.
#[inline(always)]
fn request<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    settings: &Settings,
    flow: &Flow<A>,
    now: u32,
) -> Result<Outcome, Verdict> {
    let place = Place::of(tables, flow, Role::Request);
    let (id, dest, opened) = match server(pkt, tables, settings, flow, &place, now) {
        Ok(found) => found,
        Err(Verdict::DropDestGone) => return Ok(Verdict::DropDestGone.into()),
        Err(why) => return Err(why),
    };
    stats::count_in(tables, flow, id, opened);
    let hash = hash::first(place.hash);
    Ok(forward::to_server(
        pkt,
        tables,
        flow,
        (id, dest),
        hash,
        Part::Whole,
    ))
}

/// The real server of a client's packet, its id, and the connections opened (0 or 1).
#[inline(always)]
fn server<'t, A: Addr, P: Packet, T: Steps<P>>(
    pkt: &P,
    tables: &'t T,
    settings: &Settings,
    flow: &Flow<A>,
    place: &Place<A>,
    now: u32,
) -> Result<(u32, &'t Dest, u64), Verdict> {
    match conntrack::find(tables, settings, flow, Role::Request, place, now) {
        Hit::Dest(id, dest) => Ok((id, dest, 0)),
        Hit::DestGone => Err(Verdict::DropDestGone),
        Hit::Miss(old) => {
            let (id, dest) = open::open(pkt, tables, settings, flow, place, old, now)?;
            Ok((id, dest, 1))
        }
    }
}
