// SPDX-License-Identifier: MIT OR Apache-2.0
//! Adverts as bytes: whole IPv4 datagrams of protocol 112, versions 2 and 3.
//!
//! In: an [`Advert`], or what a raw socket received. Out: bytes, or an advert, or the one
//! [`Counter`] that says why it is refused. Called by the driver. Invariants: `decode` returns for
//! any bytes; `decode(encode(a)) == a`.
//!
//! ```text
//!  0               1               2               3
//! +-------+-------+---------------+---------------+---------------+
//! |version| type 1| VRID          | priority      | address count |
//! +-------+-------+---------------+---------------+---------------+
//! | v2: auth type | v2: seconds   | checksum                      |
//! | v3: 0 | interval, centisecs   |                               |
//! +-------+-----------------------+-------------------------------+
//! | addresses, 4 bytes each ...                                   |
//! +---------------------------------------------------------------+
//! | v2 only: 8 bytes of authentication data, zeros without it     |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use lb_common::csum;

use super::counters::Counter;
use crate::config::model::{Auth, VrrpVersion};

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// RFC 9568 §5.1.1.3: adverts leave with 255 and are refused with less, as proof of being local.
pub const TTL: u8 = 255;
/// KEEPALIVED: type of service of an advert, "internetwork control".
pub const TOS: u8 = 0xc0;
/// Addresses that fit in an advert: the count is a byte.
pub const ADDRESSES_MAX: usize = 255;
/// Room for any datagram this protocol can send: IP header with options, 255 addresses, auth data.
pub const DATAGRAM_MAX: usize = 60 + VRRP_HEADER + 4 * ADDRESSES_MAX + AUTH_DATA;

const IP_HEADER: usize = 20;
const VRRP_HEADER: usize = 8;
const AUTH_DATA: usize = 8;
const TYPE_ADVERTISEMENT: u8 = 1;
const AUTH_NONE: u8 = 0;
const AUTH_PASS: u8 = 1;
const AUTH_AH: u8 = 2;
const CENTISECOND_MS: u64 = 10;
/// The field has 12 bits (RFC 9568 §5.2.7).
const CENTISECONDS_MAX: u64 = 0xfff;

/// An advert with the addresses of the IP header that carried it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Source address: the sender's identity, and the tie breaker.
    pub src: Ipv4Addr,
    /// Destination: the group or one unicast peer.
    pub dst: Ipv4Addr,
    /// Version.
    pub version: VrrpVersion,
    /// Virtual router id.
    pub vrid: u8,
    /// Priority; 0 gives the role up.
    pub priority: u8,
    /// Advert interval: whole seconds in version 2, centiseconds in version 3.
    pub interval: Duration,
    /// Authentication, version 2 only.
    pub auth: Auth,
    /// Addresses in their order on the wire.
    pub addresses: Vec<Ipv4Addr>,
}

/// What one instance accepts.
#[derive(Clone, Copy, Debug)]
pub struct Accept<'a> {
    /// Version configured.
    pub version: VrrpVersion,
    /// Virtual router id configured.
    pub vrid: u8,
    /// Authentication configured.
    pub auth: &'a Auth,
    /// Interval configured; version 2 refuses any other.
    pub interval: Duration,
    /// Unicast peers are configured.
    pub unicast: bool,
    /// Our own source address, if we have one.
    pub own: Option<Ipv4Addr>,
    /// Addresses configured, in any order.
    pub addresses: &'a [Ipv4Addr],
}

/// An accepted advert and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The advert.
    pub advert: Advert,
    /// Version 3 with a checksum over the message alone ([`Counter::ChkMessageOnly`]).
    pub message_only_checksum: bool,
    /// Its addresses differ from ours ([`Counter::AddrListErr`]).
    pub addresses_differ: bool,
}

/// Source and virtual router id of a datagram, enough to find its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// Source address.
    pub src: Ipv4Addr,
    /// Virtual router id.
    pub vrid: u8,
    /// Priority; 0 when the datagram ends before it.
    pub priority: u8,
}

