// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must become of a frame in the world of `world.rs`, by an independent parser (etherparse) and
//! what the services are for: not a word of the pipeline's own.
//!
//! Checksums are nobody's business here: they are changed by what the packet changes (RFC 1624), so
//! a wrong one stays wrong and the server finds it.

use std::net::IpAddr;

use etherparse::{
    IpNumber, LinkExtSlice, NetSlice, SlicedPacket, TcpSlice, TransportSlice, UdpSlice, ip_number,
};
use lb_agent::config::model::{ForwardMethod, Protocol, ServiceId, Tunnel};
use lb_common::verdict::{Fate, Verdict};

use crate::frames::DIRECTOR_MAC;
use crate::world::{Kind, MTU, Way};

/// How a frame was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Judgement {
    /// Malformed, or not for a service: it must not be forwarded.
    Refused,
    /// It asks a service for a connection, and must be handled as the service is made to.
    Opens,
    /// It is well-formed, but whether it is forwarded depends on what went before.
    Depends,
}

/// A well-formed packet of a flow.
struct Seen {
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    protocol: Protocol,
    opens: bool,
    hops: u8,
    len: usize,
    /// The first fragment of it.
    fragment: bool,
}

const FRAGMENT: &str = "it is a later fragment";
const ICMP: &str = "it is ICMP";

/// The services, for judging frames.
pub(crate) struct Oracle {
    kinds: Vec<Kind>,
}

impl Oracle {
    pub(crate) fn new(kinds: Vec<Kind>) -> Self {
        Self { kinds }
    }

    /// Judges what became of a frame; the error says what should have.
    pub(crate) fn judge(
        &self,
        frame: &[u8],
        verdict: Verdict,
        after: &[u8],
    ) -> Result<Judgement, String> {
        let forwarded = verdict.fate() == Fate::Forward;
        if forwarded
            && !is_later_in_ipv6(frame)
            && let Err(err) = SlicedPacket::from_ethernet(after)
        {
            return Err(format!("what was sent is malformed: {err}"));
        }
        if verdict == Verdict::DropInternal {
            return Err("an internal error".to_owned());
        }
        if verdict.fate() == Fate::Pass && after != frame {
            return Err("the stack gets a frame that was changed".to_owned());
        }
        let refused = |why: &str| {
            if forwarded {
                Err(format!("forwarded although {why}"))
            } else {
                Ok(Judgement::Refused)
            }
        };
        let seen = match look(frame) {
            Ok(seen) => seen,
            // Both follow a flow, as other cases look at in detail.
            Err(why) if why == FRAGMENT || why == ICMP => return Ok(Judgement::Depends),
            Err(why) => return refused(&why),
        };
        let Some(kind) = self.service(&seen) else {
            return if self.may_answer(&seen) {
                Ok(Judgement::Depends)
            } else {
                refused("it is to no service")
            };
        };
        if seen.hops <= 1 {
            return refused("its time to live is used up");
        }
        if verdict == Verdict::PassNoConnection && !seen.opens {
            return Ok(Judgement::Depends);
        }
        if seen.fragment && verdict == Verdict::PassFragment {
            // Nothing is translated that a checksum of all of the datagram covers.
            let kept = seen.protocol == Protocol::Sctp && kind.is_nat();
            return if !seen.opens || kept || kind.way == Way::NoDest {
                Ok(Judgement::Depends)
            } else {
                Err(format!("{verdict:?} is no way of {:?}", kind.way))
            };
        }
        if !fits(kind, &seen, verdict, after, frame) {
            return Err(format!("{:?} is no way of {:?}", verdict, kind.way));
        }
        Ok(if seen.opens {
            Judgement::Opens
        } else {
            Judgement::Depends
        })
    }

    /// The service of exactly this port, else the one of any port.
    fn service(&self, seen: &Seen) -> Option<&Kind> {
        let of = |port| {
            let id = ServiceId {
                addr: seen.dst.0,
                port,
                protocol: seen.protocol,
            };
            self.kinds.iter().find(|kind| kind.service.id == id)
        };
        of(seen.dst.1).or_else(|| of(0))
    }

    /// Whether it may be a masqueraded server's answer.
    fn may_answer(&self, seen: &Seen) -> bool {
        self.kinds.iter().any(|kind| {
            kind.is_nat()
                && kind.service.id.protocol == seen.protocol
                && kind.service.servers.iter().any(|server| {
                    server.addr.ip() == seen.src.0 && [0, seen.src.1].contains(&server.addr.port())
                })
        })
    }
}

