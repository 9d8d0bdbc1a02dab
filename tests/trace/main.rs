// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs trace`: what it says is what happens, and asking changes nothing.
//!
//! In: a MASTER with real servers and clients. Out: its answers, nginx's names, the counters.

mod follow;

use xlvs_tests::client::Connection;
use xlvs_tests::config::Speed;
use xlvs_tests::director::{Director, Software};
use xlvs_tests::experiment::ELECTION;
use xlvs_tests::outcome::Outcome;
use xlvs_tests::site::{self, SERVERS, Site, VIP};
use xlvs_tests::status::Status;

fn serving(name: &str) -> Outcome<Site> {
    let mut site = Site::raise(name, [Software::Xlvs; 2])?;
    let [director, _] = &mut site.directors;
    director.start(&site::configs(Speed::V3Tenth)[0].text())?;
    director.await_status("be MASTER with servers", ELECTION, |status| {
        let mut servers = status
            .services
            .iter()
            .flat_map(|service| &service.real_servers);
        status.state() == "MASTER"
            && servers.all(|server| server.state == "UP" && server.mac.is_some())
    })?;
    Ok(site)
}

/// The name of the host with a traced server's address.
fn name_of(server: &serde_json::Value) -> Option<String> {
    let address = server.as_str()?.split(':').next()?;
    let index = SERVERS
        .iter()
        .position(|(known, _)| known.to_string() == address)?;
    Some(format!("rs{}", index + 1))
}

fn ask(director: &Director, from: &str, flags: &str) -> Outcome<serde_json::Value> {
    let to = format!("{VIP}:80");
    Ok(director.trace(&["--from", from, "--to", &to, "--flags", flags])?)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_traced_syn_goes_where_the_next_connection_goes() -> Outcome {
    let site = serving("trace-syn")?;
    let [director, _] = &site.directors;
    for _ in 0..7 {
        let answer = ask(director, "192.0.2.100:5", "S")?;
        assert_eq!(
            ask(director, "192.0.2.100:5", "S")?,
            answer,
            "asking changes nothing"
        );
        assert_eq!(answer["verdict"], "transmit", "{answer}");
        assert_eq!(
            (&answer["opens"], &answer["attached"]),
            (&true.into(), &true.into())
        );
        assert_eq!(answer["method"], "DR");
        let mut open = Connection::open(&site.client, VIP)?;
        let served = open.get()?;
        assert_eq!(name_of(&answer["server"]), Some(served.clone()), "{answer}");
        let known = ask(director, &open.local()?.to_string(), "A")?;
        assert_eq!(known["connection"]["state"], "ESTABLISHED", "{known}");
        assert_eq!(name_of(&known["server"]), Some(served));
        assert_eq!(known["opens"], false);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn what_is_not_forwarded_is_explained() -> Outcome {
    let site = serving("trace-passed")?;
    let [director, _] = &site.directors;
    let stray = ask(director, "192.0.2.100:5", "A")?;
    assert_eq!(stray["verdict"], "pass_no_connection", "{stray}");
    let to = format!("{VIP}:81");
    let nobody = director.trace(&["--from", "192.0.2.100:5", "--to", &to])?;
    assert_eq!(nobody["verdict"], "pass_no_service", "{nobody}");
    assert_eq!(nobody["service"], serde_json::Value::Null);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn rates_follow_the_load() -> Outcome {
    let mut site = serving("trace-rates")?;
    xlvs_tests::client::ab(&site.client, VIP, 20, 4000)?;
    let [director, _] = &mut site.directors;
    let cps = |status: &Status| {
        status
            .services
            .first()
            .map_or(0, |service| service.rates.cps)
    };
    let busy = director.await_status("show a rate", ELECTION, |status| cps(status) > 0)?;
    assert!(busy.services[0].rates.inbps > 0);
    // A quarter less every two seconds.
    director.await_status("show a lower rate", 2 * ELECTION, |status| {
        cps(status) < cps(&busy) / 2
    })?;
    Ok(())
}
