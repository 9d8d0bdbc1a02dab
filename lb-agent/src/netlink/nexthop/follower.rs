// SPDX-License-Identifier: MIT OR Apache-2.0
//! The task behind [`super::NextHops`]: reads the kernel's state whenever an event hints at a
//! change, and has the kernel resolve what is missing.
//!
//! Comes in: [`Command`]s and the kernel's events. Goes out: [`Changes`], and log lines.
//!
//! Invariant: what is marked dirty stays marked until it was read, so an error or a lost event
//! delays a change and does not hide it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rtnetlink::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing::{info, warn};

use super::super::neigh::{self, Freshness};
use super::super::routes;
use super::super::watch::{self, Event, LinkEvent, NetlinkError, Topic, Watch};
use super::target::{Ask, Target};
use super::{Changes, NextHopState};

/// Time to wait for more events before routes are looked up: they come in bursts.
const COALESCE: Duration = Duration::from_millis(10);

/// Pause before a lookup that the kernel refused, or a lost connection, is tried again.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// What [`super::NextHops`] wants.
pub(super) enum Command {
    SetTargets(BTreeSet<IpAddr>),
    Suspect(IpAddr),
}

struct Kernel {
    // The watch is opened first: a change between the two is an event, not a gap.
    watch: Watch,
    handle: Handle,
}

impl Kernel {
    fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            watch: Watch::open(&[
                Topic::Links,
                Topic::Addresses,
                Topic::Routes,
                Topic::Neighbours,
            ])?,
            handle: watch::connect()?,
        })
    }
}

/// The connection is gone; other errors concern one request and are tried again.
struct Lost;

impl Lost {
    fn or_log(error: &NetlinkError) -> Result<(), Self> {
        if matches!(error, NetlinkError::Closed) {
            return Err(Self);
        }
        warn!("next hops: {error}; next try in {TROUBLE_PAUSE:?}");
        Ok(())
    }
}

/// Everything the task knows.
pub(super) struct Follower {
    kernel: Kernel,
    commands: UnboundedReceiver<Command>,
    changes: UnboundedSender<Changes>,
    targets: BTreeMap<IpAddr, Target>,
    links: HashMap<u32, LinkEvent>,
    links_unknown: bool,
    routes_due: Option<Instant>,
    routes_dirty: BTreeSet<IpAddr>,
    neighbours_dirty: BTreeSet<IpAddr>,
}

impl Follower {
    /// Subscribes to the kernel's events.
    pub(super) fn open(
        commands: UnboundedReceiver<Command>,
        changes: UnboundedSender<Changes>,
    ) -> Result<Self, NetlinkError> {
        Ok(Self {
            kernel: Kernel::open()?,
            commands,
            changes,
            targets: BTreeMap::new(),
            links: HashMap::new(),
            links_unknown: true,
            routes_due: None,
            routes_dirty: BTreeSet::new(),
            neighbours_dirty: BTreeSet::new(),
        })
    }

