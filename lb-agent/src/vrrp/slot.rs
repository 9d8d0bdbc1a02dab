// SPDX-License-Identifier: MIT OR Apache-2.0
//! The books of one running instance.
//!
//! In: datagrams and state changes. Out: inputs for its state machine, log lines, its
//! [`InstanceStatus`]. Called by the driver. Invariant: one log line per kind of trouble until
//! the state changes, so that a flood of bad adverts is counted in full and logged once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tracing::{error, info, warn};

use super::counters::{Counter, Counters};
use super::event::{Input, Notice, Reason, Scope, State, Told};
use super::fsm::{Instance, Settings};
use super::packet::{self, Accept, Advert};
use super::priority::{self, Condition, Verdict};
use super::rivals::{Claim, News, Rivals};
use super::status::{InstanceStatus, Rival, TrackStatus, unix_ms};
use super::time::Nanos;
use crate::config::model::{Tracked, VrrpInstance};

/// A configured instance, its state machine and its books.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) config: VrrpInstance,
    pub(super) fsm: Instance,
    /// Its start is put off.
    pub(super) waits: bool,
    /// Interface index while the interface exists.
    pub(super) ifindex: Option<u32>,
    /// Its interface did something odd: look at it again.
    pub(super) suspect: bool,
    /// Last complaint about its interface, not to be repeated.
    pub(super) complaint: Option<String>,
    /// What is known of each of the configuration's tracks, in their order.
    conditions: Vec<Condition>,
    addresses: Vec<Ipv4Addr>,
    counters: Counters,
    logged: BTreeSet<Counter>,
    master: Option<IpAddr>,
    rivals: Rivals,
    since_unix_ms: u64,
}

impl Slot {
    pub(super) fn new(config: VrrpInstance) -> Self {
        let settings = Settings {
            version: config.version,
            priority: config.priority,
            interval: config.advert_interval,
            preempt: config.preempt,
            preempt_delay: config.preempt_delay,
            grouped: config.group.is_some(),
            announcing: config.announcing,
            exchange: config.exchange,
        };
        Self {
            fsm: Instance::new(settings),
            conditions: vec![Condition::Unknown; config.tracks.len()],
            addresses: config.vips.iter().map(|vip| vip.addr).collect(),
            config,
            waits: false,
            ifindex: None,
            suspect: false,
            complaint: None,
            counters: Counters::default(),
            logged: BTreeSet::new(),
            master: None,
            rivals: Rivals::default(),
            since_unix_ms: unix_ms(),
        }
    }

    /// Notes what is known of `what`; true if this instance tracks it and did not know.
    pub(super) fn observe(&mut self, what: &Tracked, condition: Condition) -> bool {
        let mut news = false;
        for (track, known) in self.config.tracks.iter().zip(&mut self.conditions) {
            if track.what == *what && *known != condition {
                *known = condition;
                news = true;
            }
        }
        news
    }

