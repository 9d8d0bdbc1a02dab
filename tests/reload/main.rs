// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading the file again while everything runs: what changes, and what a mistake must not change.
//!
//! In: a director under requests. Out: the agent's status, its log, the requests that were lost.

use std::time::Duration;

use anyhow::Context;
use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::{self, Software};
use xlvs_tests::experiment::ELECTION;
use xlvs_tests::outcome::Outcome;
use xlvs_tests::requester::Requester;
use xlvs_tests::site::{SERVERS, Site, VIP};
use xlvs_tests::{wait, xdp};

/// A keyword misspelt, a value missing (where keepalived stops), an algorithm misspelt.
fn with_three_mistakes(config: &DirectorConfig) -> String {
    config
        .text()
        .replace("    state MASTER\n", "    state MASTER\n    no_premmpt\n")
        .replace("advert_int 0.1", "advert_int")
        .replace("lb_kind DR", "lb_kind DRR")
}

fn serving(name: &str) -> Outcome<(Site, DirectorConfig)> {
    let mut site = Site::raise(name, [Software::Xlvs; 2])?;
    let config = DirectorConfig::first(VIP, Speed::V3Tenth).with_real_servers(&SERVERS[..2]);
    let [director, _] = &mut site.directors;
    director.start(&config.text())?;
    director.await_address(VIP, ELECTION)?;
    director.await_servers_up(ELECTION)?;
    Ok((site, config))
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_file_with_mistakes_leaves_the_running_agent_as_it_is() -> Outcome {
    let (mut site, config) = serving("reload-mistakes")?;
    let requester = Requester::start(&site.client, VIP, Duration::from_millis(10))?;
    let [director, _] = &mut site.directors;
    let before = xdp::attachment(director.host())?;
    director.write_config(&with_three_mistakes(&config))?;
    director.reload()?;
    wait::until_true(ELECTION, "the log to name the mistake", || {
        director.log().contains("advert_int")
    })?;
    let so_far = requester.answered();
    wait::until_true(ELECTION, "requests after the reload", || {
        requester.answered() >= so_far + 50
    })?;
    director.expect_running()?;
    assert_eq!(director.status()?.state(), "MASTER");
    assert_eq!(
        xdp::attachment(director.host())?,
        before,
        "the same program, still attached"
    );
    assert_eq!(requester.finish()?.lost, 0);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn check_names_each_mistake_with_its_line_and_a_suggestion() -> Outcome {
    let (mut site, config) = serving("reload-check")?;
    let text = with_three_mistakes(&config);
    let [director, _] = &mut site.directors;
    director.write_config(&text)?;
    let output = director
        .host()
        .command(director::binary()?)?
        .args(["check", "--json"])
        .arg(director.config_path())
        .output()
        .context("cannot start xlvs check")?;
    assert!(
        !output.status.success(),
        "a file that would not be applied is no success"
    );
    let said = String::from_utf8(output.stdout)?;
    for (word, suggestion) in [
        ("no_premmpt", "nopreempt"),
        ("advert_int", "1"),
        ("DRR", "DR"),
    ] {
        let line = 1 + text
            .lines()
            .position(|line| line.contains(word))
            .context("no such line")?;
        let place = format!("\"line\":{line},");
        let found = said.lines().find(|finding| {
            finding.contains(&place) && finding.contains(word) && !finding.contains("\"info\"")
        });
        let found = found.with_context(|| format!("nothing about {word}:\n{said}"))?;
        let hint = found.split("\"hint\":").nth(1).unwrap_or_default();
        assert!(hint.contains(suggestion), "{found}");
    }
    director.expect_running()?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_real_server_is_added_drained_and_removed_under_load_without_a_lost_request() -> Outcome {
    let (mut site, config) = serving("reload-servers")?;
    let requester = Requester::start(&site.client, VIP, Duration::from_millis(5))?;
    let [director, _] = &mut site.directors;
    // The new server cannot be reached before its MAC address is known, which takes its time here.
    let arp_ignore = "net.ipv4.conf.all.arp_ignore";
    site.servers[2].host().sysctl(arp_ignore, "8")?;
    director.write_config(&config.clone().with_real_servers(&SERVERS).text())?;
    director.reload()?;
    wait::until_true(ELECTION, "requests during the reload", || {
        requester.answered() >= 50
    })?;
    site.servers[2].host().sysctl(arp_ignore, "0")?;
    director.await_status("three servers", ELECTION, |status| {
        status
            .real_server(SERVERS[2].0)
            .is_some_and(|server| server.state == "UP")
    })?;
    wait::until_true(ELECTION, "the new server to answer", || {
        site.servers[2].answered(VIP).is_ok_and(|count| count > 0)
    })?;
    // Removed at once it would take its open connections along, as with IPVS: drained first.
    let mut drained = SERVERS;
    drained[0].1 = 0;
    director.write_config(&config.clone().with_real_servers(&drained).text())?;
    director.reload()?;
    director.await_status("the first server drained", ELECTION, |status| {
        let server = status.real_server(SERVERS[0].0);
        server.is_some_and(|server| server.effective_weight == 0)
    })?;
    // A connection that was being opened at that moment is not active yet.
    let so_far = requester.answered();
    wait::until_true(ELECTION, "requests after the draining", || {
        requester.answered() >= so_far + 20
    })?;
    director.await_status("its last connection to end", ELECTION, |status| {
        let server = status.real_server(SERVERS[0].0);
        server.is_some_and(|server| server.active_conns == 0)
    })?;
    director.write_config(&config.clone().with_real_servers(&SERVERS[1..]).text())?;
    director.reload()?;
    director.await_status("the first server gone", ELECTION, |status| {
        status.real_server(SERVERS[0].0).is_none()
    })?;
    let so_far = requester.answered();
    wait::until_true(ELECTION, "more requests", || {
        requester.answered() >= so_far + 100
    })?;
    let report = requester.finish()?;
    assert_eq!(report.lost, 0, "{report:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn the_program_that_reads_the_fifo_hears_of_start_reload_and_end() -> Outcome {
    let mut site = Site::raise_directors("reload-fifo", [Software::Xlvs; 2])?;
    let [director, _] = &mut site.directors;
    let path = |name: &str| director.host().path(name).display().to_string();
    let (read, once) = (path("read"), path("once"));
    let scripts = format!(
        "global_defs {{\n    script_user root\n    vrrp_notify_fifo {fifo}\n    \
         vrrp_notify_fifo_script \"/bin/sh -c 'cat $0 >> {read}'\"\n    \
         fifo_write_vrrp_states_on_reload\n    \
         startup_script \"/bin/sh -c 'echo start >> {once}'\"\n    \
         shutdown_script \"/bin/sh -c 'cat {read} >> {once}'\"\n",
        fifo = path("fifo")
    );
    let config = DirectorConfig::first(VIP, Speed::V3Tenth).text();
    director.start(&config.replace("global_defs {\n", &scripts))?;
    let told = |lines: &str| {
        let (read, lines) = (read.clone(), lines.to_owned());
        move || std::fs::read_to_string(&read).is_ok_and(|text| text == lines)
    };
    let (backup, master, stop) = (
        "INSTANCE \"VI_1\" BACKUP 100\n",
        "INSTANCE \"VI_1\" MASTER 100\n",
        "INSTANCE \"VI_1\" STOP 100\n",
    );
    let claimed = format!("{backup}{master}");
    wait::until_true(ELECTION, "the first lines", told(&claimed))?;
    assert_eq!(std::fs::read_to_string(&once)?, "start\n");
    director.reload()?;
    let reloaded = format!("{claimed}{master}");
    wait::until_true(ELECTION, "the state after a reload", told(&reloaded))?;
    director.sigterm()?;
    let all = std::fs::read_to_string(&once)?;
    let all = all.strip_prefix("start\n").context("another start")?;
    assert!(all.starts_with(&reloaded) && all.ends_with(stop), "{all}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_master_that_learns_of_its_first_virtual_server_attaches_the_program() -> Outcome {
    let mut site = Site::raise("reload-first-service", [Software::Xlvs; 2])?;
    let config = DirectorConfig::first(VIP, Speed::V3Tenth);
    let [director, _] = &mut site.directors;
    director.start(&config.text())?;
    director.await_address(VIP, ELECTION)?;
    assert_eq!(
        xdp::attachment(director.host())?,
        None,
        "nothing to balance, nothing attached"
    );
    director.write_config(&config.clone().with_real_servers(&SERVERS).text())?;
    director.reload()?;
    wait::until_true(ELECTION, "the program to be attached", || {
        xdp::attachment(director.host()).is_ok_and(|attachment| attachment.is_some())
    })?;
    director.await_servers_up(ELECTION)?;
    let requester = Requester::start(&site.client, VIP, Duration::from_millis(5))?;
    wait::until_true(ELECTION, "answers", || requester.answered() >= 100)?;
    assert_eq!(requester.finish()?.lost, 0);
    director.write_config(&config.text())?;
    director.reload()?;
    wait::until_true(ELECTION, "the program to be gone", || {
        xdp::attachment(director.host()).is_ok_and(|attachment| attachment.is_none())
    })?;
    assert_eq!(director.status()?.state(), "MASTER");
    Ok(())
}
