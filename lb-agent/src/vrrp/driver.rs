// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owns all instances, their sockets and timers, and performs what the state machines ask for.
//!
//! In: datagrams, the clock, interface changes, a new configuration. Out: adverts, gratuitous
//! ARP, calls of the [`Host`]. Called by the agent's select loop:
//!
//! ```text
//! loop { select! { event = driver.next_event() => driver.handle(event).await, … } }
//! ```
//!
//! Invariants: `next_event` only waits, so dropping it loses nothing; datagrams that waited in a
//! socket are read before a timer is judged, so a late process does not mistake its own absence
//! for silence; timers are served after at most [`DRAIN_MAX`] datagrams per interface, so a flood
//! delays no advert.
//!
//! Timers are tokio's: up to 1 ms late, never early.

mod handover;
mod index;
mod tracking;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, poll_fn};
use std::io;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rtnetlink::Handle;
use tracing::{error, info, warn};

use super::announce::Announcer;
use super::announce::queue::{Announcement, Queue};
use super::election::{PRIORITY_OWNER, PRIORITY_RELEASE};
use super::event::{Action, Input, Notice, Reason, State, Told};
use super::packet::{self, Datagram};
use super::priority::Condition;
use super::record::{Line, Recorder};
use super::slot::Slot;
use super::socket::{Arrived, Kind, Route, SocketError, VrrpSocket};
use super::status::InstanceStatus;
use super::time::Nanos;
use crate::config::model::{Family, Global, Tracked, UnicastPeer, Vmac, VrrpInstance};
use crate::netlink::links::{self, Link, LinkError};
use crate::netlink::vmac::Vmacs;
pub use handover::Handover;
use index::{Index, needs_look};
use tracking::{GroupSlot, group_notice};

/// Datagrams read from one interface before timers get their turn.
pub const DRAIN_MAX: usize = 64;
/// How long what an interface is like counts as known while addresses are announced there: asking
/// lists all addresses of the host, and a thousand instances may announce at once.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// How often an interface that cannot be used is looked at again, should no one report it.
pub const RESCAN_EVERY: Duration = Duration::from_secs(1);

/// What a MASTER does to this host. The application implements it: packet program and addresses.
#[expect(
    async_fn_in_trait,
    reason = "the agent is one thread: no caller needs its futures to be Send"
)]
pub trait Host {
    /// Why a claim or release failed, in a sentence.
    type Error: std::fmt::Display;

    /// Attaches the packet program (maps are ready before), then adds the addresses. On an error
    /// `release` follows, so a half-done claim may be left half done.
    async fn claim(&mut self, instance: &VrrpInstance) -> Result<(), Self::Error>;

    /// Removes the addresses. Also called before an instance starts, to remove what a killed
    /// predecessor left: what is not there is no error.
    async fn release(&mut self, instance: &VrrpInstance) -> Result<(), Self::Error>;

    /// Detaches the packet program from the interfaces that no other MASTER needs it on.
    fn detach(&mut self, instance: &VrrpInstance);

    /// Hears of a change after everything that belongs to it is done.
    fn state_changed(&mut self, instance: &VrrpInstance, from: State, to: State, reason: Reason);

