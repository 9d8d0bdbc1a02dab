// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a killed agent leaves behind, and that the next start puts it right.
//!
//! In: an agent killed in each of its states. Out: addresses and attachments afterwards.

use std::time::Duration;

use anyhow::Context as _;
use xlvs_tests::config::Speed;
use xlvs_tests::director::{self, Director, Software};
use xlvs_tests::experiment::{self, Departure, ELECTION};
use xlvs_tests::lab::INTERFACE;
use xlvs_tests::observer::{Event, Moment, Said};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::site::{self, Site, VIP};
use xlvs_tests::{client, pass, wait, xdp};

/// Longer than the watchdog waits.
const WATCHDOG: Duration = Duration::from_secs(10);

const PAIR: [Software; 2] = [Software::Xlvs; 2];

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_killed_master_s_program_forwards_until_the_watchdog_s_time_has_passed() -> Outcome {
    let mut site = Site::raise("recovery-watchdog", PAIR)?;
    let [first, _] = &mut site.directors;
    let config = site::configs(Speed::V3Tenth)[0].text();
    first.start(&config.replace("global_defs {\n", "global_defs {\n    xlvs_watchdog 3\n"))?;
    await_serving(first)?;
    first.sigkill()?;
    assert!(xdp::attachment(first.host())?.is_some());
    client::curl(&site.client, VIP)?;
    // Nobody but the packet program serves the address here.
    wait::until_true(WATCHDOG, "the program to forward nothing", || {
        client::curl(&site.client, VIP).is_err()
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn kill_restart_and_upgrade_under_load_lose_no_request() -> Outcome {
    let requests = std::env::var("XLVS_AB_REQUESTS").map_or(Ok(100_000), |text| text.parse())?;
    let mut site = Site::raise("recovery-load", PAIR)?;
    let [first, _] = &mut site.directors;
    first.start(&site::configs(Speed::V3Second)[0].text())?;
    await_serving(first)?;
    let before = xdp::attachment(first.host())?;
    let copy = first.host().path("xlvs-copy");
    std::fs::copy(director::binary()?, &copy)?;
    let client = site.client.clone();
    let load = std::thread::spawn(move || client::ab_keep_alive(&client, VIP, 200, requests));
    let mut restarts = 0;
    while !load.is_finished() {
        let answered = site.answered()?;
        let [first, _] = &mut site.directors;
        match restarts % 3 {
            0 => drop(first.sigkill()?),
            1 => {
                first.sigkill()?;
                first.upgrade_to(copy.clone());
            }
            _ => first.leave()?,
        }
        first.restart()?;
        first.await_status("answer", ELECTION, |status| status.program.loaded)?;
        restarts += 1;
        wait::until_true(ELECTION, "requests after a restart", || {
            load.is_finished() || site.answered().is_ok_and(|now| now != answered)
        })?;
    }
    let report = load
        .join()
        .unwrap_or_else(|_| anyhow::bail!("a thread panicked"))?;
    eprintln!("{restarts} restarts: {report:?}");
    assert_eq!((report.complete, report.failed), (requests.into(), 0));
    assert!(restarts > 0);
    let [first, _] = &mut site.directors;
    let after = xdp::attachment(first.host())?;
    assert!(
        after.is_some() && after != before,
        "another program on the same link"
    );
    assert!(
        first
            .log()
            .contains("going on with the services and connections")
    );
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn an_agent_that_crashes_under_its_supervisor_loses_no_request_and_stays_master() -> Outcome {
    let requests = std::env::var("XLVS_AB_REQUESTS").map_or(Ok(100_000), |text| text.parse())?;
    let mut site = Site::raise("recovery-crash", PAIR)?;
    experiment::elect(&mut site, &site::configs(Speed::V3Tenth))?;
    await_serving(&mut site.directors[0])?;
    let steady = Moment::now();
    let client = site.client.clone();
    let load = std::thread::spawn(move || client::ab_keep_alive(&client, VIP, 200, requests));
    let mut crashes = 0;
    while !load.is_finished() && crashes < 4 {
        let answered = site.answered()?;
        let [first, _] = &mut site.directors;
        let before = first.status()?.pid;
        first.crash_agent()?;
        crashes += 1;
        first.await_status("be MASTER again", ELECTION, |status| {
            status.pid != before && status.state() == "MASTER"
        })?;
        wait::until_true(ELECTION, "requests after a crash", || {
            load.is_finished() || site.answered().is_ok_and(|now| now != answered)
        })?;
    }
    let report = load
        .join()
        .unwrap_or_else(|_| anyhow::bail!("a thread panicked"))?;
    eprintln!("{crashes} crashes: {report:?}");
    assert_eq!((report.complete, report.failed), (requests.into(), 0));
    assert!(site.observer.takeover(steady, "d1").is_none());
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn an_address_without_services_stays_when_the_agent_crashes() -> Outcome {
    let mut site = Site::raise_directors("recovery-crash-vip", PAIR)?;
    let configs = site::configs(Speed::V3Tenth).map(|config| config.with_real_servers(&[]));
    experiment::elect(&mut site, &configs)?;
    let steady = Moment::now();
    let [first, _] = &mut site.directors;
    let before = first.status()?.pid;
    first.crash_agent()?;
    let mut always = true;
    wait::until_true(ELECTION, "d1 to be MASTER again", || {
        always &= first.host().has_address(VIP);
        first
            .status()
            .is_ok_and(|status| status.pid != before && status.state() == "MASTER")
    })?;
    assert!(always && first.host().has_address(VIP));
    assert!(site.observer.takeover(steady, "d1").is_none());
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn the_supervisor_hands_over_for_an_agent_that_cannot_be_started_again() -> Outcome {
    let mut site = Site::raise("recovery-dead", PAIR)?;
    let configs = site::configs(Speed::V3Second);
    experiment::elect(&mut site, &configs)?;
    let [first, second] = &mut site.directors;
    first.write_config("vrrp_instance {")?;
    let moment = first.crash_agent()?;
    let event = wait::until(ELECTION, "d2 to take over", || {
        site.observer.takeover(moment, "d1")
    })?;
    let released = |event: &Event| matches!(event.said, Said::Advert { priority: 0, .. });
    let adverts = site.observer.adverts(moment, "d1");
    let release = adverts.into_iter().find(released);
    let release = release.context("nobody sent priority 0 for the agent")?;
    let skew = event.at.ms_since(release.at);
    assert!(skew <= Departure::Stop.bound_ms(Speed::V3Second, configs[1].priority));
    second.await_address(VIP, ELECTION)?;
    assert!(!first.host().has_address(VIP));
    assert_eq!(xdp::attachment(first.host())?, None);
    // It goes on trying.
    first.write_config(&configs[0].text())?;
    first.await_status("be MASTER again", ELECTION * 2, |status| {
        status.state() == "MASTER"
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_master_that_restarts_at_once_stays_master_beside_its_peer() -> Outcome {
    let mut site = Site::raise("recovery-resume", PAIR)?;
    experiment::elect(&mut site, &site::configs(Speed::V3Second))?;
    let mut open = client::Connection::open(&site.client, VIP)?;
    let holder = open.get()?;
    let [first, second] = &mut site.directors;
    first.sigkill()?;
    first.restart()?;
    first.await_status("be MASTER again", ELECTION, |status| {
        status.state() == "MASTER"
    })?;
    assert_eq!(open.get()?, holder, "the connection goes on");
    wait::holds(Duration::from_secs(4), "d2 stays BACKUP", || {
        !second.host().has_address(VIP) && first.host().has_address(VIP)
    })?;
    assert_eq!(open.get()?, holder, "the connection goes on");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn somebody_else_s_program_is_named_and_left_alone() -> Outcome {
    let mut site = Site::raise("recovery-neighbour", PAIR)?;
    let [first, _] = &mut site.directors;
    let namespace = std::sync::Arc::clone(first.host().namespace());
    let stranger = std::thread::spawn(move || {
        namespace.enter()?;
        pass::attach(nix::net::if_::if_nametoindex(INTERFACE)?)
    });
    let stranger = stranger
        .join()
        .unwrap_or_else(|_| anyhow::bail!("a thread panicked"))?;
    let before = xdp::attachment(first.host())?;
    assert!(before.is_some());
    first.start(&site::configs(Speed::V3Tenth)[0].text())?;
    wait::until_true(ELECTION, "the log to name the program", || {
        first
            .log()
            .contains("another XDP program is attached, lb_pass")
    })?;
    assert_eq!(xdp::attachment(first.host())?, before);
    first.await_status("be in FAULT", ELECTION, |status| status.state() == "FAULT")?;
    drop(stranger);
    Ok(())
}

/// Waits until a director is MASTER and its servers can be reached.
fn await_serving(director: &mut Director) -> Outcome {
    director.await_address(VIP, ELECTION)?;
    director.await_status("be MASTER with servers", ELECTION, |status| {
        let mut servers = status
            .services
            .iter()
            .flat_map(|service| &service.real_servers);
        status.state() == "MASTER"
            && servers.all(|server| server.state == "UP" && server.mac.is_some())
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
