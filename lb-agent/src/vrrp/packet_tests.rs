// SPDX-License-Identifier: MIT OR Apache-2.0
//! Golden bytes, one test per rule of RFC 9568 §7.1 / RFC 3768 §7.1, and properties.

use proptest::prelude::*;

use super::*;

#[path = "packet/form_tests.rs"]
mod form_tests;
#[path = "packet/rfc_tests.rs"]
mod rfc_tests;

const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 101)),
];
const PASSWORD: Auth = Auth::Pass(*b"1111\0\0\0\0");

fn advert(version: VrrpVersion, auth: Auth) -> Advert {
    Advert {
        src: PEER,
        dst: GROUP,
        version,
        vrid: 51,
        priority: 100,
        interval: Duration::from_secs(1),
        auth,
        addresses: VIPS.to_vec(),
    }
}

fn v2() -> Advert {
    advert(VrrpVersion::V2, PASSWORD)
}

fn v3() -> Advert {
    advert(VrrpVersion::V3, Auth::None)
}

fn accept(advert: &Advert) -> Accept<'_> {
    Accept {
        version: advert.version,
        vrid: advert.vrid,
        auth: &advert.auth,
        interval: advert.interval,
        peers: &[],
        check_src: false,
        own: None,
        addresses: Some(&advert.addresses),
    }
}

/// As the driver does it.
fn decode(bytes: &[u8], accept: &Accept<'_>) -> Result<Received, Counter> {
    let datagram = Datagram::v4(bytes).ok_or(Counter::PacketLenErr)?;
    super::decode(&datagram, accept)
}

fn encode(advert: &Advert) -> Vec<u8> {
    super::encode(advert, &Style::default())
}

/// The datagram of `advert` after `change`, with the VRRP checksum made right again.
fn altered(advert: &Advert, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut datagram = encode(advert);
    change(&mut datagram);
    datagram[26..28].fill(0);
    let message = &datagram[20..];
    let check = match advert.version {
        VrrpVersion::V2 => checksum(&[message]),
        VrrpVersion::V3 => checksum(&[&pseudo_header(advert.src, advert.dst, message), message]),
    };
    datagram[26..28].copy_from_slice(&check.to_be_bytes());
    datagram
}

/// Bytes recorded from keepalived 2.2.7 with the same configuration, but for the IP
/// identification (and so the header checksum), which the kernel fills in for us.
#[test]
fn golden_v2_with_password_as_keepalived_sends_it() {
    #[rustfmt::skip]
    let golden: [u8; 44] = [
        0x45, 0xc0, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x00, 0xff, 0x70, 0x18, 0x8e,
        192, 0, 2, 1, 224, 0, 0, 18,
        0x21, 0x33, 0x64, 0x02, 0x01, 0x01, 0x92, 0x9c,
        192, 0, 2, 100, 192, 0, 2, 101,
        0x31, 0x31, 0x31, 0x31, 0, 0, 0, 0,
    ];
    assert_eq!(encode(&v2()), golden);
}

#[test]
fn golden_v3_with_pseudo_header_as_keepalived_sends_it() {
    #[rustfmt::skip]
    let golden: [u8; 36] = [
        0x45, 0xc0, 0x00, 0x24, 0x00, 0x00, 0x00, 0x00, 0xff, 0x70, 0x18, 0x96,
        192, 0, 2, 1, 224, 0, 0, 18,
        0x31, 0x33, 0x64, 0x02, 0x00, 0x64, 0x43, 0x07,
        192, 0, 2, 100, 192, 0, 2, 101,
    ];
    assert_eq!(encode(&v3()), golden);
}

#[test]
fn v2_without_authentication_still_carries_eight_zero_bytes() {
    let datagram = encode(&advert(VrrpVersion::V2, Auth::None));
    assert_eq!(datagram.len(), 44);
    assert_eq!(datagram[24], 0);
    assert_eq!(datagram[36..], [0; 8]);
}

#[test]
fn both_v3_checksums_are_accepted_and_the_second_is_noted() {
    let advert = v3();
    let mut datagram = encode(&advert);
    let received = decode(&datagram, &accept(&advert)).unwrap();
    assert_eq!(received.checksum, Checksum::PseudoHeader);

    datagram[26..28].fill(0);
    let check = checksum(&[&datagram[20..]]);
    datagram[26..28].copy_from_slice(&check.to_be_bytes());
    let received = decode(&datagram, &accept(&advert)).unwrap();
    assert_eq!(received.checksum, Checksum::MessageOnly);
    assert_eq!(received.advert, advert);
}

#[test]
fn ip_options_and_ethernet_padding_are_stepped_over() {
    let advert = v2();
    let mut datagram = encode(&advert);
    datagram[0] = 0x46;
    datagram[3] += 4;
    datagram.splice(20..20, [0x94, 0x04, 0, 0]);
    datagram.extend([0xee; 10]);
    assert_eq!(decode(&datagram, &accept(&advert)).unwrap().advert, advert);
    assert_eq!(
        Datagram::v4(&datagram).unwrap().peek(),
        Some(Peek {
            src: PEER,
            vrid: 51,
            priority: advert.priority
        })
    );
}

