// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other forms of an advert: over IPv6, unicast, behind an authentication header.

use super::*;

const V6_GROUP: &str = "ff02::12";
const V6_PEER: &str = "fe80::44ac:7dff:fedd:bd07";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v6(version: VrrpVersion) -> Advert {
    Advert {
        src: ip(V6_PEER),
        dst: ip(V6_GROUP),
        vrid: 5,
        priority: 200,
        addresses: vec![ip("2001:db8::9")],
        ..advert(version, Auth::None)
    }
}

fn over_v6<'a>(advert: &Advert, hop_limit: u8, message: &'a [u8]) -> Datagram<'a> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (advert.src, advert.dst) else {
        panic!("not over IPv6");
    };
    Datagram::v6(src, dst, hop_limit, message)
}

/// Recorded from keepalived 2.2.7.
#[test]
fn golden_v3_over_ipv6_as_keepalived_sends_it() {
    let advert = v6(VrrpVersion::V3);
    #[rustfmt::skip]
    let golden: [u8; 24] = [
        0x31, 0x05, 0xc8, 0x01, 0x00, 0x64, 0x5c, 0x23,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x09,
    ];
    assert_eq!(encode(&advert), golden);
    let received = super::super::decode(&over_v6(&advert, 255, &golden), &accept(&advert));
    assert_eq!(received.unwrap().advert, advert);
}

/// Recorded from keepalived 2.2.7 with `version 2`: no authentication data, and a pseudo-header.
#[test]
fn golden_v2_over_ipv6_as_keepalived_sends_it() {
    let advert = Advert {
        src: ip("fe80::d841:4aff:fef5:6920"),
        auth: PASSWORD,
        ..v6(VrrpVersion::V2)
    };
    #[rustfmt::skip]
    let golden: [u8; 24] = [
        0x21, 0x05, 0xc8, 0x01, 0x01, 0x01, 0x5e, 0xc0,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x09,
    ];
    assert_eq!(encode(&advert), golden);
    let received = super::super::decode(&over_v6(&advert, 255, &golden), &accept(&advert));
    assert_eq!(received.unwrap().advert, advert);
}

#[test]
fn rfc9568_5_1_2_3_over_ipv6_a_hop_limit_below_255_is_refused() {
    let advert = v6(VrrpVersion::V3);
    let message = encode(&advert);
    let judged =
        |hop_limit| super::super::decode(&over_v6(&advert, hop_limit, &message), &accept(&advert));
    assert_eq!(judged(254), Err(Counter::IpTtlErr));
    assert!(judged(255).is_ok());
}

#[test]
fn rfc9568_5_2_8_over_ipv6_the_checksum_covers_the_pseudo_header() {
    let advert = v6(VrrpVersion::V3);
    let mut message = encode(&advert);
    message[6..8].fill(0);
    let check = checksum(&[&message]);
    message[6..8].copy_from_slice(&check.to_be_bytes());
    let judged = super::super::decode(&over_v6(&advert, 255, &message), &accept(&advert));
    assert_eq!(judged, Err(Counter::ChkErr));
}

#[test]
fn only_addresses_of_the_advert_s_family_are_in_it() {
    let mut advert = v6(VrrpVersion::V3);
    advert.addresses.insert(0, VIPS[0]);
    let message = encode(&advert);
    assert_eq!((message[3], message.len()), (1, 24));
    let received = super::super::decode(&over_v6(&advert, 255, &message), &accept(&advert));
    assert!(!received.unwrap().addresses_differ);
}

fn ah() -> Advert {
    Advert {
        vrid: 5,
        priority: 200,
        addresses: vec![ip("192.0.2.9"), ip("192.0.2.10")],
        ..advert(VrrpVersion::V2, Auth::Ah(*b"abcdefgh"))
    }
}

fn with_sequence(sequence: u32) -> Vec<u8> {
    let style = Style {
        sequence,
        ..Style::default()
    };
    super::super::encode(&ah(), &style)
}