/// The whole datagram of `advert`, header checksum included.
///
/// The identification is 0, which makes the kernel choose one. An interval outside the field's
/// range is clamped, and addresses beyond [`ADDRESSES_MAX`] are left out: the configuration has
/// refused both before.
///
/// KEEPALIVED: the version 3 checksum covers the IPv4 pseudo-header, against RFC 9568 §5.2.8,
/// because keepalived refuses the other form.
pub fn encode(advert: &Advert) -> Vec<u8> {
    let mut message = Vec::with_capacity(DATAGRAM_MAX);
    let count = advert.addresses.len().min(ADDRESSES_MAX) as u8;
    let [b4, b5] = match advert.version {
        VrrpVersion::V2 => [auth_type(&advert.auth), seconds(advert.interval)],
        VrrpVersion::V3 => centiseconds(advert.interval).to_be_bytes(),
    };
    let kind = number(advert.version) << 4 | TYPE_ADVERTISEMENT;
    message.extend([kind, advert.vrid, advert.priority, count, b4, b5, 0, 0]);
    for address in advert.addresses.iter().take(ADDRESSES_MAX) {
        message.extend(address.octets());
    }
    if advert.version == VrrpVersion::V2 {
        message.extend(auth_data(&advert.auth));
    }
    let check = match advert.version {
        VrrpVersion::V2 => checksum(&[&message]),
        VrrpVersion::V3 => checksum(&[&pseudo_header(advert.src, advert.dst, &message), &message]),
    };
    if let Some(field) = message.get_mut(6..8) {
        field.copy_from_slice(&check.to_be_bytes());
    }
    let mut datagram = ip_header(advert.src, advert.dst, message.len()).to_vec();
    datagram.append(&mut message);
    datagram
}

/// Who sent `datagram` and to which virtual router, without judging the rest.
pub fn peek(datagram: &[u8]) -> Option<Peek> {
    let (header, message) = split(datagram)?;
    Some(Peek {
        src: header.src,
        vrid: *message.get(1)?,
        priority: message.get(2).copied().unwrap_or_default(),
    })
}

/// Reads a whole datagram of protocol 112 as a raw socket delivers it, and judges it.
///
/// RFC 9568 §7.1, RFC 3768 §7.1. KEEPALIVED: checks come in its order, so that the counter that
/// moves is the one an operator knows. Bytes after the IP total length (Ethernet padding) are
/// ignored. A differing address list is noted and does not refuse the advert.
pub fn decode(datagram: &[u8], accept: &Accept<'_>) -> Result<Received, Counter> {
    let (ip, message) = split(datagram).ok_or(Counter::PacketLenErr)?;
    let &[kind, vrid, priority, count, b4, b5, _, _, ref body @ ..] = message else {
        return Err(Counter::PacketLenErr);
    };
    if ip.ttl != TTL {
        return Err(Counter::IpTtlErr);
    }
    let version = accept.version;
    if kind >> 4 != number(version) {
        return Err(Counter::VersErr);
    }
    if vrid != accept.vrid {
        return Err(Counter::VridErr);
    }
    let (list, rest) = body
        .split_at_checked(4 * usize::from(count))
        .ok_or(Counter::PacketLenErr)?;
    let (auth, interval) = match version {
        VrrpVersion::V2 => (
            check_auth(b4, rest, accept.auth)?,
            check_seconds(b5, accept.interval)?,
        ),
        VrrpVersion::V3 => {
            let centis = u64::from(u16::from_be_bytes([b4, b5])) & CENTISECONDS_MAX;
            (Auth::None, Duration::from_millis(centis * CENTISECOND_MS))
        }
    };
    if kind & 0xf != TYPE_ADVERTISEMENT {
        return Err(Counter::InvalidTypeRcvd);
    }
    let trailer = if version == VrrpVersion::V2 {
        AUTH_DATA
    } else {
        0
    };
    if rest.len() != trailer {
        return Err(Counter::PacketLenErr);
    }
    let message_only_checksum = check_sum(version, &ip, message)?;
    if ip.dst.is_multicast() == accept.unicast {
        return Err(Counter::DeliveryErr);
    }
    if accept.own == Some(ip.src) {
        return Err(Counter::OwnAddrErr);
    }
    let (list, _) = list.as_chunks::<4>();
    let addresses: Vec<Ipv4Addr> = list.iter().map(|octets| (*octets).into()).collect();
    Ok(Received {
        message_only_checksum,
        addresses_differ: !same_set(&addresses, accept.addresses),
        advert: Advert {
            src: ip.src,
            dst: ip.dst,
            version,
            vrid,
            priority,
            interval,
            auth,
            addresses,
        },
    })
}

struct IpHeader {
    ttl: u8,
    src: Ipv4Addr,
    dst: Ipv4Addr,
}

