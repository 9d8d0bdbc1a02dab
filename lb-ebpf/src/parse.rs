// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a frame to a [`Flow`], or to the reason why the frame is none of ours.

use lb_common::abi::{LINK_VIRTUAL, Link, mac_key};
use lb_common::state::{self, UNSTEADY};
use lb_common::verdict::Verdict;
use lb_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, EXT_FRAGMENT, Eth, EthWords,
    Ipv4, Ipv6, Ipv6Fragment, PROTO_SCTP, PROTO_TCP, PROTO_UDP, Ports, Sctp, Tcp, Udp, Vlan,
};

use crate::family::{V4, V6};
use crate::packet::Packet;
use crate::tables::Tables;

/// VLAN tags looked through: a service tag and a customer tag.
const MAX_VLAN_TAGS: usize = 2;

/// Covers every offset that a VLAN stack can lead to (14, 18, 22).
const OFFSET_MASK: usize = 31;

/// IPv6 extension headers looked through.
const MAX_EXTENSIONS: usize = 4;

/// Covers where a transport header may begin, bytes behind the IPv6 header: extension headers that
/// are longer in all are not looked through.
const EXTENSIONS_MASK: usize = 0x7ff;

/// A packet of a flow, as far as the journey needs it. Addresses and ports are in network byte
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<A> {
    /// Where the IP header starts, bytes into the frame.
    pub ip_offset: usize,
    /// Where the transport header starts, bytes into the frame.
    pub l4_offset: usize,
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source and destination port.
    pub ports: Ports,
    /// IP protocol number: TCP, UDP or SCTP.
    pub proto: u8,
    /// TCP flags byte; SCTP: type of the first chunk; 0 for UDP.
    pub what: u8,
    /// The state in which the packet changes nothing, see [`state::steady`].
    pub steady: u8,
    /// Length of the IP datagram, bytes.
    pub ip_len: u32,
}

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Ethernet and VLAN tags; where the IP header starts, and of which family it is.
#[inline(always)]
pub fn link_layer<P: Packet, T: Tables>(pkt: &P, tables: &T) -> Result<(usize, Carries), Verdict> {
    tagged(pkt, tables, |link, ifindex, eth| {
        is_ours(tables, link, ifindex, eth)
    })
}

/// True for a frame that came in by this interface for us.
#[inline(always)]
pub(crate) fn is_ours<T: Tables>(tables: &T, link: &Link, ifindex: u32, eth: &EthWords) -> bool {
    link.is_dst_of(eth)
        || link.known & LINK_VIRTUAL != 0 && tables.is_virtual_mac(mac_key(ifindex, eth))
}

/// The same in a program that another one went on in, which has looked whom the frame is for.
///
/// VERIFIER(6.1): what is looked at twice is walked through many times.
#[inline(always)]
pub fn link_layer_again<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
) -> Result<(usize, Carries), Verdict> {
    tagged(pkt, tables, |_, _, _| true)
}

/// Ethernet and VLAN tags of a frame that is `ours`.
#[inline(always)]
fn tagged<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    ours: impl FnOnce(&Link, u32, &EthWords) -> bool,
) -> Result<(usize, Carries), Verdict> {
    let eth: EthWords = pkt.load(0).ok_or(Verdict::DropTruncatedFrame)?;
    let mut ethertype = u16::from_be(eth.ethertype);
    let mut offset = Eth::LEN;
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        let tag: Vlan = pkt.load(offset).ok_or(Verdict::DropTruncatedFrame)?;
        ethertype = tag.ethertype();
        offset += Vlan::LEN;
    }
    let carries = match ethertype {
        ETHERTYPE_IPV4 => Carries::Ipv4,
        ETHERTYPE_IPV6 => Carries::Ipv6,
        _ => return Err(Verdict::PassNotIp),
    };
    // XDP runs before the stack sorts out frames for other hosts, which a bridge floods and a
    // promiscuous interface hands up.
    let ifindex = pkt.ingress_ifindex();
    match tables.link(ifindex) {
        // VERIFIER: a byte that is always zero, which the verifier cannot know, makes one unknown
        // number of the three possible offsets: what follows is verified once, not thrice.
        Some(link) if ours(link, ifindex, &eth) => {
            Ok(((offset + link.zero as usize) & OFFSET_MASK, carries))
        }
        _ => Err(Verdict::PassOtherHost),
    }
}