/// Recorded from keepalived 2.2.7.
#[test]
fn golden_v2_behind_an_authentication_header_as_keepalived_sends_it() {
    #[rustfmt::skip]
    let golden: [u8; 68] = [
        0x45, 0xc0, 0x00, 0x44, 0x00, 0x01, 0x00, 0x00, 0xff, 0x33, 0x18, 0xb2,
        192, 0, 2, 1, 224, 0, 0, 18,
        0x70, 0x04, 0x00, 0x00, 192, 0, 2, 1, 0x00, 0x00, 0x00, 0x01,
        0x7f, 0xb1, 0xbc, 0x0e, 0xab, 0x6a, 0x8c, 0x4f, 0xdf, 0xc3, 0x5f, 0x84,
        0x21, 0x05, 0xc8, 0x02, 0x02, 0x01, 0x90, 0xe2,
        192, 0, 2, 9, 192, 0, 2, 10,
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(with_sequence(1), golden);
    let received = decode(&golden, &accept(&ah())).unwrap();
    assert_eq!((received.advert, received.sequence), (ah(), Some(1)));
}

/// Recorded from keepalived 2.2.7: to a unicast peer, the TTL is not covered.
#[test]
fn golden_unicast_behind_an_authentication_header_as_keepalived_sends_it() {
    let advert = Advert {
        dst: ip("192.0.2.2"),
        ..ah()
    };
    let style = Style {
        sequence: 1,
        ..Style::default()
    };
    let datagram = super::super::encode(&advert, &style);
    let icv = [
        0xed, 0x9a, 0x17, 0xb0, 0x5b, 0xfe, 0x49, 0xa4, 0x02, 0x7a, 0x10, 0x77,
    ];
    assert_eq!(datagram[32..44], icv);
    let mut far = datagram;
    far[8] = 61;
    let peers = [UnicastPeer::anywhere(PEER)];
    let accept = Accept {
        peers: &peers,
        ..accept(&advert)
    };
    assert_eq!(decode(&far, &accept).unwrap().advert, advert);
}

#[test]
fn whatever_is_changed_behind_an_authentication_header_is_refused() {
    let datagram = with_sequence(7);
    // Type of service, flags, TTL and header checksum change on the way, but for the TTL.
    let free = [1, 6, 7, 10, 11];
    for at in (0..datagram.len()).filter(|at| !free.contains(at)) {
        let mut changed = datagram.clone();
        changed[at] ^= 1;
        assert!(decode(&changed, &accept(&ah())).is_err(), "byte {at}");
    }
    let mut other = ah();
    other.auth = Auth::Ah(*b"abcdefgi");
    assert_eq!(
        decode(&datagram, &accept(&other)),
        Err(Counter::AuthFailure)
    );
    other.auth = Auth::None;
    assert_eq!(
        decode(&datagram, &accept(&other)),
        Err(Counter::AuthtypeMismatch)
    );
    // The right type, but no header.
    let (ah, plain) = (
        ah(),
        Advert {
            auth: Auth::None,
            ..ah()
        },
    );
    let forged = altered(&plain, |d| d[24] = 2);
    assert_eq!(
        decode(&forged, &accept(&ah)),
        Err(Counter::AuthtypeMismatch)
    );
}

fn unicast() -> Advert {
    Advert {
        dst: ip("192.0.2.2"),
        ..v3()
    }
}

#[test]
fn keepalived_a_unicast_advert_may_come_from_afar_unless_the_peer_has_bounds() {
    let advert = unicast();
    let datagram = |ttl: u8| {
        let style = Style {
            ttl,
            ..Style::default()
        };
        super::super::encode(&advert, &style)
    };
    let judged = |ttl: u8, peer: UnicastPeer| {
        let peers = [peer];
        let accept = Accept {
            peers: &peers,
            ..accept(&advert)
        };
        decode(&datagram(ttl), &accept).map(drop)
    };
    let near = UnicastPeer {
        addr: PEER,
        ttl: 250..=254,
    };
    assert_eq!(judged(9, UnicastPeer::anywhere(PEER)), Ok(()));
    assert_eq!(judged(250, near.clone()), Ok(()));
    assert_eq!(judged(249, near.clone()), Err(Counter::IpTtlErr));
    assert_eq!(judged(255, near), Err(Counter::IpTtlErr));
}

#[test]
fn keepalived_check_unicast_src_refuses_others_than_peers() {
    let advert = unicast();
    let judged = |peer: &str, check_src: bool| {
        let peers = [UnicastPeer::anywhere(ip(peer))];
        let accept = Accept {
            peers: &peers,
            check_src,
            ..accept(&advert)
        };
        decode(&encode(&advert), &accept).map(drop)
    };
    assert_eq!(judged("192.0.2.77", false), Ok(()));
    assert_eq!(judged("192.0.2.77", true), Err(Counter::UnicastSrcErr));
    assert_eq!(judged("192.0.2.1", true), Ok(()));
}

#[test]
fn each_form_of_the_v3_checksum_is_sent_as_asked_and_accepted() {
    let peers = [UnicastPeer::anywhere(PEER)];
    let advert = unicast();
    for form in [
        Checksum::PseudoHeader,
        Checksum::MessageOnly,
        Checksum::OldUnicast,
    ] {
        let style = Style {
            checksum: form,
            ..Style::default()
        };
        let datagram = super::super::encode(&advert, &style);
        let accept = Accept {
            peers: &peers,
            ..accept(&advert)
        };
        assert_eq!(decode(&datagram, &accept).unwrap().checksum, form);
    }
}

proptest! {
    #[test]
    fn decode_reverses_encode_over_ipv6(
        src: std::net::Ipv6Addr,
        two: bool,
        addresses in prop::collection::vec(any::<std::net::Ipv6Addr>(), 0..=ADDRESSES_MAX),
    ) {
        let version = if two { VrrpVersion::V2 } else { VrrpVersion::V3 };
        let advert = Advert {
            src: src.into(),
            addresses: addresses.into_iter().map(IpAddr::V6).collect(),
            ..v6(version)
        };
        let message = encode(&advert);
        let datagram = over_v6(&advert, 255, &message);
        let received = super::super::decode(&datagram, &accept(&advert)).unwrap();
        prop_assert_eq!(received.advert, advert);
        prop_assert!(!received.addresses_differ);
    }

    #[test]
    fn any_message_over_ipv6_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for version in [VrrpVersion::V2, VrrpVersion::V3] {
            let advert = v6(version);
            let _ = super::super::decode(&over_v6(&advert, 255, &bytes), &accept(&advert));
        }
    }
}
