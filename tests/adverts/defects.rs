// SPDX-License-Identifier: MIT OR Apache-2.0
//! Adverts with exactly one defect, and the counter that it must move.
//!
//! In: a random generator. Out: a datagram with its IP header, and what counts it. The expected
//! name follows from how the datagram was made, not from the decoder: it is the judge of that.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fastrand::Rng;
use lb_agent::config::model::{Auth, VrrpVersion};
use lb_agent::vrrp::counters::Counter;
use lb_agent::vrrp::packet::{Advert, Style, encode};

/// Address of the director under fire.
pub(crate) const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Its unicast peer, and the MASTER where it is BACKUP.
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const HEADER: usize = 20;
const PASSWORD: [u8; 8] = *b"secret\0\0";

/// Virtual router ids of the instances, and one that nobody has.
pub(crate) const V3: u8 = 51;
/// Version 2 with a password.
pub(crate) const V2: u8 = 52;
/// Version 3, unicast.
pub(crate) const UNICAST: u8 = 53;
/// Version 2 with an authentication header.
pub(crate) const AH: u8 = 54;
const NOBODY: u8 = 77;

/// What a datagram does to the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Counted once, by the instance with this virtual router id.
    One(u8, Counter),
    /// Too short to name a virtual router: counted by every instance with a socket of its kind.
    Everybody(Counter),
    /// For a virtual router that is not here.
    Nobody,
}

/// A datagram and what must become of it.
#[derive(Debug)]
pub(crate) struct Case {
    /// With IP header.
    pub(crate) bytes: Vec<u8>,
    /// What counts it.
    pub(crate) effect: Effect,
}

/// An advert without a defect.
fn good(vrid: u8, rng: &mut Rng) -> Advert {
    let (version, auth) = match vrid {
        V2 => (VrrpVersion::V2, Auth::Pass(PASSWORD)),
        AH => (VrrpVersion::V2, Auth::Ah(PASSWORD)),
        _ => (VrrpVersion::V3, Auth::None),
    };
    let dst = if vrid == UNICAST { TARGET } else { GROUP };
    Advert {
        src: stranger(rng).into(),
        dst: dst.into(),
        version,
        vrid,
        priority: rng.u8(..),
        interval: Duration::from_secs(1),
        auth,
        addresses: vec![vip(vrid)],
    }
}

/// The virtual address of an instance.
pub(crate) fn vip(vrid: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 149 + vrid).into()
}

fn stranger(rng: &mut Rng) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, rng.u8(10..100))
}

/// Any byte but this one.
fn other(rng: &mut Rng, not: u8) -> u8 {
    not.wrapping_add(rng.u8(1..))
}

/// Writes a right checksum into a version 3 message after it was changed.
fn refresh(bytes: &mut [u8]) {
    bytes[HEADER + 6..HEADER + 8].fill(0);
    let length = u16::try_from(bytes.len() - HEADER).unwrap_or(u16::MAX);
    let pseudo = [[0, 112], length.to_be_bytes()].concat();
    let words = [&bytes[12..20], &pseudo, &bytes[HEADER..]].concat();
    let mut sum: u32 = words
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let check = !u16::try_from(sum).unwrap_or_default();
    bytes[HEADER + 6..HEADER + 8].copy_from_slice(&check.to_be_bytes());
}

/// Any of the defects that an instance can name, or bytes without sense.
pub(crate) fn any(rng: &mut Rng) -> Case {
    match rng.u8(..20) {
        0..8 => version_3(rng),
        8..13 => version_2(rng),
        13..16 => unicast(rng),
        16 | 17 => truncated(rng),
        _ => noise(rng),
    }
}

