// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct routing with real traffic: which web server gets which share, and what follows a change.
//!
//! In: one director, three nginx, real clients. Out: nginx's own counts and the agent's status.

use std::time::Duration;

use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::Software;
use xlvs_tests::experiment::ELECTION;
use xlvs_tests::lab::INTERFACE;
use xlvs_tests::outcome::Outcome;
use xlvs_tests::site::{SERVERS, Site, VIP};
use xlvs_tests::status::{RealServer, Status};
use xlvs_tests::{client, wait};

/// A site with d1 as the only director, MASTER, and all servers UP.
fn site_with(name: &str, config: &DirectorConfig) -> Outcome<Site> {
    let mut site = Site::raise(name, [Software::Xlvs; 2])?;
    let [director, _] = &mut site.directors;
    director.start(&config.text())?;
    director.await_address(VIP, ELECTION)?;
    director.await_servers_up(ELECTION)?;
    Ok(site)
}

fn weights(weights: [u32; 3]) -> DirectorConfig {
    let servers = [0, 1, 2].map(|index| (SERVERS[index].0, weights[index]));
    DirectorConfig::first(VIP, Speed::V3Tenth).with_real_servers(&servers)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn wrr_shares_connections_by_weight_within_one_percent() -> Outcome {
    let site = site_with("forwarding-shares", &weights([3, 2, 1]))?;
    let report = client::ab(&site.client, VIP, 200, 6000)?;
    assert_eq!((report.complete, report.failed), (6000, 0));
    for (count, ideal) in site.answered()?.into_iter().zip([3000_i64, 2000, 1000]) {
        let difference = (i64::try_from(count)? - ideal).abs();
        assert!(
            difference <= 60,
            "{count} requests, {ideal} by weight: more than 1 % of 6000"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_server_of_weight_zero_keeps_its_connections_and_gets_no_new_ones() -> Outcome {
    let mut site = site_with("forwarding-drain", &weights([1, 1, 1]))?;
    let mut old = client::Connection::open(&site.client, VIP)?;
    let holder = old.get()?;
    let index = ["rs1", "rs2", "rs3"]
        .iter()
        .position(|name| *name == holder);
    let index = index.expect("a web server says its own name");

    let mut drained = [1, 1, 1];
    drained[index] = 0;
    site.directors[0].write_config(&weights(drained).text())?;
    site.directors[0].reload()?;
    site.directors[0].await_status("the weight 0 in force", ELECTION, |status| {
        status
            .real_server(SERVERS[index].0)
            .is_some_and(|server| server.effective_weight == 0)
    })?;

    let before = site.answered()?[index];
    let report = client::ab(&site.client, VIP, 20, 300)?;
    assert_eq!((report.complete, report.failed), (300, 0));
    assert_eq!(
        site.answered()?[index],
        before,
        "no new connection goes to the drained server"
    );
    assert_eq!(old.get()?, holder, "the old connection stays where it was");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_changed_mac_of_a_real_server_is_followed() -> Outcome {
    let mut site = site_with("forwarding-mac", &weights([1, 0, 0]))?;
    assert_eq!(client::curl(&site.client, VIP)?, "rs1");
    let server = site.servers[0].host().clone();
    let new = "02:00:00:00:99:01";
    server
        .namespace()
        .ip(&["link", "set", "dev", INTERFACE, "address", new])?;
    site.directors[0].await_status("the new MAC in force", Duration::from_secs(15), |status| {
        status
            .real_server(SERVERS[0].0)
            .is_some_and(|known| known.mac.as_deref() == Some(new))
    })?;
    // The client's own way back does not change: only the director had the old address.
    wait::until_true(ELECTION, "requests to be answered again", || {
        client::curl(&site.client, VIP).is_ok_and(|body| body == "rs1")
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_stopped_server_is_taken_out_and_returns() -> Outcome {
    let mut site = site_with("forwarding-check", &weights([1, 1, 1]))?;
    site.servers[2].stop_nginx();
    site.directors[0].await_status("rs3 DOWN", ELECTION, |status| {
        status
            .real_server(SERVERS[2].0)
            .is_some_and(|server| server.state == "DOWN")
    })?;
    let report = client::ab(&site.client, VIP, 20, 200)?;
    assert_eq!((report.complete, report.failed), (200, 0));
    site.servers[2].start_nginx()?;
    site.directors[0].await_status("rs3 UP", ELECTION, |status| {
        status
            .real_server(SERVERS[2].0)
            .is_some_and(|server| server.state == "UP")
    })?;
    let before = site.answered()?[2];
    client::ab(&site.client, VIP, 20, 300)?;
    assert!(
        site.answered()?[2] > before,
        "the returned server takes its share"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn the_sorry_server_answers_while_quorum_is_lost_and_steps_back() -> Outcome {
    let mut site = Site::raise("forwarding-sorry", [Software::Xlvs; 2])?;
    let text = DirectorConfig::first(VIP, Speed::V3Tenth)
        .with_real_servers(&SERVERS[..2])
        .text()
        .replace(
            "    lb_kind DR\n",
            &format!(
                "    lb_kind DR\n    quorum 5\n    sorry_server {} 80\n",
                SERVERS[2].0
            ),
        );
    let in_state = |status: &Status, wanted: &str| {
        let sorry = status.services.first().map(|service| &service.sorry_server);
        sorry.is_some_and(|sorry| {
            let fits =
                |s: &RealServer| s.state == wanted && (wanted != "IN USE" || s.mac.is_some());
            sorry.as_ref().is_some_and(fits)
        })
    };
    site.directors[0].start(&text)?;
    site.directors[0].await_address(VIP, ELECTION)?;
    site.directors[0].await_status("quorum", ELECTION, |status| in_state(status, "STANDBY"))?;

    // 3 of the 5 that are wanted stay up.
    site.servers[1].stop_nginx();
    site.directors[0].await_status("the sorry server in use", ELECTION, |status| {
        in_state(status, "IN USE")
    })?;
    let before = site.servers[0].answered(SERVERS[0].0)?;
    let report = client::ab(&site.client, VIP, 10, 100)?;
    assert_eq!((report.complete, report.failed), (100, 0));
    assert_eq!(
        site.servers[0].answered(SERVERS[0].0)?,
        before,
        "rs1 is up, and gave way"
    );
    assert_eq!(client::curl(&site.client, VIP)?, "rs3");

    site.servers[1].start_nginx()?;
    site.directors[0].await_status("quorum again", ELECTION, |status| {
        in_state(status, "STANDBY")
    })?;
    let before = site.servers[2].answered(SERVERS[2].0)?;
    let report = client::ab(&site.client, VIP, 10, 100)?;
    assert_eq!((report.complete, report.failed), (100, 0));
    assert_eq!(
        site.servers[2].answered(SERVERS[2].0)?,
        before,
        "it stepped back"
    );
    Ok(())
}
