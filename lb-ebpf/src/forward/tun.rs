// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tunnelling: the datagram, one hop less, gets an outer header to the real server. IPIP, GRE and
//! GUE; either family in either.
//!
//! IPVS: `ip_vs_tunnel_xmit`, `ip_vs_prepare_tunneled_skb`: time to live, DSCP and ECN of the outer
//! header are those of the inner one, and so is "don't fragment" of IPv4. A datagram that does not
//! fit is answered (`ensure_mtu_is_adequate`); one that may be fragmented is dropped, because here
//! is nobody to do it.

use lb_common::abi::{
    DEST_IPV6, Dest, FAMILY_IPV4, METHOD_TUNNEL, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP, Tunnel,
};
use lb_common::csum;
use lb_common::verdict::Verdict;
use lb_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Eth, Gre, GreChecksum, Gue, Ipv4, Ipv4Hop, Ipv6, Macs,
    PROTO_GRE, PROTO_IPIP, PROTO_IPV6, PROTO_UDP, Ports, Udp,
};

use super::inner_sum;
use super::link::LinkHeader;
use super::too_big;
use crate::Outcome;
use crate::packet::Packet;
use crate::tables::Tables;

/// What the outer header takes from the inner one.
struct Inner {
    family: u8,
    /// Length of the datagram, bytes.
    len: usize,
    class: u8,
    ttl: u8,
    /// "Don't fragment" as in the header, or 0.
    dont_fragment: u16,
    id: u16,
}

/// Puts the IP packet at `ip_offset` into the tunnel to real server `id`. `hash` is the flow's, for
/// equal-cost paths.
#[inline(always)]
pub fn encapsulate<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    ip_offset: usize,
    family: u8,
    id: u32,
    hash: u32,
) -> Outcome {
    let (Some(dest), Some(tunnel)) = (tables.dest(id), tables.tunnel(id)) else {
        return Verdict::DropInternal.into();
    };
    if dest.method != METHOD_TUNNEL {
        // The row was given to another server between two looks.
        return Verdict::DropDestGone.into();
    }
    // VERIFIER: the Ethernet header first. From a check that the frame reaches beyond the IP header
    // the compiler concludes that this one needs none; the verifier cannot follow.
    let Some(link) = LinkHeader::load(pkt, ip_offset) else {
        return Verdict::DropInternal.into();
    };
    let inner = match inner(pkt, ip_offset, family) {
        Ok(inner) => inner,
        Err(verdict) => return verdict.into(),
    };
    // IPVS: `decrement_ttl` comes before `ensure_mtu_is_adequate`.
    if inner.ttl <= 1 {
        return Verdict::DropTtlExpired.into();
    }
    let overhead = overhead(dest, tunnel);
    if inner.len + overhead > tunnel.mtu as usize {
        let room = (tunnel.mtu as usize).saturating_sub(overhead);
        let told = family != FAMILY_IPV4 || inner.dont_fragment != 0;
        return if told {
            too_big::answer(pkt, &link, ip_offset, family, room)
        } else {
            Verdict::DropTooBig.into()
        };
    }
    match wrap(pkt, &link, ip_offset, &inner, (dest, tunnel), hash) {
        Ok(()) => Outcome::by(pkt, dest.ifindex),
        Err(verdict) => verdict.into(),
    }
}

/// The most common tunnel without another program: an untagged IPv4 datagram that fits into IPIP over
/// IPv4. `None` if it is not that one; then nothing was done.
#[inline(always)]
pub(super) fn ipip<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    ip_offset: usize,
    (id, dest): (u32, &Dest),
    hash: u32,
) -> Option<Outcome> {
    let (macs, tunnel) = (dest.macs()?, tables.tunnel(id)?);
    if tunnel.kind != TUNNEL_IPIP || dest.flags & DEST_IPV6 != 0 || ip_offset != Eth::LEN {
        return None;
    }
    let inner = pkt.change(Eth::LEN, |ip: &mut Ipv4| {
        let fits = ip.total_len() + Ipv4::LEN <= tunnel.mtu as usize && ip.ttl > 1;
        fits.then(|| {
            let inner = inner_v4(ip);
            ip.decrement_ttl();
            inner
        })
    })??;
    let ttl = inner.ttl.wrapping_sub(1);
    let outer = outer_v4(&inner, dest, tunnel, PROTO_IPIP, ttl, hash);
    let stored = pkt.move_front(Ipv4::LEN as isize)
        && pkt.store(0, macs)
        && pkt.store(size_of::<Macs>(), ETHERTYPE_IPV4.to_be())
        && pkt.store(Eth::LEN, outer);
    Some(if stored {
        Outcome::by(pkt, dest.ifindex)
    } else {
        Verdict::DropInternal.into()
    })
}

