// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tracking as an operator sees it: two agents in two network namespaces, real scripts, a real
//! process that is killed, a real interface that goes down.
//!
//! Needs root and iproute2. Every wait is for a condition, with a deadline far beyond what it
//! takes.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const VIP: &str = "192.0.2.100";

/// Two namespaces joined by a veth pair called `e0` on both ends, each with an interface
/// `d0`, and a directory for files. All of it goes with this value.
struct Lan {
    hosts: [String; 2],
    dir: PathBuf,
}

impl Lan {
    fn new() -> Option<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root (run: sudo -E cargo test -p lb-agent --test tracking)");
            return None;
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let id = format!("tr-{}-{serial}", std::process::id());
        let lan = Self {
            hosts: [format!("{id}-a"), format!("{id}-b")],
            dir: std::env::temp_dir().join(&id),
        };
        fs::create_dir_all(&lan.dir).unwrap();
        let [a, b] = &lan.hosts;
        ip(&["netns", "add", a]);
        ip(&["netns", "add", b]);
        ip(&[
            "link", "add", "e0", "netns", a, "type", "veth", "peer", "name", "e0", "netns", b,
        ]);
        for (host, address) in [(a, "192.0.2.1/24"), (b, "192.0.2.2/24")] {
            ip(&["-n", host, "addr", "add", address, "dev", "e0"]);
            ip(&["-n", host, "link", "set", "e0", "up"]);
            add_d0(host);
        }
        Some(lan)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn holds_vip(&self, host: usize) -> bool {
        ip(&["-n", &self.hosts[host], "addr", "show", "dev", "e0"]).contains(VIP)
    }

    /// A copy of `sleep` under a name of this LAN's own, so that `pidof` finds nothing else.
    fn server(&self, host: usize) -> Server {
        let name = format!("ngx{}", self.hosts[host]);
        let path = self.path(&name);
        if !PathBuf::from(&path).exists() {
            fs::copy("/bin/sleep", &path).unwrap();
        }
        let child = Command::new(path).arg("3600").spawn().unwrap();
        Server { child, name }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = Command::new("ip").args(["netns", "del", host]).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// An interface to be tracked, with a carrier.
fn add_d0(host: &str) {
    ip(&[
        "-n", host, "link", "add", "d0", "type", "veth", "peer", "name", "d1",
    ]);
    ip(&["-n", host, "link", "set", "d1", "up"]);
    ip(&["-n", host, "link", "set", "d0", "up"]);
}

/// A process that stands for nginx.
struct Server {
    child: Child,
    name: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `xlvs run` in a namespace.
struct Agent {
    child: Child,
    control: String,
}

impl Agent {
    fn start(lan: &Lan, host: usize, config: &str) -> Self {
        let namespace = &lan.hosts[host];
        let (file, control) = (
            lan.path(&format!("{host}.conf")),
            lan.path(&format!("{host}.sock")),
        );
        fs::write(&file, config).unwrap();
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                namespace,
                env!("CARGO_BIN_EXE_xlvs"),
                "run",
            ])
            .args(["-f", &file, "--control", &control])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, control }
    }

