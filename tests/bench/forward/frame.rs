// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of the generator: the template that goes out, the sample that came back.
//!
//! Invariant: a sample that a real server could not have taken for its client's packet is an error.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use bytemuck::Zeroable;
use etherparse::PacketBuilder;
use lb_common::abi::{GENERATE_FRAME, GENERATE_SAMPLE, Generate};
use lb_common::csum;
use xlvs_tests::bench::{Method, Protocol};

/// The service's address; its port is [`PORT`].
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Of the service and of its servers.
pub(crate) const PORT: u16 = 80;
/// The director's end of the cable.
pub(crate) const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// Offsets into the frame.
const IP: usize = 14;
const L4: usize = 34;
const IPIP: u8 = 4;
const TTL: u8 = 64;

/// MAC address by which the sink knows server `n`; 0 is whoever sent the packets.
pub(crate) fn server_mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 2, n]
}

/// The first packet of a flow, or a later one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    Syn,
    Ack,
}

/// A generator's order with frame and sums filled in.
pub(crate) fn template(protocol: Protocol, segment: Segment) -> Result<Generate> {
    let builder =
        PacketBuilder::ethernet2(server_mac(0), DIRECTOR_MAC).ipv4([0, 0, 0, 0], VIP.octets(), TTL);
    let mut frame = Vec::new();
    match (protocol, segment) {
        (Protocol::Tcp, Segment::Syn) => builder
            .tcp(0, PORT, 1000, 4096)
            .syn()
            .write(&mut frame, &[])?,
        (Protocol::Tcp, Segment::Ack) => builder
            .tcp(0, PORT, 1001, 4096)
            .ack(1)
            .write(&mut frame, &[])?,
        (Protocol::Udp, _) => builder
            .udp(0, PORT)
            .write(&mut frame, &[0; GENERATE_FRAME - L4 - 8])?,
    }
    let end = frame.len();
    frame.resize(GENERATE_FRAME, 0);
    for (at, length) in [(IP + 10, 2), (check_offset(protocol), 2)] {
        frame[at..at + length].fill(0);
    }
    let ip_sum = csum::sum(&frame[IP..L4], 0);
    let l4 = &frame[L4..end];
    let mut order = Generate {
        ip_sum,
        l4_sum: csum::sum(l4, pseudo_header(&frame[IP..L4], l4.len())),
        tcp: u32::from(protocol == Protocol::Tcp),
        ..Generate::zeroed()
    };
    for (word, bytes) in order.frame.iter_mut().zip(frame.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into()?);
    }
    Ok(order)
}

fn check_offset(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => L4 + 16,
        Protocol::Udp => L4 + 6,
    }
}

/// Sum of the pseudo-header of a packet with this IPv4 header.
fn pseudo_header(ip: &[u8], l4_length: usize) -> u32 {
    let rest = [0, ip[9], (l4_length >> 8) as u8, l4_length as u8];
    csum::sum(&rest, csum::sum(&ip[12..20], 0))
}

/// Whether a frame that reached server `n` is what the method makes of a client's packet.
pub(crate) fn inspect(
    sample: &[u8; GENERATE_SAMPLE],
    method: Method,
    protocol: Protocol,
    server: Ipv4Addr,
) -> Result<()> {
    let word = |at: usize| -> Result<Ipv4Addr> {
        let bytes = sample.get(at..at + 4).context("short sample")?;
        Ok(Ipv4Addr::from(<[u8; 4]>::try_from(bytes)?))
    };
    ensure!(sample[12..15] == [8, 0, 0x45], "no plain IPv4 packet");
    ensure!(
        csum::sum(&sample[IP..L4], 0) == 0xffff,
        "the IPv4 checksum is wrong"
    );
    let (to, ttl, carried) = (word(IP + 16)?, sample[IP + 8], sample[IP + 9]);
    let number = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    match method {
        Method::None => bail!("nothing should arrive"),
        Method::AsItCame | Method::Dr => ensure!(
            to == VIP && carried == number && ttl == TTL - u8::from(method == Method::Dr),
            "a packet to {to} with {ttl} hops left"
        ),
        Method::Nat => ensure!(
            to == server && carried == number && ttl == TTL - 1,
            "a packet to {to} with {ttl} hops left"
        ),
        Method::Tun => {
            let inner = word(L4 + 16)?;
            ensure!(
                to == server && carried == IPIP && inner == VIP,
                "a packet to {to}, of protocol {carried}, for {inner}"
            );
            return Ok(());
        }
    }
    let length = usize::from(u16::from_be_bytes([sample[IP + 2], sample[IP + 3]])) - 20;
    // What the sample lacks of a datagram is zero.
    let sum = csum::sum(&sample[L4..], pseudo_header(&sample[IP..L4], length));
    ensure!(sum == 0xffff, "the {} checksum is wrong", protocol.name());
    Ok(())
}
