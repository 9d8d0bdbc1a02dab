// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the program is attached, and in which mode: kinds of interfaces, and those that
//! masqueraded servers answer by.
//!
//! In: a director with interfaces of several kinds. Out: the agent's status.

use std::net::Ipv4Addr;

use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::{Director, Software};
use xlvs_tests::experiment::ELECTION;
use xlvs_tests::lab::{INTERFACE, Lab};
use xlvs_tests::netns::Namespace;
use xlvs_tests::outcome::Outcome;
use xlvs_tests::site::{DIRECTORS, VIP};
use xlvs_tests::status::Status;

const BEHIND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const OURS: &str = "198.51.100.1/24";

/// A server behind another interface, and no VRRP.
const WITHOUT_VRRP: &str = "virtual_server 203.0.113.10 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 198.51.100.2 80 {
        weight 1
    }
}
";

fn mode_on(status: &Status, interface: &str) -> Option<String> {
    let mut attached = status.program.attached.iter();
    let found = attached.find(|attached| attached.interface == interface)?;
    Some(found.mode.clone())
}

/// Raises a director to whose interface `x0`, made by `make`, the program is attached, and returns
/// the mode.
fn attach_to(
    name: &str,
    make: impl Fn(&Namespace) -> anyhow::Result<()>,
) -> Outcome<Option<String>> {
    let lab = Lab::raise(name)?;
    let host = lab.host("d1", DIRECTORS[0])?;
    let namespace = host.namespace().clone();
    if let Err(error) = make(&namespace) {
        eprintln!("{name}: not run, this kernel has no such interface: {error:#}");
        return Ok(None);
    }
    namespace.ip(&["addr", "add", OURS, "dev", "x0"])?;
    namespace.ip(&["link", "set", "dev", "x0", "up"])?;
    let mut director = Director::new(host, Software::Xlvs);
    director.start(WITHOUT_VRRP)?;
    let status = director.await_status("be attached to x0", ELECTION, |status| {
        mode_on(status, "x0").is_some()
    })?;
    Ok(mode_on(&status, "x0"))
}

fn veth(namespace: &Namespace, name: &str, more: &[&str]) -> anyhow::Result<()> {
    let peer = format!("{name}p");
    let mut arguments = vec!["link", "add", name];
    arguments.extend(more);
    arguments.extend(["type", "veth", "peer", "name", &peer]);
    arguments.extend(more);
    namespace.ip(&arguments)?;
    namespace.ip(&["link", "set", "dev", &peer, "up"])?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn jumbo_frames_are_no_hindrance() -> Outcome {
    let mode = attach_to("attach-jumbo", |ns| veth(ns, "x0", &["mtu", "9000"]))?;
    assert_eq!(mode.as_deref(), Some("native"));
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_vlan_takes_it_in_generic_mode() -> Outcome {
    let mode = attach_to("attach-vlan", |ns| {
        veth(ns, "trunk", &[])?;
        ns.ip(&["link", "set", "dev", "trunk", "up"])?;
        ns.ip(&[
            "link", "add", "link", "trunk", "name", "x0", "type", "vlan", "id", "7",
        ])?;
        Ok(())
    })?;
    assert!(
        mode.is_none() || mode.as_deref() == Some("generic"),
        "{mode:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_bond_takes_it_if_its_ports_do() -> Outcome {
    let mode = attach_to("attach-bond", |ns| {
        ns.ip(&["link", "add", "x0", "type", "bond", "mode", "active-backup"])?;
        veth(ns, "port", &[])?;
        ns.ip(&["link", "set", "dev", "port", "master", "x0"])?;
        Ok(())
    })?;
    assert!(
        mode.is_none() || mode.as_deref() == Some("native"),
        "{mode:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_master_sees_the_replies_of_masqueraded_servers() -> Outcome {
    let lab = Lab::raise("attach-replies")?;
    let host = lab.host("d1", DIRECTORS[0])?;
    let namespace = host.namespace().clone();
    veth(&namespace, "x0", &[])?;
    namespace.ip(&["link", "set", "dev", "x0", "up"])?;
    let config = DirectorConfig::first(VIP, Speed::V3Tenth).with_real_servers(&[(BEHIND, 1)]);
    let mut director = Director::new(host, Software::Xlvs);
    director.start(&config.text().replace("lb_kind DR", "lb_kind NAT"))?;
    let alone =
        |status: &Status| mode_on(status, INTERFACE).is_some() && mode_on(status, "x0").is_none();
    director.await_status("be attached to its own interface alone", ELECTION, alone)?;
    namespace.ip(&["addr", "add", OURS, "dev", "x0"])?;
    director.await_status("be attached where replies come in", ELECTION, |status| {
        mode_on(status, "x0").is_some() && mode_on(status, INTERFACE).is_some()
    })?;
    namespace.ip(&["addr", "del", OURS, "dev", "x0"])?;
    director.await_status("follow the route", ELECTION, alone)?;
    Ok(())
}