    /// What scripts and FIFOs are told.
    pub(super) fn notice(&self, told: Told) -> Notice<'_> {
        Notice {
            scope: Scope::Instance,
            name: &self.config.name,
            told,
            priority: self.fsm.priority(),
        }
    }

    /// What all tracks come to.
    pub(super) fn verdict(&self) -> Verdict {
        let conditions = self.conditions.iter().copied();
        priority::judge(
            self.config.priority,
            self.config.tracks.iter().zip(conditions),
        )
    }

    /// Counts a datagram for this instance; the input it makes when it is believed.
    pub(super) fn receive(&mut self, now: Nanos, datagram: &[u8]) -> Option<Input> {
        let accept = Accept {
            version: self.config.version,
            vrid: self.config.vrid,
            auth: &self.config.auth,
            interval: self.config.advert_interval,
            unicast: !self.config.unicast_peers.is_empty(),
            own: self.source(),
            addresses: &self.addresses,
        };
        let received = match packet::decode(datagram, &accept) {
            Ok(received) => received,
            Err(refusal) => {
                let peek = packet::peek(datagram);
                self.trouble(refusal, peek.map(|peek| peek.src.into()));
                if let Some(peek) = peek.filter(|_| shows_a_rival(refusal)) {
                    let claim = Claim {
                        src: peek.src.into(),
                        priority: peek.priority,
                        refused: Some(refusal),
                    };
                    self.rival(now, claim);
                }
                return None;
            }
        };
        let advert = received.advert;
        let src = IpAddr::V4(advert.src);
        self.counters.bump(Counter::AdvertRcvd);
        if received.message_only_checksum {
            self.counters.bump(Counter::ChkMessageOnly);
        }
        if received.addresses_differ {
            self.trouble(Counter::AddrListErr, Some(src));
        }
        if advert.priority == 0 {
            self.counters.bump(Counter::PriZeroRcvd);
        } else {
            self.heard(now, src, advert.priority);
        }
        Some(Input::Advert {
            src,
            priority: advert.priority,
            interval: advert.interval,
        })
    }

    /// The advert to send now, to `dst`; none without a source address.
    pub(super) fn advert(&self, priority: u8, dst: Ipv4Addr) -> Option<Advert> {
        Some(Advert {
            src: self.source()?,
            dst,
            version: self.config.version,
            vrid: self.config.vrid,
            priority,
            interval: self.config.advert_interval,
            auth: self.config.auth.clone(),
            addresses: self.addresses.clone(),
        })
    }

    /// Counts a datagram sent, or not.
    pub(super) fn sent(&mut self, now: Nanos, priority: u8, result: &std::io::Result<()>) {
        for src in self.rivals.gone(now, self.patience()) {
            let name = &self.config.name;
            info!("{name}: the split brain is over: {src} is not MASTER any more");
        }
        if let Err(cause) = result {
            self.counters.bump(Counter::SendErr);
            self.suspect = true;
            if self.logged.insert(Counter::SendErr) {
                let (name, interface) = (&self.config.name, &self.config.interface);
                warn!("{name}: cannot send an advert on {interface}: {cause}");
            }
            return;
        }
        self.logged.remove(&Counter::SendErr);
        self.counters.bump(Counter::AdvertSent);
        if priority == 0 {
            self.counters.bump(Counter::PriZeroSent);
        }
    }

    /// Writes a state change into the books and the log.
    pub(super) fn changed(&mut self, from: State, to: State, reason: Reason) {
        self.since_unix_ms = unix_ms();
        self.logged.clear();
        if to == State::Master {
            self.counters.bump(Counter::BecomeMaster);
            self.master = None;
            self.rivals.clear();
        }
        if from == State::Master {
            self.counters.bump(Counter::ReleaseMaster);
            self.rivals.end();
        }
        if let Reason::HigherPriority { src, .. } | Reason::HigherAddress { src } = reason {
            self.master = Some(src);
        }
        let name = &self.config.name;
        match to {
            State::Fault => warn!("{name}: {from} -> {to}: {reason}"),
            State::Init | State::Backup | State::Master => {
                info!("{name}: {from} -> {to}: {reason}");
            }
        }
    }

    pub(super) fn status(&self, now: Nanos) -> InstanceStatus {
        InstanceStatus {
            name: self.config.name.clone(),
            state: self.fsm.state(),
            interface: self.config.interface.clone(),
            vrid: self.config.vrid,
            version: self.config.version,
            priority: self.config.priority,
            effective_priority: self.fsm.priority(),
            source: self.fsm.source(),
            master: self.master,
            since_unix_ms: self.since_unix_ms,
            counters: self.counters.clone(),
            rivals: self
                .rivals
                .iter()
                .map(|known| Rival::new(known, now))
                .collect(),
            tracks: self
                .config
                .tracks
                .iter()
                .zip(&self.conditions)
                .map(|(track, condition)| TrackStatus {
                    track: track.clone(),
                    condition: *condition,
                })
                .collect(),
        }
    }

    fn source(&self) -> Option<Ipv4Addr> {
        match self.fsm.source() {
            Some(IpAddr::V4(source)) => Some(source),
            _ => None,
        }
    }

    fn heard(&mut self, now: Nanos, src: IpAddr, priority: u8) {
        self.master = Some(src);
        let refused = None;
        self.rival(
            now,
            Claim {
                src,
                priority,
                refused,
            },
        );
    }

    /// Another MASTER was heard.
    fn rival(&mut self, now: Nanos, claim: Claim) {
        if self.fsm.state() != State::Master || claim.priority == 0 {
            return;
        }
        self.master = None;
        self.counters.bump(Counter::RivalRcvd);
        let (interval, patience) = (self.config.advert_interval, self.patience());
        let news = self.rivals.heard(now, claim, interval, patience);
        let (name, Claim { src, priority, .. }) = (&self.config.name, claim);
        let refused = claim.refused.map_or(String::new(), |counter| {
            format!(" (its adverts are refused: {})", counter.name())
        });
        match news {
            None => {}
            Some(News::Another) => {
                warn!("{name}: {src} is MASTER too, with priority {priority}{refused}");
            }
            Some(News::Split(age)) => {
                self.counters.bump(Counter::SplitBrain);
                let seconds = age.as_secs_f64();
                error!(
                    "{name}: SPLIT BRAIN: {src} with priority {priority} does not step down, \
                     {seconds:.1} s after it was first heard{refused}"
                );
            }
        }
    }

    /// Silence after which a rival is believed to be gone.
    fn patience(&self) -> Duration {
        self.config.advert_interval * u32::from(self.config.exchange.down_adverts)
    }

    fn trouble(&mut self, counter: Counter, src: Option<IpAddr>) {
        self.counters.bump(counter);
        if self.logged.insert(counter) {
            let src = src.map_or_else(|| "an unknown sender".to_owned(), |src| src.to_string());
            let (name, interface) = (&self.config.name, &self.config.interface);
            let (what, doc) = (counter.name(), counter.doc());
            warn!(
                "{name}: advert from {src} on {interface}: {doc} Counted as {what}, logged once \
                 until the state changes"
            );
        }
    }
}

/// Whether a refused advert is one of another MASTER all the same: of this virtual router, but
/// with other settings.
fn shows_a_rival(refusal: Counter) -> bool {
    matches!(
        refusal,
        Counter::VersErr
            | Counter::InvalidAuthtype
            | Counter::AuthtypeMismatch
            | Counter::AuthFailure
            | Counter::AdvertIntervalErr
            | Counter::ChkErr
            | Counter::DeliveryErr
    )
}