/// An IPv4 packet. Nothing is written, and no map is looked at.
#[inline(always)]
pub fn ipv4<P: Packet>(pkt: &P, ip_offset: usize) -> Result<Flow<V4>, Verdict> {
    whole(pkt, ip_offset, false)
}

/// The first fragment of an IPv4 packet.
#[inline(always)]
pub fn first_fragment<P: Packet>(pkt: &P, ip_offset: usize) -> Result<Flow<V4>, Verdict> {
    whole(pkt, ip_offset, true)
}

/// A later fragment, which has no ports.
#[inline(always)]
pub fn later_fragment(ip: &Ipv4, ip_offset: usize) -> Flow<V4> {
    Flow {
        ip_offset,
        l4_offset: ip_offset + Ipv4::LEN,
        src: V4(ip.src),
        dst: V4(ip.dst),
        ports: Ports::new(0, 0),
        proto: ip.proto,
        what: 0,
        steady: UNSTEADY,
        ip_len: ip.total_len() as u32,
    }
}

#[inline(always)]
fn whole<P: Packet>(pkt: &P, ip_offset: usize, fragment: bool) -> Result<Flow<V4>, Verdict> {
    let ip: Ipv4 = pkt.load(ip_offset).ok_or(Verdict::DropMalformedIp)?;
    let header_len = ip.header_len();
    let total_len = ip.total_len();
    if ip.version() != 4 || header_len < Ipv4::LEN || total_len < header_len {
        return Err(Verdict::DropMalformedIp);
    }
    // Ethernet pads short frames, so a frame may be longer than its datagram, never shorter.
    if !pkt.has(ip_offset + total_len) {
        return Err(Verdict::DropMalformedIp);
    }
    if ip.is_fragment() != fragment {
        return Err(Verdict::PassFragment);
    }
    let l4_offset = ip_offset + header_len;
    let (ports, what, steady) =
        transport(pkt, ip.proto, l4_offset, total_len - header_len, fragment)?;
    Ok(Flow {
        ip_offset,
        l4_offset,
        src: V4(ip.src),
        dst: V4(ip.dst),
        ports,
        proto: ip.proto,
        what,
        steady,
        ip_len: total_len as u32,
    })
}

/// An IPv6 packet. Nothing is written, and no map is looked at.
#[inline(always)]
pub fn ipv6<P: Packet>(pkt: &P, ip_offset: usize) -> Result<Flow<V6>, Verdict> {
    let ip: Ipv6 = pkt.load(ip_offset).ok_or(Verdict::DropMalformedIp)?;
    if ip.version() != 6 {
        return Err(Verdict::DropMalformedIp);
    }
    let payload_len = ip.payload_len();
    if !pkt.has(ip_offset + Ipv6::LEN + payload_len) {
        return Err(Verdict::DropMalformedIp);
    }
    let (proto, before) = extensions(pkt, ip_offset + Ipv6::LEN, ip.next_header)?;
    if before > payload_len {
        return Err(Verdict::DropMalformedIp);
    }
    let l4_offset = ip_offset + Ipv6::LEN + before;
    let (ports, what, steady) = transport(pkt, proto, l4_offset, payload_len - before, false)?;
    Ok(Flow {
        ip_offset,
        l4_offset,
        src: V6(ip.src),
        dst: V6(ip.dst),
        ports,
        proto,
        what,
        steady,
        ip_len: (Ipv6::LEN + payload_len) as u32,
    })
}