    /// The first instance, once the agent answers.
    fn status(&self) -> Option<Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_xlvs"))
            .args(["status", "--json", "--control", &self.control])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(status["instances"][0].clone())
    }

    fn is(&self, state: &str, priority: u8) {
        let mut seen = Value::Null;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            seen = self.status().unwrap_or_default();
            if seen["state"] == state && seen["effective_priority"] == priority {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not {state} with priority {priority}: {seen:#}");
    }

    fn signal(&self, signal: Signal) {
        // `ip netns exec` becomes what it runs.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// Stops as an operator does; the exit status is a success.
    fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.child.wait().unwrap().success());
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A file in the manner of the tutorials: `script` is the body of `vrrp_script`, `more` stands in
/// the instance.
fn config(priority: u8, script: &str, more: &str) -> String {
    format!(
        "vrrp_script chk_nginx {{\n{script}\n}}\n\
         vrrp_instance VI_1 {{\n state BACKUP\n interface e0\n virtual_router_id 51\n version 3\n \
         advert_int 0.1\n priority {priority}\n virtual_ipaddress {{\n {VIP}\n }}\n{more}\n}}\n"
    )
}

fn pidof(priority: u8, server: &Server, more: &str) -> String {
    let script = format!(
        "script \"pidof {}\"\ninterval 0.1\ntimeout 10\n{more}",
        server.name
    );
    config(priority, &script, "track_script {\nchk_nginx\n}")
}

#[test]
fn without_weight_a_dead_server_is_a_fault_and_its_return_ends_it() {
    let Some(lan) = Lan::new() else { return };
    let (server, other) = (lan.server(0), lan.server(1));
    let a = Agent::start(&lan, 0, &pidof(100, &server, ""));
    let b = Agent::start(&lan, 1, &pidof(90, &other, ""));
    a.is("MASTER", 100);
    b.is("BACKUP", 90);
    let track = a.status().unwrap()["tracks"][0].clone();
    assert_eq!(
        (
            &track["kind"],
            &track["name"],
            &track["up"],
            &track["weight"]
        ),
        (
            &"script".into(),
            &"chk_nginx".into(),
            &true.into(),
            &0.into()
        )
    );

    drop(server);
    a.is("FAULT", 100);
    b.is("MASTER", 90);
    assert!(!lan.holds_vip(0) && lan.holds_vip(1));
    assert_eq!(a.status().unwrap()["tracks"][0]["up"], false);

    let _server = lan.server(0);
    a.is("MASTER", 100);
    b.is("BACKUP", 90);
    assert!(lan.holds_vip(0) && !lan.holds_vip(1));
    a.stop();
    b.is("MASTER", 90);
    b.stop();
}

#[test]
fn a_weight_moves_the_addresses_only_when_it_bridges_the_distance() {
    let Some(lan) = Lan::new() else { return };
    for (weight, distance, moves) in [(2, 10, false), (3, 2, true)] {
        let (server, other) = (lan.server(0), lan.server(1));
        let weighted = format!("weight {weight}");
        let a = Agent::start(&lan, 0, &pidof(100, &server, &weighted));
        let b = Agent::start(&lan, 1, &pidof(100 - distance, &other, &weighted));
        let of_b = 100 - distance + weight;
        a.is("MASTER", 100 + weight);
        b.is("BACKUP", of_b);
        drop(server);
        if moves {
            b.is("MASTER", of_b);
            a.is("BACKUP", 100);
        } else {
            // The lower priority is on the wire, and the other one still hears a higher one.
            a.is("MASTER", 100);
            let heard = |agent: &Agent| {
                let counters = agent.status().unwrap_or_default()["counters"].clone();
                counters["advert_rcvd"].as_u64().unwrap_or(0)
            };
            let before = heard(&b);
            eventually("adverts for several down intervals", || {
                heard(&b) > before + 10
            });
            a.is("MASTER", 100);
            b.is("BACKUP", of_b);
        }
        a.stop();
        b.stop();
    }
}

#[test]
fn a_script_may_stop_the_agent_that_runs_it() {
    let Some(lan) = Lan::new() else { return };
    let marker = lan.path("nginx-is-fine");
    fs::write(&marker, "").unwrap();
    let check = lan.path("check_nginx.sh");
    // The script's parent is the agent.
    fs::write(
        &check,
        format!("#!/bin/sh\ntest -e {marker} || kill $PPID\n"),
    )
    .unwrap();
    assert!(
        Command::new("chmod")
            .args(["755", &check])
            .status()
            .unwrap()
            .success()
    );
    let script = format!("script \"{check}\"\ninterval 0.1\ntimeout 10\nweight 2\nuser root");
    let tracked = "track_script {\nchk_nginx\n}";
    let mut a = Agent::start(&lan, 0, &config(100, &script, tracked));
    a.is("MASTER", 102);
    let b = Agent::start(&lan, 1, &config(90, "script /bin/true\nweight 2", tracked));
    b.is("BACKUP", 92);
    fs::remove_file(&marker).unwrap();
    b.is("MASTER", 92);
    eventually("the address to go", || !lan.holds_vip(0));
    let start = Instant::now();
    while !a.has_ended() {
        assert!(start.elapsed() < PATIENCE, "the agent goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
    b.stop();
}

#[test]
fn a_script_that_is_not_there_does_not_count() {
    let Some(lan) = Lan::new() else { return };
    let tracked = "track_script {\nchk_nginx\n}";
    let script = "script \"/data/sh/check_nginx.sh\"\ninterval 2\nweight 2";
    let a = Agent::start(&lan, 0, &config(100, script, tracked));
    a.is("MASTER", 100);
    assert_eq!(a.status().unwrap()["tracks"][0]["state"], "disabled");
    a.stop();
}

#[test]
fn a_tracked_interface_is_a_fault_while_down_and_a_weight_when_it_has_one() {
    let Some(lan) = Lan::new() else { return };
    let host = &lan.hosts[0];
    let script = "script /bin/true";
    let a = Agent::start(&lan, 0, &config(100, script, "track_interface {\nd0\n}"));
    a.is("MASTER", 100);
    ip(&["-n", host, "link", "set", "d0", "down"]);
    a.is("FAULT", 100);
    assert!(!lan.holds_vip(0));
    ip(&["-n", host, "link", "set", "d0", "up"]);
    a.is("MASTER", 100);
    ip(&["-n", host, "link", "del", "d0"]);
    a.is("FAULT", 100);
    add_d0(host);
    a.is("MASTER", 100);
    // A reload takes the track's weight over.
    let weighted = config(100, script, "track_interface {\nd0 weight -30\n}");
    fs::write(lan.path("0.conf"), weighted).unwrap();
    a.signal(Signal::SIGHUP);
    eventually("the weight", || {
        a.status().unwrap_or_default()["tracks"][0]["weight"] == -30
    });
    a.is("MASTER", 100);
    ip(&["-n", host, "link", "set", "d0", "down"]);
    a.is("MASTER", 70);
    a.stop();
}

#[test]
fn with_dont_track_primary_the_own_interface_may_lose_its_carrier() {
    let Some(lan) = Lan::new() else { return };
    let [one, other] = &lan.hosts;
    let script = "script /bin/true";
    let a = Agent::start(
        &lan,
        0,
        &config(
            100,
            script,
            "dont_track_primary\ntrack_interface {\nd0 weight 5\n}",
        ),
    );
    a.is("MASTER", 105);
    ip(&["-n", other, "link", "set", "e0", "down"]);
    // The weight's change shows that the agent has heard of what came before it.
    ip(&["-n", one, "link", "set", "d0", "down"]);
    a.is("MASTER", 100);
    assert!(lan.holds_vip(0));
    let b = Agent::start(&lan, 1, &config(90, script, ""));
    b.is("FAULT", 90);
    a.stop();
    b.stop();
}

#[test]
fn notify_scripts_are_told_of_every_change_in_order_and_of_the_end() {
    let Some(lan) = Lan::new() else { return };
    let told = lan.path("told");
    let script = "script /bin/true";
    let more = format!(
        "track_interface {{\nd0\n}}\nnotify_master \"sh -c 'echo up >> {told}'\" root\n\
         notify \"sh -c 'echo $0 $* >> {told}' any\""
    );
    let a = Agent::start(&lan, 0, &config(100, script, &more));
    a.is("MASTER", 100);
    ip(&["-n", &lan.hosts[0], "link", "set", "d0", "down"]);
    a.is("FAULT", 100);
    a.stop();
    assert_eq!(
        fs::read_to_string(told).unwrap(),
        "any INSTANCE VI_1 BACKUP 100\nup\nany INSTANCE VI_1 MASTER 100\n\
         any INSTANCE VI_1 FAULT 100\nany INSTANCE VI_1 STOP 100\n"
    );
}

#[test]
fn the_members_of_a_sync_group_fail_and_recover_together() {
    let Some(lan) = Lan::new() else { return };
    let second = "}\nvrrp_instance VI_2 {\n interface e0\n virtual_router_id 52\n version 3\n \
                  advert_int 0.1\n virtual_ipaddress {\n 192.0.2.101\n }\n";
    let file = |priority: u8, tracked: &str| {
        let told = lan.path(&format!("told-{priority}"));
        let group = format!(
            "}}\nvrrp_sync_group G {{\n group {{\n VI_1\n VI_2\n }}\n \
             notify \"sh -c 'echo $* >> {told}' any\""
        );
        let more = format!("{tracked}\n{second}priority {priority}\n{group}");
        config(priority, "script /bin/true", &more)
    };
    let a = Agent::start(&lan, 0, &file(100, "track_interface {\nd0\n}"));
    let b = Agent::start(&lan, 1, &file(90, ""));
    let holds = |host: usize| {
        let addresses = ip(&["-n", &lan.hosts[host], "addr", "show", "dev", "e0"]);
        [VIP, "192.0.2.101"].map(|vip| addresses.contains(&format!("{vip}/")))
    };
    eventually("all addresses on the first", || holds(0) == [true; 2]);
    assert_eq!(holds(1), [false; 2]);
    assert_eq!(a.status().unwrap()["group"], "G");
    ip(&["-n", &lan.hosts[0], "link", "set", "d0", "down"]);
    eventually("all addresses on the second", || holds(1) == [true; 2]);
    assert_eq!(holds(0), [false; 2]);
    ip(&["-n", &lan.hosts[0], "link", "set", "d0", "up"]);
    eventually("all addresses back on the first", || holds(0) == [true; 2]);
    eventually("none on the second", || holds(1) == [false; 2]);
    b.stop();
    a.stop();
    let told = fs::read_to_string(lan.path("told-100")).unwrap();
    let states = ["BACKUP", "MASTER", "FAULT", "BACKUP", "MASTER", "STOP"];
    let expected: String = states.map(|state| format!("GROUP G {state} 0\n")).concat();
    assert_eq!(told, expected);
}

#[test]
fn excluded_addresses_move_with_the_others_and_are_not_in_adverts() {
    let Some(lan) = Lan::new() else { return };
    let excluded = "virtual_ipaddress_excluded {\n192.0.2.102/24\n}";
    let a = Agent::start(&lan, 0, &config(100, "script /bin/true", excluded));
    // A peer that does not know of them finds nothing odd in the adverts.
    let b = Agent::start(&lan, 1, &config(90, "script /bin/true", ""));
    a.is("MASTER", 100);
    let counter = |name: &str| b.status().unwrap_or_default()["counters"][name].as_u64();
    eventually("adverts", || counter("advert_rcvd") > Some(5));
    assert_eq!(counter("addr_list_err"), Some(0));
    let addresses = || ip(&["-n", &lan.hosts[0], "addr", "show", "dev", "e0"]);
    assert!(addresses().contains("192.0.2.102/24"));
    a.stop();
    assert!(!addresses().contains("192.0.2.102"));
    b.stop();
}
