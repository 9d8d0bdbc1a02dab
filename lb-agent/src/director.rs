// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a MASTER does to this host: the packet program on the interfaces, the addresses on them.
//!
//! Implements the VRRP driver's [`Host`]. In: claims and releases of instances, changes of the
//! servers' health and next hops. Out: map writes, attachments, addresses. Invariant: the program
//! is attached to an interface exactly while an instance that claims it is MASTER (or, with no
//! `vrrp_instance` in the file, for as long as the agent runs). Where masqueraded servers' replies
//! come in, it is attached while any instance is MASTER.
//!
//! What a killed agent left attached, and the addresses it held, stay as they are until the
//! election has decided: a restart interrupts nothing. See [`Director::settle`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::LinkAddr;
use rtnetlink::Handle;
use thiserror::Error;
use tracing::error;

use crate::config::model::{Global, Statics, VirtualAddress, VrrpInstance};
use crate::dataplane::plan::NextHopRow;
use crate::dataplane::{Dataplane, DataplaneError, Pins};
use crate::health::Desired;
use crate::netlink::addrs::{self, AddressError};
use crate::netlink::links::{self, LinkError};
use crate::netlink::nexthop::NextHopState;
use crate::netlink::tables::{self, TableError};
use crate::netlink::vmac::{self, VmacError};
use crate::notify::Notifier;
use crate::supervisor::link::Inheritance;
use crate::vrrp::driver::{Host, now};
use crate::vrrp::election;
use crate::vrrp::event::{Notice, Reason, State};
use crate::vrrp::status::InstanceStatus;

/// Why this host could not take or give up an instance's addresses.
#[derive(Debug, Error)]
pub enum DirectorError {
    /// An interface is missing.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// An interface has no MAC address, so that no frame can be for us.
    #[error("cannot forward on {0}: it has no MAC address")]
    NoMac(String),
    /// An address could not be added or removed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A route or rule could not be added or removed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// An interface's setting could not be changed.
    #[error(transparent)]
    Setting(#[from] VmacError),
    /// The packet program could not be attached.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
}

/// `xlvs_watchdog` where the file has none. Long enough for an agent to be started again, by hand or
/// by its supervisor, and a multiple of what a peer waits: by then a peer is MASTER, if there is one.
pub const DEFAULT_WATCHDOG: Duration = Duration::from_secs(10);

/// How long attachments of an earlier agent stay without VRRP, until it is known where servers are
/// reached.
const SETTLE_WITHOUT_VRRP: Duration = Duration::from_secs(10);

/// This host as a director.
pub struct Director {
    netlink: Handle,
    /// Absent while the configuration has no virtual servers.
    dataplane: Option<Dataplane>,
    /// Interfaces that each claiming instance needs the program on.
    claims: BTreeMap<String, BTreeSet<u32>>,
    /// Virtual MAC addresses of the instances that claim, and the interface beneath each.
    macs: BTreeMap<String, (u32, [u8; 6])>,
    /// Interfaces of masqueraded servers' replies that the program is attached to.
    replies: BTreeSet<u32>,
    /// Where masqueraded servers are reached at the moment.
    reply_links: BTreeSet<u32>,
    /// Attached by an earlier agent, and nobody's claim yet.
    inherited: BTreeSet<u32>,
    /// Instances whose addresses an earlier agent may have left here.
    spared: BTreeMap<String, VrrpInstance>,
    pins: Option<Pins>,
    /// Instances that were MASTER in an earlier process, and when that ended.
    resumed: (BTreeSet<String>, Option<Instant>),
    /// What an agent that crashed a moment ago held, while nothing is decided about it.
    left: Inheritance,
    /// No VRRP: attached for good.
    always: bool,
    started: Instant,
    notifier: Notifier,
}

impl Director {
    /// A director without a data plane.
    pub fn new(netlink: Handle, pins: Option<Pins>) -> Self {
        let (names, age) = pins
            .as_ref()
            .map_or((Vec::new(), Duration::MAX), Pins::last_masters);
        Self {
            netlink,
            dataplane: None,
            claims: BTreeMap::new(),
            macs: BTreeMap::new(),
            replies: BTreeSet::new(),
            reply_links: BTreeSet::new(),
            inherited: BTreeSet::new(),
            spared: BTreeMap::new(),
            resumed: (names.into_iter().collect(), Instant::now().checked_sub(age)),
            left: Inheritance::default(),
            pins,
            always: false,
            started: Instant::now(),
            notifier: Notifier::default(),
        }
    }

