// SPDX-License-Identifier: MIT OR Apache-2.0
//! The books of one running instance.
//!
//! In: datagrams and state changes. Out: inputs for its state machine, log lines, its
//! [`InstanceStatus`]. Called by the driver. Invariant: one log line per kind of trouble until
//! the state changes, so that a flood of bad adverts is counted in full and logged once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::counters::{Counter, Counters};
use super::election::PRIORITY_RELEASE;
use super::event::{Input, Notice, Reason, Scope, State, Told};
use super::fsm::{Instance, Settings};
use super::packet::{self, Accept, Advert, Datagram, Received, Style, TTL};
use super::priority::{self, Condition, Verdict};
use super::rivals::{Claim, News, Rivals};
use super::socket::Kind;
use super::status::{InstanceStatus, Rival, TrackStatus, unix_ms};
use super::time::Nanos;
use crate::config::model::{
    Auth, Checksum, Family, Tracked, VirtualAddress, VrrpInstance, VrrpVersion,
};
use crate::supervisor::page::{Address, Frame, Held};

/// How far ahead the sequence number of an advert is that is packed for later.
const SEQUENCE_AHEAD: u32 = 64;

/// A configured instance, its state machine and its books.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) config: Arc<VrrpInstance>,
    pub(super) fsm: Instance,
    /// Its start is put off.
    pub(super) waits: bool,
    /// Interface index while the interface exists.
    pub(super) ifindex: Option<u32>,
    /// Index of the interface that it sends and hears on: that one, or its virtual MAC interface.
    pub(super) port: Option<u32>,
    /// Its interface did something odd: look at it again.
    pub(super) suspect: bool,
    /// Last complaint about its interface, not to be repeated.
    pub(super) complaint: Option<String>,
    /// What is known of each of the configuration's tracks, in their order.
    conditions: Vec<Condition>,
    addresses: Vec<IpAddr>,
    /// Sequence number of the authentication header sent or heard last.
    sequence: u32,
    /// Sender, sequence number and moment of the one heard last.
    heard_sequence: Option<(IpAddr, u32, Nanos)>,
    /// Sender whose addresses were compared last.
    compared: Option<IpAddr>,
    /// A unicast peer uses the old checksum.
    old_checksum: bool,
    counters: Counters,
    logged: BTreeSet<Counter>,
    master: Option<IpAddr>,
    rivals: Rivals,
    since_unix_ms: u64,
}

