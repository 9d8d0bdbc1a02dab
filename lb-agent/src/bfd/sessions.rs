// SPDX-License-Identifier: MIT OR Apache-2.0
//! All BFD sessions: who is meant by a packet, what is sent, what is told.
//!
//! In: the configuration, datagrams, the clock. Out: packets, a [`WatchEvent`] whenever a session
//! comes up or goes down. Called by `driver`, in whose thread it lives, and by the application to
//! configure and to ask. Invariant: what is told is told once, in the order in which it happened.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

use super::counters::{Counter, Counters};
use super::fsm::{Action, Input, Session, Settings};
use super::packet::{self, Diag, State};
use super::socket::{Arrived, Outlet};
use crate::config::model::{BfdInstance, Tracked};
use crate::track::watch::WatchEvent;
use crate::vrrp::priority::Condition;
use crate::vrrp::status::unix_ms;
use crate::vrrp::time::Nanos;

/// A session as status shows it.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Its configuration.
    pub config: BfdInstance,
    /// Its state.
    pub state: State,
    /// Why it went down last.
    pub diag: Diag,
    /// The neighbour's state, as it said last.
    pub remote_state: State,
    /// Why the neighbour went down last.
    pub remote_diag: Diag,
    /// When it came to its state.
    pub since_unix_ms: u64,
    /// Own and the neighbour's discriminator.
    pub discriminators: (u32, u32),
    /// Between two packets of ours, before jitter.
    pub tx_interval: Duration,
    /// Silence that ends the session.
    pub detection_time: Option<Duration>,
    /// Figures.
    pub counters: Counters,
}

#[derive(Debug)]
struct Slot {
    config: BfdInstance,
    session: Session,
    outlet: Outlet,
    counters: Counters,
    since_unix_ms: u64,
    /// A failure to send was logged.
    complained: bool,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    slots: Vec<Slot>,
    /// What belongs to no session.
    strangers: Counters,
    events: UnboundedSender<WatchEvent>,
}

impl Sessions {
    /// None yet; changes go to `events`.
    pub fn new(events: UnboundedSender<WatchEvent>) -> Self {
        Self {
            slots: Vec::new(),
            strangers: Counters::default(),
            events,
        }
    }

    /// Runs these sessions and no others. One whose neighbour and addresses stay goes on, with
    /// other intervals if they changed. What is known of the new ones is returned: they are down.
    pub fn reconfigure(&mut self, now: Nanos, configs: &[BfdInstance]) -> Vec<WatchEvent> {
        let mut before = std::mem::take(&mut self.slots);
        let mut known = Vec::new();
        for config in configs {
            if let Some(at) = before
                .iter()
                .position(|slot| same_path(&slot.config, config))
            {
                let mut slot = before.swap_remove(at);
                slot.config = config.clone();
                self.slots.push(slot);
                let at = self.slots.len() - 1;
                self.step(now, at, Input::Configure(settings(config)));
                continue;
            }
            let discriminator = self.unused_discriminator();
            self.slots.push(Slot {
                session: Session::new(settings(config), discriminator, fastrand::u64(..)),
                config: config.clone(),
                outlet: Outlet::default(),
                counters: Counters::default(),
                since_unix_ms: unix_ms(),
                complained: false,
            });
            known.push(event(config, Condition::Down));
            let at = self.slots.len() - 1;
            self.step(now, at, Input::Start);
        }
        // Those that are left say goodbye, so that their neighbours need not wait.
        let kept = self.slots.len();
        self.slots.append(&mut before);
        for at in kept..self.slots.len() {
            self.step(now, at, Input::Stop);
        }
        self.slots.truncate(kept);
        known
    }

