// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two MASTERs, a start that waits, and announcements at their distance, on a real link.

use std::time::Instant;

use super::*;
use crate::config::model::{Auth, Spacing};

/// Different passwords: each refuses the other's adverts, so both are MASTER. keepalived's timer
/// starts anew with each refused advert; ours must not.
#[test]
fn two_masters_that_refuse_each_other_are_told_of_and_keep_their_pace() {
    let Some(lan) = Lan::new() else { return };
    let with = |password: [u8; 8]| {
        let mut config = instance(VrrpVersion::V2, 250);
        config.auth = Auth::Pass(password);
        vec![config]
    };
    let a = Agent::start(&lan, 0, with(*b"one\0\0\0\0\0"));
    let b = Agent::start(&lan, 1, with(*b"other\0\0\0"));
    a.is(State::Master);
    b.is(State::Master);
    eventually("a split brain in the counters", || {
        a.counter("split_brain") == 1 && b.counter("split_brain") == 1
    });
    let rival = a.status.borrow()[0].rivals[0];
    assert!(rival.split_brain);
    assert_eq!(rival.address, "192.0.2.2".parse::<IpAddr>().unwrap());
    assert_eq!((rival.priority, rival.refused), (250, Some("auth_failure")));
    let (sent, start) = (a.counter("advert_sent"), Instant::now());
    eventually("three more adverts", || {
        a.counter("advert_sent") >= sent + 3
    });
    assert!(start.elapsed() < Duration::from_secs(4));
    b.stop();
    a.stop();
}

/// The loser's last advert comes after the winner has become MASTER.
#[test]
fn keepalived_a_master_that_hears_a_lower_priority_tells_of_it() {
    let Some(lan) = Lan::new() else { return };
    let low = Agent::start(&lan, 0, v3(100));
    low.is(State::Master);
    let high = Agent::start(&lan, 1, v3(150));
    high.is(State::Master);
    low.is(State::Backup);
    let told = |agent: &Agent| {
        let told = agent.told.lock().unwrap();
        told.contains(&Told::MasterRxLowerPri)
    };
    eventually("a word of the lower one", || told(&high));
    assert!(!told(&low));
    high.stop();
    low.stop();
}

#[test]
fn keepalived_startup_delay_holds_an_instance_in_init() {
    let Some(lan) = Lan::new() else { return };
    let delay = Duration::from_secs(1);
    let global = Global {
        startup_delay: delay,
        ..Global::default()
    };
    let start = Instant::now();
    let a = Agent::start_with(&lan, 0, global, v3(150));
    eventually("a status", || a.state().is_some());
    assert_eq!(a.state(), Some(State::Init));
    a.is(State::Master);
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
    a.stop();
}

#[test]
fn announcements_keep_the_configured_distance_on_the_wire() {
    let Some(lan) = Lan::new() else { return };
    let distance = Duration::from_millis(100);
    let global = Global {
        spacings: vec![Spacing {
            garp: distance,
            ..Spacing::default()
        }],
        ..Global::default()
    };
    let heard = hear(&lan, 1, 3, |frame| {
        // A gratuitous request for the VIP.
        frame.len() >= 42 && frame[12..14] == [8, 6] && frame[38..42] == [192, 0, 2, 100]
    });
    let mut config = v3(150);
    config[0].announcing.repeat = 3;
    let start = Instant::now();
    let a = Agent::start_with(&lan, 0, global, config);
    let heard = heard.join().unwrap();
    // A frame may be noticed late, never early: the first one leaves after the down interval.
    let (last, _) = heard.last().unwrap();
    let earliest = Duration::from_micros(341_406) + distance * 2;
    assert!(*last - start >= earliest, "{:?}", *last - start);
    a.stop();
}
