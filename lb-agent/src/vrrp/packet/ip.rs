// SPDX-License-Identifier: MIT OR Apache-2.0
//! What carries an advert: IPv4 and IPv6 as far as VRRP looks at them, and checksums.
//!
//! In: what a raw socket received (over IPv4 with its header, over IPv6 without). Out: a
//! [`Datagram`]. Invariant: `v4` returns for any bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::csum;

use super::{PROTOCOL, PROTOCOL_AH, TOS, ah};

/// Length of an IPv4 header without options.
pub(super) const IPV4_HEADER: usize = 20;

/// A received message with what the network layer says of it.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// IPv4 header with options; empty over IPv6.
    pub(super) header: &'a [u8],
    /// Authentication header.
    pub(super) ah: Option<&'a [u8]>,
    /// The VRRP message.
    pub(super) message: &'a [u8],
}

/// Source and virtual router id of a datagram, enough to find its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// Source address.
    pub src: IpAddr,
    /// Virtual router id.
    pub vrid: u8,
    /// Priority; 0 when the datagram ends before it.
    pub priority: u8,
}

impl<'a> Datagram<'a> {
    /// A whole IPv4 datagram. Bytes after its total length (Ethernet padding) are ignored.
    pub fn v4(bytes: &'a [u8]) -> Option<Self> {
        let &[first, _, len0, len1, _, _, _, _, ttl, protocol, ..] = bytes else {
            return None;
        };
        let header_len = usize::from(first & 0xf) * 4;
        let total_len = usize::from(u16::from_be_bytes([len0, len1]));
        if first >> 4 != 4 || header_len < IPV4_HEADER {
            return None;
        }
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        };
        let payload = bytes.get(header_len..total_len)?;
        let (ah, message) = if protocol == PROTOCOL_AH {
            let (ah, message) = ah::split(payload)?;
            (Some(ah), message)
        } else {
            (None, payload)
        };
        Some(Self {
            src: address(12)?,
            dst: address(16)?,
            ttl,
            header: bytes.get(..header_len)?,
            ah,
            message,
        })
    }

    /// A message that came over IPv6.
    pub fn v6(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, message: &'a [u8]) -> Self {
        Self {
            src: src.into(),
            dst: dst.into(),
            ttl: hop_limit,
            header: &[],
            ah: None,
            message,
        }
    }

    /// Who sent it and to which virtual router, without judging the rest.
    pub fn peek(&self) -> Option<Peek> {
        Some(Peek {
            src: self.src,
            vrid: *self.message.get(1)?,
            priority: self.message.get(2).copied().unwrap_or_default(),
        })
    }
}

/// An IPv4 header for `payload` bytes of `protocol`. With an identification of 0 the kernel
/// chooses one.
pub(super) fn ipv4_header(
    (src, dst): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    ttl: u8,
    identification: u16,
    payload: usize,
) -> [u8; IPV4_HEADER] {
    let [len0, len1] = ((IPV4_HEADER + payload) as u16).to_be_bytes();
    let [id0, id1] = identification.to_be_bytes();
    let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.octets(), dst.octets());
    let with = |[c0, c1]: [u8; 2]| {
        [
            0x45, TOS, len0, len1, id0, id1, 0, 0, ttl, protocol, c0, c1, //
            s0, s1, s2, s3, d0, d1, d2, d3,
        ]
    };
    with(checksum(&[&with([0, 0])]).to_be_bytes())
}

/// RFC 9568 §5.2.8, RFC 8200 §8.1: source, destination, length, protocol. The sum does not care
/// for the order and width of the last two.
pub(super) fn pseudo_header(src: IpAddr, dst: IpAddr, message: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(40);
    for address in [src, dst] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    let [len0, len1] = (message.len() as u16).to_be_bytes();
    header.extend([0, PROTOCOL, len0, len1]);
    header
}

/// RFC 1071 over `parts`, each of even length except the last; zero when a checksum is right.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().fold(0, |sum, part| csum::sum(part, sum));
    u16::from_be(csum::finish(sum))
}
