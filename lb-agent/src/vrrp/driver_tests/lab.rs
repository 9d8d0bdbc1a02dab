// SPDX-License-Identifier: MIT OR Apache-2.0
//! The laboratory of the driver's tests: namespaces on a veth pair, agents in threads, keepalived.

use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use tokio::sync::{mpsc, watch};

use super::super::*;
use crate::config::model::{Auth, InitialState, VirtualAddress, VrrpVersion};
use crate::netlink::addrs;
use crate::netlink::watch::LinkEvent;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const VIP: &str = "192.0.2.100";

/// Two namespaces joined by a veth pair called `e0` on both ends: 192.0.2.1 and 192.0.2.2.
pub(super) struct Lan {
    pub(super) names: [String; 2],
}

impl Lan {
    pub(super) fn new() -> Option<Self> {
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
        for (name, number) in [(a, 1), (b, 2)] {
            let (v4, v6) = (
                format!("192.0.2.{number}/24"),
                format!("2001:db8::{number}/64"),
            );
            ip(&["-n", name, "addr", "add", &v4, "dev", "e0"]);
            ip(&["-n", name, "addr", "add", &v6, "dev", "e0", "nodad"]);
            ip(&["-n", name, "link", "set", "e0", "up"]);
        }
        Some(lan)
    }

    pub(super) fn holds_vip(&self, host: usize) -> bool {
        self.holds(host, VIP)
    }

