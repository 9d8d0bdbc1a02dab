// SPDX-License-Identifier: MIT OR Apache-2.0
//! What RFC 9568 §5, §7 and RFC 3768 §5, §7 demand of a packet, a test for each.
//!
//! docs/vrrp-rfc.md lists all demands with their tests.

use super::*;

/// `advert` with one byte changed, its checksum right again.
fn changed(advert: &Advert, at: usize, byte: u8) -> Result<(), Counter> {
    let datagram = altered(advert, |datagram| datagram[at] = byte);
    decode(&datagram, &accept(advert)).map(drop)
}

#[test]
fn rfc9568_5_1_1_1_the_source_is_the_sender_s_own_address() {
    assert_eq!(encode(&v3())[12..16], [192, 0, 2, 1]);
}

#[test]
fn rfc9568_5_1_1_2_the_destination_is_the_group() {
    assert_eq!(encode(&v3())[16..20], [224, 0, 0, 18]);
}

#[test]
fn rfc9568_5_1_1_3_the_ttl_is_255_and_any_other_is_discarded() {
    for advert in [v2(), v3()] {
        assert_eq!(encode(&advert)[8], 255);
        for ttl in (0..255).step_by(51).chain([1, 254]) {
            assert_eq!(changed(&advert, 8, ttl), Err(Counter::IpTtlErr), "{ttl}");
        }
        assert_eq!(changed(&advert, 8, 255), Ok(()));
    }
}

#[test]
fn rfc9568_5_1_1_4_the_protocol_is_112() {
    assert_eq!(encode(&v3())[9], 112);
}

#[test]
fn rfc9568_5_2_1_the_version_is_3() {
    assert_eq!(encode(&v3())[20] >> 4, 3);
}

#[test]
fn rfc3768_5_3_1_the_version_is_2() {
    assert_eq!(encode(&v2())[20] >> 4, 2);
}

#[test]
fn rfc9568_5_2_2_a_packet_of_unknown_type_is_discarded() {
    for advert in [v2(), v3()] {
        let version = encode(&advert)[20] & 0xf0;
        for kind in (0..16).filter(|kind| *kind != 1) {
            let judged = changed(&advert, 20, version | kind);
            assert_eq!(judged, Err(Counter::InvalidTypeRcvd), "{kind}");
        }
    }
}

#[test]
fn rfc9568_5_2_3_the_virtual_router_id_is_the_configured_one() {
    assert_eq!(encode(&v3())[21], 51);
}

#[test]
fn rfc9568_5_2_4_every_priority_is_carried_and_0_gives_the_role_up() {
    for priority in [0, 1, 100, 254, 255] {
        let advert = Advert { priority, ..v3() };
        let received = decode(&encode(&advert), &accept(&advert)).unwrap();
        assert_eq!(received.advert.priority, priority);
    }
}

#[test]
fn rfc9568_5_2_5_the_count_is_that_of_the_addresses() {
    assert_eq!(encode(&v3())[23], 2);
    assert_eq!(changed(&v3(), 23, 1), Err(Counter::PacketLenErr));
    assert_eq!(changed(&v3(), 23, 3), Err(Counter::PacketLenErr));
}

#[test]
fn rfc9568_5_2_6_reserved_bits_are_sent_as_0_and_ignored() {
    assert_eq!(encode(&v3())[24] & 0xf0, 0);
    for bits in [0x10, 0x80, 0xf0] {
        let advert = v3();
        let datagram = altered(&advert, |d| d[24] |= bits);
        assert_eq!(decode(&datagram, &accept(&advert)).unwrap().advert, advert);
    }
}

#[test]
fn rfc9568_5_2_7_the_interval_counts_hundredths_of_a_second() {
    let advert = Advert {
        interval: Duration::from_millis(40_950),
        ..v3()
    };
    assert_eq!(encode(&advert)[24..26], [0x0f, 0xff]);
    let received = decode(&encode(&advert), &accept(&v3())).unwrap();
    assert_eq!(received.advert.interval, advert.interval);
}

#[test]
fn rfc3768_5_3_7_the_interval_counts_seconds() {
    let advert = Advert {
        interval: Duration::from_secs(255),
        ..v2()
    };
    assert_eq!(encode(&advert)[25], 255);
}

