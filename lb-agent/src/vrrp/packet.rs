// SPDX-License-Identifier: MIT OR Apache-2.0
//! Adverts as bytes: versions 2 and 3, over IPv4 and IPv6.
//!
//! In: an [`Advert`], or a [`Datagram`] that a raw socket received. Out: bytes, or an advert, or
//! the one [`Counter`] that says why it is refused. Called by the driver. Invariants: `decode`
//! returns for any bytes; `decode(encode(a)) == a`. Over IPv4 bytes begin with the IP header, over
//! IPv6 with the message. `ip` has what carries an advert, `ah` the authentication header.
//!
//! ```text
//!  0               1               2               3
//! +-------+-------+---------------+---------------+---------------+
//! |version| type 1| VRID          | priority      | address count |
//! +-------+-------+---------------+---------------+---------------+
//! | v2: auth type | v2: seconds   | checksum                      |
//! | v3: 0 | interval, centisecs   |                               |
//! +-------+-----------------------+-------------------------------+
//! | addresses, 4 or 16 bytes each ...                             |
//! +---------------------------------------------------------------+
//! | v2 over IPv4: 8 bytes of authentication data or zeros         |
//! +---------------------------------------------------------------+
//! ```

mod ah;
mod ip;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::counters::Counter;
use crate::config::model::{Auth, Checksum, UnicastPeer, VrrpVersion};
use ah::AH_HEADER;
use ip::{IPV4_HEADER, checksum, ipv4_header, pseudo_header};

pub use ip::{Datagram, Peek};

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// IP protocol number of the authentication header.
pub const PROTOCOL_AH: u8 = 51;
/// RFC 9568 §5.1.1.3: adverts leave with 255 and are refused with less, as proof of being local.
pub const TTL: u8 = 255;
/// KEEPALIVED: type of service of an advert, "internetwork control".
pub const TOS: u8 = 0xc0;
/// Addresses that fit in an advert: the count is a byte.
pub const ADDRESSES_MAX: usize = 255;
/// Room for any datagram this protocol can send: IP header with options, authentication header,
/// 255 addresses, auth data.
pub const DATAGRAM_MAX: usize = 60 + AH_HEADER + VRRP_HEADER + 16 * ADDRESSES_MAX + AUTH_DATA;
/// KEEPALIVED: the group whose address old versions summed up instead of the peer's.
const OLD_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

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
    pub src: IpAddr,
    /// Destination: the group or one unicast peer, of the source's family.
    pub dst: IpAddr,
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
    /// Addresses in their order on the wire; those of another family are left out.
    pub addresses: Vec<IpAddr>,
}

/// How an advert is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// TTL of an IPv4 header.
    pub ttl: u8,
    /// Checksum of version 3 over IPv4.
    pub checksum: Checksum,
    /// Sequence number of the authentication header.
    pub sequence: u32,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            ttl: TTL,
            checksum: Checksum::PseudoHeader,
            sequence: 0,
        }
    }
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
    /// Unicast peers configured; none for multicast.
    pub peers: &'a [UnicastPeer],
    /// Refuse unicast adverts of others than the peers.
    pub check_src: bool,
    /// Our own source address, if we have one.
    pub own: Option<IpAddr>,
    /// Addresses configured, in any order; none to leave them alone.
    pub addresses: Option<&'a [IpAddr]>,
}

/// An accepted advert and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The advert.
    pub advert: Advert,
    /// How its checksum was made ([`Counter::ChkMessageOnly`], [`Counter::ChkOldUnicast`]).
    pub checksum: Checksum,
    /// Its addresses differ from ours ([`Counter::AddrListErr`]).
    pub addresses_differ: bool,
    /// Sequence number of its authentication header.
    pub sequence: Option<u32>,
}

/// The bytes of `advert`: over IPv4 with the header, over IPv6 without.
///
/// The identification is 0, which makes the kernel choose one, but for the authentication header,
/// which covers it. An interval outside the field's range is clamped, and addresses beyond
/// [`ADDRESSES_MAX`] are left out: the configuration has refused both before.
///
/// KEEPALIVED: the version 3 checksum covers the IPv4 pseudo-header, against RFC 9568 §5.2.8,
/// because keepalived refuses the other form. Version 2 over IPv6, which no RFC knows, has no
/// authentication data, and its checksum covers the pseudo-header.
pub fn encode(advert: &Advert, style: &Style) -> Vec<u8> {
    let message = message(advert, style);
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (advert.src, advert.dst) else {
        return message;
    };
    let ends = (src, dst);
    let mut datagram = Vec::with_capacity(IPV4_HEADER + AH_HEADER + message.len());
    if let Auth::Ah(key) = &advert.auth {
        // Neither 0: the kernel would choose one.
        let identification = style.sequence as u16 | 1;
        let payload = AH_HEADER + message.len();
        let header = ipv4_header(ends, PROTOCOL_AH, style.ttl, identification, payload);
        datagram.extend(header);
        datagram.extend(ah::header(key, &header, style.sequence, &message));
    } else {
        let header = ipv4_header(ends, PROTOCOL, style.ttl, 0, message.len());
        datagram.extend(header);
    }
    datagram.extend(message);
    datagram
}