/// Bytes between the Ethernet header and the inner datagram.
#[inline(always)]
fn overhead(dest: &Dest, tunnel: &Tunnel) -> usize {
    let outer = if dest.flags & DEST_IPV6 != 0 {
        Ipv6::LEN
    } else {
        Ipv4::LEN
    };
    outer + between(tunnel)
}

/// Bytes between the two IP headers.
#[inline(always)]
fn between(tunnel: &Tunnel) -> usize {
    match (tunnel.kind, tunnel.checksum) {
        (TUNNEL_GRE, 0) => Gre::LEN,
        (TUNNEL_GRE, _) => Gre::LEN + GreChecksum::LEN,
        (TUNNEL_GUE, _) => Udp::LEN + Gue::LEN,
        _ => 0,
    }
}

#[inline(always)]
fn inner<P: Packet>(pkt: &P, ip_offset: usize, family: u8) -> Result<Inner, Verdict> {
    if family == FAMILY_IPV4 {
        let ip: Ipv4 = pkt.load(ip_offset).ok_or(Verdict::DropInternal)?;
        Ok(inner_v4(&ip))
    } else {
        let ip: Ipv6 = pkt.load(ip_offset).ok_or(Verdict::DropInternal)?;
        Ok(Inner {
            family,
            len: Ipv6::LEN + ip.payload_len(),
            class: ip.traffic_class(),
            ttl: ip.hop_limit,
            dont_fragment: 0,
            id: 0,
        })
    }
}

#[inline(always)]
fn inner_v4(ip: &Ipv4) -> Inner {
    Inner {
        family: FAMILY_IPV4,
        len: ip.total_len(),
        class: ip.tos,
        ttl: ip.ttl,
        dont_fragment: ip.frag & 0x4000_u16.to_be(),
        id: ip.id,
    }
}

#[inline(always)]
fn wrap<P: Packet>(
    pkt: &mut P,
    link: &LinkHeader,
    ip_offset: usize,
    inner: &Inner,
    (dest, tunnel): (&Dest, &Tunnel),
    hash: u32,
) -> Result<(), Verdict> {
    let macs = dest.macs().ok_or(Verdict::DropNoNeighbor)?;
    one_hop(pkt, ip_offset, inner.family)?;
    let sum = if tunnel.checksum == 0 {
        None
    } else {
        inner_sum::of(pkt, ip_offset, inner.family)
    };
    let ttl = inner.ttl.wrapping_sub(1);
    let outer_v6 = dest.flags & DEST_IPV6 != 0;
    // VERIFIER: a distance of few values, not a computed one.
    let by = overhead(dest, tunnel);
    if !pkt.move_front(by as isize) {
        return Err(Verdict::DropInternal);
    }
    let ethertype = if outer_v6 {
        ETHERTYPE_IPV6
    } else {
        ETHERTYPE_IPV4
    };
    let link = link.to(macs, ethertype);
    let (proto, payload) = (outer_proto(inner, tunnel), between(tunnel) + inner.len);
    let (stored, after) = if outer_v6 {
        let ip = Ipv6 {
            version_class_label: Ipv6::first_word(inner.class, 0),
            payload_len: (payload as u16).to_be(),
            next_header: proto,
            hop_limit: ttl,
            src: tunnel.local,
            dst: dest.addr,
        };
        (pkt.store(ip_offset, ip), ip_offset + Ipv6::LEN)
    } else {
        (
            pkt.store(ip_offset, outer_v4(inner, dest, tunnel, proto, ttl, hash)),
            ip_offset + Ipv4::LEN,
        )
    };
    if !stored
        || !link.store(pkt, ip_offset)
        || !header(pkt, after, inner, dest, tunnel, (sum, hash))
    {
        return Err(Verdict::DropInternal);
    }
    Ok(())
}

