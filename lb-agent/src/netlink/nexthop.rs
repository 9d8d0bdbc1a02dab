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

mod follower;
#[cfg(test)]
mod netns_tests;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::watch::NetlinkError;
use follower::{Command, Follower};

/// What is known of the next hop towards one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHopState {
    /// Interface that frames leave by; 0 if there is no way.
    pub ifindex: u32,
    /// Our MAC address on it; none if it has none (a tunnel).
    pub link_mac: Option<[u8; 6]>,
    /// The router, if the address is behind one.
    pub gateway: Option<IpAddr>,
    /// MAC address of the router or of the address itself; none while unknown.
    pub mac: Option<[u8; 6]>,
    /// The address is our own.
    pub local: bool,
    /// Our address that the kernel would send from.
    pub source: Option<IpAddr>,
    /// Largest datagram that the interface takes, bytes; 0 while unknown.
    pub mtu: u32,
}

impl NextHopState {
    /// Nothing is left to be asked: frames can leave, or there is no way at all.
    pub fn is_settled(&self) -> bool {
        self.ifindex == 0 || self.local || self.link_mac.is_none() || self.mac.is_some()
    }
}

/// New states of the addresses that changed.
pub type Changes = BTreeMap<IpAddr, NextHopState>;

/// Follows the next hops towards a set of addresses.
pub struct NextHops {
    commands: UnboundedSender<Command>,
    changes: UnboundedReceiver<Changes>,
    targets: BTreeSet<IpAddr>,
    states: BTreeMap<IpAddr, NextHopState>,
    follower: JoinHandle<()>,
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
        let follower = Follower::open(commands_rx, changes_tx)?;
        Ok(Self {
            commands,
            changes,
            targets: BTreeSet::new(),
            states: BTreeMap::new(),
            follower: tokio::spawn(follower.run()),
        })
    }

    /// Follows these addresses and no others. Each new one makes a change once it was looked up.
    pub fn set_targets(&mut self, targets: BTreeSet<IpAddr>) {
        self.targets = targets;
        self.states.retain(|addr, _| self.targets.contains(addr));
        self.send(Command::SetTargets(self.targets.clone()));
    }

    /// Whether the way to each of these is known, or that there is none.
    pub fn are_settled(&self, addrs: &BTreeSet<IpAddr>) -> bool {
        let settled = |addr| self.states.get(addr).is_some_and(NextHopState::is_settled);
        addrs.iter().all(settled)
    }

    /// Asks at once whether the next hop of `addr` still has its MAC address, as when its health
    /// check fails.
    pub fn suspect(&self, addr: IpAddr) {
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
    pub fn states(&self) -> &BTreeMap<IpAddr, NextHopState> {
        &self.states
    }
}