fn message(advert: &Advert, style: &Style) -> Vec<u8> {
    let v6 = advert.src.is_ipv6();
    let addresses = || {
        let of_family = advert.addresses.iter().filter(|a| a.is_ipv6() == v6);
        of_family.take(ADDRESSES_MAX)
    };
    let mut message = Vec::with_capacity(DATAGRAM_MAX);
    let count = addresses().count() as u8;
    let [b4, b5] = match advert.version {
        VrrpVersion::V2 => [auth_type(&advert.auth), seconds(advert.interval)],
        VrrpVersion::V3 => centiseconds(advert.interval).to_be_bytes(),
    };
    let kind = number(advert.version) << 4 | TYPE_ADVERTISEMENT;
    message.extend([kind, advert.vrid, advert.priority, count, b4, b5, 0, 0]);
    for address in addresses() {
        match address {
            IpAddr::V4(address) => message.extend(address.octets()),
            IpAddr::V6(address) => message.extend(address.octets()),
        }
    }
    if trailer(advert.version, v6) > 0 {
        message.extend(auth_data(&advert.auth));
    }
    let pseudo = match (advert.version, v6, style.checksum) {
        (_, true, _) | (VrrpVersion::V3, _, Checksum::PseudoHeader) => {
            pseudo_header(advert.src, advert.dst, &message)
        }
        (VrrpVersion::V3, _, Checksum::OldUnicast) => {
            pseudo_header(advert.src, OLD_GROUP.into(), &message)
        }
        _ => Vec::new(),
    };
    let check = checksum(&[&pseudo, &message]);
    if let Some(field) = message.get_mut(6..8) {
        field.copy_from_slice(&check.to_be_bytes());
    }
    message
}

/// Judges a datagram.
///
/// RFC 9568 §7.1, RFC 3768 §7.1. KEEPALIVED: checks come in its order, so that the counter that
/// moves is the one an operator knows. A differing address list is noted and does not refuse the
/// advert.
pub fn decode(datagram: &Datagram<'_>, accept: &Accept<'_>) -> Result<Received, Counter> {
    let (message, v6) = (datagram.message, datagram.src.is_ipv6());
    let &[kind, vrid, priority, count, b4, b5, _, _, ref body @ ..] = message else {
        return Err(Counter::PacketLenErr);
    };
    check_ttl(datagram, accept)?;
    let version = accept.version;
    if kind >> 4 != number(version) {
        return Err(Counter::VersErr);
    }
    if vrid != accept.vrid {
        return Err(Counter::VridErr);
    }
    let width = if v6 { 16 } else { 4 };
    let (list, rest) = body
        .split_at_checked(width * usize::from(count))
        .ok_or(Counter::PacketLenErr)?;
    let (auth, sequence, interval) = match version {
        VrrpVersion::V2 => {
            let (auth, sequence) = check_auth(b4, rest, datagram, accept.auth)?;
            (auth, sequence, check_seconds(b5, accept.interval)?)
        }
        VrrpVersion::V3 => {
            let centis = u64::from(u16::from_be_bytes([b4, b5])) & CENTISECONDS_MAX;
            let interval = Duration::from_millis(centis * CENTISECOND_MS);
            (Auth::None, None, interval)
        }
    };
    if kind & 0xf != TYPE_ADVERTISEMENT {
        return Err(Counter::InvalidTypeRcvd);
    }
    if rest.len() != trailer(version, v6) {
        return Err(Counter::PacketLenErr);
    }
    let checksum = check_sum(version, datagram)?;
    let unicast = !accept.peers.is_empty();
    if datagram.dst.is_multicast() == unicast {
        return Err(Counter::DeliveryErr);
    }
    if accept.own == Some(datagram.src) {
        return Err(Counter::OwnAddrErr);
    }
    if unicast && accept.check_src && peer(datagram, accept).is_none() {
        return Err(Counter::UnicastSrcErr);
    }
    let addresses = addresses(list, v6);
    let differ = |configured: &[IpAddr]| !same_set(&addresses, configured, v6);
    Ok(Received {
        checksum,
        sequence,
        addresses_differ: accept.addresses.is_some_and(differ),
        advert: Advert {
            src: datagram.src,
            dst: datagram.dst,
            version,
            vrid,
            priority,
            interval,
            auth,
            addresses,
        },
    })
}

