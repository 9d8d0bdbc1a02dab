// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a packet would go, and why: the question of `xlvs trace` and its answer.
//!
//! In: a packet in words. Out: its way in words, by a dry run on the live maps (see `live`).

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{
    DEST_IPV6, Dest, FAMILY_IPV4, FAMILY_IPV6, METHOD_DIRECT, METHOD_LOCAL, METHOD_NAT,
    METHOD_TUNNEL, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP,
};
use lb_common::csum;
use lb_common::verdict::Verdict;
use lb_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Eth, Ipv4, Ipv6, Mac, Ports, Sctp, Tcp, Udp,
};
use lb_ebpf::frame::Frame;
use lb_ebpf::tables::Tables;
use serde::{Deserialize, Serialize};

use super::live::LiveTables;
use super::plan::{address, proto, words};
use crate::config::model::Protocol;

/// Source MAC of a packet that never was.
const ASKER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A packet in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Protocol.
    pub protocol: Protocol,
    /// Source.
    pub from: SocketAddr,
    /// Destination, of the same family.
    pub to: SocketAddr,
    /// TCP flags, or the type of the first SCTP chunk.
    pub what: u8,
    /// Bytes behind the transport header.
    pub payload: u16,
    /// Interface that it comes in by; one of the program's unless named.
    pub interface: Option<String>,
}

/// A connection that the packet belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedConnection {
    /// Its state before the packet.
    pub state: String,
    /// Its real server.
    pub server: SocketAddr,
    /// Until it is forgotten.
    pub remaining_seconds: u64,
}

/// A packet's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Interface that it comes in by.
    pub interface: String,
    /// Whether the program is attached there; if not, the packet never meets it.
    pub attached: bool,
    /// The virtual service that it asks for.
    pub service: Option<String>,
    /// The connection that it belongs to.
    pub connection: Option<TracedConnection>,
    /// It opens a connection, or is scheduled for itself.
    pub opens: bool,
    /// The scheduler's choice, where it was asked.
    pub scheduled: Option<SocketAddr>,
    /// The real server that it is counted for.
    pub server: Option<SocketAddr>,
    /// How that is reached: `DR`, `NAT`, `TUN ipip` …
    pub method: Option<String>,
    /// Interface that the frame leaves by.
    pub out_interface: Option<String>,
    /// MAC address that the frame is sent to.
    pub next_hop: Option<String>,
    /// Addresses and ports of what leaves; of a tunnel, those of the outer header.
    pub leaves_as: Option<String>,
    /// Name of the verdict's counter.
    pub verdict: String,
    /// What the verdict means.
    pub sentence: String,
}

/// What a dry run told.
pub(super) struct Run {
    pub(super) verdict: Verdict,
    pub(super) out_ifindex: u32,
    pub(super) frame: Vec<u8>,
    pub(super) dest: Option<(u32, Dest)>,
    pub(super) method: Option<String>,
    pub(super) opened: bool,
    pub(super) picked: Option<SocketAddr>,
}

/// Sends the packet through the program's source on the live maps.
pub(super) fn run(tables: &LiveTables<'_>, question: &Question, ifindex: u32) -> Run {
    let mac = tables.link(ifindex).map_or(Mac::default(), |link| link.mac);
    let mut frame = frame(question, mac);
    let outcome = lb_ebpf::ingress(&mut Frame::new(&mut frame, ifindex), tables);
    let notes = tables.notes();
    let row = |id: u32| tables.dest(id).map(|dest| (id, *dest));
    let dest = notes.dest.and_then(row);
    Run {
        verdict: outcome.verdict,
        out_ifindex: match outcome.verdict {
            Verdict::Redirect => outcome.ifindex,
            Verdict::Transmit | Verdict::ReplyTooBig => ifindex,
            _ => 0,
        },
        method: dest.map(|(id, dest)| method(tables, id, &dest)),
        dest,
        frame,
        opened: notes.opened,
        picked: notes
            .dest
            .filter(|_| notes.scheduled)
            .and_then(row)
            .map(|(_, dest)| server(&dest)),
    }
}

/// Address and port of a row; port 0 where the packet's is left as it is.
pub(super) fn server(dest: &Dest) -> SocketAddr {
    let family = if dest.flags & DEST_IPV6 == 0 {
        FAMILY_IPV4
    } else {
        FAMILY_IPV6
    };
    let port = if dest.port == 0 {
        dest.virt_port
    } else {
        dest.port
    };
    SocketAddr::new(address(dest.addr, family), u16::from_be(port))
}

fn method(tables: &LiveTables<'_>, id: u32, dest: &Dest) -> String {
    let kind = tables.tunnel(id).map_or(0, |tunnel| tunnel.kind);
    match (dest.method, kind) {
        (METHOD_DIRECT, _) => "DR",
        (METHOD_NAT, _) => "NAT",
        (METHOD_LOCAL, _) => "local",
        (METHOD_TUNNEL, TUNNEL_IPIP) => "TUN ipip",
        (METHOD_TUNNEL, TUNNEL_GRE) => "TUN gre",
        (METHOD_TUNNEL, TUNNEL_GUE) => "TUN gue",
        _ => "unknown",
    }
    .to_owned()
}

