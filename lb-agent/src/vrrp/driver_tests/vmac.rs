// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual MAC interfaces on a real link, beside keepalived's.

use super::*;
use crate::config::model::VirtualAddress;

const NAME: &str = "vrrp.51";

fn with_vmac(family: Family, priority: u8, xmit_base: bool) -> VrrpInstance {
    let mut config = instance(VrrpVersion::V3, priority);
    let (kind, vip, group) = match family {
        Family::V4 => (1, VIP, "224.0.0.18"),
        Family::V6 => (2, "2001:db8::100", "ff02::12"),
    };
    config.family = family;
    config.vips = vec![VirtualAddress::plain(vip.parse().unwrap())];
    config.mcast_group = group.parse().unwrap();
    config.vmac = Some(Vmac {
        name: NAME.to_owned(),
        mac: [0, 0, 0x5e, 0, kind, 51],
        xmit_base,
    });
    config
}

fn setting(lan: &Lan, host: usize, path: &str) -> String {
    let output = std::process::Command::new("ip")
        .args(["netns", "exec", &lan.names[host], "cat", path])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An advert by its protocol number.
fn is_advert(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame[23] == packet::PROTOCOL,
        Some([0x86, 0xdd]) => frame[20] == packet::PROTOCOL,
        _ => false,
    }
}

fn is_announcement(frame: &[u8]) -> bool {
    let arp = frame.len() >= 42 && frame[12..14] == [8, 6] && frame[28..32] == frame[38..42];
    let na = frame.len() == super::super::super::announce::NA_FRAME
        && frame[12..14] == [0x86, 0xdd]
        && frame[54] == 136;
    arp || na
}

#[test]
fn rfc9568_7_3_adverts_and_announcements_carry_the_virtual_mac_address() {
    for (family, vip) in [(Family::V4, VIP), (Family::V6, "2001:db8::100")] {
        let Some(lan) = Lan::new() else { return };
        let adverts = hear(&lan, 1, 3, is_advert);
        let announcements = hear(&lan, 1, 5, is_announcement);
        let a = Agent::start(&lan, 0, vec![with_vmac(family, 150, false)]);
        a.is(State::Master);
        let virtual_mac = a.status.borrow()[0].source.map(|_| match family {
            Family::V4 => [0, 0, 0x5e, 0, 1, 51],
            Family::V6 => [0, 0, 0x5e, 0, 2, 51],
        });
        for (_, frame) in adverts.join().unwrap() {
            assert_eq!(Some(frame[6..12].try_into().unwrap()), virtual_mac);
        }
        for (_, frame) in announcements.join().unwrap() {
            assert_eq!(Some(frame[6..12].try_into().unwrap()), virtual_mac);
        }
        let shown = ip(&["-n", &lan.names[0], "-d", "addr", "show", "dev", NAME]);
        for part in ["macvlan mode private", &format!(" {vip}/")] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        a.stop();
        let left = ip(&["-n", &lan.names[0], "link", "show"]);
        assert!(!left.contains(NAME), "{left}");
    }
}

#[test]
fn settings_are_keepalived_s_and_those_of_the_interface_beneath_are_put_back() {
    let Some(lan) = Lan::new() else { return };
    let conf = |interface: &str, name: &str| format!("/proc/sys/net/ipv4/conf/{interface}/{name}");
    let set = |path: &str, value: &str| {
        let text = format!("echo {value} > {path}");
        ip(&["netns", "exec", &lan.names[0], "sh", "-c", &text]);
    };
    set(&conf("all", "rp_filter"), "1");
    let a = Agent::start(&lan, 0, vec![with_vmac(Family::V4, 150, false)]);
    a.is(State::Master);
    for (interface, name, value) in [
        (NAME, "arp_ignore", "1"),
        (NAME, "accept_local", "1"),
        (NAME, "rp_filter", "0"),
        (NAME, "promote_secondaries", "1"),
        ("e0", "arp_ignore", "1"),
        ("e0", "arp_filter", "1"),
        ("e0", "arp_announce", "2"),
        ("e0", "rp_filter", "1"),
        ("all", "rp_filter", "0"),
    ] {
        assert_eq!(
            setting(&lan, 0, &conf(interface, name)),
            value,
            "{interface} {name}"
        );
    }
    a.stop();
    for (interface, name, value) in [
        ("e0", "arp_ignore", "0"),
        ("e0", "arp_filter", "0"),
        ("e0", "arp_announce", "0"),
        ("e0", "rp_filter", "0"),
        ("all", "rp_filter", "1"),
    ] {
        assert_eq!(
            setting(&lan, 0, &conf(interface, name)),
            value,
            "{interface} {name}"
        );
    }
}

#[test]
fn a_virtual_mac_interface_that_vanishes_is_made_anew() {
    let Some(lan) = Lan::new() else { return };
    let a = Agent::start(&lan, 0, vec![with_vmac(Family::V4, 150, false)]);
    a.is(State::Master);
    ip(&["-n", &lan.names[0], "link", "del", NAME]);
    eventually("adverts that cannot be sent", || a.counter("send_err") > 0);
    let sent = a.counter("advert_sent");
    eventually("adverts again", || a.counter("advert_sent") > sent);
    assert_eq!(a.state(), Some(State::Master));
    a.stop();
}

/// Both with a virtual MAC interface, in both roles, with both ways to send.
#[test]
fn keepalived_and_we_elect_each_other_with_virtual_mac_addresses() {
    let runs = [Family::V4, Family::V6].into_iter().flat_map(|family| {
        [false, true].map(|xmit_base| std::thread::spawn(move || elect(family, xmit_base)))
    });
    let runs: Vec<_> = runs.collect();
    assert!(
        runs.into_iter()
            .map(std::thread::JoinHandle::join)
            .all(|run| run.is_ok())
    );
}

fn elect(family: Family, xmit_base: bool) {
    let Some(lan) = Lan::new() else { return };
    let config = with_vmac(family, 100, xmit_base);
    let vip = config.vips[0].addr.to_string();
    let base = if xmit_base { "vmac_xmit_base\n" } else { "" };
    let theirs =
        format!("version 3\n advert_int 0.1\n use_vmac\n {base} virtual_ipaddress {{\n {vip}\n }}");
    // keepalived does not recover from a link-local address that it cannot use yet.
    eventually("addresses that can be used", || {
        let shown = ip(&["-n", &lan.names[1], "addr", "show", "dev", "e0"]);
        shown.contains("fe80:") && !shown.contains("tentative")
    });
    let Some(higher) = Keepalived::start(&lan, 1, 150, &theirs) else {
        return;
    };
    eventually("keepalived is MASTER", || lan.holds(1, &vip));
    let a = Agent::start(&lan, 0, vec![config]);
    eventually("its adverts", || a.counter("advert_rcvd") >= 3);
    assert_eq!(a.state(), Some(State::Backup));
    drop(higher);
    a.is(State::Master);
    let lower = Keepalived::start(&lan, 1, 50, &theirs).unwrap();
    let sent = a.counter("advert_sent");
    eventually("adverts past its down interval", || {
        a.counter("advert_sent") >= sent + 15
    });
    assert_eq!(
        (a.state(), lan.holds(1, &vip)),
        (Some(State::Master), false)
    );
    a.stop();
    eventually("keepalived takes over", || lan.holds(1, &vip));
    drop(lower);
}
