// SPDX-License-Identifier: MIT OR Apache-2.0
//! FRR's vrrpd with its zebra, on a host of the laboratory.
//!
//! In: version, family, priority. Out: its state and where its virtual address is. FRR wants the
//! interfaces with the virtual MAC address made by hand, and switches them off (protodown) while
//! it is not MASTER.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use xlvs_tests::lab::{Host, INTERFACE};
use xlvs_tests::process::Process;
use xlvs_tests::wait;

/// Where Debian's package has the daemons.
const DAEMONS: &str = "/usr/lib/frr";
const DEVICE: &str = "vrrp";
const START: Duration = Duration::from_secs(10);

/// FRR on a host; the daemons end in the order of the fields.
pub(crate) struct Frr {
    vrrpd: Option<Process>,
    _zebra: Process,
    host: Host,
    v6: bool,
}

impl Frr {
    /// Makes the interface and starts both daemons.
    pub(crate) fn start(host: &Host, version: u8, priority: u8, vip: &str) -> Result<Self> {
        if !PathBuf::from(DAEMONS).join("vrrpd").exists() {
            bail!(
                "there is no {DAEMONS}/vrrpd; run `cargo xtask setup` (on Debian: apt-get install frr)"
            );
        }
        let v6 = vip.contains(':');
        let (family, kind, length) = if v6 { ("ipv6", 2, 64) } else { ("ip", 1, 24) };
        let ip = |arguments: &str| {
            let words: Vec<&str> = arguments.split(' ').collect();
            host.namespace().ip(&words)
        };
        ip(&format!(
            "link add {DEVICE} link {INTERFACE} type macvlan mode bridge"
        ))?;
        ip(&format!("link set {DEVICE} address 00:00:5e:00:0{kind}:33"))?;
        let cidr = format!("addr add {vip}/{length} dev {DEVICE}");
        ip(&if v6 { format!("{cidr} nodad") } else { cidr })?;
        ip(&format!("link set {DEVICE} up"))?;
        let text = format!(
            "log stdout\ninterface {INTERFACE}\n vrrp 51 version {version}\n vrrp 51 priority \
             {priority}\n vrrp 51 advertisement-interval 1000\n vrrp 51 {family} {vip}\n"
        );
        let run = host.path("frr");
        std::fs::create_dir_all(&run)?;
        std::fs::write(run.join("vrrpd.conf"), text)?;
        std::fs::write(run.join("zebra.conf"), "log stdout\n")?;
        // They give up root.
        host.run("chown", &["-R", "frr:frrvty", &run.display().to_string()])?;
        let zebra = daemon(host, "zebra")?;
        wait::until_true(START, "zebra's socket", || run.join("zserv").exists())
            .with_context(|| zebra.log())?;
        let mut frr = Self {
            vrrpd: None,
            _zebra: zebra,
            host: host.clone(),
            v6,
        };
        frr.restart()?;
        Ok(frr)
    }

    /// Starts vrrpd anew.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.vrrpd = None;
        self.vrrpd = Some(daemon(&self.host, "vrrpd")?);
        Ok(())
    }

    /// Asks vrrpd to stop, or kills it.
    pub(crate) fn end(&mut self, signal: Signal) -> Result<()> {
        let mut vrrpd = self.vrrpd.take().context("vrrpd does not run")?;
        vrrpd.signal(signal)?;
        vrrpd.await_end(START).map(drop)
    }

    /// `Master` or `Backup`, as it says; empty while it does not answer.
    pub(crate) fn state(&self) -> String {
        let family = if self.v6 { "v6" } else { "v4" };
        self.show()[0][family]["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn show(&self) -> serde_json::Value {
        let run = self.host.path("frr").display().to_string();
        let shown = self
            .host
            .run("vtysh", &["--vty_socket", &run, "-c", "show vrrp json"]);
        let parsed = shown.ok().and_then(|text| serde_json::from_str(&text).ok());
        parsed.unwrap_or_default()
    }

    /// Whether the interface with the virtual address is on.
    pub(crate) fn holds_vip(&self) -> bool {
        let shown = self
            .host
            .namespace()
            .ip(&["-d", "link", "show", "dev", DEVICE]);
        shown.is_ok_and(|text| !text.contains("protodown on") && text.contains("LOWER_UP"))
    }

    /// What it says and has logged, for messages.
    pub(crate) fn says(&self) -> String {
        let log = self.vrrpd.as_ref().map(Process::log).unwrap_or_default();
        format!("{}\n{log}", self.show())
    }
}

fn daemon(host: &Host, name: &str) -> Result<Process> {
    let run = host.path("frr");
    let mut command = host.command(PathBuf::from(DAEMONS).join(name))?;
    command.arg("-f").arg(run.join(format!("{name}.conf")));
    command.arg("-i").arg(run.join(format!("{name}.pid")));
    command.arg("-z").arg(run.join("zserv"));
    command.arg("--vty_socket").arg(&run);
    Process::start(name, command, &host.path(&format!("{name}.log")))
}