    /// Tells scripts and FIFOs. Must not wait for them.
    fn notify(&mut self, notice: Notice<'_>);

    /// Writes to the FIFOs alone what they may have been told before.
    fn restate(&mut self, notice: Notice<'_>) {
        let _ = notice;
    }

    /// True if this instance was MASTER in a process that ended a moment ago, and no peer can have
    /// missed it yet.
    fn resumes(&self, instance: &VrrpInstance) -> bool {
        let _ = instance;
        false
    }
}

/// Why [`Driver::next_event`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "pass it to `handle`"]
pub enum Event {
    /// A socket has datagrams.
    Datagrams,
    /// A timer is due.
    Timer,
}

/// All VRRP instances of the agent.
#[derive(Debug)]
pub struct Driver<H: Host> {
    host: H,
    netlink: Handle,
    slots: Vec<Slot>,
    /// Of the slots.
    index: Index,
    /// Some slots wait for their start.
    waiting: bool,
    ports: Vec<VrrpSocket>,
    rescan_at: Option<Nanos>,
    /// Name and whether it carries traffic, of each interface by its index.
    interfaces: BTreeMap<u32, (String, bool)>,
    /// What is known of scripts, files and processes.
    conditions: BTreeMap<Tracked, Condition>,
    /// Sync groups, by their names.
    groups: BTreeMap<String, GroupSlot>,
    /// Announcements whose turn has not come.
    announcements: Queue,
    /// Open ones by their interfaces, since when.
    announcers: BTreeMap<String, (Nanos, Announcer)>,
    /// No instance starts before.
    begin_at: Nanos,
    vmacs: Vmacs,
    recorder: Option<Recorder>,
    /// Changes with what the masters hold.
    revision: u64,
}

impl<H: Host> Driver<H> {
    /// A driver without instances; [`Driver::reconfigure`] starts them. `netlink` needs its
    /// connection task running.
    pub fn new(host: H, netlink: Handle) -> Self {
        Self {
            host,
            netlink,
            slots: Vec::new(),
            index: Index::default(),
            waiting: false,
            ports: Vec::new(),
            rescan_at: None,
            interfaces: BTreeMap::new(),
            conditions: BTreeMap::new(),
            groups: BTreeMap::new(),
            announcements: Queue::default(),
            announcers: BTreeMap::new(),
            begin_at: Nanos::default(),
            vmacs: Vmacs::default(),
            recorder: None,
            revision: 0,
        }
    }

    /// The host, for what the application keeps there.
    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    /// Writes down what the machines are told and answer, from here on.
    pub fn record(&mut self, recorder: Option<Recorder>) {
        self.recorder = recorder;
    }

    /// Takes over what concerns all instances; call it before `reconfigure`. The delays count for
    /// instances that have not started yet.
    pub fn set_global(&mut self, global: &Global) {
        self.announcements.set_spacings(global.spacings.clone());
        if self.slots.is_empty() {
            let after_start = now() + global.startup_delay;
            self.begin_at = after_start.max(Nanos::default() + global.delay_after_boot);
        }
    }

    /// Waits until there is something to do; then call [`Driver::handle`]. Cancel-safe.
    pub async fn next_event(&mut self) -> Event {
        let due = self.next_timer();
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep(at.since(now())).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = timer => Event::Timer,
            () = readable(&self.ports) => Event::Datagrams,
        }
    }

    /// Does everything that is due. Not cancel-safe: await it to its end.
    pub async fn handle(&mut self, _event: Event) {
        for port in 0..self.ports.len() {
            self.drain(port).await;
        }
        for at in self.index.due(now()) {
            // A step before may have changed it.
            if self.index.is_due(at, now()) {
                self.step(at, Input::Timer).await;
            }
        }
        self.announce();
        if self.rescan_at.is_some_and(|due| due <= now()) {
            self.rescan().await;
        }
        self.begin().await;
        self.plan_rescan();
    }

    /// Makes `instances` the ones that run: unchanged ones are not touched, removed and changed
    /// ones release first, new and changed ones start.
    pub async fn reconfigure(&mut self, instances: Vec<Arc<VrrpInstance>>) {
        self.replace(instances, Told::Deleted).await;
    }

    /// `end` is what is told of those that do not come back.
    async fn replace(&mut self, instances: Vec<Arc<VrrpInstance>>, end: Told) {
        let old: Vec<Vmac> = self
            .slots
            .iter()
            .filter_map(|slot| slot.config.vmac.clone())
            .collect();
        for slot in &mut self.slots {
            slot.take_accept_mode(&instances);
        }
        for at in 0..self.slots.len() {
            let stays = self
                .slots
                .get(at)
                .is_some_and(|slot| instances.contains(&slot.config));
            if !stays {
                // Its group follows once all that go are gone.
                self.step_one(at, Input::Shutdown).await;
                let slot = self.slots.get(at);
                let gone =
                    slot.filter(|old| !instances.iter().any(|new| new.name == old.config.name));
                if let Some(slot) = gone {
                    self.host.notify(slot.notice(end));
                }
            }
        }
        self.slots.retain(|slot| instances.contains(&slot.config));
        self.index.rebuild(&self.slots);
        self.drop_vmacs(&old, &instances).await;
        let remains = |name: &String| {
            let mut of = instances.iter().map(|new| new.group.as_ref());
            of.any(|group| group == Some(name))
        };
        let gone: Vec<String> = self
            .groups
            .keys()
            .filter(|n| !remains(n))
            .cloned()
            .collect();
        for name in gone {
            self.groups.remove(&name);
            self.host.notify(group_notice(&name, end));
        }
        let order: Vec<String> = instances.iter().map(|new| new.name.clone()).collect();
        self.list_interfaces(&instances).await;
        for config in instances {
            if !self.slots.iter().any(|slot| slot.config == config) {
                self.start(config).await;
            }
        }
        self.slots
            .sort_by_key(|slot| order.iter().position(|name| *name == slot.config.name));
        self.index.rebuild(&self.slots);
        self.sweep_ports();
        self.plan_rescan();
    }