/// KEEPALIVED: over the pseudo-header, too; docs/vrrp.md tells why.
#[test]
fn rfc9568_5_2_8_both_readings_of_the_checksum_over_ipv4_are_accepted() {
    for checksum in [Checksum::MessageOnly, Checksum::PseudoHeader] {
        let style = Style {
            checksum,
            ..Style::default()
        };
        let datagram = super::super::encode(&v3(), &style);
        let received = decode(&datagram, &accept(&v3())).unwrap();
        assert_eq!(received.checksum, checksum);
    }
}

#[test]
fn rfc9568_5_2_9_addresses_of_both_families_are_never_in_one_packet() {
    let mut advert = v3();
    advert.addresses.push("2001:db8::1".parse().unwrap());
    let datagram = encode(&advert);
    assert_eq!((datagram[23], datagram.len()), (2, 20 + 8 + 8));
}

#[test]
fn rfc3768_5_3_10_authentication_data_is_sent_as_zeros_without_authentication() {
    let datagram = encode(&advert(VrrpVersion::V2, Auth::None));
    assert_eq!((datagram[24], &datagram[36..44]), (0, &[0; 8][..]));
}

#[test]
fn rfc9568_7_1_another_version_is_discarded() {
    for version in [0, 1, 2, 4, 15] {
        let judged = changed(&v3(), 20, version << 4 | 1);
        assert_eq!(judged, Err(Counter::VersErr), "{version}");
    }
}

#[test]
fn rfc3768_7_1_another_version_is_discarded() {
    for version in [0, 1, 3, 15] {
        let judged = changed(&v2(), 20, version << 4 | 1);
        assert_eq!(judged, Err(Counter::VersErr), "{version}");
    }
}

#[test]
fn rfc9568_7_1_an_incomplete_packet_is_discarded() {
    for advert in [v2(), v3()] {
        let whole = encode(&advert);
        for length in 0..whole.len() {
            let judged = decode(&whole[..length], &accept(&advert));
            assert_eq!(judged, Err(Counter::PacketLenErr), "{length}");
        }
    }
}

#[test]
fn rfc9568_7_1_a_wrong_checksum_is_discarded() {
    for advert in [v2(), v3()] {
        let whole = encode(&advert);
        // The checksum itself, priority and addresses: whatever no other check looks at.
        for at in [22, 26, 27, 28, 31, 35] {
            let mut datagram = whole.clone();
            datagram[at] ^= 0x40;
            let judged = decode(&datagram, &accept(&advert));
            assert_eq!(judged, Err(Counter::ChkErr), "byte {at}");
        }
    }
}

#[test]
fn rfc9568_7_1_a_virtual_router_that_is_not_configured_is_discarded() {
    for vrid in [0, 1, 50, 52, 255] {
        assert_eq!(changed(&v3(), 21, vrid), Err(Counter::VridErr), "{vrid}");
    }
}

#[test]
fn rfc3768_7_1_another_authentication_is_discarded() {
    assert_eq!(changed(&v2(), 24, 0), Err(Counter::AuthtypeMismatch));
    assert_eq!(changed(&v2(), 24, 2), Err(Counter::AuthtypeMismatch));
    assert_eq!(changed(&v2(), 24, 3), Err(Counter::InvalidAuthtype));
    assert_eq!(changed(&v2(), 36, b'2'), Err(Counter::AuthFailure));
}

#[test]
fn rfc3768_7_1_another_interval_is_discarded() {
    assert_eq!(changed(&v2(), 25, 2), Err(Counter::AdvertIntervalErr));
}

/// RFC 3768 has it dropped unless the owner sent it. KEEPALIVED: noted and believed.
#[test]
fn rfc9568_7_1_another_address_list_is_noted() {
    let advert = v3();
    let other = ["192.0.2.77".parse().unwrap()];
    let accept = Accept {
        addresses: Some(&other),
        ..accept(&advert)
    };
    assert!(decode(&encode(&advert), &accept).unwrap().addresses_differ);
}

#[test]
fn rfc9568_7_1_our_own_packet_is_discarded() {
    let advert = v3();
    let own = Accept {
        own: Some(PEER),
        ..accept(&advert)
    };
    assert_eq!(decode(&encode(&advert), &own), Err(Counter::OwnAddrErr));
}

/// Each test that the table names is there.
#[test]
fn the_table_of_demands_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("../docs/vrrp-rfc.md")).unwrap();
    let mut sources = String::new();
    let folders = ["src/vrrp", "src/config/resolve", "../tests/accept"];
    let mut folders: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.rsplit('|').nth(1));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 30, "{}", names.len());
    for name in names {
        assert!(sources.contains(&format!("fn {name}()")), "{name}");
    }
}