fn fits(kind: &Kind, seen: &Seen, verdict: Verdict, after: &[u8], frame: &[u8]) -> bool {
    match (kind.way, verdict) {
        (Way::Forward | Way::Tunnel, Verdict::Transmit) | (Way::Redirect, Verdict::Redirect) => {
            kind.owns(&after[..6])
        }
        (Way::Tunnel, Verdict::ReplyTooBig) => {
            seen.len > room(kind) && after[..6] == frame[6..12] && answers(seen, after)
        }
        (Way::Tunnel, Verdict::DropTooBig) => seen.len > room(kind) && seen.dst.0.is_ipv4(),
        (Way::Local, Verdict::PassLocal)
        | (Way::NoDest, Verdict::PassNoDest)
        | (Way::NoNeighbor, Verdict::DropNoNeighbor) => true,
        _ => false,
    }
}

/// Largest datagram that its tunnel takes.
fn room(kind: &Kind) -> usize {
    let Some(server) = kind.service.servers.first() else {
        return 0;
    };
    let ForwardMethod::Tun(tunnel) = &server.method else {
        return usize::MAX;
    };
    let between = match tunnel {
        Tunnel::Ipip => 0,
        Tunnel::Gre { checksum: false } => 4,
        Tunnel::Gre { checksum: true } => 8,
        Tunnel::Gue { .. } => 12,
    };
    let outer = if server.addr.is_ipv4() { 20 } else { 40 };
    MTU as usize - between - outer
}

/// Whether it is an ICMP error to the packet's sender.
fn answers(seen: &Seen, after: &[u8]) -> bool {
    let Ok(sliced) = SlicedPacket::from_ethernet(after) else {
        return false;
    };
    let to: Option<IpAddr> = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => Some(ip.header().destination_addr().into()),
        Some(NetSlice::Ipv6(ip)) => Some(ip.header().destination_addr().into()),
        _ => None,
    };
    let too_big = match sliced.transport {
        Some(TransportSlice::Icmpv4(icmp)) => (icmp.type_u8(), icmp.code_u8()) == (3, 4),
        Some(TransportSlice::Icmpv6(icmp)) => (icmp.type_u8(), icmp.code_u8()) == (2, 0),
        _ => false,
    };
    to == Some(seen.src.0) && too_big
}

/// Link and network layer as far as the load balancer goes; the error says why it does not.
fn look(frame: &[u8]) -> Result<Seen, String> {
    if frame.len() >= 6 && frame[..6] != DIRECTOR_MAC {
        return Err("it is to another host".to_owned());
    }
    if is_later_in_ipv6(frame) {
        return Err(FRAGMENT.to_owned());
    }
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|err| err.to_string())?;
    tags(frame, &sliced)?;
    let (src, dst, hops, payload, len): (IpAddr, IpAddr, _, _, _) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let ends = (
                header.source_addr().into(),
                header.destination_addr().into(),
            );
            if ip.extensions().auth.is_some() {
                return Err("it has an authentication header".to_owned());
            }
            if header.fragments_offset().value() != 0 {
                return Err(FRAGMENT.to_owned());
            }
            let (ttl, len) = (header.ttl(), usize::from(header.total_len()));
            (ends.0, ends.1, ttl, ip.payload(), len)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            if header.payload_length() == 0 {
                return Err("it is a jumbogram".to_owned());
            }
            let len = 40 + usize::from(header.payload_length());
            extensions(header.next_header(), ip.extensions().slice())?;
            let ends = (
                header.source_addr().into(),
                header.destination_addr().into(),
            );
            (ends.0, ends.1, header.hop_limit(), ip.payload(), len)
        }
        _ => return Err("it is no IP".to_owned()),
    };
    let there = if payload.fragmented {
        first_transport(payload.ip_number, payload.payload)?
    } else {
        sliced.transport
    };
    let (protocol, ports, opens) = transport(there, payload.ip_number, payload.payload)?;
    Ok(Seen {
        src: (src, ports.0),
        dst: (dst, ports.1),
        protocol,
        opens,
        hops,
        len,
        fragment: payload.fragmented || is_cut_in_ipv6(sliced.net.as_ref()),
    })
}