    /// Removes the virtual MAC interfaces that no instance has any more.
    async fn drop_vmacs(&mut self, old: &[Vmac], instances: &[Arc<VrrpInstance>]) {
        for vmac in old {
            let mut kept = instances.iter().filter_map(|new| new.vmac.as_ref());
            if !kept.any(|new| new.name == vmac.name && new.mac == vmac.mac)
                && let Err(cause) = self.vmacs.remove(&self.netlink, &vmac.name).await
            {
                warn!("cannot remove {}: {cause}", vmac.name);
            }
        }
    }

    /// Stops all instances: each MASTER tells its peers, goes on until one of them is MASTER or the
    /// longest skew has passed, then removes its addresses and detaches.
    pub async fn shutdown(&mut self) {
        self.leave_all().await;
        self.replace(Vec::new(), Told::Stop).await;
    }

    /// All instances in the order of the configuration.
    pub fn snapshot(&self) -> Vec<InstanceStatus> {
        let now = now();
        self.slots.iter().map(|slot| slot.status(now)).collect()
    }

    /// Changes whenever [`Driver::held`] may.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    async fn start(&mut self, config: Arc<VrrpInstance>) {
        // An owner's addresses may be the interface's own, and it claims them at once anyway.
        if config.priority != PRIORITY_OWNER
            && let Err(cause) = self.host.release(&config).await
        {
            let name = &config.name;
            warn!("{name}: cannot remove what an earlier run may have left: {cause}");
        }
        let mut slot = Slot::new(config);
        for track in slot.config.tracks.clone() {
            slot.observe(&track.what, self.condition_of(&track.what));
        }
        let verdict = slot.verdict();
        if let Some(recorder) = &mut self.recorder {
            recorder.add(Line::Machine {
                at: now(),
                instance: slot.config.name.clone(),
                settings: slot.fsm.settings(),
            });
        }
        self.slots.push(slot);
        self.index.rebuild(&self.slots);
        let at = self.slots.len().saturating_sub(1);
        self.step(at, Input::Tracks(verdict)).await;
        if now() < self.begin_at {
            if let Some(slot) = self.slots.get_mut(at) {
                slot.waits = true;
                self.waiting = true;
                let seconds = self.begin_at.since(now()).as_secs_f64();
                info!("{}: starts in {seconds:.1} s", slot.config.name);
            }
        } else {
            self.start_now(at).await;
        }
    }

    /// Starts an instance; one that was MASTER a moment ago asks to be it again.
    async fn start_now(&mut self, at: usize) {
        let source = self.usable(at).await;
        self.step(at, Input::Start { source }).await;
        let config = self.slots.get(at).map(|slot| &slot.config);
        if let (Some(src), Some(config)) = (source, config)
            && self.host.resumes(config)
        {
            // As if the process before had handed over to this one: it need not wait out the
            // silence of a MASTER that it was itself.
            info!(
                "{}: was MASTER a moment ago, and asks to be it again",
                config.name
            );
            let interval = config.advert_interval;
            let priority = PRIORITY_RELEASE;
            self.step(
                at,
                Input::Advert {
                    src,
                    priority,
                    interval,
                },
            )
            .await;
        }
    }

    /// When the instances start that wait for their time.
    fn begins(&self) -> Option<Nanos> {
        self.waiting.then_some(self.begin_at)
    }

    /// Starts the instances whose time has come.
    async fn begin(&mut self) {
        if self.begins().is_none_or(|at| now() < at) {
            return;
        }
        self.waiting = false;
        for at in 0..self.slots.len() {
            let waits = self
                .slots
                .get_mut(at)
                .map(|slot| mem::take(&mut slot.waits));
            if waits == Some(true) {
                self.start_now(at).await;
            }
        }
    }

    /// Gives one input to an instance, performs the actions, and lets its sync group follow.
    async fn step(&mut self, at: usize, input: Input) {
        self.step_one(at, input).await;
        let slot = self.slots.get(at);
        if let Some(group) = slot.and_then(|slot| slot.config.group.clone()) {
            self.follow(&group).await;
        }
    }

    /// Gives one input to an instance and performs the actions, and what follows from those.
    async fn step_one(&mut self, at: usize, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut actions = Vec::new();
            if let Some(slot) = self.slots.get_mut(at) {
                let now = now();
                let leaving = slot.fsm.is_leaving();
                slot.fsm.handle(now, input, &mut actions);
                if leaving && !slot.fsm.is_leaving() && slot.fsm.state() == State::Master {
                    warn!("{}: no peer took over: MASTER as before", slot.config.name);
                }
                let moves = |action: &Action| {
                    !matches!(action, Action::SendAdvert { .. } | Action::Announce { .. })
                };
                if actions.iter().any(moves) || matches!(input, Input::InterfaceUp { .. }) {
                    self.revision += 1;
                }
                if let Some(recorder) = &mut self.recorder {
                    recorder.add(Line::Step {
                        at: now,
                        instance: slot.config.name.clone(),
                        input,
                        actions: actions.clone(),
                    });
                }
            }
            for action in actions {
                // With a failed claim there is nothing to tell of.
                let tells = matches!(action, Action::SendAdvert { .. } | Action::Announce { .. });
                if next.is_none() || !tells {
                    next = self.perform(at, action).await.or(next);
                }
            }
            if let Some(slot) = self.slots.get(at) {
                self.index.note(at, slot);
            }
        }
    }

    /// Performs one action; an input when it has a consequence.
    async fn perform(&mut self, at: usize, action: Action) -> Option<Input> {
        let slot = self.slots.get_mut(at)?;
        let name = &slot.config.name;
        match action {
            Action::SendAdvert { priority } => send(slot, &self.ports, priority),
            Action::Announce { repeat } => {
                enqueue(&slot.config, repeat, &mut self.announcements);
                self.announce();
            }
            Action::Claim => {
                if let Err(cause) = self.host.claim(&slot.config).await {
                    error!("{name}: cannot claim the addresses: {cause}; handing over");
                    return Some(Input::ClaimFailed);
                }
            }
            Action::Release => {
                self.announcements.cancel(name);
                if let Err(cause) = self.host.release(&slot.config).await {
                    error!("{name}: cannot release the addresses: {cause}");
                }
            }
            Action::Detach => self.host.detach(&slot.config),
            Action::PriorityChanged { from, to } => {
                info!("{name}: priority {from} -> {to}");
                let told = match slot.fsm.state() {
                    State::Master => Told::MasterPriority,
                    State::Init | State::Backup | State::Fault => Told::BackupPriority,
                };
                self.host.notify(slot.notice(told));
            }
            Action::StateChanged { from, to, reason } => {
                slot.changed(from, to, reason);
                self.host.state_changed(&slot.config, from, to, reason);
                if let Some(told) = to.told() {
                    self.host.notify(slot.notice(told));
                }
            }
        }
        None
    }

    /// Sends the announcements whose turn it is.
    fn announce(&mut self) {
        let mut failed: BTreeSet<String> = BTreeSet::new();
        self.announcers
            .retain(|_, (opened, _)| now().since(*opened) < REOPEN_AFTER);
        for packet in self.announcements.due(now()) {
            let Announcement {
                instance,
                device,
                addr,
                ..
            } = packet;
            if failed.contains(&device) {
                continue;
            }
            let known = self.announcers.remove(&device);
            let announcer = known.map_or_else(
                || Announcer::open(&device).map(|announcer| (now(), announcer)),
                Ok,
            );
            let sent = announcer.and_then(|(opened, announcer)| {
                announcer.announce(addr)?;
                Ok((opened, announcer))
            });
            match sent {
                Ok(announcer) => {
                    self.announcers.insert(device, announcer);
                }
                Err(cause) => {
                    warn!("{instance}: {cause}");
                    failed.insert(device);
                }
            }
        }
    }

    async fn drain(&mut self, port: usize) {
        let mut buffer = [0; packet::DATAGRAM_MAX];
        for _ in 0..DRAIN_MAX {
            let Some(fd) = self.ports.get(port) else {
                return;
            };
            let (ifindex, kind) = (fd.ifindex(), fd.kind());
            let Some(arrived) = fd.receive(&mut buffer) else {
                return;
            };
            self.deliver(ifindex, kind, arrived).await;
        }
    }

    /// A datagram too short to name a virtual router is charged to every instance of its
    /// interface; one for a virtual router that is not ours is none of our business.
    async fn deliver(&mut self, ifindex: u32, kind: Kind, arrived: Arrived<'_>) {
        let datagram = match arrived {
            Arrived::V4(bytes) => Datagram::v4(bytes),
            Arrived::V6 {
                src,
                dst,
                hop_limit,
                message,
            } => Some(Datagram::v6(src, dst, hop_limit, message)),
        };
        let vrid = datagram
            .and_then(|datagram| datagram.peek())
            .map(|peek| peek.vrid);
        let mut from = 0;
        while let Some(at) = self.index.concerned(from, ifindex, vrid) {
            from = at.saturating_add(1);
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            let concerns = slot.port == Some(ifindex) && slot.kind() == kind;
            if concerns && let Some(input) = slot.receive(now(), datagram.as_ref()) {
                if slot.is_above(&input) {
                    self.host.notify(slot.notice(Told::MasterRxLowerPri));
                }
                self.step(at, input).await;
            }
        }
    }

    fn next_timer(&self) -> Option<Nanos> {
        let timers = self.index.next_timer().into_iter();
        let others = [
            self.rescan_at,
            self.announcements.poll_timeout(),
            self.begins(),
        ];
        timers.chain(others.into_iter().flatten()).min()
    }

    fn plan_rescan(&mut self) {
        if !self.index.looks() {
            self.rescan_at = None;
        } else if self.rescan_at.is_none() {
            self.rescan_at = Some(now() + RESCAN_EVERY);
        }
    }

    async fn rescan(&mut self) {
        self.rescan_at = None;
        for at in 0..self.slots.len() {
            if self.slots.get(at).is_some_and(needs_look) {
                self.look_again(at).await;
            }
        }
    }

    /// Tells the state machine what its interface is like.
    async fn look_again(&mut self, at: usize) {
        let input = match self.usable(at).await {
            Some(source) => Input::InterfaceUp { source },
            None => Input::InterfaceDown,
        };
        self.step(at, input).await;
    }

    /// The address to send from, if the interface can be used and its socket is open; logs why
    /// not.
    async fn usable(&mut self, at: usize) -> Option<IpAddr> {
        let config = &self.slots.get(at)?.config;
        let (interface, family) = (config.interface.clone(), config.family);
        let tracked = config.track_primary;
        let group = config
            .unicast_peers
            .is_empty()
            .then_some(config.mcast_group);
        let found = links::find(&self.netlink, &interface).await;
        let slot = self.slots.get_mut(at)?;
        let kind = slot.kind();
        slot.suspect = false;
        match &found {
            Ok(link) => slot.ifindex = Some(link.ifindex),
            Err(LinkError::NotFound { .. }) => {
                (slot.ifindex, slot.port) = (None, None);
                self.index.note_place(at, slot);
            }
            Err(LinkError::Netlink(_) | LinkError::Address(_)) => {}
        }
        self.sweep_ports();
        let usable = match found {
            Err(cause) => Err(cause.to_string()),
            Ok(link) if !link.up && tracked => Err(format!("interface {interface} is down")),
            Ok(link) => match source(&self.slots.get(at)?.config, &link) {
                None => Err(format!(
                    "interface {interface} has no usable {family} address"
                )),
                Some(source) => self.open(at, kind, &link, group).await.map(|()| source),
            },
        };
        self.note_usable(at, usable)
    }

    /// Opens the socket of an instance, on its virtual MAC interface if it sends from there.
    async fn open(
        &mut self,
        at: usize,
        kind: Kind,
        link: &Link,
        group: Option<IpAddr>,
    ) -> Result<(), String> {
        let config = &self.slots.get(at).ok_or("gone")?.config;
        let (mut name, mut ifindex) = (link.name.clone(), link.ifindex);
        if let Some(vmac) = &config.vmac {
            let made = self.vmacs.ensure(&self.netlink, link, vmac, config.family);
            let made = made.await.map_err(|cause| cause.to_string())?;
            if !vmac.xmit_base {
                (name, ifindex) = (vmac.name.clone(), made);
            }
        }
        let opened = self.open_port(kind, &name, ifindex, group);
        opened.map_err(|cause| cause.to_string())?;
        if let Some(slot) = self.slots.get_mut(at) {
            slot.port = Some(ifindex);
            self.index.note_place(at, slot);
        }
        Ok(())
    }

    /// Logs a change of mind about an interface, once.
    fn note_usable(&mut self, at: usize, source: Result<IpAddr, String>) -> Option<IpAddr> {
        let slot = self.slots.get_mut(at)?;
        let (name, interface) = (&slot.config.name, &slot.config.interface);
        match source {
            Ok(source) => {
                if slot.complaint.take().is_some() {
                    info!("{name}: interface {interface} can be used");
                }
                Some(source)
            }
            Err(complaint) => {
                if slot.complaint.as_ref() != Some(&complaint) {
                    error!("{name}: {complaint}; waiting for it to change");
                    slot.complaint = Some(complaint);
                }
                None
            }
        }
    }

    /// Opens the socket of an interface at its first use and joins `group`.
    fn open_port(
        &mut self,
        kind: Kind,
        interface: &str,
        ifindex: u32,
        group: Option<IpAddr>,
    ) -> Result<(), SocketError> {
        let mut ports = self.ports.iter_mut();
        let known = ports.find(|port| port.ifindex() == ifindex && port.kind() == kind);
        if let Some(port) = known {
            return group.map_or(Ok(()), |group| port.join(group));
        }
        let mut port = VrrpSocket::open(kind, interface, ifindex)?;
        group.map_or(Ok(()), |group| port.join(group))?;
        self.ports.push(port);
        Ok(())
    }

    /// Closes the sockets that no instance uses any more.
    fn sweep_ports(&mut self) {
        let Self { ports, slots, .. } = self;
        ports.retain(|port| {
            let ifindex = Some(port.ifindex());
            let mut slots = slots.iter();
            slots.any(|slot| slot.port == ifindex && slot.kind() == port.kind())
        });
    }
}

