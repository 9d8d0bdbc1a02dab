// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames for the cases, built by an independent library (etherparse), so that our own headers are
//! judged by somebody else's.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice, VlanId};

pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
pub(crate) const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xd1];

/// A TCP segment to the director.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) flags: &'static str,
    pub(crate) ttl: u8,
    pub(crate) vlans: Vec<u16>,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// A segment with these flags: `S` SYN, `A` ACK, `F` FIN, `R` RST.
    pub(crate) fn tcp(client_port: u16, to: SocketAddrV4, flags: &'static str) -> Self {
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 9), client_port);
        Self {
            from,
            to,
            flags,
            ttl: 64,
            vlans: Vec::new(),
            payload: Vec::new(),
        }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let eth = PacketBuilder::ethernet2(CLIENT_MAC, DIRECTOR_MAC);
        let (src, dst) = (self.from.ip().octets(), self.to.ip().octets());
        let ip = match self.vlans.as_slice() {
            [] => eth.ipv4(src, dst, self.ttl),
            [id] => eth
                .single_vlan(VlanId::try_new(*id).unwrap())
                .ipv4(src, dst, self.ttl),
            [outer, inner] => eth
                .double_vlan(
                    VlanId::try_new(*outer).unwrap(),
                    VlanId::try_new(*inner).unwrap(),
                )
                .ipv4(src, dst, self.ttl),
            more => panic!("{} VLAN tags", more.len()),
        };
        let mut tcp = ip.tcp(self.from.port(), self.to.port(), 1000, 4096);
        for flag in self.flags.chars() {
            tcp = match flag {
                'S' => tcp.syn(),
                'A' => tcp.ack(1),
                'F' => tcp.fin(),
                'R' => tcp.rst(),
                other => panic!("flag {other}"),
            };
        }
        let mut frame = Vec::new();
        tcp.write(&mut frame, &self.payload).unwrap();
        frame
    }
}

/// A datagram to the director.
pub(crate) fn udp(client_port: u16, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, DIRECTOR_MAC)
        .ipv4([192, 0, 2, 9], to.ip().octets(), 64)
        .udp(client_port, to.port())
        .write(&mut frame, payload)
        .unwrap();
    frame
}

/// An echo request to the director.
pub(crate) fn ping(to: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, DIRECTOR_MAC)
        .ipv4([192, 0, 2, 9], to.octets(), 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut frame, b"abc")
        .unwrap();
    frame
}

/// Panics unless `after` is `before` as direct routing leaves it: new MAC addresses, one hop less,
/// valid checksums, nothing else.
pub(crate) fn assert_direct_routed(before: &[u8], after: &[u8], to: [u8; 6], from: [u8; 6]) {
    assert_eq!(after[..6], to, "destination MAC");
    assert_eq!(after[6..12], from, "source MAC");
    let sliced = SlicedPacket::from_ethernet(after).expect("a well-formed frame");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("not IPv4")
    };
    let header = ip.header();
    assert_eq!(
        header.header_checksum(),
        header.to_header().calc_header_checksum()
    );
    if let Some(TransportSlice::Tcp(tcp)) = &sliced.transport {
        assert_eq!(
            tcp.checksum(),
            tcp.calc_checksum_ipv4(header.source(), header.destination())
                .unwrap()
        );
    }
    let ip_offset = after.len() - sliced_ip_len(after);
    assert_eq!(
        after[ip_offset + 8],
        before[ip_offset + 8] - 1,
        "time to live"
    );
    let mut restored = after.to_vec();
    restored[..12].copy_from_slice(&before[..12]);
    restored[ip_offset + 8] = before[ip_offset + 8];
    restored[ip_offset + 10..ip_offset + 12]
        .copy_from_slice(&before[ip_offset + 10..ip_offset + 12]);
    assert_eq!(restored, before, "everything else");
}

fn sliced_ip_len(frame: &[u8]) -> usize {
    let mut offset = 12;
    while matches!(frame[offset..offset + 2], [0x81, 0x00] | [0x88, 0xa8]) {
        offset += 4;
    }
    frame.len() - offset - 2
}
