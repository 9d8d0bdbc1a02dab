// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masquerading: address and port are translated, the checksums updated by RFC 1624.
//!
//! IPVS: `ip_vs_nat_xmit` there, `handle_response` back. In both directions the director is a hop.

use lb_common::abi::{Dest, FAMILY_IPV4};
use lb_common::csum::Delta;
use lb_common::verdict::Verdict;
use lb_common::wire::{Ipv4, Ipv6, PROTO_SCTP, PROTO_TCP, Ports, Tcp, Udp};

use super::{Part, sctp};
use crate::conntrack::or;
use crate::family::Addr;
use crate::packet::Packet;
use crate::parse::Flow;
use crate::tables::Tables;

/// Which end of a packet is translated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// To the server's address, and port if the packet has one.
#[inline(always)]
pub(super) fn to_server<A: Addr, P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    dest: &Dest,
    part: Part,
) -> Result<(), Verdict> {
    if part == Part::Network {
        return network(pkt, flow, End::Destination, A::from_words(&dest.addr));
    }
    let port = or(dest.port, flow.ports.dst());
    translate(
        pkt,
        tables,
        flow,
        End::Destination,
        (A::from_words(&dest.addr), port),
        part,
    )
}

/// From the virtual address, and port if the packet has one.
#[inline(always)]
pub(super) fn to_client<A: Addr, P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    dest: &Dest,
    part: Part,
) -> Result<(), Verdict> {
    if part == Part::Network {
        return network(pkt, flow, End::Source, A::from_words(&dest.virt));
    }
    let port = or(dest.virt_port, flow.ports.src());
    translate(
        pkt,
        tables,
        flow,
        End::Source,
        (A::from_words(&dest.virt), port),
        part,
    )
}

#[inline(always)]
fn translate<A: Addr, P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    end: End,
    (addr, port): (A, u16),
    part: Part,
) -> Result<(), Verdict> {
    let (old, old_port) = match end {
        End::Source => (flow.src, flow.ports.src()),
        End::Destination => (flow.dst, flow.ports.dst()),
    };
    if part == Part::First && flow.proto == PROTO_SCTP && port != old_port {
        // What a port does to a CRC32c depends on how long the datagram is, which its first fragment
        // does not say.
        return Err(Verdict::PassFragment);
    }
    let delta = address_delta(old, addr, Delta::NONE).word16(old_port, port);
    network(pkt, flow, end, addr)?;
    transport(pkt, tables, flow, end, port, delta, part)
}

/// Adds to `delta` what another address does.
#[inline(always)]
pub(crate) fn address_delta<A: Addr>(old: A, new: A, delta: Delta) -> Delta {
    let ([a, b, c, d], [e, f, g, h]) = (old.words(), new.words());
    if A::FAMILY == FAMILY_IPV4 {
        delta.word32(a, e)
    } else {
        delta.word32(a, e).word32(b, f).word32(c, g).word32(d, h)
    }
}

/// The IP header: the address, one hop less.
#[inline(always)]
fn network<A: Addr, P: Packet>(
    pkt: &mut P,
    flow: &Flow<A>,
    end: End,
    addr: A,
) -> Result<(), Verdict> {
    let words = addr.words();
    let left = if A::FAMILY == FAMILY_IPV4 {
        pkt.change(flow.ip_offset, |ip: &mut Ipv4| {
            let left = ip.ttl > 1;
            if left {
                ip.decrement_ttl();
                let [word, ..] = words;
                let old = match end {
                    End::Source => core::mem::replace(&mut ip.src, word),
                    End::Destination => core::mem::replace(&mut ip.dst, word),
                };
                ip.check = Delta::NONE.word32(old, word).apply(ip.check);
            }
            left
        })
    } else {
        pkt.change(flow.ip_offset, |ip: &mut Ipv6| {
            let left = ip.hop_limit > 1;
            if left {
                ip.hop_limit -= 1;
                match end {
                    End::Source => ip.src = words,
                    End::Destination => ip.dst = words,
                }
            }
            left
        })
    };
    match left {
        Some(true) => Ok(()),
        Some(false) => Err(Verdict::DropTtlExpired),
        None => Err(Verdict::DropInternal),
    }
}

/// The transport header: the port, and the checksum, whose pseudo-header has the addresses.
#[inline(always)]
fn transport<A: Addr, P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    end: End,
    port: u16,
    delta: Delta,
    part: Part,
) -> Result<(), Verdict> {
    let ports = match end {
        End::Source => Ports::new(port, flow.ports.dst()),
        End::Destination => Ports::new(flow.ports.src(), port),
    };
    let done = match flow.proto {
        PROTO_TCP => pkt.change(flow.l4_offset, |tcp: &mut Tcp| {
            tcp.ports = ports;
            tcp.check = delta.apply(tcp.check);
        }),
        PROTO_SCTP => {
            if part == Part::Whole && ports != flow.ports {
                return sctp::translate(pkt, tables, flow, ports);
            }
            Some(())
        }
        _ => pkt.change(flow.l4_offset, |udp: &mut Udp| {
            udp.ports = ports;
            // RFC 768: 0 means none, and a sum of 0 is sent as all ones.
            if udp.check != 0 {
                udp.check = match delta.apply(udp.check) {
                    0 => 0xffff,
                    check => check,
                };
            }
        }),
    };
    done.ok_or(Verdict::DropInternal)
}
