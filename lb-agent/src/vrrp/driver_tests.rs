// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver on a real link: network namespaces, a veth pair, raw sockets, kernel addresses.
//!
//! Needs root; keepalived as a peer where it is installed. Every wait is for a condition, with a
//! deadline far beyond what it takes.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nix::sched::{CloneFlags, setns};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::config::model::{Auth, InitialState, VirtualAddress, VrrpVersion};
use crate::netlink::addrs;
use crate::netlink::watch::LinkEvent;

const PATIENCE: Duration = Duration::from_secs(20);
const VIP: &str = "192.0.2.100";

/// Two namespaces joined by a veth pair called `e0` on both ends: 192.0.2.1 and 192.0.2.2.
struct Lan {
    names: [String; 2],
}

impl Lan {
    fn new() -> Option<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root (run: sudo -E cargo test -p lb-agent --lib vrrp)");
            return None;
        }
        let id = format!(
            "{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let lan = Self {
            names: [format!("vr-{id}-a"), format!("vr-{id}-b")],
        };
        let [a, b] = &lan.names;
        ip(&["netns", "add", a]);
        ip(&["netns", "add", b]);
        ip(&[
            "link", "add", "e0", "netns", a, "type", "veth", "peer", "name", "e0", "netns", b,
        ]);
        for (name, address) in [(a, "192.0.2.1/24"), (b, "192.0.2.2/24")] {
            ip(&["-n", name, "addr", "add", address, "dev", "e0"]);
            ip(&["-n", name, "link", "set", "e0", "up"]);
        }
        Some(lan)
    }

    fn holds_vip(&self, host: usize) -> bool {
        ip(&["-n", &self.names[host], "addr", "show", "dev", "e0"]).contains(VIP)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
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
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Addresses only; a claim fails while `broken`.
struct AddressHost {
    netlink: Handle,
    broken: bool,
}

impl AddressHost {
    async fn ifindex(&self, instance: &VrrpInstance) -> Result<u32, String> {
        let link = links::find(&self.netlink, &instance.interface).await;
        link.map(|link| link.ifindex).map_err(|e| e.to_string())
    }
}

impl Host for AddressHost {
    type Error = String;

    async fn claim(&mut self, instance: &VrrpInstance) -> Result<(), String> {
        if self.broken {
            return Err("the test broke this host".to_owned());
        }
        let ifindex = self.ifindex(instance).await?;
        for vip in &instance.vips {
            addrs::add(&self.netlink, ifindex, vip)
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn detach(&mut self, _: &VrrpInstance) {}

    async fn release(&mut self, instance: &VrrpInstance) -> Result<(), String> {
        let Ok(ifindex) = self.ifindex(instance).await else {
            return Ok(());
        };
        for vip in &instance.vips {
            addrs::remove(&self.netlink, ifindex, vip)
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn state_changed(&mut self, _: &VrrpInstance, _: State, _: State, _: Reason) {}

    fn notify(&mut self, _: Notice<'_>) {}
}

enum Order {
    Reconfigure(Vec<VrrpInstance>),
    InterfaceChanged(bool),
    Break,
    Crash,
}

/// An agent in a thread of its own, because namespaces belong to threads.
struct Agent {
    orders: mpsc::UnboundedSender<Order>,
    status: watch::Receiver<Vec<InstanceStatus>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Agent {
    fn start(lan: &Lan, host: usize, instances: Vec<VrrpInstance>) -> Self {
        let path = format!("/var/run/netns/{}", lan.names[host]);
        let (orders, inbox) = mpsc::unbounded_channel();
        let (publish, status) = watch::channel(Vec::new());
        let thread = std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(instances, inbox, publish));
        });
        Self {
            orders,
            status,
            thread: Some(thread),
        }
    }

    fn state(&self) -> Option<State> {
        self.status.borrow().first().map(|status| status.state)
    }

    fn is(&self, state: State) {
        eventually(&format!("{state}"), || self.state() == Some(state));
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    fn counter(&self, name: &str) -> u64 {
        let status = self.status.borrow();
        let json = serde_json::to_value(&*status).unwrap();
        json[0]["counters"][name].as_u64().unwrap_or(0)
    }

    /// Stops as SIGTERM does.
    fn stop(mut self) {
        let Self { orders, thread, .. } = &mut self;
        *orders = mpsc::unbounded_channel().0;
        thread.take().unwrap().join().unwrap();
    }

    /// Stops as SIGKILL does: nothing is released.
    fn crash(mut self) {
        self.order(Order::Crash);
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn run(
    instances: Vec<VrrpInstance>,
    mut inbox: mpsc::UnboundedReceiver<Order>,
    publish: watch::Sender<Vec<InstanceStatus>>,
) {
    let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let ifindex = links::find(&netlink, "e0").await.unwrap().ifindex;
    let host = AddressHost {
        netlink: netlink.clone(),
        broken: false,
    };
    let mut driver = Driver::new(host, netlink);
    driver.reconfigure(instances).await;
    loop {
        publish.send_replace(driver.snapshot());
        tokio::select! {
            event = driver.next_event() => driver.handle(event).await,
            order = inbox.recv() => match order {
                Some(Order::Reconfigure(instances)) => driver.reconfigure(instances).await,
                Some(Order::InterfaceChanged(up)) => {
                    let link = LinkEvent {
                        ifindex,
                        name: "e0".to_owned(),
                        up,
                        present: true,
                        mac: None,
                        mtu: 0,
                    };
                    driver.interface_changed(&link).await;
                }
                Some(Order::Break) => driver.host().broken = true,
                Some(Order::Crash) => return,
                None => break,
            },
        }
    }
    driver.shutdown().await;
}

fn instance(version: VrrpVersion, priority: u8) -> VrrpInstance {
    VrrpInstance {
        name: "VI_1".to_owned(),
        state: InitialState::Backup,
        interface: "e0".to_owned(),
        vrid: 51,
        priority,
        version,
        advert_interval: match version {
            VrrpVersion::V2 => Duration::from_secs(1),
            VrrpVersion::V3 => Duration::from_millis(100),
        },
        preempt: true,
        preempt_delay: Duration::ZERO,
        auth: match version {
            VrrpVersion::V2 => Auth::Pass(*b"secret\0\0"),
            VrrpVersion::V3 => Auth::None,
        },
        mcast_group: "224.0.0.18".parse().unwrap(),
        source: None,
        unicast_peers: Vec::new(),
        vips: vec![VirtualAddress {
            addr: VIP.parse().unwrap(),
            prefix_len: 32,
            dev: None,
            label: None,
            broadcast: None,
            scope: 0,
        }],
        excluded: Vec::new(),
        track_primary: true,
        tracks: Vec::new(),
        notify: crate::config::model::Notify::default(),
        group: None,
    }
}

fn v3(priority: u8) -> Vec<VrrpInstance> {
    vec![instance(VrrpVersion::V3, priority)]
}

#[test]
fn two_agents_elect_hand_over_and_preempt() {
    let Some(lan) = Lan::new() else { return };
    let (a, b) = (
        Agent::start(&lan, 0, v3(150)),
        Agent::start(&lan, 1, v3(100)),
    );
    a.is(State::Master);
    b.is(State::Backup);
    assert!(lan.holds_vip(0) && !lan.holds_vip(1));

    a.stop();
    assert!(!lan.holds_vip(0), "a graceful stop removes the address");
    b.is(State::Master);
    eventually("the address on the peer", || lan.holds_vip(1));
    assert_eq!(b.counter("pri_zero_rcvd"), 1);

    let a = Agent::start(&lan, 0, v3(150));
    a.is(State::Master);
    b.is(State::Backup);
    assert!(lan.holds_vip(0) && !lan.holds_vip(1));
    assert_eq!(
        b.status.borrow()[0].master,
        Some("192.0.2.1".parse().unwrap())
    );
    a.stop();
    b.stop();
    assert!(!lan.holds_vip(0) && !lan.holds_vip(1));
}

#[test]
fn an_agent_removes_what_a_killed_one_left() {
    let Some(lan) = Lan::new() else { return };
    let a = Agent::start(&lan, 0, v3(150));
    a.is(State::Master);
    let b = Agent::start(&lan, 1, v3(100));
    b.is(State::Backup);
    a.crash();
    assert!(lan.holds_vip(0), "the address outlives the agent");
    b.is(State::Master);
    let a = Agent::start(&lan, 0, v3(50));
    a.is(State::Backup);
    assert!(!lan.holds_vip(0), "a BACKUP holds no address");
    a.stop();
    b.stop();
}

#[test]
fn unicast_peers_elect_too() {
    let Some(lan) = Lan::new() else { return };
    let unicast = |priority, peer: &str| {
        let mut config = v3(priority);
        config[0].unicast_peers = vec![peer.parse().unwrap()];
        config
    };
    let a = Agent::start(&lan, 0, unicast(150, "192.0.2.2"));
    let b = Agent::start(&lan, 1, unicast(100, "192.0.2.1"));
    a.is(State::Master);
    eventually("adverts", || b.counter("advert_rcvd") >= 5);
    b.is(State::Backup);
    a.stop();
    b.is(State::Master);
    b.stop();
}

#[test]
fn a_master_that_cannot_claim_hands_over() {
    let Some(lan) = Lan::new() else { return };
    let b = Agent::start(&lan, 1, v3(100));
    let a = Agent::start(&lan, 0, v3(150));
    a.order(Order::Break);
    a.is(State::Fault);
    b.is(State::Master);
    a.stop();
    b.stop();
}

#[test]
fn an_interface_that_goes_is_a_fault_and_one_that_comes_ends_it() {
    let Some(lan) = Lan::new() else { return };
    let a = Agent::start(&lan, 0, v3(150));
    a.is(State::Master);
    ip(&["-n", &lan.names[0], "link", "set", "e0", "down"]);
    a.order(Order::InterfaceChanged(false));
    a.is(State::Fault);
    assert!(!lan.holds_vip(0));
    ip(&["-n", &lan.names[0], "link", "set", "e0", "up"]);
    a.order(Order::InterfaceChanged(true));
    a.is(State::Master);
    a.stop();
}

#[test]
fn a_lost_interface_is_noticed_and_found_again_without_being_told() {
    let Some(lan) = Lan::new() else { return };
    let [a, b] = &lan.names;
    let agent = Agent::start(&lan, 0, v3(150));
    agent.is(State::Master);
    ip(&["-n", a, "link", "del", "e0"]);
    agent.is(State::Fault);
    ip(&[
        "link", "add", "e0", "netns", a, "type", "veth", "peer", "name", "e0", "netns", b,
    ]);
    ip(&["-n", a, "addr", "add", "192.0.2.1/24", "dev", "e0"]);
    ip(&["-n", a, "link", "set", "e0", "up"]);
    ip(&["-n", b, "link", "set", "e0", "up"]);
    agent.is(State::Master);
    assert!(lan.holds_vip(0));
    agent.stop();
}

#[test]
fn a_reload_touches_only_what_changed() {
    let Some(lan) = Lan::new() else { return };
    let other = |priority| VrrpInstance {
        name: "VI_2".to_owned(),
        vrid: 52,
        vips: Vec::new(),
        ..instance(VrrpVersion::V3, priority)
    };
    let first = instance(VrrpVersion::V3, 150);
    let a = Agent::start(&lan, 0, vec![first.clone(), other(150)]);
    let states = |a: &Agent| -> Vec<_> { a.status.borrow().iter().map(|s| s.state).collect() };
    eventually("two MASTERs", || states(&a) == [State::Master; 2]);
    a.order(Order::Reconfigure(vec![other(90), first]));
    eventually("two MASTERs in the new order", || {
        let status = a.status.borrow();
        status.len() == 2 && status[0].name == "VI_2" && status[0].state == State::Master
    });
    let status = a.status.borrow().clone();
    let became =
        |at: usize| serde_json::to_value(&status[at].counters).unwrap()["become_master"].clone();
    assert_eq!(status[1].state, State::Master);
    assert_eq!((became(0), became(1)), (1.into(), 1.into()));
    assert!(lan.holds_vip(0), "the unchanged instance kept its address");
    a.order(Order::Reconfigure(Vec::new()));
    eventually("the address to go", || !lan.holds_vip(0));
    a.stop();
}

/// keepalived in a namespace, with its files in a directory that goes with it.
struct Keepalived {
    child: Child,
    dir: std::path::PathBuf,
}

impl Keepalived {
    fn start(lan: &Lan, host: usize, version: u8, priority: u8) -> Option<Self> {
        if Command::new("keepalived").arg("-v").output().is_err() {
            eprintln!("skipped: needs keepalived (run: apt-get install keepalived)");
            return None;
        }
        let namespace = &lan.names[host];
        let dir = std::env::temp_dir().join(namespace);
        std::fs::create_dir_all(&dir).unwrap();
        let more = match version {
            2 => "advert_int 1\n authentication {\n auth_type PASS\n auth_pass secret\n }",
            _ => "advert_int 0.1",
        };
        let text = format!(
            "global_defs {{\n vrrp_version {version}\n}}\nvrrp_instance V {{\n interface e0\n \
             virtual_router_id 51\n priority {priority}\n {more}\n \
             virtual_ipaddress {{\n {VIP}\n }}\n}}\n"
        );
        let file = |name: &str| dir.join(name).into_os_string().into_string().unwrap();
        std::fs::write(file("conf"), text).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, "keepalived", "-n", "-l", "-P"])
            .args([
                "-f",
                &file("conf"),
                "-p",
                &file("pid"),
                "-r",
                &file("vrrp.pid"),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, dir })
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Both directions in each version: we take over from keepalived, and it from us.
#[test]
fn keepalived_and_we_elect_each_other() {
    for (number, version) in [(2, VrrpVersion::V2), (3, VrrpVersion::V3)] {
        let Some(lan) = Lan::new() else { return };
        let Some(higher) = Keepalived::start(&lan, 1, number, 150) else {
            return;
        };
        eventually("keepalived is MASTER", || lan.holds_vip(1));
        let a = Agent::start(&lan, 0, vec![instance(version, 100)]);
        eventually("its adverts", || a.counter("advert_rcvd") >= 3);
        assert_eq!(a.state(), Some(State::Backup));
        drop(higher);
        a.is(State::Master);
        assert_eq!(a.counter("pri_zero_rcvd"), 1);

        let lower = Keepalived::start(&lan, 1, number, 50).unwrap();
        eventually("two more adverts", {
            let sent = a.counter("advert_sent");
            let a = &a;
            move || a.counter("advert_sent") >= sent + 2
        });
        assert_eq!(a.state(), Some(State::Master));
        assert!(!lan.holds_vip(1));
        a.stop();
        eventually("keepalived takes over", || lan.holds_vip(1));
        drop(lower);
    }
}