/// One hop less in the inner header.
#[inline(always)]
fn one_hop<P: Packet>(pkt: &mut P, ip_offset: usize, family: u8) -> Result<(), Verdict> {
    let done = if family == FAMILY_IPV4 {
        pkt.change(ip_offset + Ipv4Hop::OFFSET, |hop: &mut Ipv4Hop| {
            *hop = hop.decrement();
        })
    } else {
        pkt.change(ip_offset + Ipv6::HOP_LIMIT, |limit: &mut u8| {
            *limit = limit.wrapping_sub(1);
        })
    };
    done.ok_or(Verdict::DropInternal)
}

#[inline(always)]
fn outer_proto(inner: &Inner, tunnel: &Tunnel) -> u8 {
    match tunnel.kind {
        TUNNEL_GRE => PROTO_GRE,
        TUNNEL_GUE => PROTO_UDP,
        _ => inner_proto(inner),
    }
}

#[inline(always)]
fn inner_proto(inner: &Inner) -> u8 {
    if inner.family == FAMILY_IPV4 {
        PROTO_IPIP
    } else {
        PROTO_IPV6
    }
}

#[inline(always)]
fn outer_v4(inner: &Inner, dest: &Dest, tunnel: &Tunnel, proto: u8, ttl: u8, hash: u32) -> Ipv4 {
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: inner.class,
        total_len: ((Ipv4::LEN + between(tunnel) + inner.len) as u16).to_be(),
        // Different for each datagram of a flow where it may be fragmented on the way.
        id: inner.id ^ hash as u16,
        frag: inner.dont_fragment,
        ttl,
        proto,
        check: 0,
        src: tunnel.local[0],
        dst: dest.addr[0],
    };
    ip.check = csum::finish(csum::ipv4_sum(&ip));
    ip
}

/// What stands between the two IP headers. `sum` is that of the inner datagram, where it is known.
#[inline(always)]
fn header<P: Packet>(
    pkt: &mut P,
    at: usize,
    inner: &Inner,
    dest: &Dest,
    tunnel: &Tunnel,
    (sum, hash): (Option<u32>, u32),
) -> bool {
    let ethertype = if inner.family == FAMILY_IPV4 {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    }
    .to_be();
    match tunnel.kind {
        TUNNEL_GRE if tunnel.checksum == 0 => pkt.store(
            at,
            Gre {
                flags: 0,
                ethertype,
            },
        ),
        TUNNEL_GRE => {
            let gre = Gre {
                flags: Gre::HAS_CHECKSUM,
                ethertype,
            };
            let words = u32::from(gre.flags) + u32::from(ethertype);
            // Without the sum of the inner datagram there is no checksum to give; see docs.
            let check = sum.map_or(0, |sum| csum::finish(csum::fold(sum + words)));
            pkt.store(at, gre) && pkt.store(at + Gre::LEN, GreChecksum { check, reserved: 0 })
        }
        TUNNEL_GUE => {
            let len = ((Udp::LEN + Gue::LEN + inner.len) as u16).to_be();
            // The upper half of the ports, as many paths as there may be.
            let from = (0x8000 | (hash >> 17) as u16).to_be();
            let ports = Ports::new(from, tunnel.port);
            let gue = Gue {
                version_len: 0,
                proto: inner_proto(inner),
                flags: 0,
            };
            let words = u32::from(ports.src())
                + u32::from(ports.dst())
                + u32::from(len) * 2
                + u32::from(u16::from_ne_bytes([gue.version_len, gue.proto]))
                + u32::from(u16::from_ne_bytes([0, PROTO_UDP]))
                + csum::words_sum(&tunnel.local)
                + csum::words_sum(&dest.addr);
            let check = match sum.map(|sum| csum::finish(csum::fold(sum + words))) {
                // RFC 768, RFC 6935: none.
                None => 0,
                Some(0) => 0xffff,
                Some(check) => check,
            };
            pkt.store(at, Udp { ports, len, check }) && pkt.store(at + Udp::LEN, gue)
        }
        _ => true,
    }
}
