// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver on a real link: network namespaces, a veth pair, raw sockets, kernel addresses.
//!
//! Needs root; keepalived as a peer where it is installed. Every wait is for a condition, with a
//! deadline far beyond what it takes.

#[path = "driver_tests/lab.rs"]
mod lab;
#[path = "driver_tests/matrix.rs"]
mod matrix;
#[path = "driver_tests/rfc.rs"]
mod rfc;
#[path = "driver_tests/rivals.rs"]
mod rivals;
#[path = "driver_tests/vmac.rs"]
mod vmac;

use super::*;
use crate::config::model::VrrpVersion;
use lab::*;

#[test]
fn two_agents_elect_hand_over_and_preempt() {
    let Some(lan) = Lan::new() else { return };
    let (a, b) = (
        Agent::start(&lan, 0, v3(150)),
        Agent::start(&lan, 1, v3(100)),
    );
    a.is(State::Master);
    b.is(State::Backup);
    assert!(lan.holds_vip(0) && !lan.holds_vip(1));

    a.stop();
    assert!(!lan.holds_vip(0), "a graceful stop removes the address");
    b.is(State::Master);
    eventually("the address on the peer", || lan.holds_vip(1));
    assert_eq!(b.counter("pri_zero_rcvd"), 1);

    let a = Agent::start(&lan, 0, v3(150));
    a.is(State::Master);
    b.is(State::Backup);
    assert!(lan.holds_vip(0) && !lan.holds_vip(1));
    assert_eq!(
        b.status.borrow()[0].master,
        Some("192.0.2.1".parse().unwrap())
    );
    a.stop();
    b.stop();
    assert!(!lan.holds_vip(0) && !lan.holds_vip(1));
}

#[test]
fn an_agent_removes_what_a_killed_one_left() {
    let Some(lan) = Lan::new() else { return };
    let a = Agent::start(&lan, 0, v3(150));
    a.is(State::Master);
    let b = Agent::start(&lan, 1, v3(100));
    b.is(State::Backup);
    a.crash();
    assert!(lan.holds_vip(0), "the address outlives the agent");
    b.is(State::Master);
    let a = Agent::start(&lan, 0, v3(50));
    a.is(State::Backup);
    assert!(!lan.holds_vip(0), "a BACKUP holds no address");
    a.stop();
    b.stop();
}

#[test]
fn unicast_peers_elect_too() {
    let Some(lan) = Lan::new() else { return };
    let unicast = |priority, peer: &str| {
        let mut config = v3(priority);
        config[0].unicast_peers = vec![UnicastPeer::anywhere(peer.parse().unwrap())];
        config
    };
    let a = Agent::start(&lan, 0, unicast(150, "192.0.2.2"));
    let b = Agent::start(&lan, 1, unicast(100, "192.0.2.1"));
    a.is(State::Master);
    eventually("adverts", || b.counter("advert_rcvd") >= 5);
    b.is(State::Backup);
    a.stop();
    b.is(State::Master);
    b.stop();
}

#[test]
fn a_master_that_cannot_claim_hands_over() {
    let Some(lan) = Lan::new() else { return };
    let b = Agent::start(&lan, 1, v3(100));
    let a = Agent::start(&lan, 0, v3(150));
    a.order(Order::Break);
    a.is(State::Fault);
    b.is(State::Master);
    a.stop();
    b.stop();
}

#[test]
fn an_interface_that_goes_is_a_fault_and_one_that_comes_ends_it() {
    let Some(lan) = Lan::new() else { return };
    let a = Agent::start(&lan, 0, v3(150));
    a.is(State::Master);
    ip(&["-n", &lan.names[0], "link", "set", "e0", "down"]);
    a.order(Order::InterfaceChanged(false));
    a.is(State::Fault);
    assert!(!lan.holds_vip(0));
    ip(&["-n", &lan.names[0], "link", "set", "e0", "up"]);
    a.order(Order::InterfaceChanged(true));
    a.is(State::Master);
    a.stop();
}

#[test]
fn a_lost_interface_is_noticed_and_found_again_without_being_told() {
    let Some(lan) = Lan::new() else { return };
    let [a, b] = &lan.names;
    let agent = Agent::start(&lan, 0, v3(150));
    agent.is(State::Master);
    ip(&["-n", a, "link", "del", "e0"]);
    agent.is(State::Fault);
    ip(&[
        "link", "add", "e0", "netns", a, "type", "veth", "peer", "name", "e0", "netns", b,
    ]);
    ip(&["-n", a, "addr", "add", "192.0.2.1/24", "dev", "e0"]);
    ip(&["-n", a, "link", "set", "e0", "up"]);
    ip(&["-n", b, "link", "set", "e0", "up"]);
    agent.is(State::Master);
    assert!(lan.holds_vip(0));
    agent.stop();
}

#[test]
fn a_reload_touches_only_what_changed() {
    let Some(lan) = Lan::new() else { return };
    let other = |priority| VrrpInstance {
        name: "VI_2".to_owned(),
        vrid: 52,
        vips: Vec::new(),
        ..instance(VrrpVersion::V3, priority)
    };
    let first = instance(VrrpVersion::V3, 150);
    let a = Agent::start(&lan, 0, vec![first.clone(), other(150)]);
    let states = |a: &Agent| -> Vec<_> { a.status.borrow().iter().map(|s| s.state).collect() };
    eventually("two MASTERs", || states(&a) == [State::Master; 2]);
    a.order(Order::Reconfigure(vec![other(90), first]));
    eventually("two MASTERs in the new order", || {
        let status = a.status.borrow();
        status.len() == 2 && status[0].name == "VI_2" && status[0].state == State::Master
    });
    let status = a.status.borrow().clone();
    let became =
        |at: usize| serde_json::to_value(&status[at].counters).unwrap()["become_master"].clone();
    assert_eq!(status[1].state, State::Master);
    assert_eq!((became(0), became(1)), (1.into(), 1.into()));
    assert!(lan.holds_vip(0), "the unchanged instance kept its address");
    a.order(Order::Reconfigure(Vec::new()));
    eventually("the address to go", || !lan.holds_vip(0));
    a.stop();
}
