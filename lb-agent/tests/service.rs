// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent as a service of systemd, and what it adds to its host for itself: one agent in
//! a network namespace, a datagram socket in systemd's place.
//!
//! Needs root and iproute2. Every wait is for a condition, with a deadline far beyond what it
//! takes.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(20);

const FILE: &str = "static_ipaddress {\n10.9.0.7/24 dev e1\n}\nstatic_routes {\n\
    10.50.0.0/16 via 10.9.0.2 dev e1\n}\nstatic_rules {\nfrom 10.50.0.0/16 table 77 preference 9\n\
    }\nvrrp_instance A {\ninterface e0\nvirtual_router_id 5\npriority 200\nversion 3\n\
    advert_int 0.1\nvirtual_ipaddress {\n192.0.2.9\n}\nvirtual_routes {\n\
    10.60.0.0/16 via 192.0.2.2 dev e0\n}\nvirtual_rules {\nfrom 10.60.0.0/16 table 78 preference 8\n\
    }\n}\n";

/// A namespace with a veth pair inside, a directory, systemd's socket, and the agent.
struct Service {
    name: String,
    dir: std::path::PathBuf,
    systemd: UnixDatagram,
    agent: Child,
}

impl Service {
    fn start(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root (run: sudo -E cargo test -p lb-agent --test service)");
            return None;
        }
        let name = format!("sv-{test}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        ip(&["netns", "add", &name]);
        ip(&[
            "-n", &name, "link", "add", "e0", "type", "veth", "peer", "name", "e1",
        ]);
        for (device, address) in [("e0", "192.0.2.1/24"), ("e1", "10.9.0.1/24")] {
            ip(&["-n", &name, "addr", "add", address, "dev", device]);
            ip(&["-n", &name, "link", "set", device, "up"]);
        }
        let file = |name: &str| dir.join(name).into_os_string().into_string().unwrap();
        std::fs::write(file("conf"), FILE).unwrap();
        let systemd = UnixDatagram::bind(file("notify")).unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let agent = Command::new("ip")
            .args(["netns", "exec", &name, env!("CARGO_BIN_EXE_xlvs"), "run"])
            .args(["-f", &file("conf"), "--control", &file("control")])
            .env("NOTIFY_SOCKET", file("notify"))
            .env("WATCHDOG_USEC", "200000")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self {
            name,
            dir,
            systemd,
            agent,
        })
    }

    /// Waits until systemd is told `word`.
    fn hears(&self, word: &str) {
        let mut buffer = [0; 4096];
        loop {
            let length = self.systemd.recv(&mut buffer);
            let length =
                length.unwrap_or_else(|cause| panic!("systemd never heard {word}: {cause}"));
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text.lines().any(|line| line == word) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.agent.id().cast_signed()), signal).unwrap();
    }

    fn shown(&self, words: &[&str]) -> String {
        ip(&[&["-n", self.name.as_str()], words].concat())
    }

    fn eventually(&self, words: &[&str], part: &str, there: bool) {
        let start = std::time::Instant::now();
        while self.shown(words).contains(part) != there {
            assert!(
                start.elapsed() < PATIENCE,
                "{part} in {}",
                self.shown(words)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn systemd_hears_of_start_life_reload_and_end() {
    let Some(mut service) = Service::start("systemd") else {
        return;
    };
    service.hears("READY=1");
    service.hears("WATCHDOG=1");
    service.hears("WATCHDOG=1");
    service.signal(Signal::SIGHUP);
    service.hears("RELOADING=1");
    service.hears("READY=1");
    service.signal(Signal::SIGTERM);
    service.hears("STOPPING=1");
    assert!(service.agent.wait().unwrap().success());
}

#[test]
fn what_is_static_stays_and_what_is_virtual_follows_the_role() {
    let Some(mut service) = Service::start("static") else {
        return;
    };
    service.hears("READY=1");
    for (words, part) in [
        (&["addr"][..], "10.9.0.7/24"),
        (&["route"], "10.50.0.0/16 via 10.9.0.2"),
        (&["rule"], "from 10.50.0.0/16 lookup 77"),
    ] {
        service.eventually(words, part, true);
    }
    let of_master = [
        (&["addr"][..], "192.0.2.9/32"),
        (&["route"], "10.60.0.0/16 via 192.0.2.2"),
        (&["rule"], "from 10.60.0.0/16 lookup 78"),
    ];
    for (words, part) in of_master {
        service.eventually(words, part, true);
    }
    // The interface goes, and the role with it.
    ip(&["-n", &service.name, "link", "set", "e1", "down"]);
    for (words, part) in of_master {
        service.eventually(words, part, false);
    }
    ip(&["-n", &service.name, "link", "set", "e1", "up"]);
    service.eventually(&["rule"], "lookup 78", true);
    service.signal(Signal::SIGTERM);
    assert!(service.agent.wait().unwrap().success());
    for (words, part) in [
        (&["addr"][..], "10.9.0.7"),
        (&["addr"], "192.0.2.9"),
        (&["route"], "10.60.0.0"),
        (&["rule"], "lookup 7"),
    ] {
        assert!(!service.shown(words).contains(part), "{part} is left");
    }
}

#[test]
fn an_agent_whose_supervisor_is_killed_releases_and_ends() {
    let Some(mut service) = Service::start("orphan") else {
        return;
    };
    service.hears("READY=1");
    service.eventually(&["addr"], "192.0.2.9/32", true);
    service.signal(Signal::SIGUSR1);
    service.signal(Signal::SIGKILL);
    assert!(!service.agent.wait().unwrap().success());
    service.eventually(&["addr"], "192.0.2.9", false);
    service.eventually(&["addr"], "10.9.0.7", false);
}

#[test]
fn a_crashed_agent_is_back_without_its_address_having_been_away() {
    let Some(mut service) = Service::start("crash") else {
        return;
    };
    service.hears("READY=1");
    service.eventually(&["addr"], "192.0.2.9/32", true);
    let supervisor = service.agent.id();
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let child = || std::fs::read_to_string(&children).unwrap();
    let first = child();
    let pid: i32 = first.trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    // The next one says so, through the same supervisor.
    service.hears("READY=1");
    assert_ne!(child(), first);
    service.eventually(&["addr"], "192.0.2.9/32", true);
    service.signal(Signal::SIGTERM);
    service.hears("STOPPING=1");
    assert!(service.agent.wait().unwrap().success());
    service.eventually(&["addr"], "192.0.2.9", false);
}