    /// Takes over from an agent that crashed a moment ago; call it before anything starts.
    pub fn inherit(&mut self, left: Inheritance) {
        self.left = left;
    }

    /// Gives the data plane, or takes it away for good: then nothing of it is left.
    pub fn set_dataplane(&mut self, dataplane: Option<Dataplane>) {
        self.claims.clear();
        self.macs.clear();
        self.replies.clear();
        self.inherited.clear();
        match std::mem::replace(&mut self.dataplane, dataplane) {
            Some(old) => old.close(),
            None if self.dataplane.is_none() => {
                if let Some(pins) = &self.pins {
                    pins.remove();
                }
            }
            None => {}
        }
    }

    /// Lets go of a data plane that could not be filled; what an earlier agent left goes on.
    pub fn abandon_dataplane(&mut self) {
        self.dataplane = None;
    }

    /// Where maps and attachments are kept.
    pub fn pins(&self) -> Option<&Pins> {
        self.pins.as_ref()
    }

    /// Puts this agent's program in the place of an earlier one's. `always`: there is no VRRP.
    pub fn adopt(&mut self) -> Result<(), DataplaneError> {
        if let Some(dataplane) = &mut self.dataplane {
            self.inherited = dataplane.adopt_links()?;
        }
        Ok(())
    }

    /// True while something that an earlier agent left may have to be given up.
    pub fn is_unsettled(&self) -> bool {
        !(self.inherited.is_empty() && self.spared.is_empty() && self.left.masters.is_empty())
    }

    /// Gives up what an earlier agent left, once it is known that it is not needed: an instance
    /// claims what it needs when it becomes MASTER, and needs nothing when another router is.
    pub async fn settle(&mut self, config: &[Arc<VrrpInstance>], statuses: &[InstanceStatus]) {
        let decided = |name: &str| {
            let status = statuses.iter().find(|status| status.name == name);
            status.is_none_or(|status| match status.state {
                State::Init => false,
                State::Backup => status.master.is_some(),
                State::Master | State::Fault => true,
            })
        };
        self.forget_left(config, decided);
        let names: Vec<_> = self
            .spared
            .keys()
            .filter(|name| decided(name))
            .cloned()
            .collect();
        for name in names {
            if let Some(instance) = self.spared.remove(&name)
                && !self.claims.contains_key(&name)
                && let Err(err) = self.clear(&instance).await
            {
                error!("{name}: cannot remove what an earlier run left: {err}");
            }
        }
        let waits = if config.is_empty() {
            self.started.elapsed() < SETTLE_WITHOUT_VRRP
        } else {
            config.iter().any(|instance| !decided(&instance.name))
        };
        if !waits {
            let wanted = self.wanted();
            let inherited = std::mem::take(&mut self.inherited);
            if let (Some(dataplane), false) = (&mut self.dataplane, inherited.is_empty())
                && let Err(err) = dataplane.hold_macs(&self.macs.values().copied().collect())
            {
                error!("{err}; frames to an earlier run's virtual MAC addresses are still taken");
            }
            for ifindex in inherited {
                if let Some(dataplane) = &mut self.dataplane
                    && !wanted.contains(&ifindex)
                {
                    dataplane.detach(ifindex);
                }
            }
        }
    }

    /// What is decided of what a crashed agent held. Instances that the configuration does not have
    /// any more give their addresses up here: nobody else knows them.
    fn forget_left(&mut self, config: &[Arc<VrrpInstance>], decided: impl Fn(&str) -> bool) {
        let settled = self.left.masters.extract_if(.., |name, _| decided(name));
        for (name, held) in settled {
            if config.iter().any(|instance| instance.name == name) {
                continue;
            }
            for address in held.addresses {
                if let Err(err) = addrs::remove_now(&address) {
                    error!("{name}: cannot remove what an earlier run left: {err}");
                }
            }
        }
    }

    /// Notes for a successor who is MASTER here, and that somebody is here at all.
    pub fn note_masters(&mut self) {
        if let (Some(pins), Some(_)) = (&self.pins, &self.dataplane)
            // A successor that has not decided yet leaves what its predecessor noted.
            && (self.inherited.is_empty() || !self.claims.is_empty())
        {
            pins.note_masters(self.claims.keys());
        }
    }

    /// Where somebody needs the program.
    fn wanted(&self) -> BTreeSet<u32> {
        let claimed = self.claims.values().flatten();
        claimed.chain(&self.replies).copied().collect()
    }