#[test]
fn each_refusal_has_its_own_counter() {
    let (two, three) = (v2(), v3());
    let refused = |advert: &Advert, change: fn(&mut Vec<u8>)| {
        decode(&altered(advert, change), &accept(advert)).unwrap_err()
    };
    assert_eq!(refused(&two, |d| d[8] = 254), Counter::IpTtlErr);
    assert_eq!(refused(&two, |d| d[20] = 0x31), Counter::VersErr);
    assert_eq!(refused(&three, |d| d[20] = 0x41), Counter::VersErr);
    assert_eq!(refused(&two, |d| d[21] = 52), Counter::VridErr);
    assert_eq!(refused(&two, |d| d[24] = 3), Counter::InvalidAuthtype);
    assert_eq!(refused(&two, |d| d[24] = 0), Counter::AuthtypeMismatch);
    assert_eq!(refused(&two, |d| d[24] = 2), Counter::AuthtypeMismatch);
    assert_eq!(refused(&two, |d| d[36] = b'2'), Counter::AuthFailure);
    assert_eq!(refused(&two, |d| d[25] = 2), Counter::AdvertIntervalErr);
    assert_eq!(refused(&two, |d| d[20] = 0x22), Counter::InvalidTypeRcvd);
    assert_eq!(refused(&three, |d| d[23] = 1), Counter::PacketLenErr);
    assert_eq!(refused(&three, |d| d[23] = 3), Counter::PacketLenErr);
    assert_eq!(refused(&two, |d| d[3] = 27), Counter::PacketLenErr);
    assert_eq!(refused(&two, |d| d[3] = 0xff), Counter::PacketLenErr);
}

#[test]
fn a_wrong_checksum_is_refused_in_both_versions() {
    for advert in [v2(), v3()] {
        let mut datagram = encode(&advert);
        datagram[27] ^= 1;
        assert_eq!(decode(&datagram, &accept(&advert)), Err(Counter::ChkErr));
    }
}

#[test]
fn v3_learns_any_interval_instead_of_refusing_it() {
    let mut fast = v3();
    fast.interval = Duration::from_millis(40);
    let received = decode(&encode(&fast), &accept(&v3())).unwrap();
    assert_eq!(received.advert.interval, Duration::from_millis(40));
}

#[test]
fn reserved_bits_of_v3_are_ignored() {
    let advert = v3();
    let datagram = altered(&advert, |d| d[24] |= 0xf0);
    assert_eq!(decode(&datagram, &accept(&advert)).unwrap().advert, advert);
}

#[test]
fn own_address_and_wrong_delivery_are_refused() {
    let advert = v3();
    let datagram = encode(&advert);
    let looped = Accept {
        own: Some(PEER),
        ..accept(&advert)
    };
    assert_eq!(decode(&datagram, &looped), Err(Counter::OwnAddrErr));
    let peers = [UnicastPeer::anywhere(PEER)];
    let unicast = Accept {
        peers: &peers,
        ..accept(&advert)
    };
    assert_eq!(decode(&datagram, &unicast), Err(Counter::DeliveryErr));
}

#[test]
fn another_address_list_is_noted_and_another_order_is_not() {
    let advert = v3();
    let datagram = encode(&advert);
    let differ = |addresses: &[IpAddr]| {
        let accept = Accept {
            addresses: Some(addresses),
            ..accept(&advert)
        };
        decode(&datagram, &accept).unwrap().addresses_differ
    };
    assert!(!differ(&[VIPS[1], VIPS[0]]));
    assert!(differ(&VIPS[..1]));
    assert!(differ(&[VIPS[0], VIPS[0]]));
}

fn any_advert() -> impl Strategy<Value = Advert> {
    let auth = prop_oneof![
        Just(Auth::None),
        any::<[u8; 8]>().prop_map(Auth::Pass),
        any::<[u8; 8]>().prop_map(Auth::Ah)
    ];
    let version = prop_oneof![Just(VrrpVersion::V2), Just(VrrpVersion::V3)];
    let addresses = prop::collection::vec(any::<Ipv4Addr>(), 0..=ADDRESSES_MAX);
    let group = any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits & 0x0fff_ffff | 0xe000_0000));
    let head = (any::<Ipv4Addr>(), group, version);
    (head, 1u8..=255, any::<u8>(), 1u16..=4095, auth, addresses).prop_map(
        |((src, dst, version), vrid, priority, interval, auth, addresses)| {
            let (src, dst) = (src.into(), dst.into());
            let addresses = addresses.into_iter().map(IpAddr::V4).collect();
            let (auth, interval) = match version {
                VrrpVersion::V2 => (auth, Duration::from_secs(u64::from(interval % 255 + 1))),
                VrrpVersion::V3 => (Auth::None, Duration::from_millis(u64::from(interval) * 10)),
            };
            Advert {
                src,
                dst,
                version,
                vrid,
                priority,
                interval,
                auth,
                addresses,
            }
        },
    )
}

proptest! {
    #[test]
    fn decode_reverses_encode(advert in any_advert()) {
        let received = decode(&encode(&advert), &accept(&advert)).unwrap();
        prop_assert_eq!(received.advert, advert);
        prop_assert!(!received.addresses_differ);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for advert in [v2(), v3()] {
            let _ = decode(&bytes, &accept(&advert));
        }
        let _ = Datagram::v4(&bytes).map(|datagram| datagram.peek());
    }

    /// Damaged real datagrams reach deeper than random bytes do.
    #[test]
    fn a_damaged_advert_is_read_without_panic(
        advert in any_advert(), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut datagram = encode(&advert);
        let at = at.index(datagram.len());
        datagram[at] = byte;
        datagram.truncate(cut.index(datagram.len() + 1));
        let _ = decode(&datagram, &accept(&advert));
    }
}