/// The configured peer that sent it.
fn peer<'a>(datagram: &Datagram<'_>, accept: &Accept<'a>) -> Option<&'a UnicastPeer> {
    accept.peers.iter().find(|peer| peer.addr == datagram.src)
}

/// KEEPALIVED: a unicast advert may have been forwarded; only a peer's `min_ttl` and `max_ttl` say
/// how often.
fn check_ttl(datagram: &Datagram<'_>, accept: &Accept<'_>) -> Result<(), Counter> {
    let good = if accept.peers.is_empty() {
        datagram.ttl == TTL
    } else {
        peer(datagram, accept).is_none_or(|peer| peer.ttl.contains(&datagram.ttl))
    };
    if good { Ok(()) } else { Err(Counter::IpTtlErr) }
}

/// What was proved, and the sequence number that came with it.
fn check_auth(
    kind: u8,
    data: &[u8],
    datagram: &Datagram<'_>,
    expected: &Auth,
) -> Result<(Auth, Option<u32>), Counter> {
    if !matches!(kind, AUTH_NONE | AUTH_PASS | AUTH_AH) {
        return Err(Counter::InvalidAuthtype);
    }
    if kind != auth_type(expected) {
        return Err(Counter::AuthtypeMismatch);
    }
    match expected {
        Auth::Pass(password) if datagram.src.is_ipv4() => {
            let data = data.get(..AUTH_DATA).ok_or(Counter::PacketLenErr)?;
            if data != password {
                return Err(Counter::AuthFailure);
            }
        }
        Auth::Ah(key) => {
            let ah = datagram.ah.ok_or(Counter::AuthtypeMismatch)?;
            let sequence = ah::check(key, datagram.header, ah, datagram.message);
            let sequence = sequence.ok_or(Counter::AuthFailure)?;
            return Ok((expected.clone(), Some(sequence)));
        }
        Auth::None | Auth::Pass(_) => {}
    }
    Ok((expected.clone(), None))
}

fn check_seconds(field: u8, expected: Duration) -> Result<Duration, Counter> {
    if field == seconds(expected) {
        Ok(Duration::from_secs(field.into()))
    } else {
        Err(Counter::AdvertIntervalErr)
    }
}

/// How the checksum was made, if it is right.
fn check_sum(version: VrrpVersion, datagram: &Datagram<'_>) -> Result<Checksum, Counter> {
    let message = datagram.message;
    let with = |dst| checksum(&[&pseudo_header(datagram.src, dst, message), message]) == 0;
    let v6 = datagram.src.is_ipv6();
    if version == VrrpVersion::V2 && !v6 {
        let right = checksum(&[message]) == 0;
        return right
            .then_some(Checksum::MessageOnly)
            .ok_or(Counter::ChkErr);
    }
    if with(datagram.dst) {
        Ok(Checksum::PseudoHeader)
    } else if v6 {
        Err(Counter::ChkErr)
    } else if checksum(&[message]) == 0 {
        Ok(Checksum::MessageOnly)
    } else if !datagram.dst.is_multicast() && with(OLD_GROUP.into()) {
        Ok(Checksum::OldUnicast)
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

/// Bytes of authentication data behind the addresses.
fn trailer(version: VrrpVersion, v6: bool) -> usize {
    match (version, v6) {
        (VrrpVersion::V2, false) => AUTH_DATA,
        _ => 0,
    }
}

fn auth_type(auth: &Auth) -> u8 {
    match auth {
        Auth::None => AUTH_NONE,
        Auth::Pass(_) => AUTH_PASS,
        Auth::Ah(_) => AUTH_AH,
    }
}

fn auth_data(auth: &Auth) -> [u8; AUTH_DATA] {
    match auth {
        Auth::None | Auth::Ah(_) => [0; AUTH_DATA],
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

fn addresses(list: &[u8], v6: bool) -> Vec<IpAddr> {
    if v6 {
        let (list, _) = list.as_chunks::<16>();
        list.iter()
            .map(|octets| Ipv6Addr::from(*octets).into())
            .collect()
    } else {
        let (list, _) = list.as_chunks::<4>();
        list.iter()
            .map(|octets| Ipv4Addr::from(*octets).into())
            .collect()
    }
}

/// Same addresses in any order: routers may list them differently.
fn same_set(heard: &[IpAddr], configured: &[IpAddr], v6: bool) -> bool {
    let configured: Vec<IpAddr> = configured
        .iter()
        .filter(|address| address.is_ipv6() == v6)
        .copied()
        .collect();
    let sorted = |list: &[IpAddr]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    heard == configured || heard.len() == configured.len() && sorted(heard) == sorted(&configured)
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
