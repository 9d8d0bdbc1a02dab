// SPDX-License-Identifier: MIT OR Apache-2.0
//! One BFD session: RFC 5880's state machine in asynchronous mode, with its timers.
//!
//! In: (state, packet or timer, now). Out: packets to send, and changes of state. Called by
//! `sessions`. Pure: its only randomness, the jitter, comes from the seed it was made with.
//! Invariants: any input in any state; nothing is sent that §6.8.7 forbids; a session that is up
//! is down once nothing was heard for its detection time.

use std::time::Duration;

use fastrand::Rng;

use super::packet::{Control, Diag, State};
use crate::vrrp::time::Nanos;

/// RFC 5880 §6.8.1: what a neighbour that was not heard is taken to be able to receive.
const ANYTHING: Duration = Duration::from_micros(1);

/// How a session is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often we can receive.
    pub min_rx: Duration,
    /// How often we send at most while up.
    pub min_tx: Duration,
    /// How often we send at most while not up.
    pub idle_tx: Duration,
    /// Packets of ours that the neighbour must miss to declare the session down.
    pub multiplier: u8,
    /// Say nothing before the neighbour does.
    pub passive: bool,
}

/// What a session is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It begins.
    Start,
    /// A packet for it arrived.
    Packet(Control),
    /// The moment of [`Session::poll_timeout`] has come.
    Timer,
    /// It has other settings.
    Configure(Settings),
    /// It ends.
    Stop,
}

/// What a session asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Control),
    /// Its state changed; the reason is in its diagnostic.
    StateChanged {
        /// Before.
        from: State,
        /// From here on.
        to: State,
    },
}

/// What the neighbour said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its state.
    pub state: State,
    /// Its diagnostic.
    pub diag: Diag,
    /// Its discriminator; 0 while it is not heard.
    pub discriminator: u32,
    /// How often it can receive.
    pub min_rx: Duration,
    /// How often it sends at most.
    pub min_tx: Duration,
    /// Its multiplier.
    pub multiplier: u8,
    demand: bool,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            state: State::Down,
            diag: Diag::NONE,
            discriminator: 0,
            min_rx: ANYTHING,
            min_tx: Duration::ZERO,
            multiplier: 0,
            demand: false,
        }
    }
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    settings: Settings,
    /// What the neighbour has not confirmed the end of.
    held: Option<Settings>,
    discriminator: u32,
    state: State,
    diag: Diag,
    remote: Remote,
    /// A poll sequence runs.
    poll: bool,
    sent_at: Option<Nanos>,
    send_at: Option<Nanos>,
    expires_at: Option<Nanos>,
    rng: Rng,
}

impl Session {
    /// A session that has not started. The discriminator is not 0 and no other session's.
    pub fn new(settings: Settings, discriminator: u32, seed: u64) -> Self {
        Self {
            settings,
            held: None,
            discriminator,
            state: State::Down,
            diag: Diag::NONE,
            remote: Remote::default(),
            poll: false,
            sent_at: None,
            send_at: None,
            expires_at: None,
            rng: Rng::with_seed(seed),
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it went down last.
    pub fn diag(&self) -> Diag {
        self.diag
    }

    /// What the neighbour said last.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Its own discriminator.
    pub fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// When it wants [`Input::Timer`].
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.send_at.into_iter().chain(self.expires_at).min()
    }

    /// Between two packets of ours, before jitter.
    pub fn tx_interval(&self) -> Duration {
        self.actual_min_tx().max(self.remote.min_rx)
    }

    /// RFC 5880 §6.8.4: silence that ends the session; none while the neighbour is not heard.
    pub fn detection_time(&self) -> Option<Duration> {
        let interval = self.actual_min_rx().max(self.remote.min_tx);
        (self.remote.discriminator != 0).then(|| interval * u32::from(self.remote.multiplier))
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Nanos, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Start => {
                // Sessions of one file do not speak in unison.
                let part = self.rng.f64();
                self.send_at = self
                    .may_send()
                    .then(|| now + self.tx_interval().mul_f64(part * 0.25));
            }
            Input::Packet(packet) => self.packet(now, &packet, actions),
            Input::Timer => self.timer(now, actions),
            Input::Configure(settings) => self.configure(now, settings),
            Input::Stop => {
                self.diag = Diag::ADMIN_DOWN;
                self.change(now, State::AdminDown, actions);
                (self.send_at, self.expires_at) = (None, None);
            }
        }
    }