/// The packet, addressed to `mac`.
fn frame(question: &Question, mac: Mac) -> Vec<u8> {
    let transport = transport(question);
    let (src, dst) = (words(question.from.ip()), words(question.to.ip()));
    let is_v4 = question.to.is_ipv4();
    let eth = Eth {
        dst: mac,
        src: Mac::new(ASKER),
        ethertype: if is_v4 {
            ETHERTYPE_IPV4
        } else {
            ETHERTYPE_IPV6
        }
        .to_be(),
    };
    let mut frame = bytemuck::bytes_of(&eth).to_vec();
    if is_v4 {
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_len: ((Ipv4::LEN + transport.len()) as u16).to_be(),
            id: 0,
            frag: 0x4000_u16.to_be(),
            ttl: 64,
            proto: proto(question.protocol),
            check: 0,
            src: src[0],
            dst: dst[0],
        };
        ip.check = csum::finish(csum::ipv4_sum(&ip));
        frame.extend_from_slice(bytemuck::bytes_of(&ip));
    } else {
        let ip = Ipv6 {
            version_class_label: 0x6000_0000_u32.to_be(),
            payload_len: (transport.len() as u16).to_be(),
            next_header: proto(question.protocol),
            hop_limit: 64,
            src,
            dst,
        };
        frame.extend_from_slice(bytemuck::bytes_of(&ip));
    }
    frame.extend_from_slice(&transport);
    frame
}

fn transport(question: &Question) -> Vec<u8> {
    let (from, to) = (question.from.port(), question.to.port());
    let ports = Ports::new(from.to_be(), to.to_be());
    let mut bytes = match question.protocol {
        Protocol::Tcp => bytemuck::bytes_of(&Tcp {
            ports,
            seq: 1_u32.to_be(),
            ack: 0,
            offset: 5 << 4,
            flags: question.what,
            window: u16::MAX,
            check: 0,
            urgent: 0,
        })
        .to_vec(),
        Protocol::Udp => bytemuck::bytes_of(&Udp {
            ports,
            len: (Udp::LEN as u16 + question.payload).to_be(),
            check: 0,
        })
        .to_vec(),
        Protocol::Sctp => bytemuck::bytes_of(&Sctp {
            ports,
            tag: 0,
            check: 0,
            chunk: question.what,
            chunk_flags: 0,
            chunk_len: 4_u16.to_be(),
        })
        .to_vec(),
    };
    bytes.resize(bytes.len() + usize::from(question.payload), 0);
    bytes
}

/// Addresses, and ports where there are some, of the first IP header of a frame.
pub(super) fn ends(frame: &[u8]) -> Option<String> {
    let ip = frame.get(Eth::LEN..)?;
    let (src, dst, proto, rest): (IpAddr, IpAddr, u8, _) = if ip.first()? >> 4 == 4 {
        let ip4: Ipv4 = bytemuck::pod_read_unaligned(ip.get(..Ipv4::LEN)?);
        let part = |word| address([word, 0, 0, 0], FAMILY_IPV4);
        (
            part(ip4.src),
            part(ip4.dst),
            ip4.proto,
            ip.get(ip4.header_len()..)?,
        )
    } else {
        let ip6: Ipv6 = bytemuck::pod_read_unaligned(ip.get(..Ipv6::LEN)?);
        let part = |words| address(words, FAMILY_IPV6);
        (
            part(ip6.src),
            part(ip6.dst),
            ip6.next_header,
            ip.get(Ipv6::LEN..)?,
        )
    };
    let has_ports = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .iter()
        .any(|known| self::proto(*known) == proto);
    if !has_ports {
        return Some(format!("{src} > {dst}, protocol {proto}"));
    }
    let ports: Ports = bytemuck::pod_read_unaligned(rest.get(..size_of::<Ports>())?);
    let (from, to) = (u16::from_be(ports.src()), u16::from_be(ports.dst()));
    Some(format!(
        "{} > {}",
        SocketAddr::new(src, from),
        SocketAddr::new(dst, to)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_what_was_asked() {
        for (from, to) in [
            ("192.0.2.9:1234", "192.0.2.200:80"),
            ("[2001:db8::9]:1234", "[2001:db8::1]:80"),
        ] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                let question = Question {
                    protocol,
                    from: from.parse().unwrap(),
                    to: to.parse().unwrap(),
                    what: 2,
                    payload: 10,
                    interface: None,
                };
                let frame = frame(&question, Mac::new([2; 6]));
                assert_eq!(ends(&frame), Some(format!("{from} > {to}")));
            }
        }
    }
}
