// SPDX-License-Identifier: MIT OR Apache-2.0
//! The laboratory itself: what the other suites rely on, tried with Debian's own programs.
//!
//! In: the harness. Out: proof that its hosts, servers, observer and clean-up do what they say.

use std::process::Command;
use std::time::Duration;

use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::Software;
use xlvs_tests::outcome::Outcome;
use xlvs_tests::site::{SERVERS, Site, VIP};
use xlvs_tests::{client, netns, wait};

const PAIR: [Software; 2] = [Software::Keepalived; 2];

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_web_server_answers_on_its_own_address_but_does_not_claim_the_vip() -> Outcome {
    let site = Site::raise("laboratory-server", PAIR)?;
    assert_eq!(client::curl(&site.client, SERVERS[0].0)?, "rs1");
    assert_eq!(site.servers[0].answered(SERVERS[0].0)?, 1);
    assert!(
        client::curl(&site.client, VIP).is_err(),
        "no director runs, so nobody has the VIP"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn the_observer_sees_a_keepalived_pair_elect_and_hand_over() -> Outcome {
    let mut site = Site::raise_directors("laboratory-observer", PAIR)?;
    let [first, second] = &mut site.directors;
    first.start(&DirectorConfig::first(VIP, Speed::V3Tenth).text())?;
    second.start(&DirectorConfig::second(VIP, Speed::V3Tenth).text())?;
    first.await_address(VIP, Duration::from_secs(5))?;
    let killed = first.sigkill()?;
    second.await_address(VIP, Duration::from_secs(5))?;
    let event = site
        .observer
        .takeover(killed, "d1")
        .expect("d2 has sent adverts");
    assert_eq!(event.from, "d2");
    assert!(event.at.ms_since(killed) > 0.0);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn nothing_is_left_when_a_laboratory_is_dropped() -> Outcome {
    let site = Site::raise("laboratory-drop", PAIR)?;
    let names = [
        site.lab.lan().name().to_owned(),
        site.client.namespace().name().to_owned(),
    ];
    let directory = site.lab.directory().to_owned();
    drop(site);
    let left = netns::ip(&["netns", "list"])?;
    assert!(names.iter().all(|name| !left.contains(name)), "{left}");
    assert!(!directory.exists());
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn what_a_killed_run_left_behind_is_cleared_by_the_next() -> Outcome {
    // A process that has ended lends its number to the leftovers.
    let mut dead = Command::new("true").spawn()?;
    let name = format!("{}0-lan", netns::prefix_of(dead.id()));
    dead.wait()?;
    netns::ip(&["netns", "add", &name])?;
    let mut inside = Command::new("ip")
        .args(["netns", "exec", &name, "sleep", "60"])
        .spawn()?;
    let inside_pid = inside.id().to_string();
    wait::until_true(Duration::from_secs(10), "it to be inside", || {
        let inside = netns::ip(&["netns", "pids", &name]).unwrap_or_default();
        inside.trim() == inside_pid
    })?;
    assert!(netns::reap_leftovers()?.contains(&name));
    assert!(!netns::ip(&["netns", "list"])?.contains(&name));
    assert!(!inside.wait()?.success(), "the process inside was killed");
    Ok(())
}
