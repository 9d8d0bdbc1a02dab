// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a frame to a [`Flow`], or to the reason why the frame is none of ours.

use lb_common::verdict::Verdict;
use lb_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Eth, Ipv4, PROTO_TCP, PROTO_UDP, Ports, Tcp,
    Udp, Vlan,
};

use crate::packet::Packet;
use crate::tables::Tables;

/// VLAN tags looked through: a service tag and a customer tag.
const MAX_VLAN_TAGS: usize = 2;

/// Covers every offset that a VLAN stack can lead to (14, 18, 22).
const OFFSET_MASK: usize = 31;

/// A packet from a client, as far as the journey needs it. Addresses and ports are in network byte
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the IPv4 header starts, bytes into the frame.
    pub ip_offset: usize,
    /// Client address.
    pub src: u32,
    /// Virtual address.
    pub dst: u32,
    /// Client and virtual port.
    pub ports: Ports,
    /// IP protocol number: TCP or UDP.
    pub proto: u8,
    /// TCP flags byte; 0 for UDP.
    pub tcp_flags: u8,
    /// Length of the IP datagram, bytes.
    pub ip_len: u16,
}

/// Reads the headers; nothing is written and no map but the interface's row is looked at.
#[inline(always)]
pub fn parse<P: Packet, T: Tables>(pkt: &P, tables: &T) -> Result<Flow, Verdict> {
    let ip_offset = link_layer(pkt, tables)?;
    let ip: Ipv4 = pkt.load(ip_offset).ok_or(Verdict::DropMalformedIpv4)?;
    let header_len = ip.header_len();
    let total_len = ip.total_len();
    if ip.version() != 4 || header_len < Ipv4::LEN || total_len < header_len {
        return Err(Verdict::DropMalformedIpv4);
    }
    // Ethernet pads short frames, so a frame may be longer than its datagram, never shorter.
    if !pkt.has(ip_offset + total_len) {
        return Err(Verdict::DropMalformedIpv4);
    }
    if ip.proto != PROTO_TCP && ip.proto != PROTO_UDP {
        return Err(Verdict::PassOtherProtocol);
    }
    if ip.is_fragment() {
        return Err(Verdict::PassFragment);
    }
    let l4_offset = ip_offset + header_len;
    let l4_len = total_len - header_len;
    let (ports, tcp_flags) = transport(pkt, ip.proto, l4_offset, l4_len)?;
    Ok(Flow {
        ip_offset,
        src: ip.src,
        dst: ip.dst,
        ports,
        proto: ip.proto,
        tcp_flags,
        ip_len: total_len as u16,
    })
}

/// Ethernet and VLAN tags; where the IPv4 header starts.
#[inline(always)]
fn link_layer<P: Packet, T: Tables>(pkt: &P, tables: &T) -> Result<usize, Verdict> {
    let eth: Eth = pkt.load(0).ok_or(Verdict::DropTruncatedFrame)?;
    let mut ethertype = eth.ethertype();
    let mut offset = Eth::LEN;
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        let tag: Vlan = pkt.load(offset).ok_or(Verdict::DropTruncatedFrame)?;
        ethertype = tag.ethertype();
        offset += Vlan::LEN;
    }
    if ethertype != ETHERTYPE_IPV4 {
        return Err(Verdict::PassNotIpv4);
    }
    // XDP runs before the stack sorts out frames for other hosts, which a bridge floods and a
    // promiscuous interface hands up.
    match tables.link(pkt.ingress_ifindex()) {
        // VERIFIER: a byte that is always zero, which the verifier cannot know, makes one unknown
        // number of the three possible offsets: what follows is verified once, not thrice.
        Some(link) if link.known != 0 && link.mac == eth.dst => {
            Ok((offset + link.zero as usize) & OFFSET_MASK)
        }
        _ => Err(Verdict::PassOtherHost),
    }
}

/// Ports and TCP flags.
#[inline(always)]
fn transport<P: Packet>(
    pkt: &P,
    proto: u8,
    offset: usize,
    len: usize,
) -> Result<(Ports, u8), Verdict> {
    if proto == PROTO_TCP {
        if len < Tcp::LEN {
            return Err(Verdict::DropTruncatedTransport);
        }
        let tcp: Tcp = pkt.load(offset).ok_or(Verdict::DropTruncatedTransport)?;
        Ok((tcp.ports, tcp.flags))
    } else {
        if len < Udp::LEN {
            return Err(Verdict::DropTruncatedTransport);
        }
        let udp: Udp = pkt.load(offset).ok_or(Verdict::DropTruncatedTransport)?;
        Ok((udp.ports, 0))
    }
}