/// Up to two VLAN tags.
fn tags(frame: &[u8], sliced: &SlicedPacket<'_>) -> Result<(), String> {
    let vlans = sliced
        .link_exts
        .iter()
        .all(|tag| matches!(tag, LinkExtSlice::Vlan(_)));
    let known = (0..sliced.link_exts.len())
        .all(|n| matches!(frame[12 + 4 * n..14 + 4 * n], [0x81, 0] | [0x88, 0xa8]));
    if sliced.link_exts.len() > 2 || !vlans || !known {
        return Err("its tags are not looked through".to_owned());
    }
    Ok(())
}

/// Whether it has a fragment header, be it the only fragment.
fn is_cut_in_ipv6(net: Option<&NetSlice<'_>>) -> bool {
    let Some(NetSlice::Ipv6(ip)) = net else {
        return false;
    };
    ip.header().next_header() == ip_number::IPV6_FRAGMENTATION_HEADER
}

/// Whether the frame is an IPv6 fragment that is not the first, of lengths that are right. The library
/// would look for headers in it; there are none.
fn is_later_in_ipv6(frame: &[u8]) -> bool {
    let mut at = 12;
    for _ in 0..2 {
        if matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8])) {
            at += 4;
        }
    }
    let (Some([0x86, 0xdd]), Some(datagram)) = (frame.get(at..at + 2), frame.get(at + 2..)) else {
        return false;
    };
    let word = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
    datagram.len() >= 48
        && datagram[0] >> 4 == 6
        && (8..=datagram.len() - 40).contains(&word(4).into())
        && IpNumber(datagram[6]) == ip_number::IPV6_FRAGMENTATION_HEADER
        && word(42) >> 3 != 0
}

/// Up to four extension headers of less than 2048 bytes in all, or a fragment header alone.
fn extensions(mut next: IpNumber, mut headers: &[u8]) -> Result<(), String> {
    if next == ip_number::IPV6_FRAGMENTATION_HEADER && headers.len() == 8 {
        return Ok(());
    }
    if headers.len() >= 2048 {
        return Err("its extension headers are too long".to_owned());
    }
    let mut count = 0;
    while let [following, eights, ..] = *headers {
        let known = [
            ip_number::IPV6_HEADER_HOP_BY_HOP,
            ip_number::IPV6_ROUTE_HEADER,
            ip_number::IPV6_DESTINATION_OPTIONS,
        ];
        count += 1;
        if !known.contains(&next) || count > 4 {
            return Err("its extension headers are not looked through".to_owned());
        }
        next = IpNumber(following);
        headers = headers
            .get((usize::from(eights) + 1) * 8..)
            .ok_or("its extension headers end too late")?;
    }
    Ok(())
}

/// The header of a first fragment, which the library does not look at.
fn first_transport(number: IpNumber, payload: &[u8]) -> Result<Option<TransportSlice<'_>>, String> {
    Ok(match number {
        ip_number::TCP => {
            let tcp = TcpSlice::from_slice(payload).map_err(|err| err.to_string())?;
            Some(TransportSlice::Tcp(tcp))
        }
        ip_number::UDP => {
            let udp = UdpSlice::from_slice_lax(payload).map_err(|err| err.to_string())?;
            Some(TransportSlice::Udp(udp))
        }
        _ => None,
    })
}

fn transport(
    there: Option<TransportSlice<'_>>,
    number: IpNumber,
    payload: &[u8],
) -> Result<(Protocol, (u16, u16), bool), String> {
    const INIT: u8 = 1;
    match there {
        Some(TransportSlice::Tcp(tcp)) => {
            let opens = tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin();
            let ports = (tcp.source_port(), tcp.destination_port());
            Ok((Protocol::Tcp, ports, opens))
        }
        Some(TransportSlice::Udp(udp)) if udp.length() < 8 => {
            Err("it is shorter than its header".to_owned())
        }
        Some(TransportSlice::Udp(udp)) => {
            let ports = (udp.source_port(), udp.destination_port());
            Ok((Protocol::Udp, ports, true))
        }
        None if number == ip_number::SCTP && payload.len() >= 16 => {
            let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
            Ok((Protocol::Sctp, (port(0), port(2)), payload[12] == INIT))
        }
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => Err(ICMP.to_owned()),
        _ => Err("it is neither TCP, UDP nor SCTP".to_owned()),
    }
}
