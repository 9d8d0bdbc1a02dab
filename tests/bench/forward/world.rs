// SPDX-License-Identifier: MIT OR Apache-2.0
//! One subject's world: a director in a namespace, everybody else in another, cables between them.
//!
//! ```text
//!   generator ─▶ c0 ══ in0  director  out0 ══ s0 ─▶ sink
//!   sink ◀────── c0 ══ in0
//! ```
//!
//! Servers are behind `in0`, too, or (two arms) behind `out0`. In: a subject. Out: a world that
//! forwards, with one packet seen arriving as the subject's method wants it. Invariant: dropping a
//! world ends its processes and deletes its namespaces.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use xlvs_tests::bench::{Method, Outcome, Protocol, Software, Subject};
use xlvs_tests::netns::{Namespace, prefix_of};
use xlvs_tests::process::{self, Process};
use xlvs_tests::{director, lab, wait};

use crate::frame::{DIRECTOR_MAC, PORT, Segment, VIP, inspect, server_mac, template};
use crate::wire::{Flows, Pass, SERVERS, Wire};

/// Long enough for the kernel to verify the program in a virtual machine without acceleration, and for
/// a VRRP instance to become MASTER.
const PATIENCE: Duration = Duration::from_secs(120);
/// Flows that are only ever used to see whether a packet arrives.
const PROBES: u32 = 0x0fff_0000;

/// Where answers to the clients go: the sink does not count them.
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 1, 0, 1];

/// The cable's far end, the servers' side of the director.
struct Arm {
    /// The director's interface.
    interface: &'static str,
    /// First three bytes of the network.
    network: [u8; 3],
}

const IN: Arm = Arm {
    interface: "in0",
    network: [192, 0, 2],
};
const OUT: Arm = Arm {
    interface: "out0",
    network: [203, 0, 113],
};

/// A subject that stands ready.
pub(crate) struct World {
    pub(crate) subject: Subject,
    protocol: Protocol,
    two_arms: bool,
    wire: Wire,
    // Ends before its namespace does.
    agent: Option<Process>,
    director: Namespace,
    outside: Namespace,
    directory: PathBuf,
    probes: u32,
}

/// A world, or why there is none.
pub(crate) enum Raised {
    Ready(Box<World>),
    Not(Outcome),
}

impl World {
    /// Raises the world of one subject; `number` tells those of one process apart.
    pub(crate) fn raise(
        object: &Path,
        number: usize,
        subject: Subject,
        protocol: Protocol,
        two_arms: bool,
    ) -> Result<Raised> {
        let prefix = format!("{}{number}-", prefix_of(std::process::id()));
        let directory = lab::base_directory().join(prefix.trim_end_matches('-'));
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut world = Self {
            subject,
            protocol,
            two_arms,
            wire: Wire::load(object)?,
            agent: None,
            director: Namespace::create(&format!("{prefix}director"))?,
            outside: Namespace::create(&format!("{prefix}outside"))?,
            directory,
            probes: 0,
        };
        world.cables()?;
        if let Some(outcome) = world.set_up()? {
            return Ok(Raised::Not(outcome));
        }
        world.await_forwarding()?;
        Ok(Raised::Ready(Box::new(world)))
    }

    /// Sends packets; the share that arrives is the caller's to judge.
    pub(crate) fn send(&mut self, segment: Segment, flows: Flows) -> Result<Pass> {
        let expected = match self.subject.method() {
            Method::None => 0,
            _ => flows.packets,
        };
        let template = template(self.protocol, segment)?;
        self.wire
            .send(&self.outside, "c0", &template, flows, expected)
    }

    /// What opens a flow. Conntrack takes a TCP flow of which it sees one side from its ACKs on.
    pub(crate) fn opener(&self) -> Segment {
        match self.subject.software() {
            Software::Nft => Segment::Ack,
            _ => Segment::Syn,
        }
    }

