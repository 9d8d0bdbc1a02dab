// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a MASTER does to this host: the packet program on the interfaces, the addresses on them.
//!
//! Implements the VRRP driver's [`Host`]. In: claims and releases of instances, changes of the
//! servers' health and next hops. Out: map writes, attachments, addresses. Invariant: the program
//! is attached to an interface exactly while an instance that claims it is MASTER (or, with no
//! `vrrp_instance` in the file, for as long as the agent runs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use rtnetlink::Handle;
use thiserror::Error;
use tracing::error;

use crate::config::model::{Statics, VirtualAddress, VrrpInstance};
use crate::dataplane::plan::NextHopRow;
use crate::dataplane::{Dataplane, DataplaneError};
use crate::health::Desired;
use crate::netlink::addrs::{self, AddressError};
use crate::netlink::links::{self, LinkError};
use crate::netlink::nexthop::NextHopState;
use crate::netlink::tables::{self, TableError};
use crate::netlink::vmac::{self, VmacError};
use crate::notify::Notifier;
use crate::vrrp::driver::Host;
use crate::vrrp::event::{Notice, Reason, State};

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

/// This host as a director.
pub struct Director {
    netlink: Handle,
    /// Absent while the configuration has no virtual servers.
    dataplane: Option<Dataplane>,
    /// Interfaces that each claiming instance needs the program on.
    claims: BTreeMap<String, BTreeSet<u32>>,
    started: Instant,
    notifier: Notifier,
}

impl Director {
    /// A director without a data plane.
    pub fn new(netlink: Handle) -> Self {
        Self {
            netlink,
            dataplane: None,
            claims: BTreeMap::new(),
            started: Instant::now(),
            notifier: Notifier::default(),
        }
    }

    /// Gives or takes the data plane.
    pub fn set_dataplane(&mut self, dataplane: Option<Dataplane>) {
        self.claims.clear();
        self.dataplane = dataplane;
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
            if let Ok(link) = links::find(&self.netlink, device(address)).await {
                let removed = addrs::remove(&self.netlink, link.ifindex, address).await;
                errors.extend(removed.err().map(|err| err.to_string()));
            }
        }
        for address in &now.addresses {
            let added = match links::find(&self.netlink, device(address)).await {
                Ok(link) => addrs::add(&self.netlink, link.ifindex, address)
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

    /// Brings the maps to what is desired. Nothing to do without a data plane.
    pub fn apply(&mut self, desired: &Desired) -> Result<(), DataplaneError> {
        let now = self.started.elapsed();
        self.dataplane
            .as_mut()
            .map_or(Ok(()), |dataplane| dataplane.apply(desired, now))
    }

    /// Frees the slots of connections that are past their time.
    pub fn expire(&self) -> Result<(), DataplaneError> {
        self.dataplane.as_ref().map_or(Ok(()), Dataplane::expire)
    }

    /// Brings the servers' next hops to `states`.
    pub fn route(&mut self, states: &BTreeMap<Ipv4Addr, NextHopState>) {
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
        let lookup = |addr| {
            let state: &NextHopState = states.get(&addr)?;
            let usable = state.ifindex != 0 && !state.local;
            usable.then_some(NextHopRow {
                ifindex: state.ifindex,
                mac: state.mac,
            })
        };
        if let Err(err) = dataplane.route(lookup) {
            error!("{err}; next hops stay as they were");
        }
    }

    /// Attaches the program for a configuration without VRRP: wherever real servers are reached.
    pub fn attach_without_vrrp(&mut self, states: &BTreeMap<Ipv4Addr, NextHopState>) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        for state in states
            .values()
            .filter(|state| state.ifindex != 0 && !state.local)
        {
            let name = link_name(state.ifindex);
            if let Err(err) = dataplane.attach(&name, state.ifindex) {
                error!("{err}");
            }
        }
    }

    /// Attaches to every interface that the instance's traffic comes in by.
    pub async fn attach(&mut self, instance: &VrrpInstance) -> Result<(), DirectorError> {
        let Some(dataplane) = &mut self.dataplane else {
            return Ok(());
        };
        let mut claim = BTreeSet::new();
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
        Ok(())
    }
}

impl Host for Director {
    type Error = DirectorError;

    /// Maps are ready since start; so: attach, then take the addresses. The driver announces them.
    async fn claim(&mut self, instance: &VrrpInstance) -> Result<(), DirectorError> {
        self.attach(instance).await?;
        if instance.promote_secondaries {
            for device in devices(instance) {
                vmac::promote_secondaries(device)?;
            }
        }
        for vip in instance.addresses() {
            let link = links::find(&self.netlink, instance.device_of(vip)).await?;
            addrs::add(&self.netlink, link.ifindex, vip).await?;
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

    /// Every address is tried, the first error is told.
    async fn release(&mut self, instance: &VrrpInstance) -> Result<(), DirectorError> {
        let mut result = Ok(());
        for rule in instance.rules.iter().rev() {
            let removed = tables::remove_rule(&self.netlink, rule).await;
            result = result.and(removed.map_err(DirectorError::from));
        }
        for route in instance.routes.iter().rev() {
            let removed = tables::remove_route(&self.netlink, route).await;
            result = result.and(removed.map_err(DirectorError::from));
        }
        for vip in instance.addresses() {
            let removed = match links::find(&self.netlink, instance.device_of(vip)).await {
                Ok(link) => addrs::remove(&self.netlink, link.ifindex, vip)
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

    fn detach(&mut self, instance: &VrrpInstance) {
        let Some(claim) = self.claims.remove(&instance.name) else {
            return;
        };
        let still: BTreeSet<u32> = self.claims.values().flatten().copied().collect();
        if let Some(dataplane) = &mut self.dataplane {
            for ifindex in claim.difference(&still) {
                dataplane.detach(*ifindex);
            }
        }
    }

    /// The driver logs it; nothing else hangs on it yet.
    fn state_changed(&mut self, _: &VrrpInstance, _: State, _: State, _: Reason) {}

    fn notify(&mut self, notice: Notice<'_>) {
        self.notifier.tell(notice);
    }
}

/// Interfaces of an instance: of its adverts and of its addresses.
fn devices(instance: &VrrpInstance) -> BTreeSet<&str> {
    let of_vips = instance.addresses().map(|vip| instance.base_of(vip));
    of_vips.chain([instance.interface.as_str()]).collect()
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