/// Splits the IP header (of any length) from the payload that its total length announces.
fn split(datagram: &[u8]) -> Option<(IpHeader, &[u8])> {
    let &[first, _, len0, len1, _, _, _, _, ttl, ..] = datagram else {
        return None;
    };
    let header_len = usize::from(first & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes([len0, len1]));
    if first >> 4 != 4 || header_len < IP_HEADER {
        return None;
    }
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = datagram.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    };
    let header = IpHeader {
        ttl,
        src: address(12)?,
        dst: address(16)?,
    };
    Some((header, datagram.get(header_len..total_len)?))
}

fn check_auth(kind: u8, data: &[u8], expected: &Auth) -> Result<Auth, Counter> {
    if !matches!(kind, AUTH_NONE | AUTH_PASS | AUTH_AH) {
        return Err(Counter::InvalidAuthtype);
    }
    if kind != auth_type(expected) {
        return Err(Counter::AuthtypeMismatch);
    }
    if let Auth::Pass(password) = expected {
        let data = data.get(..AUTH_DATA).ok_or(Counter::PacketLenErr)?;
        if data != password {
            return Err(Counter::AuthFailure);
        }
    }
    Ok(expected.clone())
}

fn check_seconds(field: u8, expected: Duration) -> Result<Duration, Counter> {
    if field == seconds(expected) {
        Ok(Duration::from_secs(field.into()))
    } else {
        Err(Counter::AdvertIntervalErr)
    }
}

/// Whether the checksum is right, and then whether it is the form without the pseudo-header.
fn check_sum(version: VrrpVersion, ip: &IpHeader, message: &[u8]) -> Result<bool, Counter> {
    let message_only = checksum(&[message]) == 0;
    let right = match version {
        VrrpVersion::V2 => message_only,
        VrrpVersion::V3 => {
            let pseudo = pseudo_header(ip.src, ip.dst, message);
            if checksum(&[&pseudo, message]) == 0 {
                return Ok(false);
            }
            message_only
        }
    };
    if right {
        Ok(version == VrrpVersion::V3)
    } else {
        Err(Counter::ChkErr)
    }
}

fn number(version: VrrpVersion) -> u8 {
    match version {
        VrrpVersion::V2 => 2,
        VrrpVersion::V3 => 3,
    }
}

fn auth_type(auth: &Auth) -> u8 {
    match auth {
        Auth::None => AUTH_NONE,
        Auth::Pass(_) => AUTH_PASS,
    }
}

fn auth_data(auth: &Auth) -> [u8; AUTH_DATA] {
    match auth {
        Auth::None => [0; AUTH_DATA],
        Auth::Pass(password) => *password,
    }
}

fn seconds(interval: Duration) -> u8 {
    interval.as_secs().clamp(1, u64::from(u8::MAX)) as u8
}

fn centiseconds(interval: Duration) -> u16 {
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    (millis / CENTISECOND_MS).clamp(1, CENTISECONDS_MAX) as u16
}

fn ip_header(src: Ipv4Addr, dst: Ipv4Addr, payload: usize) -> [u8; IP_HEADER] {
    let [len0, len1] = ((IP_HEADER + payload) as u16).to_be_bytes();
    let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.octets(), dst.octets());
    let with = |[c0, c1]: [u8; 2]| {
        [
            0x45, TOS, len0, len1, 0, 0, 0, 0, TTL, PROTOCOL, c0, c1, //
            s0, s1, s2, s3, d0, d1, d2, d3,
        ]
    };
    with(checksum(&[&with([0, 0])]).to_be_bytes())
}

/// RFC 9568 §5.2.8: source, destination, zero, protocol, length of the message.
fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, message: &[u8]) -> [u8; 12] {
    let [len0, len1] = (message.len() as u16).to_be_bytes();
    let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.octets(), dst.octets());
    [s0, s1, s2, s3, d0, d1, d2, d3, 0, PROTOCOL, len0, len1]
}

/// RFC 1071 over `parts`, each of even length except the last; zero when a checksum is right.
fn checksum(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().fold(0, |sum, part| csum::sum(part, sum));
    u16::from_be(csum::finish(sum))
}

/// Same addresses in any order: routers may list them differently.
fn same_set(heard: &[Ipv4Addr], configured: &[Ipv4Addr]) -> bool {
    if heard == configured {
        return true;
    }
    let sorted = |list: &[Ipv4Addr]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    heard.len() == configured.len() && sorted(heard) == sorted(configured)
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
