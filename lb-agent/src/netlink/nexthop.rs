// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where frames for the real servers go: interface, and MAC address of the next hop.
//!
//! Comes in: the addresses to follow ([`NextHops::set_targets`]), and the kernel's routes, links
//! and neighbours. Goes out: [`Changes`].
//!
//! ```text
//!   watch ──events──▶ follower task ──lookups──▶ routes, neigh ──▶ Target ──▶ Changes ──▶ NextHops
//!                        ▲    └── resolve / verify ──▶ kernel ──ARP──┐
//!                        └───────────── neighbour event ◀────────────┘
//! ```
//!
//! Invariant: an event is a hint to read the kernel's state anew, never the state itself. So the
//! order, the loss and the age of events cannot leave a wrong address behind. Called by the
//! agent's select loop.
//!
//! How fast a change is seen. A server that announces its new MAC address (gratuitous ARP, or any
//! ARP request of its own), a route, a link: within milliseconds. One that changes it in silence:
//! when the entry grows old (15 to 45 s by the kernel's `base_reachable_time_ms`) and three probes
//! of a second each were in vain; [`NextHops::suspect`] asks at once.

#[cfg(test)]
mod netns_tests;
mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rtnetlink::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::neigh::{self, Freshness};
use super::routes::{self, Route};
use super::watch::{self, Event, LinkEvent, NetlinkError, Topic, Watch};
use target::{Ask, Target};

/// Time to wait for more events before routes are looked up: they come in bursts.
const COALESCE: Duration = Duration::from_millis(10);

/// Pause before a lookup that the kernel refused, or a lost connection, is tried again.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// What is known of the next hop towards one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHopState {
    /// Interface that frames leave by; 0 if there is no way.
    pub ifindex: u32,
    /// Our MAC address on it; none if it has none (a tunnel).
    pub link_mac: Option<[u8; 6]>,
    /// The router, if the address is behind one.
    pub gateway: Option<Ipv4Addr>,
    /// MAC address of the router or of the address itself; none while unknown.
    pub mac: Option<[u8; 6]>,
    /// The address is our own.
    pub local: bool,
}

/// New states of the addresses that changed.
pub type Changes = BTreeMap<Ipv4Addr, NextHopState>;

/// Follows the next hops towards a set of addresses.
pub struct NextHops {
    commands: UnboundedSender<Command>,
    changes: UnboundedReceiver<Changes>,
    targets: BTreeSet<Ipv4Addr>,
    states: BTreeMap<Ipv4Addr, NextHopState>,
    follower: JoinHandle<()>,
}

enum Command {
    SetTargets(BTreeSet<Ipv4Addr>),
    Suspect(Ipv4Addr),
}

impl Drop for NextHops {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl NextHops {
    /// Starts with no targets, in the calling thread's network namespace. Call inside a tokio
    /// runtime.
    pub fn new() -> Result<Self, NetlinkError> {
        let (commands, commands_rx) = unbounded_channel();
        let (changes_tx, changes) = unbounded_channel();
        let follower = Follower {
            kernel: Kernel::open()?,
            commands: commands_rx,
            changes: changes_tx,
            targets: BTreeMap::new(),
            links: HashMap::new(),
            links_unknown: true,
            routes_due: None,
            routes_dirty: BTreeSet::new(),
            neighbours_dirty: BTreeSet::new(),
        };
        Ok(Self {
            commands,
            changes,
            targets: BTreeSet::new(),
            states: BTreeMap::new(),
            follower: tokio::spawn(follower.run()),
        })
    }

    /// Follows these addresses and no others. Each new one makes a change once it was looked up.
    pub fn set_targets(&mut self, targets: Vec<Ipv4Addr>) {
        self.targets = targets.into_iter().collect();
        self.states.retain(|addr, _| self.targets.contains(addr));
        self.send(Command::SetTargets(self.targets.clone()));
    }

    /// Asks at once whether the next hop of `addr` still has its MAC address, as when its health
    /// check fails.
    pub fn suspect(&self, addr: Ipv4Addr) {
        self.send(Command::Suspect(addr));
    }

    fn send(&self, command: Command) {
        // The follower ends with this object only.
        let _ = self.commands.send(command);
    }

    /// Waits for the next changes. Cancel-safe.
    pub async fn changed(&mut self) -> Changes {
        loop {
            let Some(mut changes) = self.changes.recv().await else {
                return std::future::pending().await;
            };
            while let Ok(later) = self.changes.try_recv() {
                changes.extend(later);
            }
            // What was on its way when a target was taken off, or went back to what it was.
            changes.retain(|addr, state| {
                self.targets.contains(addr) && self.states.get(addr) != Some(state)
            });
            if !changes.is_empty() {
                self.states.extend(&changes);
                return changes;
            }
        }
    }

    /// The states as [`NextHops::changed`] told of them.
    pub fn states(&self) -> &BTreeMap<Ipv4Addr, NextHopState> {
        &self.states
    }
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

/// The task behind [`NextHops`].
struct Follower {
    kernel: Kernel,
    commands: UnboundedReceiver<Command>,
    changes: UnboundedSender<Changes>,
    targets: BTreeMap<Ipv4Addr, Target>,
    links: HashMap<u32, LinkEvent>,
    links_unknown: bool,
    routes_due: Option<Instant>,
    routes_dirty: BTreeSet<Ipv4Addr>,
    neighbours_dirty: BTreeSet<Ipv4Addr>,
}

impl Follower {
    async fn run(mut self) {
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
            match self.settle().await {
                Ok(()) => {}
                Err(NetlinkError::Closed) => self.reopen().await,
                Err(error) => {
                    warn!("next hops: {error}; next try in {TROUBLE_PAUSE:?}");
                    self.routes_due = Some(Instant::now() + TROUBLE_PAUSE);
                }
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
    async fn settle(&mut self) -> Result<(), NetlinkError> {
        if self.routes_due.is_some_and(|due| due <= Instant::now()) {
            if self.links_unknown {
                let links = watch::links(&self.kernel.handle).await?;
                self.links = links.into_iter().map(|l| (l.ifindex, l)).collect();
                self.links_unknown = false;
            }
            while let Some(addr) = self.routes_dirty.first().copied() {
                if let Some(target) = self.targets.get_mut(&addr) {
                    let route = routes::lookup(&self.kernel.handle, addr).await?;
                    if target.set_route(route) && route == Route::Unreachable {
                        warn!("next hops: there is no route to {addr}; waiting for one");
                    }
                    self.neighbours_dirty.insert(addr);
                }
                self.routes_dirty.remove(&addr);
            }
            self.routes_due = None;
        }
        let now = Instant::now();
        let woken = self
            .targets
            .iter()
            .filter(|(_, t)| t.wake.is_some_and(|w| w <= now));
        self.neighbours_dirty.extend(woken.map(|(addr, _)| *addr));
        while let Some(addr) = self.neighbours_dirty.pop_first() {
            self.settle_neighbour(addr).await?;
        }
        Ok(())
    }

    async fn settle_neighbour(&mut self, addr: Ipv4Addr) -> Result<(), NetlinkError> {
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
        let link_mac = |ifindex| self.links.get(&ifindex).and_then(|link| link.mac);
        let mut changes = Changes::new();
        for (addr, target) in &mut self.targets {
            let state = target.state(link_mac);
            if let Some(known) = state
                && target.published != state
            {
                target.published = state;
                changes.insert(*addr, known);
            }
        }
        if !changes.is_empty() {
            // Fails only while the agent stops.
            let _ = self.changes.send(changes);
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
