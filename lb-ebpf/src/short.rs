// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way of almost every packet: untagged, without IP options or extension headers, in the
//! middle of a connection whose server is there.
//!
//! It decides as the long way ([`crate::ingress`]) does and does the same; whatever it is not made
//! for it leaves, having written nothing, for the long way to look at from the beginning. It is
//! shorter because every header stands where the compiler knows, and because nothing that may open a
//! connection is in it: IPv6 need not be a program of its own here.
//!
//! What leaves it does so as early as it can be told: a SYN by the first look at the flags, before
//! anything is looked up.

use lb_common::hash;
use lb_common::state::{self, tcp};
use lb_common::verdict::Verdict;
use lb_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Eth, EthWords, Ipv4, Ipv6, PROTO_TCP, PROTO_UDP, Ports, Tcp,
    Udp,
};

use crate::conntrack::{self, Place, Role};
use crate::family::{Addr, V4, V6};
use crate::forward::{self, Part};
use crate::packet::Packet;
use crate::parse::{self, Flow};
use crate::tables::Steps;
use crate::{Outcome, stats};

/// What becomes of a frame; `None` if that is for the long way to say.
#[inline(always)]
pub fn ingress<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T) -> Option<Outcome> {
    // As far as TCP over IPv4 reaches: nearer headers need no check of their own then.
    let _: Tcp = pkt.load(V4_L4)?;
    let eth: EthWords = pkt.load(0)?;
    if eth.ethertype == ETHERTYPE_IPV4.to_be() {
        let flow = ipv4(pkt)?;
        balance(pkt, tables, &flow)
    } else if eth.ethertype == ETHERTYPE_IPV6.to_be() {
        let flow = ipv6(pkt)?;
        balance(pkt, tables, &flow)
    } else {
        None
    }
}

/// Where the transport header is.
const V4_L4: usize = Eth::LEN + Ipv4::LEN;
const V6_L4: usize = Eth::LEN + Ipv6::LEN;

/// Version 4, no options.
const PLAIN_V4: u8 = 0x45;

/// Each header is loaded where something of it is wanted: what is loaded before is loaded for those
/// that leave, too.
#[inline(always)]
fn ipv4<P: Packet>(pkt: &P) -> Option<Flow<V4>> {
    let ip: Ipv4 = pkt.load(Eth::LEN)?;
    let steady = steady(pkt, V4_L4, ip.proto)?;
    let proto = ip.proto;
    let ip: Ipv4 = pkt.load(Eth::LEN)?;
    if ip.version_ihl != PLAIN_V4 || ip.is_fragment() {
        return None;
    }
    let total_len = ip.total_len();
    let (ports, what) = transport(pkt, proto, V4_L4, total_len, Ipv4::LEN)?;
    if !pkt.has(Eth::LEN + total_len) {
        return None;
    }
    Some(Flow {
        ip_offset: Eth::LEN,
        l4_offset: V4_L4,
        src: V4(ip.src),
        dst: V4(ip.dst),
        ports,
        proto,
        what,
        steady,
        ip_len: total_len as u32,
    })
}

#[inline(always)]
fn ipv6<P: Packet>(pkt: &P) -> Option<Flow<V6>> {
    let _: Tcp = pkt.load(V6_L4)?;
    let ip: Ipv6 = pkt.load(Eth::LEN)?;
    let steady = steady(pkt, V6_L4, ip.next_header)?;
    let proto = ip.next_header;
    let ip: Ipv6 = pkt.load(Eth::LEN)?;
    if ip.version() != 6 {
        return None;
    }
    let payload_len = ip.payload_len();
    let (ports, what) = transport(pkt, proto, V6_L4, payload_len, 0)?;
    if !pkt.has(V6_L4 + payload_len) {
        return None;
    }
    Some(Flow {
        ip_offset: Eth::LEN,
        l4_offset: V6_L4,
        src: V6(ip.src),
        dst: V6(ip.dst),
        ports,
        proto,
        what,
        steady,
        ip_len: (Ipv6::LEN + payload_len) as u32,
    })
}

/// The state in which a packet changes nothing, of one that opens and closes nothing.
#[inline(always)]
fn steady<P: Packet>(pkt: &P, offset: usize, proto: u8) -> Option<u8> {
    if proto == PROTO_TCP {
        let tcp: Tcp = pkt.load(offset)?;
        tcp::is_plain(tcp.flags).then_some(tcp::ESTABLISHED)
    } else {
        (proto == PROTO_UDP).then_some(state::UDP)
    }
}

/// Ports and TCP flags, of a TCP or UDP packet. `len` is that of the datagram, of which `before` bytes
/// stand before the transport header.
#[inline(always)]
fn transport<P: Packet>(
    pkt: &P,
    proto: u8,
    offset: usize,
    len: usize,
    before: usize,
) -> Option<(Ports, u8)> {
    if proto == PROTO_TCP {
        let tcp: Tcp = pkt.load(offset)?;
        let header_len = tcp.header_len();
        let whole = header_len >= Tcp::LEN && before + header_len <= len;
        whole.then_some((tcp.ports, tcp.flags))
    } else {
        let udp: Udp = pkt.load(offset)?;
        let whole = udp.len() >= Udp::LEN && before + udp.len() <= len;
        whole.then_some((udp.ports, 0))
    }
}

/// As on the long way; what is not of a known connection is left to it.
#[inline(always)]
fn balance<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
) -> Option<Outcome> {
    let eth: EthWords = pkt.load(0)?;
    let ifindex = pkt.ingress_ifindex();
    if !parse::is_ours(tables, tables.link(ifindex)?, ifindex, &eth) {
        return None;
    }
    let (settings, now) = (tables.settings()?, tables.now());
    if crate::unattended(settings, now) {
        return None;
    }
    if !tables.of_interest(flow.dst.fold()) {
        // The answer of a masqueraded server, or nothing of ours.
        let other = tables.of_interest(flow.src.fold());
        return (!other).then_some(Verdict::PassNoService.into());
    }
    let place = Place::of(tables, flow, Role::Request);
    let (id, dest) = conntrack::go_on(tables, settings, flow, Role::Request, &place, now)?;
    stats::count_in(tables, flow, id, 0);
    let hash = hash::first(place.hash);
    let to = forward::to_server(pkt, tables, flow, (id, dest), hash, Part::Whole);
    Some(to)
}
