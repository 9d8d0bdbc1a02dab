// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a killed agent leaves behind, and that the next start puts it right.
//!
//! In: an agent killed in each of its states. Out: addresses and attachments afterwards.

use std::time::Duration;

use xlvs_tests::config::Speed;
use xlvs_tests::director::Software;
use xlvs_tests::experiment::{self, Departure, ELECTION};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::site::{self, Site, VIP};
use xlvs_tests::{client, wait, xdp};

const PAIR: [Software; 2] = [Software::Xlvs; 2];

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_killed_master_s_program_is_gone_with_it() -> Outcome {
    let mut site = Site::raise("recovery-program", PAIR)?;
    let [first, _] = &mut site.directors;
    first.start(&site::configs(Speed::V3Tenth)[0].text())?;
    first.await_address(VIP, ELECTION)?;
    assert!(xdp::attachment(first.host())?.is_some());
    first.sigkill()?;
    wait::until_true(ELECTION, "the kernel to detach the program", || {
        xdp::attachment(first.host()).is_ok_and(|attachment| attachment.is_none())
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_killed_master_that_restarts_alone_serves_again() -> Outcome {
    let mut site = Site::raise("recovery-master", PAIR)?;
    let [first, _] = &mut site.directors;
    first.start(&site::configs(Speed::V3Tenth)[0].text())?;
    for _ in 0..2 {
        first.await_status("be MASTER with servers", ELECTION, |status| {
            let mut servers = status
                .services
                .iter()
                .flat_map(|service| &service.real_servers);
            status.state() == "MASTER"
                && servers.all(|server| server.state == "UP" && server.mac.is_some())
        })?;
        wait::until_true(ELECTION, "requests to be answered", || {
            client::curl(&site.client, VIP).is_ok()
        })?;
        first.sigkill()?;
        first.restart()?;
    }
    first.await_address(VIP, ELECTION)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_killed_master_that_returns_as_backup_drops_the_address_it_left() -> Outcome {
    let mut site = Site::raise("recovery-backup", PAIR)?;
    let mut configs = site::configs(Speed::V3Tenth);
    for config in &mut configs {
        config.state = "BACKUP";
        config.preempt = false;
    }
    experiment::elect(&mut site, &configs)?;
    experiment::takeover(&mut site, Departure::Kill)?;
    let [first, second] = &mut site.directors;
    assert!(
        first.host().has_address(VIP),
        "a killed agent cannot take its address with it"
    );
    first.restart()?;
    wait::until_true(ELECTION, "d1 to drop the VIP", || {
        !first.host().has_address(VIP)
    })?;
    wait::holds(Duration::from_millis(1500), "d1 stays BACKUP", || {
        !first.host().has_address(VIP) && second.host().has_address(VIP)
    })?;
    assert_eq!(xdp::attachment(first.host())?, None);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_killed_backup_disturbs_nobody_and_can_be_started_again() -> Outcome {
    let mut site = Site::raise("recovery-killed-backup", PAIR)?;
    experiment::elect(&mut site, &site::configs(Speed::V3Tenth))?;
    let [first, second] = &mut site.directors;
    second.sigkill()?;
    second.restart()?;
    second.await_status("be BACKUP", ELECTION, |status| status.state() == "BACKUP")?;
    assert!(first.host().has_address(VIP) && !second.host().has_address(VIP));
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_graceful_stop_leaves_nothing() -> Outcome {
    let mut site = Site::raise("recovery-stop", PAIR)?;
    let [first, _] = &mut site.directors;
    first.start(&site::configs(Speed::V3Tenth)[0].text())?;
    first.await_address(VIP, ELECTION)?;
    let (_, status) = first.sigterm()?;
    assert_eq!(status.code(), Some(0));
    assert!(!first.host().has_address(VIP));
    assert_eq!(xdp::attachment(first.host())?, None);
    assert!(
        !first.host().path("control.sock").exists(),
        "the control socket is gone"
    );
    Ok(())
}
