// SPDX-License-Identifier: MIT OR Apache-2.0
//! What RFC 9568 §5, §6, §8 demand of a router on its link, by section.

use super::*;
use crate::config::model::VirtualAddress;

/// The link address that host `from` finds for `vip`, if anybody answers.
fn asks(lan: &Lan, from: usize, vip: &str) -> Option<String> {
    let host = &lan.names[from];
    let send = format!("echo > /dev/udp/{vip}/9");
    let _ = std::process::Command::new("ip")
        .args(["netns", "exec", host, "bash", "-c", &send])
        .stderr(std::process::Stdio::null())
        .status();
    let neighbour = || ip(&["-n", host, "neigh", "show", "to", vip]);
    // Three questions, a second apart, before the kernel gives up.
    eventually("an answer, or none", || {
        let shown = neighbour();
        shown.contains("lladdr") || shown.contains("FAILED") || shown.is_empty()
    });
    let shown = neighbour();
    ip(&["-n", host, "neigh", "flush", "to", vip]);
    let (_, rest) = shown.split_once("lladdr ")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

fn of(family: Family, priority: u8) -> (VrrpInstance, &'static str) {
    let (vip, group) = match family {
        Family::V4 => (VIP, "224.0.0.18"),
        Family::V6 => ("2001:db8::100", "ff02::12"),
    };
    let mut config = instance(VrrpVersion::V3, priority);
    config.family = family;
    config.mcast_group = group.parse().unwrap();
    config.vips = vec![VirtualAddress::plain(vip.parse().unwrap())];
    (config, vip)
}

fn mac(lan: &Lan, host: usize) -> String {
    let shown = ip(&["-n", &lan.names[host], "link", "show", "dev", "e0"]);
    let (_, rest) = shown.split_once("link/ether ").unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

fn is_v6_advert(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd]) && frame[20] == packet::PROTOCOL
}

#[test]
fn rfc9568_5_1_2_1_over_ipv6_the_source_is_the_link_local_address() {
    let Some(lan) = Lan::new() else { return };
    let heard = hear(&lan, 1, 1, is_v6_advert);
    let a = Agent::start(&lan, 0, vec![of(Family::V6, 150).0]);
    let (_, frame) = heard.join().unwrap().remove(0);
    assert_eq!(frame[22..24], [0xfe, 0x80]);
    // §5.1.2.2 and §5.1.2.3: the group, and a hop limit of 255.
    assert_eq!(
        (&frame[38..40], frame[53], frame[21]),
        (&[0xff, 0x02][..], 0x12, 255)
    );
    a.stop();
}

#[test]
fn rfc9568_6_4_2_and_6_4_3_the_master_answers_for_the_addresses_and_the_backup_does_not() {
    for family in [Family::V4, Family::V6] {
        let Some(lan) = Lan::new() else { return };
        let (config, vip) = of(family, 100);
        let a = Agent::start(&lan, 0, vec![config]);
        a.is(State::Master);
        let answer = || asks(&lan, 1, vip);
        assert_eq!(answer(), Some(mac(&lan, 0)), "{family}");
        // A MASTER that holds no address, so that nobody else answers.
        let mut other = of(family, 200).0;
        other.vips.clear();
        let b = Agent::start(&lan, 1, vec![other]);
        b.is(State::Master);
        a.is(State::Backup);
        assert_eq!(answer(), None, "{family}: a BACKUP");
        b.stop();
        a.is(State::Master);
        assert_eq!(answer(), Some(mac(&lan, 0)), "{family}: MASTER again");
        a.stop();
        assert_eq!(answer(), None, "{family}: stopped");
    }
}

#[test]
fn rfc9568_8_1_2_and_8_2_2_answers_carry_the_virtual_mac_address() {
    for (family, kind) in [(Family::V4, 1), (Family::V6, 2)] {
        let Some(lan) = Lan::new() else { return };
        let (mut config, vip) = of(family, 100);
        config.vmac = Some(Vmac {
            name: "vrrp.51".to_owned(),
            mac: [0, 0, 0x5e, 0, kind, 51],
            xmit_base: false,
        });
        let a = Agent::start(&lan, 0, vec![config]);
        a.is(State::Master);
        let expected = format!("00:00:5e:00:{kind:02x}:33");
        assert_eq!(asks(&lan, 1, vip), Some(expected), "{family}");
        a.stop();
    }
}