    pub(super) fn holds(&self, host: usize, vip: &str) -> bool {
        let shown = ip(&["-n", &self.names[host], "addr", "show"]);
        shown.contains(&format!(" {vip}/"))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub(super) fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn eventually(what: &str, condition: impl Fn() -> bool) {
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
pub(super) struct AddressHost {
    netlink: Handle,
    broken: bool,
    told: Arc<Mutex<Vec<Told>>>,
}

impl AddressHost {
    async fn ifindex(&self, device: &str) -> Result<u32, String> {
        let link = links::find(&self.netlink, device).await;
        link.map(|link| link.ifindex).map_err(|e| e.to_string())
    }
}

impl Host for AddressHost {
    type Error = String;

    async fn claim(&mut self, instance: &VrrpInstance) -> Result<(), String> {
        if self.broken {
            return Err("the test broke this host".to_owned());
        }
        for vip in instance.addresses() {
            let ifindex = self.ifindex(instance.device_of(vip)).await?;
            addrs::add(&self.netlink, ifindex, vip)
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn detach(&mut self, _: &VrrpInstance) {}

    async fn release(&mut self, instance: &VrrpInstance) -> Result<(), String> {
        for vip in instance.addresses() {
            let Ok(ifindex) = self.ifindex(instance.device_of(vip)).await else {
                continue;
            };
            addrs::remove(&self.netlink, ifindex, vip)
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn state_changed(&mut self, _: &VrrpInstance, _: State, _: State, _: Reason) {}

    fn notify(&mut self, notice: Notice<'_>) {
        self.told.lock().unwrap().push(notice.told);
    }
}

pub(super) enum Order {
    Reconfigure(Vec<VrrpInstance>),
    InterfaceChanged(bool),
    Break,
    Crash,
}

/// An agent in a thread of its own, because namespaces belong to threads.
pub(super) struct Agent {
    orders: mpsc::UnboundedSender<Order>,
    pub(super) status: watch::Receiver<Vec<InstanceStatus>>,
    /// What scripts were told.
    pub(super) told: Arc<Mutex<Vec<Told>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Agent {
    pub(super) fn start(lan: &Lan, host: usize, instances: Vec<VrrpInstance>) -> Self {
        Self::start_with(lan, host, Global::default(), instances)
    }

    pub(super) fn start_with(
        lan: &Lan,
        host: usize,
        global: Global,
        instances: Vec<VrrpInstance>,
    ) -> Self {
        let path = format!("/var/run/netns/{}", lan.names[host]);
        let (orders, inbox) = mpsc::unbounded_channel();
        let (publish, status) = watch::channel(Vec::new());
        let told = Arc::new(Mutex::new(Vec::new()));
        let notices = Arc::clone(&told);
        let thread = std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(global, instances, inbox, publish, notices));
        });
        Self {
            orders,
            status,
            told,
            thread: Some(thread),
        }
    }

    pub(super) fn state(&self) -> Option<State> {
        self.status.borrow().first().map(|status| status.state)
    }

    pub(super) fn is(&self, state: State) {
        eventually(&format!("{state}"), || self.state() == Some(state));
    }

    pub(super) fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        let status = self.status.borrow();
        let json = serde_json::to_value(&*status).unwrap();
        json[0]["counters"][name].as_u64().unwrap_or(0)
    }

    /// Stops as SIGTERM does.
    pub(super) fn stop(mut self) {
        let Self { orders, thread, .. } = &mut self;
        *orders = mpsc::unbounded_channel().0;
        thread.take().unwrap().join().unwrap();
    }

    /// Stops as SIGKILL does: nothing is released.
    pub(super) fn crash(mut self) {
        self.order(Order::Crash);
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn run(
    global: Global,
    instances: Vec<VrrpInstance>,
    mut inbox: mpsc::UnboundedReceiver<Order>,
    publish: watch::Sender<Vec<InstanceStatus>>,
    told: Arc<Mutex<Vec<Told>>>,
) {
    let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let ifindex = links::find(&netlink, "e0").await.unwrap().ifindex;
    let host = AddressHost {
        netlink: netlink.clone(),
        broken: false,
        told,
    };
    let mut driver = Driver::new(host, netlink);
    driver.set_global(&global);
    driver.reconfigure(shared(instances)).await;
    loop {
        publish.send_replace(driver.snapshot());
        tokio::select! {
            event = driver.next_event() => driver.handle(event).await,
            order = inbox.recv() => match order {
                Some(Order::Reconfigure(instances)) => {
                    driver.reconfigure(shared(instances)).await;
                }
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

pub(super) fn instance(version: VrrpVersion, priority: u8) -> VrrpInstance {
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
        family: Family::V4,
        mcast_group: "224.0.0.18".parse().unwrap(),
        source: None,
        unicast_peers: Vec::new(),
        vips: vec![VirtualAddress::plain(VIP.parse().unwrap())],
        excluded: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        vmac: None,
        promote_secondaries: false,
        accept: true,
        announcing: crate::config::model::Announcing::default(),
        exchange: crate::config::model::Exchange::default(),
        track_primary: true,
        tracks: Vec::new(),
        notify: Arc::default(),
        group: None,
    }
}

fn shared(instances: Vec<VrrpInstance>) -> Vec<Arc<VrrpInstance>> {
    instances.into_iter().map(Arc::new).collect()
}

pub(super) fn v3(priority: u8) -> Vec<VrrpInstance> {
    vec![instance(VrrpVersion::V3, priority)]
}

/// keepalived in a namespace, with its files in a directory that goes with it.
pub(super) struct Keepalived {
    child: Child,
    dir: std::path::PathBuf,
}

impl Keepalived {
    /// With an instance of `priority` whose other lines are `more`.
    pub(super) fn start(lan: &Lan, host: usize, priority: u8, more: &str) -> Option<Self> {
        if Command::new("keepalived").arg("-v").output().is_err() {
            eprintln!("skipped: needs keepalived (run: apt-get install keepalived)");
            return None;
        }
        let namespace = &lan.names[host];
        let dir = std::env::temp_dir().join(namespace);
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "vrrp_instance V {{\n interface e0\n virtual_router_id 51\n priority {priority}\n \
             {more}\n}}\n"
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

/// The first `count` frames that host `host` hears and `wanted` wants, with their moments.
pub(super) fn hear(
    lan: &Lan,
    host: usize,
    count: usize,
    wanted: impl Fn(&[u8]) -> bool + Send + 'static,
) -> std::thread::JoinHandle<Vec<(Instant, Vec<u8>)>> {
    let path = format!("/var/run/netns/{}", lan.names[host]);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let namespace = std::fs::File::open(path).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let (all, flags) = (SockProtocol::EthAll, SockFlag::SOCK_CLOEXEC);
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, all).unwrap();
        ready.send(()).unwrap();
        let mut heard = Vec::new();
        let mut frame = [0; 2048];
        while heard.len() < count {
            let length = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()).unwrap();
            if wanted(&frame[..length]) {
                heard.push((Instant::now(), frame[..length].to_vec()));
            }
        }
        heard
    });
    is_ready.recv().unwrap();
    thread
}