    /// RFC 5880 §6.8.6, from where the session is known.
    fn packet(&mut self, now: Nanos, packet: &Control, actions: &mut Vec<Action>) {
        if self.state == State::AdminDown {
            return;
        }
        self.remote = Remote {
            state: packet.state,
            diag: packet.diag,
            discriminator: packet.mine,
            min_rx: packet.min_rx,
            min_tx: packet.min_tx,
            multiplier: packet.multiplier,
            demand: packet.demand,
        };
        if packet.fin && self.poll {
            self.poll = false;
            self.held = None;
        }
        let next = match (self.state, packet.state) {
            (State::Down, State::Down) => State::Init,
            (State::Down | State::Init, State::Init) | (State::Init, State::Up) => State::Up,
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => State::Down,
            (state, _) => state,
        };
        self.expires_at = self.detection_time().map(|time| now + time);
        if next != self.state {
            self.diag = if next == State::Down {
                Diag::NEIGHBOR_DOWN
            } else {
                Diag::NONE
            };
            self.change(now, next, actions);
        }
        if packet.poll {
            let answer = Control {
                poll: false,
                fin: true,
                ..self.control()
            };
            actions.push(Action::Send(answer));
        }
        self.reschedule(now);
    }

    fn timer(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        if self.expires_at.is_some_and(|at| at <= now) {
            self.expires_at = None;
            self.remote = Remote::default();
            if matches!(self.state, State::Init | State::Up) {
                self.diag = Diag::EXPIRED;
                self.change(now, State::Down, actions);
            }
            self.reschedule(now);
        }
        if self.send_at.is_some_and(|at| at <= now) {
            self.send(now, actions);
        }
    }

    /// RFC 5880 §6.8.3: while up, a change is announced by a poll sequence. Slower sending and
    /// quicker detection wait for its end.
    fn configure(&mut self, now: Nanos, settings: Settings) {
        let before = std::mem::replace(&mut self.settings, settings);
        let intervals = |s: &Settings| (s.min_rx, s.min_tx);
        if self.state == State::Up && intervals(&before) != intervals(&settings) {
            self.held.get_or_insert(before);
            self.poll = true;
        }
        self.reschedule(now);
    }

    /// Goes to another state, and says so at once (§6.8.7: the content differs).
    fn change(&mut self, now: Nanos, to: State, actions: &mut Vec<Action>) {
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return;
        }
        // §6.8.3: going up and down changes how often we send.
        self.poll = to == State::Up;
        self.held = None;
        actions.push(Action::StateChanged { from, to });
        if self.may_send() {
            self.send(now, actions);
        }
    }

    fn send(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        actions.push(Action::Send(self.control()));
        self.sent_at = Some(now);
        self.send_at = self.may_send().then(|| now + self.jittered());
    }

    /// Sends earlier if the interval has become shorter, or not at all.
    fn reschedule(&mut self, now: Nanos) {
        if !self.may_send() {
            self.send_at = None;
            return;
        }
        let at = self.sent_at.unwrap_or(now) + self.jittered();
        let latest = self.sent_at.unwrap_or(now) + self.tx_interval();
        match self.send_at {
            Some(planned) if planned <= latest => {}
            _ => self.send_at = Some(at.max(now)),
        }
    }

    /// RFC 5880 §6.8.7: 0–25 % less; with a multiplier of 1 at least 10 %.
    fn jittered(&mut self) -> Duration {
        let least = if self.settings.multiplier == 1 {
            0.10
        } else {
            0.0
        };
        let less = least + self.rng.f64() * (0.25 - least);
        self.tx_interval().mul_f64(1.0 - less)
    }

    /// RFC 5880 §6.8.7: when periodic packets may not be sent.
    fn may_send(&self) -> bool {
        let unasked = self.settings.passive && self.remote.discriminator == 0;
        let deaf = self.remote.min_rx.is_zero();
        let both_up = self.state == State::Up && self.remote.state == State::Up;
        let unwanted = self.remote.demand && both_up && !self.poll;
        !(unasked || deaf || unwanted)
    }

    fn control(&self) -> Control {
        Control {
            diag: self.diag,
            state: self.state,
            poll: self.poll,
            fin: false,
            demand: false,
            multiplier: self.settings.multiplier,
            mine: self.discriminator,
            yours: self.remote.discriminator,
            min_tx: self.desired_min_tx(),
            min_rx: self.settings.min_rx,
        }
    }

    fn desired_min_tx(&self) -> Duration {
        if self.state == State::Up {
            self.settings.min_tx
        } else {
            self.settings.idle_tx.max(self.settings.min_tx)
        }
    }

    fn actual_min_tx(&self) -> Duration {
        let desired = self.desired_min_tx();
        self.held.map_or(desired, |held| desired.min(held.min_tx))
    }

    fn actual_min_rx(&self) -> Duration {
        let required = self.settings.min_rx;
        self.held.map_or(required, |held| required.max(held.min_rx))
    }
}

#[cfg(test)]
#[path = "fsm_tests.rs"]
mod tests;