    /// Works until the commands end.
    pub(super) async fn run(mut self) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                event = self.kernel.watch.next() => match event {
                    Some(event) => self.notice(event),
                    None => self.reopen().await,
                },
                () = sleep_until(wake) => {}
            }
            while let Some(event) = self.kernel.watch.waiting() {
                self.notice(event);
            }
            if self.settle().await.is_err() {
                self.reopen().await;
            }
            self.publish();
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let targets = self.targets.values().filter_map(|target| target.wake);
        self.routes_due.into_iter().chain(targets).min()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::SetTargets(wanted) => {
                self.targets.retain(|addr, _| wanted.contains(addr));
                for addr in wanted {
                    self.targets.entry(addr).or_insert_with(|| {
                        self.routes_dirty.insert(addr);
                        Target::new(addr)
                    });
                }
                self.routes_due = Some(Instant::now());
            }
            Command::Suspect(addr) => {
                if let Some(target) = self.targets.get_mut(&addr) {
                    target.suspect();
                    self.neighbours_dirty.insert(addr);
                }
            }
        }
    }

    /// Marks what an event may have changed.
    fn notice(&mut self, event: Event) {
        match event {
            Event::Neighbour(event) => {
                let touched = self
                    .targets
                    .iter()
                    .filter(|(_, t)| t.neighbour() == Some((event.ifindex, event.addr)))
                    .map(|(addr, _)| *addr);
                self.neighbours_dirty.extend(touched);
            }
            Event::Route(event) => {
                let touched = self.targets.keys().filter(|addr| event.concerns(**addr));
                self.routes_dirty.extend(touched);
                self.routes_soon();
            }
            // The kernel drops routes with a link or an address without telling of each.
            Event::Link(link) => {
                if link.up {
                    // A link that was away for a moment may lead elsewhere, and the kernel keeps
                    // its entries if it was a short one.
                    self.suspect_link(link.ifindex);
                }
                if link.present {
                    self.links.insert(link.ifindex, link);
                } else {
                    self.links.remove(&link.ifindex);
                }
                self.all_routes();
            }
            Event::Address(_) => self.all_routes(),
            Event::Overrun => {
                info!("next hops: the kernel's events came too fast; reading everything anew");
                self.links_unknown = true;
                self.all_routes();
            }
        }
    }

    fn suspect_link(&mut self, ifindex: u32) {
        for (addr, target) in &mut self.targets {
            if target.neighbour().is_some_and(|(link, _)| link == ifindex) {
                target.suspect();
                self.neighbours_dirty.insert(*addr);
            }
        }
    }

    fn all_routes(&mut self) {
        self.routes_dirty.extend(self.targets.keys());
        self.routes_soon();
    }

    fn routes_soon(&mut self) {
        if !self.routes_dirty.is_empty() {
            self.routes_due
                .get_or_insert_with(|| Instant::now() + COALESCE);
        }
    }

    /// Reads what is marked, and asks for what is missing.
    async fn settle(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        if self.routes_due.is_some_and(|due| due <= now) {
            self.routes_due = None;
            self.settle_routes().await?;
        }
        let woken = self
            .targets
            .iter()
            .filter(|(_, target)| target.wake.is_some_and(|wake| wake <= now));
        self.neighbours_dirty.extend(woken.map(|(addr, _)| *addr));
        while let Some(addr) = self.neighbours_dirty.pop_first() {
            if let Err(error) = self.settle_neighbour(addr).await {
                Lost::or_log(&error)?;
                if let Some(target) = self.targets.get_mut(&addr) {
                    target.wake = Some(now + TROUBLE_PAUSE);
                }
            }
        }
        Ok(())
    }

    async fn settle_routes(&mut self) -> Result<(), Lost> {
        if self.links_unknown {
            match watch::links(&self.kernel.handle).await {
                Ok(links) => {
                    self.links = links.into_iter().map(|l| (l.ifindex, l)).collect();
                    self.links_unknown = false;
                }
                Err(error) => Lost::or_log(&error)?,
            }
        }
        for addr in std::mem::take(&mut self.routes_dirty) {
            let Some(target) = self.targets.get_mut(&addr) else {
                continue;
            };
            match routes::lookup(&self.kernel.handle, addr).await {
                Ok(route) => {
                    target.set_route(route);
                    self.neighbours_dirty.insert(addr);
                }
                Err(error) => {
                    Lost::or_log(&error)?;
                    self.routes_dirty.insert(addr);
                }
            }
        }
        if self.links_unknown || !self.routes_dirty.is_empty() {
            self.routes_due = Some(Instant::now() + TROUBLE_PAUSE);
        }
        Ok(())
    }

    async fn settle_neighbour(&mut self, addr: IpAddr) -> Result<(), NetlinkError> {
        let Some(target) = self.targets.get_mut(&addr) else {
            return Ok(());
        };
        let Some((ifindex, neighbour)) = target.neighbour() else {
            return Ok(());
        };
        let handle = &self.kernel.handle;
        let entry = neigh::entry(handle, ifindex, neighbour).await?;
        let asked = match target.observe(entry, Instant::now()) {
            Ask::Nothing => return Ok(()),
            Ask::Resolve => neigh::resolve(handle, ifindex, neighbour).await,
            Ask::Verify => neigh::verify(handle, ifindex, neighbour).await,
        };
        match asked {
            Err(NetlinkError::Closed) => Err(NetlinkError::Closed),
            // The link went down, or the entry changed since it was read: an event follows, and
            // the target looks again in any case.
            Err(_) => Ok(()),
            Ok(()) => {
                // An interface without ARP has its answer at once, and without an event.
                let entry = neigh::entry(handle, ifindex, neighbour).await?;
                if entry.is_some_and(|e| matches!(e.freshness, Freshness::Fixed | Freshness::Fresh))
                {
                    target.observe(entry, Instant::now());
                }
                Ok(())
            }
        }
    }

    /// A new connection in place of one that closed.
    async fn reopen(&mut self) {
        loop {
            match Kernel::open() {
                Ok(kernel) => {
                    self.kernel = kernel;
                    info!("next hops: netlink connection opened again; reading everything anew");
                    break;
                }
                Err(error) => {
                    warn!("next hops: {error}; next try in {TROUBLE_PAUSE:?}");
                    tokio::time::sleep(TROUBLE_PAUSE).await;
                }
            }
        }
        self.links_unknown = true;
        self.all_routes();
    }

    fn publish(&mut self) {
        let link = |ifindex| {
            let link = self.links.get(&ifindex);
            link.map_or((None, 0), |link| (link.mac, link.mtu))
        };
        let mut changes = Changes::new();
        for (addr, target) in &mut self.targets {
            let Some(state) = target.state(link) else {
                continue;
            };
            let known = Some((state, target.is_silent()));
            if target.published == known {
                continue;
            }
            let interface = self
                .links
                .get(&state.ifindex)
                .map_or("?", |link| &link.name);
            log(*addr, &state, interface, target.is_silent());
            if target.published.is_none_or(|(before, _)| before != state) {
                changes.insert(*addr, state);
            }
            target.published = known;
        }
        if !changes.is_empty() {
            // Fails only while the agent stops.
            let _ = self.changes.send(changes);
        }
    }
}

fn log(addr: IpAddr, state: &NextHopState, interface: &str, silent: bool) {
    let hop = match state.gateway {
        Some(gateway) => format!("gateway {gateway}"),
        None => "the server itself".into(),
    };
    match state.mac {
        _ if state.local => info!("next hop of {addr}: this host"),
        _ if state.ifindex == 0 => {
            warn!("next hop of {addr}: none, there is no route; waiting for one");
        }
        Some(mac) => {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            info!("next hop of {addr}: {mac} on {interface}, {hop}");
        }
        None if silent => {
            warn!("next hop of {addr}: no answer on {interface} from {hop}; asking on");
        }
        None => {}
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