    /// When the next timer is due.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let timers = self.slots.iter().map(|slot| slot.session.poll_timeout());
        timers.flatten().min()
    }

    /// Serves the timers that are due.
    pub fn timers(&mut self, now: Nanos) {
        for at in 0..self.slots.len() {
            let due = self
                .slots
                .get(at)
                .and_then(|slot| slot.session.poll_timeout());
            if due.is_some_and(|due| due <= now) {
                self.step(now, at, Input::Timer);
            }
        }
    }

    /// The sockets that the sessions need: family (true for IPv6) and port.
    pub(super) fn inlets(&self) -> Vec<(bool, u16)> {
        let needed = self.slots.iter().map(|slot| &slot.config);
        let mut inlets: Vec<_> = needed
            .map(|config| (config.neighbor.is_ipv6(), config.port()))
            .collect();
        inlets.sort_unstable();
        inlets.dedup();
        inlets
    }

    /// Takes what arrived.
    ///
    /// RFC 5880 §6.8.6: by our discriminator, or by its sender while that does not know it.
    pub(super) fn receive(&mut self, now: Nanos, arrived: &Arrived<'_>) {
        let decoded = packet::decode(arrived.bytes);
        let of_sender = |slot: &Slot| slot.config.neighbor == arrived.src;
        let at = match &decoded {
            Ok(control) if control.yours != 0 => self
                .slots
                .iter()
                .position(|slot| slot.session.discriminator() == control.yours),
            Ok(_) | Err(_) => self.slots.iter().position(of_sender),
        };
        let Some((at, slot)) = at.and_then(|at| Some((at, self.slots.get_mut(at)?))) else {
            self.strangers.bump(match decoded {
                Ok(_) => Counter::NoSession,
                Err(counter) => counter,
            });
            return;
        };
        match decoded {
            Ok(_) if arrived.ttl < slot.config.ttl_min => slot.counters.bump(Counter::TtlErr),
            Ok(control) => {
                slot.counters.bump(Counter::Rcvd);
                self.step(now, at, Input::Packet(control));
            }
            Err(counter) => slot.counters.bump(counter),
        }
    }

    /// All sessions in the order of the file.
    pub fn snapshot(&self) -> Vec<SessionStatus> {
        let status = |slot: &Slot| {
            let session = &slot.session;
            let remote = session.remote();
            SessionStatus {
                config: slot.config.clone(),
                state: session.state(),
                diag: session.diag(),
                remote_state: remote.state,
                remote_diag: remote.diag,
                since_unix_ms: slot.since_unix_ms,
                discriminators: (session.discriminator(), remote.discriminator),
                tx_interval: session.tx_interval(),
                detection_time: session.detection_time(),
                counters: slot.counters.clone(),
            }
        };
        self.slots.iter().map(status).collect()
    }

    /// Figures of what belonged to no session.
    pub fn strangers(&self) -> Counters {
        self.strangers.clone()
    }

    fn unused_discriminator(&self) -> u32 {
        loop {
            let number = fastrand::u32(1..);
            let mut used = self.slots.iter().map(|slot| slot.session.discriminator());
            if !used.any(|used| used == number) {
                return number;
            }
        }
    }

    fn step(&mut self, now: Nanos, at: usize, input: Input) {
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let mut actions = Vec::new();
        slot.session.handle(now, input, &mut actions);
        for action in actions {
            match action {
                Action::Send(control) => slot.send(&packet::encode(&control)),
                Action::StateChanged { from, to } => {
                    slot.changed(from, to);
                    let is = |state| state == State::Up;
                    if is(from) != is(to) {
                        let condition = if is(to) {
                            Condition::Up
                        } else {
                            Condition::Down
                        };
                        // The application may be about to end.
                        let _ = self.events.send(event(&slot.config, condition));
                    }
                }
            }
        }
    }
}

impl Slot {
    fn send(&mut self, bytes: &[u8]) {
        match self.outlet.send(&self.config, bytes) {
            Ok(()) => {
                self.counters.bump(Counter::Sent);
                self.complained = false;
            }
            Err(cause) => {
                self.counters.bump(Counter::SendErr);
                if !std::mem::replace(&mut self.complained, true) {
                    let (name, neighbor) = (&self.config.name, self.config.neighbor);
                    warn!("bfd_instance {name}: cannot send to {neighbor}: {cause}");
                }
            }
        }
    }

    fn changed(&mut self, from: State, to: State) {
        self.since_unix_ms = unix_ms();
        let name = &self.config.name;
        if to == State::Up {
            self.counters.bump(Counter::WentUp);
            info!("bfd_instance {name}: {from} -> {to}");
        } else if from == State::Up {
            self.counters.bump(Counter::WentDown);
            let diag = self.session.diag();
            warn!("bfd_instance {name}: {from} -> {to}: {diag}");
        } else {
            info!("bfd_instance {name}: {from} -> {to}");
        }
    }
}

fn settings(config: &BfdInstance) -> Settings {
    Settings {
        min_rx: config.min_rx,
        min_tx: config.min_tx,
        idle_tx: config.idle_tx,
        multiplier: config.multiplier,
        passive: config.passive,
    }
}

/// Whether a session of the one can go on as the other.
fn same_path(one: &BfdInstance, other: &BfdInstance) -> bool {
    let of = |c: &BfdInstance| (c.name.clone(), c.neighbor, c.source, c.ttl, c.multihop);
    of(one) == of(other)
}

fn event(config: &BfdInstance, condition: Condition) -> WatchEvent {
    WatchEvent {
        what: Tracked::Bfd(config.name.clone()),
        condition,
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
