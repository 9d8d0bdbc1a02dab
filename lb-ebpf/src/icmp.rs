// SPDX-License-Identifier: MIT OR Apache-2.0
//! ICMP and ICMPv6 errors about our flows: they follow the flow in both directions.
//!
//! An error quotes the packet it is about, of which eight bytes behind the IP header are enough. One
//! from a client's side quotes what the virtual address sent, and goes to the real server; one from
//! a masqueraded server quotes what the client sent, and goes to the client. Masquerading translates
//! the quote, too.
//!
//! IPVS: `ip_vs_in_icmp`, `ip_vs_out_icmp`, `ip_vs_nat_icmp`: destination unreachable, source quench
//! and time exceeded of ICMP, all errors of ICMPv6; anything else is the stack's.

use lb_common::abi::{Dest, FAMILY_IPV4, METHOD_NAT};
use lb_common::csum::Delta;
use lb_common::state;
use lb_common::verdict::Verdict;
use lb_common::wire::{Icmp, Ipv4, Ipv6, PROTO_ICMP, PROTO_ICMPV6, Ports};

use crate::conntrack::{self, Role, or};
use crate::family::{Addr, V4, V6};
use crate::forward::{self, Part};
use crate::packet::Packet;
use crate::parse::Flow;
use crate::tables::{Steps, Tables};
use crate::{Outcome, stats};

/// An error and what it quotes.
struct Quote<A> {
    /// Where the ICMP header starts, bytes into the frame.
    icmp_offset: usize,
    /// Ends of the error itself.
    src: A,
    dst: A,
    /// The quoted packet: where its IP header and its ports are, and its ends.
    ip_offset: usize,
    ports_offset: usize,
    quoted_src: A,
    quoted_dst: A,
    ports: Ports,
    proto: u8,
    /// Length of the error's datagram, bytes.
    len: u32,
}

/// An IPv4 packet that is neither TCP, UDP nor SCTP.
#[inline(always)]
pub fn ipv4<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, ip_offset: usize) -> Outcome {
    match quote_v4(pkt, tables, ip_offset) {
        Ok(quote) => follow(pkt, tables, ip_offset, &quote),
        Err(verdict) => verdict.into(),
    }
}

/// The same of IPv6.
#[inline(always)]
pub fn ipv6<P: Packet, T: Steps<P>>(pkt: &mut P, tables: &T, ip_offset: usize) -> Outcome {
    match quote_v6(pkt, tables, ip_offset) {
        Ok(quote) => follow(pkt, tables, ip_offset, &quote),
        Err(verdict) => verdict.into(),
    }
}

#[inline(always)]
fn quote_v4<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    ip_offset: usize,
) -> Result<Quote<V4>, Verdict> {
    const NOT_OURS: Verdict = Verdict::PassOtherProtocol;
    let ip: Ipv4 = pkt.load(ip_offset).ok_or(NOT_OURS)?;
    if ip.proto != PROTO_ICMP {
        return Err(NOT_OURS);
    }
    let icmp_offset = ip_offset + ip.header_len();
    let icmp: Icmp = pkt.load(icmp_offset).ok_or(NOT_OURS)?;
    match icmp.kind {
        3 | 4 | 11 => {}
        8 if tables.of_interest(ip.dst) => return Err(Verdict::PassEcho),
        _ => return Err(NOT_OURS),
    }
    let quoted_offset = icmp_offset + Icmp::LEN;
    let quoted: Ipv4 = pkt.load(quoted_offset).ok_or(NOT_OURS)?;
    // Ports are in the first fragment only.
    if quoted.version() != 4 || quoted.header_len() < Ipv4::LEN || quoted.fragment_offset() != 0 {
        return Err(NOT_OURS);
    }
    let ports_offset = quoted_offset + quoted.header_len();
    Ok(Quote {
        icmp_offset,
        src: V4(ip.src),
        dst: V4(ip.dst),
        ip_offset: quoted_offset,
        ports_offset,
        quoted_src: V4(quoted.src),
        quoted_dst: V4(quoted.dst),
        ports: pkt.load(ports_offset).ok_or(NOT_OURS)?,
        proto: quoted.proto,
        len: ip.total_len() as u32,
    })
}

#[inline(always)]
fn quote_v6<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    ip_offset: usize,
) -> Result<Quote<V6>, Verdict> {
    const NOT_OURS: Verdict = Verdict::PassOtherProtocol;
    const INFORMATIONAL: u8 = 0x80;
    const ECHO: u8 = 128;
    let ip: Ipv6 = pkt.load(ip_offset).ok_or(NOT_OURS)?;
    if ip.next_header != PROTO_ICMPV6 {
        return Err(NOT_OURS);
    }
    let icmp_offset = ip_offset + Ipv6::LEN;
    let icmp: Icmp = pkt.load(icmp_offset).ok_or(NOT_OURS)?;
    if icmp.kind == ECHO && tables.of_interest(V6(ip.dst).fold()) {
        return Err(Verdict::PassEcho);
    }
    if icmp.kind & INFORMATIONAL != 0 {
        return Err(NOT_OURS);
    }
    let quoted_offset = icmp_offset + Icmp::LEN;
    let quoted: Ipv6 = pkt.load(quoted_offset).ok_or(NOT_OURS)?;
    let ports_offset = quoted_offset + Ipv6::LEN;
    Ok(Quote {
        icmp_offset,
        src: V6(ip.src),
        dst: V6(ip.dst),
        ip_offset: quoted_offset,
        ports_offset,
        quoted_src: V6(quoted.src),
        quoted_dst: V6(quoted.dst),
        ports: pkt.load(ports_offset).ok_or(NOT_OURS)?,
        proto: quoted.next_header,
        len: (Ipv6::LEN + ip.payload_len()) as u32,
    })
}