    /// Attaches the program where masqueraded servers' replies come in, and detaches it where they
    /// did before.
    fn follow_replies(&mut self) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        let mut wanted = BTreeSet::new();
        if self.always || !self.claims.is_empty() {
            wanted.clone_from(&self.reply_links);
        }
        for ifindex in wanted.difference(&self.replies) {
            if let Err(err) = dataplane.attach(&link_name(*ifindex), *ifindex) {
                error!("{err}; replies of masqueraded servers that come in there go nowhere");
            }
        }
        let before = std::mem::replace(&mut self.replies, wanted);
        let still = self.wanted();
        if let Some(dataplane) = &mut self.dataplane {
            for ifindex in before.difference(&still) {
                if !self.inherited.contains(ifindex) && !self.always {
                    dataplane.detach(*ifindex);
                }
            }
        }
    }

    /// Adds what is static and removes what was and is no more.
    pub async fn set_statics(&self, before: &Statics, now: &Statics) {
        let mut errors: Vec<String> = Vec::new();
        for rule in before.rules.iter().filter(|old| !now.rules.contains(old)) {
            let removed = tables::remove_rule(&self.netlink, rule).await;
            errors.extend(removed.err().map(|err| err.to_string()));
        }
        for route in before.routes.iter().filter(|old| !now.routes.contains(old)) {
            let removed = tables::remove_route(&self.netlink, route).await;
            errors.extend(removed.err().map(|err| err.to_string()));
        }
        for address in before
            .addresses
            .iter()
            .filter(|old| !now.addresses.contains(old))
        {
            if let Ok(ifindex) = links::index(&self.netlink, device(address)).await {
                let removed = addrs::remove(&self.netlink, ifindex, address).await;
                errors.extend(removed.err().map(|err| err.to_string()));
            }
        }
        for address in &now.addresses {
            let added = match links::index(&self.netlink, device(address)).await {
                Ok(ifindex) => addrs::add(&self.netlink, ifindex, address)
                    .await
                    .map_err(|err| err.to_string()),
                Err(err) => Err(err.to_string()),
            };
            errors.extend(added.err());
        }
        for route in &now.routes {
            let added = tables::add_route(&self.netlink, route).await;
            errors.extend(added.err().map(|err| err.to_string()));
        }
        for rule in &now.rules {
            let added = tables::add_rule(&self.netlink, rule).await;
            errors.extend(added.err().map(|err| err.to_string()));
        }
        for err in errors {
            error!("static configuration: {err}");
        }
    }

    /// Who tells scripts and FIFOs.
    pub fn notifier(&mut self) -> &mut Notifier {
        &mut self.notifier
    }

    /// The data plane, if the configuration needs one.
    pub fn dataplane(&self) -> Option<&Dataplane> {
        self.dataplane.as_ref()
    }

    /// The same, to change what is attached.
    pub fn dataplane_mut(&mut self) -> Option<&mut Dataplane> {
        self.dataplane.as_mut()
    }

    /// Brings the maps to what is desired. Nothing to do without a data plane.
    pub fn apply(&mut self, desired: &Desired) -> Result<(), DataplaneError> {
        let now = self.started.elapsed();
        self.dataplane
            .as_mut()
            .map_or(Ok(()), |dataplane| dataplane.apply(desired, now))
    }

    /// Takes over what `global_defs` says of connections and timeouts.
    pub fn tune(&mut self, global: &Global) -> Result<(), DataplaneError> {
        let mut global = global.clone();
        global.conns.watchdog.get_or_insert(DEFAULT_WATCHDOG);
        self.dataplane
            .as_mut()
            .map_or(Ok(()), |dataplane| dataplane.tune(&global))
    }

    /// Frees the slots of connections that are past their time.
    pub fn expire(&mut self) -> Result<(), DataplaneError> {
        self.dataplane.as_mut().map_or(Ok(()), Dataplane::expire)
    }