fn version_3(rng: &mut Rng) -> Case {
    let mut advert = good(V3, rng);
    let vrid = if rng.u8(..8) == 0 { NOBODY } else { V3 };
    advert.vrid = vrid;
    let defect = rng.u8(..6);
    match defect {
        0 => advert.dst = TARGET.into(),
        // Good for everybody else, so it must not be one to believe.
        1 => (advert.src, advert.priority) = (TARGET.into(), 1),
        _ => {}
    }
    let mut bytes = encode(&advert, &Style::default());
    let counter = match defect {
        0 => Counter::DeliveryErr,
        1 => Counter::OwnAddrErr,
        2 => {
            bytes[8] = rng.u8(1..255);
            Counter::IpTtlErr
        }
        3 => {
            let version = (3 + rng.u8(1..16)) % 16;
            bytes[HEADER] = version << 4 | rng.u8(..16);
            refresh(&mut bytes);
            Counter::VersErr
        }
        4 => {
            bytes[HEADER] = 0x30 | ((1 + rng.u8(1..16)) % 16);
            refresh(&mut bytes);
            Counter::InvalidTypeRcvd
        }
        _ => {
            bytes[HEADER + 2] ^= 1 << rng.u8(..8);
            Counter::ChkErr
        }
    };
    Case {
        bytes,
        effect: if vrid == NOBODY {
            Effect::Nobody
        } else {
            Effect::One(V3, counter)
        },
    }
}

fn version_2(rng: &mut Rng) -> Case {
    let advert = good(V2, rng);
    let mut bytes = encode(&advert, &Style::default());
    let counter = match rng.u8(..6) {
        0 => {
            bytes[HEADER + 4] = rng.u8(3..);
            Counter::InvalidAuthtype
        }
        1 => {
            bytes[HEADER + 4] = if rng.bool() { 0 } else { 2 };
            Counter::AuthtypeMismatch
        }
        2 => {
            let at = bytes.len() - 1 - rng.usize(..8);
            bytes[at] = other(rng, bytes[at]);
            Counter::AuthFailure
        }
        3 => {
            bytes[HEADER + 5] = other(rng, 1);
            Counter::AdvertIntervalErr
        }
        4 => {
            bytes[HEADER + 2] ^= 1 << rng.u8(..8);
            Counter::ChkErr
        }
        _ => {
            bytes[8] = rng.u8(1..255);
            Counter::IpTtlErr
        }
    };
    Case {
        bytes,
        effect: Effect::One(V2, counter),
    }
}

fn unicast(rng: &mut Rng) -> Case {
    let mut advert = good(UNICAST, rng);
    let counter = if rng.bool() {
        Counter::UnicastSrcErr
    } else {
        advert.dst = GROUP.into();
        Counter::DeliveryErr
    };
    Case {
        bytes: encode(&advert, &Style::default()),
        effect: Effect::One(UNICAST, counter),
    }
}

/// Ends too early, or goes on after its end.
fn truncated(rng: &mut Rng) -> Case {
    let mut bytes = encode(&good(V3, rng), &Style::default());
    if rng.bool() {
        bytes.extend((0..rng.usize(1..900)).map(|_| rng.u8(..)));
        refresh(&mut bytes);
    } else {
        bytes.truncate(HEADER + rng.usize(..12));
    }
    let effect = if bytes.len() < HEADER + 2 {
        Effect::Everybody(Counter::PacketLenErr)
    } else {
        Effect::One(V3, Counter::PacketLenErr)
    };
    Case { bytes, effect }
}

/// Bytes without sense behind a header: no version 3 message has their first byte.
fn noise(rng: &mut Rng) -> Case {
    let mut bytes = encode(&good(V3, rng), &Style::default());
    bytes.truncate(HEADER);
    let length = rng.usize(8..600);
    bytes.extend((0..length).map(|_| rng.u8(..)));
    bytes[HEADER] &= 0xcf;
    let effect = if rng.bool() {
        bytes[HEADER + 1] = V3;
        Effect::One(V3, Counter::VersErr)
    } else {
        bytes[HEADER + 1] = NOBODY;
        Effect::Nobody
    };
    Case { bytes, effect }
}

/// An advert with an authentication header whose number is `sequence`: good and of the lowest
/// priority, then the same once more, then one with a broken digest.
pub(crate) fn replayed(sequence: u32, rng: &mut Rng) -> [Case; 3] {
    let mut advert = good(AH, rng);
    advert.src = PEER.into();
    advert.priority = 1;
    let style = Style {
        sequence,
        ..Style::default()
    };
    let bytes = encode(&advert, &style);
    let mut broken = bytes.clone();
    let digest = HEADER + 12 + rng.usize(..12);
    broken[digest] = other(rng, broken[digest]);
    let case = |bytes, counter| Case {
        bytes,
        effect: Effect::One(AH, counter),
    };
    [
        case(bytes.clone(), Counter::AdvertRcvd),
        case(bytes, Counter::AuthReplay),
        case(broken, Counter::AuthFailure),
    ]
}
