// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets of any family and protocol, built and judged by an independent library (etherparse); SCTP,
//! which it does not know, by its definition.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpNumber, LaxPacketHeaders, NetHeaders, PacketBuilder, PacketBuilderStep, SlicedPacket,
    TransportSlice, ip_number,
};
use lb_agent::config::model::Protocol;

use crate::frames::{CLIENT_MAC, DIRECTOR_MAC};

/// A packet as it is on the wire, by what tells it apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) protocol: Protocol,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// TCP: `S`, `A`, `F`, `R`; SCTP: the first chunk's type as a number.
    pub(crate) what: &'static str,
    pub(crate) ttl: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) src_mac: [u8; 6],
}

impl Packet {
    /// From a client to the director.
    pub(crate) fn new(
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
        what: &'static str,
    ) -> Self {
        Self {
            protocol,
            from,
            to,
            what,
            ttl: 64,
            payload: b"payload".to_vec(),
            src_mac: CLIENT_MAC,
        }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let eth = PacketBuilder::ethernet2(self.src_mac, DIRECTOR_MAC);
        let ip = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => eth.ipv4(from.octets(), to.octets(), self.ttl),
            (IpAddr::V6(from), IpAddr::V6(to)) => eth.ipv6(from.octets(), to.octets(), self.ttl),
            mixed => panic!("one family only: {mixed:?}"),
        };
        let mut frame = Vec::new();
        match self.protocol {
            Protocol::Tcp => self.tcp(ip).write(&mut frame, &self.payload).unwrap(),
            Protocol::Udp => ip
                .udp(self.from.port(), self.to.port())
                .write(&mut frame, &self.payload)
                .unwrap(),
            Protocol::Sctp => ip.write(&mut frame, ip_number::SCTP, &self.sctp()).unwrap(),
        }
        frame
    }

    fn tcp(
        &self,
        ip: PacketBuilderStep<etherparse::IpHeaders>,
    ) -> PacketBuilderStep<etherparse::TcpHeader> {
        let tcp = ip.tcp(self.from.port(), self.to.port(), 1000, 4096);
        self.what.chars().fold(tcp, |tcp, flag| match flag {
            'S' => tcp.syn(),
            'A' => tcp.ack(1),
            'F' => tcp.fin(),
            'R' => tcp.rst(),
            other => panic!("flag {other}"),
        })
    }

    fn sctp(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend(self.from.port().to_be_bytes());
        packet.extend(self.to.port().to_be_bytes());
        packet.extend([0, 0, 0, 7, 0, 0, 0, 0]);
        let chunk: u8 = self.what.parse().unwrap();
        packet.extend([chunk, 0, 0, 4 + self.payload.len() as u8]);
        packet.extend(&self.payload);
        let crc = crc32c(&packet);
        packet[8..12].copy_from_slice(&crc.to_le_bytes());
        packet
    }

    /// The way back.
    pub(crate) fn answer(&self, from: SocketAddr, what: &'static str, src_mac: [u8; 6]) -> Self {
        Self {
            from,
            to: self.from,
            what,
            src_mac,
            ..self.clone()
        }
    }
}

/// What is in an untagged frame; panics if a length or a checksum is wrong. `like` says what cannot
/// be read off it.
pub(crate) fn read(frame: &[u8], like: &Packet) -> Packet {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a well-formed frame");
    let headers = LaxPacketHeaders::from_ethernet(frame).unwrap();
    let (from, to, ttl, payload) = match headers.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(
                ip.header_checksum,
                ip.calc_header_checksum(),
                "IPv4 checksum"
            );
            let payload = &frame[14 + ip.header_len()..14 + usize::from(ip.total_len)];
            (
                ip.source.into(),
                ip.destination.into(),
                ip.time_to_live,
                payload,
            )
        }
        NetHeaders::Ipv6(ip, _) => {
            let end = 54 + usize::from(ip.payload_length);
            (
                ip.source.into(),
                ip.destination.into(),
                ip.hop_limit,
                &frame[54..end],
            )
        }
        NetHeaders::Arp(_) => panic!("ARP"),
    };
    let (from, to): (IpAddr, IpAddr) = (from, to);
    check_transport(&sliced, (from, to), payload);
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    Packet {
        from: SocketAddr::new(from, port(0)),
        to: SocketAddr::new(to, port(2)),
        ttl,
        src_mac: frame[6..12].try_into().unwrap(),
        ..like.clone()
    }
}

fn check_transport(sliced: &SlicedPacket<'_>, ends: (IpAddr, IpAddr), payload: &[u8]) {
    let (right, there) = match (&sliced.transport, ends) {
        (Some(TransportSlice::Tcp(tcp)), (IpAddr::V4(from), IpAddr::V4(to))) => (
            tcp.calc_checksum_ipv4(from.octets(), to.octets()).unwrap(),
            tcp.checksum(),
        ),
        (Some(TransportSlice::Tcp(tcp)), (IpAddr::V6(from), IpAddr::V6(to))) => (
            tcp.calc_checksum_ipv6(from.octets(), to.octets()).unwrap(),
            tcp.checksum(),
        ),
        (Some(TransportSlice::Udp(udp)), (IpAddr::V4(from), IpAddr::V4(to))) => {
            let header = udp.to_header();
            if header.checksum == 0 {
                return;
            }
            let right = header
                .calc_checksum_ipv4_raw(from.octets(), to.octets(), udp.payload())
                .unwrap();
            (right, header.checksum)
        }
        (Some(TransportSlice::Udp(udp)), (IpAddr::V6(from), IpAddr::V6(to))) => {
            let header = udp.to_header();
            let right = header
                .calc_checksum_ipv6_raw(from.octets(), to.octets(), udp.payload())
                .unwrap();
            (right, header.checksum)
        }
        (None, _) => {
            let mut packet = payload.to_vec();
            packet[8..12].fill(0);
            let there = u32::from_le_bytes(payload[8..12].try_into().unwrap());
            assert_eq!(crc32c(&packet), there, "SCTP checksum");
            return;
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(right, there, "transport checksum");
}

/// RFC 9260 appendix A, bit by bit.
fn crc32c(message: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in message {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ 0x82f6_3b78 & 0u32.wrapping_sub(crc & 1);
        }
    }
    !crc
}

/// IP protocol number of the outermost header.
pub(crate) fn outer_protocol(frame: &[u8]) -> IpNumber {
    match SlicedPacket::from_ethernet(frame).unwrap().net.unwrap() {
        etherparse::NetSlice::Ipv4(ip) => ip.header().protocol(),
        etherparse::NetSlice::Ipv6(ip) => ip.header().next_header(),
        etherparse::NetSlice::Arp(_) => panic!("ARP"),
    }
}