    /// Brings the servers' next hops to `states`.
    pub fn route(&mut self, states: &BTreeMap<IpAddr, NextHopState>) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        for state in states.values() {
            if let (Some(mac), true) = (state.link_mac, state.ifindex != 0)
                && let Err(err) = dataplane.know_link("of a real server", state.ifindex, mac)
            {
                error!("{err}; its servers get no packets");
            }
        }
        let rows = states.iter().filter(|(_, state)| state.ifindex != 0);
        let row = |state: &NextHopState| NextHopRow {
            ifindex: state.ifindex,
            mac: state.mac,
            from: state.link_mac.unwrap_or_default(),
            local: state.local,
            source: state.source,
            mtu: state.mtu,
        };
        let rows: BTreeMap<_, _> = rows.map(|(addr, state)| (*addr, row(state))).collect();
        if let Err(err) = dataplane.route(|addr| rows.get(&addr).copied()) {
            error!("{err}; next hops stay as they were");
        }
        dataplane.expect(rows);
        self.reply_links = dataplane
            .masqueraded()
            .iter()
            .filter_map(|addr| states.get(addr))
            .filter(|state| state.ifindex != 0 && !state.local && state.link_mac.is_some())
            .map(|state| state.ifindex)
            .collect();
        self.follow_replies();
    }

    /// Attaches the program for a configuration without VRRP: where real servers are reached, and
    /// where virtual addresses are.
    pub fn attach_without_vrrp(&mut self, states: &BTreeMap<IpAddr, NextHopState>) {
        self.always = true;
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        let reached = states
            .values()
            .filter(|state| state.ifindex != 0 && !state.local)
            .map(|state| (state.ifindex, link_name(state.ifindex)));
        let mut wanted: BTreeMap<u32, String> = reached.collect();
        for (name, mac) in carriers(&dataplane.virtual_addresses()) {
            let Ok(ifindex) = nix::net::if_::if_nametoindex(name.as_str()) else {
                continue;
            };
            if let Err(err) = dataplane.know_link(&name, ifindex, mac) {
                error!("{err}");
            }
            wanted.insert(ifindex, name);
        }
        for (ifindex, name) in wanted {
            if let Err(err) = dataplane.attach(&name, ifindex) {
                error!("{err}");
            }
            self.inherited.remove(&ifindex);
        }
    }

    /// Attaches to every interface that the instance's traffic comes in by.
    pub async fn attach(&mut self, instance: &VrrpInstance) -> Result<(), DirectorError> {
        let Some(dataplane) = &mut self.dataplane else {
            self.claims.insert(instance.name.clone(), BTreeSet::new());
            return Ok(());
        };
        let mut claim = BTreeSet::new();
        if let Some(vmac) = &instance.vmac {
            let link = links::find(&self.netlink, &instance.interface).await?;
            self.macs
                .insert(instance.name.clone(), (link.ifindex, vmac.mac));
            dataplane.hold_macs(&self.macs.values().copied().collect())?;
        }
        for device in devices(instance) {
            let link = links::find(&self.netlink, device).await?;
            let mac = link
                .mac
                .ok_or_else(|| DirectorError::NoMac(device.to_owned()))?;
            dataplane.know_link(device, link.ifindex, mac)?;
            dataplane.attach(device, link.ifindex)?;
            claim.insert(link.ifindex);
        }
        self.claims.insert(instance.name.clone(), claim);
        self.follow_replies();
        Ok(())
    }

    /// Removes rules, routes and addresses.
    async fn clear(&mut self, instance: &VrrpInstance) -> Result<(), DirectorError> {
        let mut result = Ok(());
        for rule in instance.rules.iter().rev() {
            let removed = tables::remove_rule(&self.netlink, rule).await;
            result = result.and(removed.map_err(DirectorError::from));
        }
        for route in instance.routes.iter().rev() {
            let removed = tables::remove_route(&self.netlink, route).await;
            result = result.and(removed.map_err(DirectorError::from));
        }
        result.and(self.remove_addresses(instance).await)
    }

    /// Every address is tried, the first error is told.
    async fn remove_addresses(&mut self, instance: &VrrpInstance) -> Result<(), DirectorError> {
        let mut result = Ok(());
        for vip in instance.addresses() {
            let removed = match links::index(&self.netlink, instance.device_of(vip)).await {
                Ok(ifindex) => addrs::remove(&self.netlink, ifindex, vip)
                    .await
                    .map_err(DirectorError::from),
                // An interface that is gone took its addresses along.
                Err(LinkError::NotFound { .. }) => Ok(()),
                Err(err) => Err(err.into()),
            };
            result = result.and(removed);
        }
        result
    }
}

impl Host for Director {
    type Error = DirectorError;