/// Looks for the flow that an error is about, and sends the error the flow's way.
#[inline(always)]
fn follow<A: Addr, P: Packet, T: Steps<P>>(
    pkt: &mut P,
    tables: &T,
    ip_offset: usize,
    quote: &Quote<A>,
) -> Outcome {
    let (Some(settings), now) = (tables.settings(), tables.now()) else {
        return Verdict::DropInternal.into();
    };
    if crate::unattended(settings, now) {
        return Verdict::PassUnattended.into();
    }
    // The quoted packet went the other way; the flow in the direction of the error:
    let flow = Flow {
        ip_offset,
        l4_offset: quote.icmp_offset,
        src: quote.quoted_dst,
        dst: quote.quoted_src,
        ports: quote.ports.reversed(),
        proto: quote.proto,
        what: 0,
        steady: state::UNSTEADY,
        ip_len: quote.len,
    };
    if tables.of_interest(flow.dst.fold())
        && let Some((id, dest)) = conntrack::peek(tables, settings, &flow, Role::Request, now)
    {
        stats::count_in(tables, &flow, id, 0);
        if dest.method == METHOD_NAT
            && let Err(verdict) = to_server(pkt, quote, dest)
        {
            return verdict.into();
        }
        return forward::to_server(pkt, tables, &flow, (id, dest), 0, Part::Network);
    }
    if tables.of_interest(flow.src.fold())
        && let Some((id, dest)) = conntrack::peek(tables, settings, &flow, Role::Reply, now)
    {
        stats::count_out(tables, &flow, id);
        if let Err(verdict) = to_client(pkt, quote, dest) {
            return verdict.into();
        }
        return forward::back::to_client(pkt, tables, &flow, dest, now, Part::Network);
    }
    Verdict::PassOtherProtocol.into()
}

/// What the virtual address sent becomes what the server sent, and the error goes to the server.
#[inline(always)]
fn to_server<A: Addr, P: Packet>(
    pkt: &mut P,
    quote: &Quote<A>,
    dest: &Dest,
) -> Result<(), Verdict> {
    let server = A::from_words(&dest.addr);
    let port = or(dest.port, quote.ports.src());
    let ports = Ports::new(port, quote.ports.dst());
    let delta = quoted(pkt, quote, (server, quote.quoted_dst), ports)?;
    icmp(pkt, quote, delta, quote.dst, server)
}

/// What the client sent to the server becomes what it sent to the virtual address, and the error
/// comes from there.
#[inline(always)]
fn to_client<A: Addr, P: Packet>(
    pkt: &mut P,
    quote: &Quote<A>,
    dest: &Dest,
) -> Result<(), Verdict> {
    let virt = A::from_words(&dest.virt);
    let port = or(dest.virt_port, quote.ports.dst());
    let ports = Ports::new(quote.ports.src(), port);
    let delta = quoted(pkt, quote, (quote.quoted_src, virt), ports)?;
    icmp(pkt, quote, delta, quote.src, virt)
}

/// Gives the quoted packet other ends; what that does to a checksum over it.
#[inline(always)]
fn quoted<A: Addr, P: Packet>(
    pkt: &mut P,
    quote: &Quote<A>,
    (src, dst): (A, A),
    ports: Ports,
) -> Result<Delta, Verdict> {
    let (old, new) = (quote.ports, ports);
    let mut delta = Delta::NONE
        .word16(old.src(), new.src())
        .word16(old.dst(), new.dst());
    let stored = if A::FAMILY == FAMILY_IPV4 {
        let mut ip: Ipv4 = pkt.load(quote.ip_offset).ok_or(Verdict::DropInternal)?;
        // The header's own checksum makes up for the addresses in any sum over the header.
        let addresses = forward::nat::address_delta(quote.quoted_src, src, Delta::NONE);
        let addresses = forward::nat::address_delta(quote.quoted_dst, dst, addresses);
        let check = addresses.apply(ip.check);
        [ip.src, ..] = src.words();
        [ip.dst, ..] = dst.words();
        ip.check = check;
        pkt.store(quote.ip_offset, ip)
    } else {
        let mut ip: Ipv6 = pkt.load(quote.ip_offset).ok_or(Verdict::DropInternal)?;
        delta = forward::nat::address_delta(quote.quoted_src, src, delta);
        delta = forward::nat::address_delta(quote.quoted_dst, dst, delta);
        ip.src = src.words();
        ip.dst = dst.words();
        pkt.store(quote.ip_offset, ip)
    };
    if stored && pkt.store(quote.ports_offset, ports) {
        Ok(delta)
    } else {
        Err(Verdict::DropInternal)
    }
}

/// The error's own checksum; ICMPv6's covers the address that is translated, too.
#[inline(always)]
fn icmp<A: Addr, P: Packet>(
    pkt: &mut P,
    quote: &Quote<A>,
    delta: Delta,
    old: A,
    new: A,
) -> Result<(), Verdict> {
    let mut icmp: Icmp = pkt.load(quote.icmp_offset).ok_or(Verdict::DropInternal)?;
    let delta = if A::FAMILY == FAMILY_IPV4 {
        delta
    } else {
        forward::nat::address_delta(old, new, delta)
    };
    icmp.check = delta.apply(icmp.check);
    if pkt.store(quote.icmp_offset, icmp) {
        Ok(())
    } else {
        Err(Verdict::DropInternal)
    }
}