impl Slot {
    pub(super) fn new(config: Arc<VrrpInstance>) -> Self {
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
            sequence: first_sequence(),
            heard_sequence: None,
            compared: None,
            old_checksum: false,
            config,
            waits: false,
            ifindex: None,
            port: None,
            suspect: false,
            complaint: None,
            counters: Counters::default(),
            logged: BTreeSet::new(),
            master: None,
            rivals: Rivals::default(),
            since_unix_ms: unix_ms(),
        }
    }

    /// Takes over whether the host answers at the addresses: no reason to give the role up.
    pub(super) fn take_accept_mode(&mut self, instances: &[Arc<VrrpInstance>]) {
        let new = instances.iter().find(|new| new.name == self.config.name);
        if let Some(new) = new.filter(|new| new.accept != self.config.accept) {
            let mut config = VrrpInstance::clone(&self.config);
            config.accept = new.accept;
            if config == **new {
                self.config = Arc::clone(new);
            }
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

    /// The socket that it sends and hears with.
    pub(super) fn kind(&self) -> Kind {
        match (self.config.family, &self.config.auth) {
            (Family::V6, _) => Kind::V6,
            (Family::V4, Auth::Ah(_)) => Kind::V4Ah,
            (Family::V4, _) => Kind::V4,
        }
    }

    /// Counts a datagram for this instance (none if it was too short to be one); the input it
    /// makes when it is believed.
    pub(super) fn receive(&mut self, now: Nanos, datagram: Option<&Datagram<'_>>) -> Option<Input> {
        let Some(datagram) = datagram else {
            self.trouble(Counter::PacketLenErr, None);
            return None;
        };
        let exchange = &self.config.exchange;
        let known = exchange.skip_addresses && self.compared == Some(datagram.src);
        let accept = Accept {
            version: self.config.version,
            vrid: self.config.vrid,
            auth: &self.config.auth,
            interval: self.config.advert_interval,
            peers: &self.config.unicast_peers,
            check_src: exchange.check_src,
            own: self.fsm.source(),
            addresses: (!known).then_some(self.addresses.as_slice()),
        };
        let received = packet::decode(datagram, &accept)
            .and_then(|received| self.check_sequence(now, received));
        let received = match received {
            Ok(received) => received,
            Err(refusal) => {
                self.refused(now, datagram, refusal);
                return None;
            }
        };
        self.counters.bump(Counter::AdvertRcvd);
        self.note_form(&received);
        let Advert {
            src,
            priority,
            interval,
            ..
        } = received.advert;
        if priority == 0 {
            self.counters.bump(Counter::PriZeroRcvd);
        } else {
            self.heard(now, src, priority);
        }
        Some(Input::Advert {
            src,
            priority,
            interval,
        })
    }

    /// Whether this MASTER hears one of a lower priority.
    pub(super) fn is_above(&self, input: &Input) -> bool {
        let Input::Advert { priority, .. } = input else {
            return false;
        };
        let master = self.fsm.state() == State::Master;
        master && (1..self.fsm.priority()).contains(priority)
    }

    /// KEEPALIVED: one counter for what is sent and heard, which never goes back. Here a sender may
    /// begin anew after it was silent for so long that it may have been restarted.
    fn check_sequence(&mut self, now: Nanos, received: Received) -> Result<Received, Counter> {
        let Some(sequence) = received.sequence else {
            return Ok(received);
        };
        let src = received.advert.src;
        if let Some((from, last, at)) = self.heard_sequence
            && from == src
            && sequence <= last
            && now.since(at) <= self.patience()
        {
            return Err(Counter::AuthReplay);
        }
        self.heard_sequence = Some((src, sequence, now));
        self.sequence = self.sequence.max(sequence);
        Ok(received)
    }

    fn refused(&mut self, now: Nanos, datagram: &Datagram<'_>, refusal: Counter) {
        self.trouble(refusal, Some(datagram.src));
        let peek = datagram.peek().filter(|_| shows_a_rival(refusal));
        if let Some(peek) = peek {
            let claim = Claim {
                src: peek.src,
                priority: peek.priority,
                refused: Some(refusal),
            };
            self.rival(now, claim);
        }
    }

    /// Notes what is odd about an advert that is believed.
    fn note_form(&mut self, received: &Received) {
        let src = received.advert.src;
        self.compared = Some(src);
        if received.addresses_differ {
            self.trouble(Counter::AddrListErr, Some(src));
        }
        let version = self.config.version;
        match received.checksum {
            Checksum::MessageOnly if version == VrrpVersion::V3 => {
                self.counters.bump(Counter::ChkMessageOnly);
            }
            Checksum::OldUnicast => {
                self.counters.bump(Counter::ChkOldUnicast);
                self.old_checksum = self.config.exchange.learn_checksum;
            }
            Checksum::MessageOnly | Checksum::PseudoHeader => {}
        }
    }

    /// The group, or every peer.
    pub(super) fn destinations(&self) -> Vec<IpAddr> {
        if self.config.unicast_peers.is_empty() {
            vec![self.config.mcast_group]
        } else {
            let peers = self.config.unicast_peers.iter();
            peers.map(|peer| peer.addr).collect()
        }
    }

    /// How the next advert is packed.
    pub(super) fn style(&mut self) -> Style {
        self.sequence = self.sequence.saturating_add(1);
        self.style_at(self.sequence)
    }

    fn style_at(&self, sequence: u32) -> Style {
        let unicast = !self.config.unicast_peers.is_empty();
        let exchange = &self.config.exchange;
        Style {
            ttl: if unicast { exchange.unicast_ttl } else { TTL },
            checksum: match exchange.checksum {
                Checksum::PseudoHeader if self.old_checksum && unicast => Checksum::OldUnicast,
                other => other,
            },
            sequence,
        }
    }

    /// What it holds as MASTER, with adverts that somebody else can send for it.
    /// `number` knows the number of an interface of that name, if there is one.
    pub(super) fn held<'a>(&'a self, number: &mut impl FnMut(&'a str) -> Option<u32>) -> Held {
        // Peers refuse a number that they have heard: this one is ahead of what can be sent until
        // it is packed anew, and cannot be sent twice.
        let style = self.style_at(self.sequence.saturating_add(SEQUENCE_AHEAD));
        let authenticated = self.is_numbered();
        let frames = |priority| {
            let advert = |dst| {
                let advert = self.advert(priority, dst)?;
                Some(Frame {
                    ifindex: self.port?,
                    authenticated,
                    src: advert.src,
                    dst,
                    hop_limit: style.ttl,
                    bytes: packet::encode(&advert, &style),
                })
            };
            self.destinations().into_iter().filter_map(advert).collect()
        };
        let address = |vip: &'a VirtualAddress| {
            Some(Address {
                ifindex: number(self.config.device_of(vip))?,
                addr: vip.addr,
                prefix_len: vip.prefix_len,
                peer: vip.peer.unwrap_or(vip.addr),
            })
        };
        Held {
            name: self.config.name.clone(),
            interval: self.config.advert_interval,
            adverts: if authenticated {
                Vec::new()
            } else {
                frames(self.fsm.priority())
            },
            releases: frames(PRIORITY_RELEASE),
            addresses: self.config.addresses().filter_map(address).collect(),
        }
    }

    /// Whether each of its adverts has a number that peers refuse the second time.
    pub(super) fn is_numbered(&self) -> bool {
        self.kind() == Kind::V4Ah
    }

    /// The advert to send now, to `dst`; none without a source address.
    pub(super) fn advert(&self, priority: u8, dst: IpAddr) -> Option<Advert> {
        Some(Advert {
            src: self.fsm.source()?,
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
        if let Reason::HigherPriority { src, .. }
        | Reason::HigherAddress { src }
        | Reason::HandedOver { src } = reason
        {
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
        // The successor that a leaving MASTER waits for is no rival.
        if self.fsm.state() != State::Master || self.fsm.is_leaving() || claim.priority == 0 {
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
                    "{name}: SPLIT BRAIN: {src} with priority {priority} is MASTER too and does \
                     not step down, {seconds:.1} s after it was first heard{refused}"
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

/// Sequence numbers begin with the seconds since 1970: with an advert a second at most they are
/// higher than those of any earlier run, so that no peer takes them for a replay.
fn first_sequence() -> u32 {
    const MILLIS: u64 = 1000;
    u32::try_from(unix_ms() / MILLIS).unwrap_or_default()
}