    /// Maps are ready since start; so: attach, then take the addresses. The driver announces them.
    async fn claim(&mut self, instance: &VrrpInstance) -> Result<(), DirectorError> {
        self.attach(instance).await?;
        self.spared.remove(&instance.name);
        if instance.promote_secondaries {
            for device in devices(instance) {
                vmac::promote_secondaries(device)?;
            }
        }
        for vip in instance.addresses() {
            let ifindex = links::index(&self.netlink, instance.device_of(vip)).await?;
            addrs::add(&self.netlink, ifindex, vip).await?;
        }
        // KEEPALIVED: a route that the kernel refuses costs that route, not the role.
        for route in &instance.routes {
            if let Err(err) = tables::add_route(&self.netlink, route).await {
                error!("{}: {err}", instance.name);
            }
        }
        for rule in &instance.rules {
            if let Err(err) = tables::add_rule(&self.netlink, rule).await {
                error!("{}: {err}", instance.name);
            }
        }
        Ok(())
    }

    /// What an earlier agent left under a program that still forwards stays until the election has
    /// decided.
    async fn release(&mut self, instance: &VrrpInstance) -> Result<(), DirectorError> {
        let left = !self.inherited.is_empty() || self.left.masters.contains_key(&instance.name);
        if left && !self.claims.contains_key(&instance.name) {
            self.spared.insert(instance.name.clone(), instance.clone());
            return Ok(());
        }
        self.clear(instance).await
    }

    fn detach(&mut self, instance: &VrrpInstance) {
        let Some(claim) = self.claims.remove(&instance.name) else {
            return;
        };
        let had_mac = self.macs.remove(&instance.name).is_some();
        self.follow_replies();
        let still = self.wanted();
        if let Some(dataplane) = &mut self.dataplane {
            let macs = self.macs.values().copied().collect();
            if had_mac && let Err(err) = dataplane.hold_macs(&macs) {
                error!("{err}; frames to the virtual MAC address are still taken");
            }
            for ifindex in claim.difference(&still) {
                dataplane.detach(*ifindex);
                self.inherited.remove(ifindex);
            }
        }
    }

    /// Peers count from the last advert, which was sent up to an interval before the process ended,
    /// and wait for three intervals and their skew; this instance waits for its own skew.
    ///
    /// A supervisor sends its adverts for as long as it holds its place.
    fn resumes(&self, instance: &VrrpInstance) -> bool {
        let (interval, priority) = (instance.advert_interval, instance.priority);
        let skew = election::skew(instance.version, priority, interval);
        if self.left.masters.contains_key(&instance.name) && now() + skew < self.left.until {
            return true;
        }
        let (names, Some(ended)) = &self.resumed else {
            return false;
        };
        !self.inherited.is_empty()
            && names.contains(&instance.name)
            && ended.elapsed() + skew < 2 * instance.advert_interval
    }

    /// The driver logs it; nothing else hangs on it yet.
    fn state_changed(&mut self, _: &VrrpInstance, _: State, _: State, _: Reason) {}

    fn notify(&mut self, notice: Notice<'_>) {
        self.notifier.tell(notice);
    }

    fn restate(&mut self, notice: Notice<'_>) {
        self.notifier.write(notice);
    }
}

/// Interfaces of an instance: of its adverts and of its addresses.
fn devices(instance: &VrrpInstance) -> BTreeSet<&str> {
    let of_vips = instance.addresses().map(|vip| instance.base_of(vip));
    of_vips.chain([instance.interface.as_str()]).collect()
}

/// Interfaces that carry one of these addresses and have a MAC address.
fn carriers(addresses: &BTreeSet<IpAddr>) -> BTreeMap<String, [u8; 6]> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else {
        return BTreeMap::new();
    };
    let mut names = BTreeSet::new();
    let mut macs = BTreeMap::new();
    for entry in all {
        let Some(address) = entry.address else {
            continue;
        };
        let ip = address
            .as_sockaddr_in()
            .map(|v4| IpAddr::from(v4.ip()))
            .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())));
        if ip.is_some_and(|ip| addresses.contains(&ip)) {
            names.insert(entry.interface_name);
        } else if let Some(mac) = address.as_link_addr().and_then(LinkAddr::addr) {
            macs.insert(entry.interface_name, mac);
        }
    }
    macs.retain(|name, mac| names.contains(name) && *mac != [0; 6]);
    macs
}

/// Interface of a static address, which always names one.
fn device(address: &VirtualAddress) -> &str {
    address.dev.as_deref().unwrap_or_default()
}

/// An interface's name, or its index where it has none any more.
fn link_name(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("interface {ifindex}"))
}