    fn cables(&mut self) -> Result<()> {
        for namespace in [&self.director, &self.outside] {
            for setting in [
                "net.ipv6.conf.default.disable_ipv6=1",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0",
                "net.ipv4.conf.all.send_redirects=0",
                "net.ipv4.conf.default.send_redirects=0",
                "net.ipv4.ip_forward=1",
            ] {
                run(namespace, &format!("sysctl -qw {setting}"))?;
            }
        }
        let outside = self.outside.name().to_owned();
        for (arm, far, mac) in [
            (IN, "c0", mac_text(DIRECTOR_MAC)),
            (OUT, "s0", mac_text([2, 0, 0, 0, 1, 2])),
        ] {
            let near = arm.interface;
            self.ip(&format!(
                "link add {near} address {mac} type veth peer name {far} netns {outside}"
            ))?;
            self.ip(&format!("link set {near} up"))?;
            self.outside.ip(&["link", "set", far, "up"])?;
            let [a, b, c] = arm.network;
            self.ip(&format!("addr add {a}.{b}.{c}.254/24 dev {near}"))?;
            self.wire.attach("sink", &self.outside, far)?;
        }
        let arm = self.arm();
        for n in 1..=SERVERS {
            let (server, mac) = (self.server(n), mac_text(server_mac(n)));
            self.ip(&format!(
                "neigh add {server} lladdr {mac} dev {} nud permanent",
                arm.interface
            ))?;
        }
        // Where the clients are.
        let [a, b, c] = IN.network;
        let gateway = format!("{a}.{b}.{c}.253");
        self.ip(&format!(
            "neigh add {gateway} lladdr {} dev in0 nud permanent",
            mac_text(CLIENT_MAC)
        ))?;
        self.ip(&format!("route add 10.0.0.0/8 via {gateway}"))?;
        // A veth takes XDP frames only if it polls: GRO makes it so, as a NIC's driver always does.
        run(&self.director, "ethtool -K in0 gro on")
    }

    /// Sets the subject up; why it cannot be, if this build does not do it.
    fn set_up(&mut self) -> Result<Option<Outcome>> {
        let first = self.server(1);
        match self.subject {
            Subject::XdpDrop => self.wire.attach("drop_all", &self.director, "in0")?,
            Subject::SwapMacs => self.wire.attach("swap_macs", &self.director, "in0")?,
            Subject::Route => drop(self.ip(&format!("route add {VIP} via {first}"))?),
            Subject::NftDnat => self.nft()?,
            Subject::IpvsDr => self.ipvs("-g")?,
            Subject::IpvsNat => self.ipvs("-m")?,
            Subject::IpvsTun => self.ipvs("-i")?,
            Subject::XlvsDr => return self.xlvs("DR"),
            Subject::XlvsNat => return self.xlvs("NAT"),
            Subject::XlvsTun => return self.xlvs("TUN"),
        }
        Ok(None)
    }

    fn nft(&self) -> Result<()> {
        // Checking sums is a NIC's work.
        run(
            &self.director,
            "sysctl -qw net.netfilter.nf_conntrack_checksum=0",
        )?;
        let servers: Vec<String> = (1..=SERVERS)
            .map(|n| format!("{} : {}", n - 1, self.server(n)))
            .collect();
        let rules = format!(
            "table ip balance {{\n  chain prerouting {{\n    type nat hook prerouting priority dstnat;\n    \
             ip daddr {VIP} meta l4proto {{ tcp, udp }} dnat to numgen inc mod {SERVERS} map {{ {} }}\n  }}\n}}\n",
            servers.join(", ")
        );
        let file = self.directory.join("rules.nft");
        std::fs::write(&file, rules)?;
        run(&self.director, &format!("nft -f {}", file.display()))
    }

    fn ipvs(&self, method: &str) -> Result<()> {
        self.ip(&format!("addr add {VIP}/32 dev lo"))?;
        for kind in ["--tcp-service", "--udp-service"] {
            let service = format!("{kind} {VIP}:{PORT}");
            run(&self.director, &format!("ipvsadm -A {service} -s wrr"))?;
            for n in 1..=SERVERS {
                let server = self.server(n);
                run(
                    &self.director,
                    &format!("ipvsadm -a {service} -r {server}:{PORT} {method} -w 1"),
                )?;
            }
        }
        Ok(())
    }