/// The address that an instance sends from.
///
/// RFC 9568 §5.1.2.1: over IPv6 the link-local one. KEEPALIVED: to a unicast peer that is not on
/// the link another one, if there is one.
fn source(config: &VrrpInstance, link: &Link) -> Option<IpAddr> {
    if config.source.is_some() {
        return config.source;
    }
    if config.family == Family::V4 {
        return link.address.map(IpAddr::V4);
    }
    let far = |peer: &UnicastPeer| match peer.addr {
        IpAddr::V6(addr) => !addr.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    };
    let global = link
        .address6
        .filter(|_| config.unicast_peers.iter().any(far));
    global.or(link.link_local).map(IpAddr::V6)
}

fn send(slot: &mut Slot, ports: &[VrrpSocket], priority: u8) {
    let port = ports
        .iter()
        .find(|port| Some(port.ifindex()) == slot.port && port.kind() == slot.kind());
    let style = slot.style();
    for dst in slot.destinations() {
        let result = match (port, slot.advert(priority, dst)) {
            (Some(port), Some(advert)) => {
                let route = Route {
                    src: advert.src,
                    dst,
                    hop_limit: style.ttl,
                };
                port.send(&packet::encode(&advert, &style), &route)
            }
            _ => Err(io::Error::from(io::ErrorKind::NetworkDown)),
        };
        slot.sent(now(), priority, &result);
    }
}

/// `repeat` rounds over all addresses.
fn enqueue(config: &VrrpInstance, repeat: u32, queue: &mut Queue) {
    for _ in 0..repeat {
        for vip in config.addresses() {
            queue.push(Announcement {
                instance: config.name.clone(),
                device: config.device_of(vip).to_owned(),
                addr: vip.addr,
            });
        }
    }
}

/// Waits until any of `ports` is readable.
async fn readable(ports: &[VrrpSocket]) {
    poll_fn(|cx| {
        // All are polled, so that all will wake this task.
        let ready = ports
            .iter()
            .filter(|port| port.poll_readable(cx).is_ready());
        if ready.count() > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// CLOCK_BOOTTIME: it also counts while the host is suspended, so a director that wakes up knows
/// that it was away.
pub(crate) fn now() -> Nanos {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Nanos::default(), |time| {
        Nanos::default() + Duration::from(time)
    })
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