/// A fragment of an IPv6 packet; only the first has ports.
///
/// VERIFIER(6.1): its header is looked for right behind the IPv6 header only, where senders put it.
/// Behind other headers the program would be walked twice as long.
#[inline(always)]
pub fn ipv6_fragment<P: Packet>(
    pkt: &P,
    ip_offset: usize,
) -> Result<(Ipv6Fragment, Flow<V6>), Verdict> {
    let ip: Ipv6 = pkt.load(ip_offset).ok_or(Verdict::DropMalformedIp)?;
    let payload_len = ip.payload_len();
    if ip.version() != 6 || !pkt.has(ip_offset + Ipv6::LEN + payload_len) {
        return Err(Verdict::DropMalformedIp);
    }
    if ip.next_header != EXT_FRAGMENT {
        return Err(Verdict::PassFragment);
    }
    let at = ip_offset + Ipv6::LEN;
    let header: Ipv6Fragment = pkt.load(at).ok_or(Verdict::DropMalformedIp)?;
    if payload_len < Ipv6Fragment::LEN {
        return Err(Verdict::DropMalformedIp);
    }
    let l4_offset = at + Ipv6Fragment::LEN;
    let (ports, what, steady) = if header.is_first() {
        // RFC 6946: one that nothing follows is the whole packet.
        let (len, more) = (payload_len - Ipv6Fragment::LEN, header.has_more());
        transport(pkt, header.next_header, l4_offset, len, more)?
    } else {
        (Ports::new(0, 0), 0, UNSTEADY)
    };
    let flow = Flow {
        ip_offset,
        l4_offset,
        src: V6(ip.src),
        dst: V6(ip.dst),
        ports,
        proto: header.next_header,
        what,
        steady,
        ip_len: (Ipv6::LEN + payload_len) as u32,
    };
    Ok((header, flow))
}

/// Looks through extension headers (RFC 8200 section 4): the protocol behind them, and their length
/// in bytes.
#[inline(always)]
fn extensions<P: Packet>(pkt: &P, offset: usize, first: u8) -> Result<(u8, usize), Verdict> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let mut next = first;
    let mut len = 0;
    for count in 0..=MAX_EXTENSIONS {
        match next {
            // RFC 8200 section 4.1: right behind the IPv6 header or nowhere; the stack answers.
            HOP_BY_HOP if count > 0 => return Err(Verdict::PassOtherProtocol),
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let [following, eights]: [u8; 2] =
                    pkt.load(offset + len).ok_or(Verdict::DropMalformedIp)?;
                next = following;
                let longer = len + ((eights as usize + 1) << 3);
                len = longer & EXTENSIONS_MASK;
                if longer != len {
                    break;
                }
            }
            EXT_FRAGMENT => return Err(Verdict::PassFragment),
            _ => return Ok((next, len)),
        }
    }
    Err(Verdict::PassExtensionHeaders)
}

/// Ports, TCP flags or the type of the first SCTP chunk, and the steady state. `len` is that of the datagram from
/// `offset` on.
#[inline(always)]
fn transport<P: Packet>(
    pkt: &P,
    proto: u8,
    offset: usize,
    len: usize,
    fragment: bool,
) -> Result<(Ports, u8, u8), Verdict> {
    match proto {
        PROTO_TCP => {
            if len < Tcp::LEN {
                return Err(Verdict::DropTruncatedTransport);
            }
            let tcp: Tcp = pkt.load(offset).ok_or(Verdict::DropTruncatedTransport)?;
            if !(Tcp::LEN..=len).contains(&tcp.header_len()) {
                return Err(Verdict::DropTruncatedTransport);
            }
            Ok((tcp.ports, tcp.flags, state::steady(PROTO_TCP, tcp.flags)))
        }
        PROTO_UDP => {
            if len < Udp::LEN {
                return Err(Verdict::DropTruncatedTransport);
            }
            let udp: Udp = pkt.load(offset).ok_or(Verdict::DropTruncatedTransport)?;
            // Of a datagram in fragments only the first part is here.
            if udp.len() < Udp::LEN || (!fragment && udp.len() > len) {
                return Err(Verdict::DropTruncatedTransport);
            }
            Ok((udp.ports, 0, state::steady(PROTO_UDP, 0)))
        }
        PROTO_SCTP => {
            if len < Sctp::LEN {
                return Err(Verdict::DropTruncatedTransport);
            }
            let sctp: Sctp = pkt.load(offset).ok_or(Verdict::DropTruncatedTransport)?;
            Ok((sctp.ports, sctp.chunk, UNSTEADY))
        }
        _ => Err(Verdict::PassOtherProtocol),
    }
}