    fn xlvs(&mut self, kind: &str) -> Result<Option<Outcome>> {
        let file = self.directory.join("keepalived.conf");
        std::fs::write(&file, self.config(kind))?;
        let binary = director::binary()?;
        let check = process::command(&self.director, &binary)?
            .args(["check", "--json"])
            .arg(&file)
            .output()
            .context("cannot start xlvs check")?;
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        let mut refused = false;
        for line in said.lines() {
            let finding: serde_json::Value = serde_json::from_str(line)?;
            if finding["severity"] == "error" {
                let of_kind = finding["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(kind));
                ensure!(
                    finding["code"] == "not-supported" && of_kind,
                    "xlvs refuses the configuration: {said}"
                );
                refused = true;
            }
        }
        if refused {
            return Ok(Some(Outcome::NotSupported));
        }
        let mut command = process::command(&self.director, &binary)?;
        command.arg("run").arg("--config").arg(&file);
        command
            .arg("--control")
            .arg(self.directory.join("control.sock"));
        let log = self.directory.join("daemon.log");
        self.agent = Some(Process::start("xlvs", command, &log)?);
        Ok(None)
    }

    fn config(&self, kind: &str) -> String {
        let mut text = format!(
            "global_defs {{\n    router_id bench\n}}\n\n\
             vrrp_instance bench {{\n    state MASTER\n    interface in0\n    virtual_router_id 51\n    \
             priority 100\n    advert_int 1\n    virtual_ipaddress {{\n        {VIP}\n    }}\n}}\n"
        );
        let protocol = self.protocol.name();
        text += &format!(
            "\nvirtual_server {VIP} {PORT} {{\n    lb_algo wrr\n    lb_kind {kind}\n    protocol {protocol}\n"
        );
        for n in 1..=SERVERS {
            let server = self.server(n);
            text += &format!("    real_server {server} {PORT} {{\n        weight 1\n    }}\n");
        }
        text + "}\n"
    }

    /// Sends one packet of a flow of its own at a time until one arrives, and looks at it.
    fn await_forwarding(&mut self) -> Result<()> {
        if self.subject.method() == Method::None {
            return Ok(());
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let flows = Flows {
                first: PROBES + self.probes,
                count: 1,
                packets: 1,
            };
            self.probes += 1;
            let pass = self.send(self.opener(), flows)?;
            if pass.received() > 0 {
                self.inspect(&pass)?;
                break;
            }
            if let Some(status) = self.agent.as_mut().and_then(Process::ended) {
                bail!("xlvs ended ({status}): {}", self.log());
            }
            ensure!(
                Instant::now() < end,
                "no packet arrives; {} {}",
                self.log(),
                self.ip("-s link")?
            );
        }
        if self.subject.software() == Software::Xlvs {
            wait::until_true(PATIENCE, "xlvs to be attached in the driver", || {
                self.is_native().unwrap_or(false)
            })?;
        }
        Ok(())
    }

    /// The first frame that arrived, as its server sees it.
    fn inspect(&self, pass: &Pass) -> Result<()> {
        let number = (0u8..).zip(&pass.servers).find(|(_, count)| **count > 0);
        let (n, _) = number.context("no server has a packet")?;
        let sample = self.wire.sample(n)?;
        inspect(
            &sample,
            self.subject.method(),
            self.protocol,
            self.server(n),
        )
        .with_context(|| format!("server {n} of {}", self.subject.name()))
    }

    /// linux/if_link.h: XDP_ATTACHED_DRV is 1.
    fn is_native(&self) -> Result<bool> {
        let text = self.ip("-j -d link show dev in0")?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        Ok(links[0]["xdp"]["mode"].as_u64() == Some(1))
    }

    fn log(&self) -> String {
        self.agent.as_ref().map(Process::log).unwrap_or_default()
    }

    fn arm(&self) -> Arm {
        if self.two_arms { OUT } else { IN }
    }

    fn server(&self, n: u8) -> Ipv4Addr {
        let [a, b, c] = self.arm().network;
        Ipv4Addr::new(a, b, c, n)
    }

    fn ip(&self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.director.ip(&words)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.agent = None;
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Runs a program inside; an error carries what it said.
fn run(namespace: &Namespace, line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("no command")?;
    let output = process::command(namespace, program)?
        .args(words)
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
