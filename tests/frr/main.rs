// SPDX-License-Identifier: MIT OR Apache-2.0
//! xlvs and FRR's vrrpd as a pair, in both roles: version 2 and 3 over IPv4, version 3 over IPv6.
//!
//! In: one router of each kind. Out: who is MASTER and who has the address, after a start, a stop,
//! a kill and a return; neither refuses an advert of the other.

mod vrrpd;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_agent::control::status::Status;
use lb_agent::control::{Request, Response, client};
use nix::sys::signal::Signal;
use xlvs_tests::director::{Director, Software};
use xlvs_tests::lab::{INTERFACE, Lab};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::wait;

use vrrpd::Frr;

/// A start, or a down interval at one second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a down interval at one second.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Ours,
    Theirs,
}

/// Both routers. Fields are dropped in order.
struct Pair {
    ours: Director,
    frr: Frr,
    vip: &'static str,
    _lab: Lab,
}

impl Pair {
    fn raise(name: &str, version: u8, v6: bool, first: First) -> Result<Self> {
        let lab = Lab::raise(name)?;
        let own = lab.host("d1", Ipv4Addr::new(192, 0, 2, 1))?;
        let router = lab.host("router", Ipv4Addr::new(192, 0, 2, 7))?;
        let vip = if v6 {
            for host in [&own, &router] {
                let cidr = format!("{}/64", host.address6());
                host.namespace()
                    .ip(&["addr", "add", &cidr, "dev", INTERFACE, "nodad"])?;
            }
            "2001:db8:2::200"
        } else {
            "192.0.2.200"
        };
        let (ours, theirs) = match first {
            First::Ours => (200, 100),
            First::Theirs => (100, 200),
        };
        let mut pair = Self {
            ours: Director::new(own, Software::Xlvs),
            frr: Frr::start(&router, version, theirs, vip)?,
            vip,
            _lab: lab,
        };
        pair.ours.start(&format!(
            "vrrp_instance VI_1 {{\nstate BACKUP\ninterface eth0\nvirtual_router_id 51\n\
             version {version}\npriority {ours}\nadvert_int 1\nvirtual_ipaddress {{\n{vip}\n}}\n}}\n"
        ))?;
        Ok(pair)
    }

    fn status(&self) -> Result<Status> {
        let control = self.ours.host().path("control.sock");
        match client::ask(&control, &Request::Status)? {
            Response::Status(status) => Ok(*status),
            other => bail!("the agent answers {other:?}"),
        }
    }

    fn our_state(&self) -> String {
        let status = self.status().ok();
        let state = status.and_then(|status| Some(status.instances.first()?.state.clone()));
        state.unwrap_or_default()
    }

    fn we_hold_the_vip(&self) -> bool {
        let wanted = format!(" {}/", self.vip);
        let shown = self.ours.host().namespace().ip(&["-o", "addr"]);
        shown.is_ok_and(|text| text.contains(&wanted))
    }

    /// Whether ours is MASTER, or theirs, with the address; the other one is BACKUP without.
    fn is(&self, master: First) -> bool {
        let ours = master == First::Ours;
        let (own, other) = if ours {
            ("MASTER", "Backup")
        } else {
            ("BACKUP", "Master")
        };
        self.our_state() == own
            && self.frr.state() == other
            && self.we_hold_the_vip() == ours
            && self.frr.holds_vip() != ours
    }

    fn await_master(&self, master: First, what: &str) -> Result<()> {
        wait::until_true(PATIENCE, what, || self.is(master))
            .with_context(|| format!("{}; {}", self.ours.log_tail(), self.frr.says()))
    }

    /// Nothing of theirs is refused or odd.
    fn expect_no_complaints(&self) -> Result<()> {
        let status = self.status()?;
        let bad: Vec<_> = status.instances[0]
            .counters
            .iter()
            .filter(|(name, n)| **n > 0 && name.ends_with("_err") && *name != "send_err")
            .collect();
        anyhow::ensure!(bad.is_empty(), "{bad:?}");
        let log = self.frr.says();
        let complaint = log.lines().find(|line| {
            let words = ["mismatch", "Bad checksum", "invalid", "Discarding"];
            words.iter().any(|word| line.contains(word))
        });
        anyhow::ensure!(complaint.is_none(), "FRR complains: {complaint:?}");
        Ok(())
    }
}

fn ours_is_master(name: &str, version: u8, v6: bool) -> Outcome {
    let mut pair = Pair::raise(name, version, v6, First::Ours)?;
    pair.await_master(First::Ours, "our higher priority to win")?;
    wait::holds(LONG_ENOUGH, "FRR believes us", || pair.is(First::Ours))?;
    pair.expect_no_complaints()?;
    for graceful in [true, false] {
        if graceful {
            pair.ours.sigterm()?;
        } else {
            pair.ours.sigkill()?;
        }
        wait::until_true(PATIENCE, "FRR to take over", || {
            pair.frr.state() == "Master" && pair.frr.holds_vip()
        })
        .with_context(|| pair.frr.says())?;
        pair.ours.restart()?;
        pair.await_master(First::Ours, "our return")?;
    }
    pair.expect_no_complaints()?;
    Ok(())
}

fn theirs_is_master(name: &str, version: u8, v6: bool) -> Outcome {
    let mut pair = Pair::raise(name, version, v6, First::Theirs)?;
    pair.await_master(First::Theirs, "their higher priority to win")?;
    wait::holds(LONG_ENOUGH, "we believe FRR", || pair.is(First::Theirs))?;
    pair.expect_no_complaints()?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        pair.frr.end(signal)?;
        wait::until_true(PATIENCE, "us to take over", || {
            pair.our_state() == "MASTER" && pair.we_hold_the_vip()
        })
        .with_context(|| pair.ours.log_tail())?;
        pair.frr.restart()?;
        pair.await_master(First::Theirs, "their return")?;
    }
    pair.expect_no_complaints()?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn frr_believes_our_v2_master() -> Outcome {
    ours_is_master("frr-v2-ours", 2, false)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn we_believe_frr_as_v2_master() -> Outcome {
    theirs_is_master("frr-v2-theirs", 2, false)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn frr_believes_our_v3_master() -> Outcome {
    ours_is_master("frr-v3-ours", 3, false)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn we_believe_frr_as_v3_master() -> Outcome {
    theirs_is_master("frr-v3-theirs", 3, false)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn frr_believes_our_v3_master_over_ipv6() -> Outcome {
    ours_is_master("frr-v6-ours", 3, true)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn we_believe_frr_as_v3_master_over_ipv6() -> Outcome {
    theirs_is_master("frr-v6-theirs", 3, true)
}
