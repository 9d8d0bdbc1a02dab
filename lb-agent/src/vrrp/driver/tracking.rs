// SPDX-License-Identifier: MIT OR Apache-2.0
//! What moves instances besides adverts and timers: tracked interfaces, scripts, sync groups.
//!
//! In: link events, conditions of scripts, steps of members. Out: inputs of state machines,
//! notices about groups. Called by the application and by the driver itself. Invariants: an
//! instance hears only news; a group has come to rest before anything else happens.

use std::sync::Arc;

use tracing::{info, warn};

use super::super::event::{Input, Notice, Scope, State, Told};
use super::super::priority::Condition;
use super::super::slot::Slot;
use super::super::sync_group::{self, Group, Member};
use super::{Driver, Host};
use crate::config::model::{Tracked, VrrpInstance};
use crate::netlink::watch::{self, LinkEvent};

/// Rounds of orders after one input: hold, go, fail to claim, hold, and some to spare.
const FOLLOW_MAX: usize = 16;

/// A sync group's rules, and what was told of it last.
#[derive(Debug)]
pub(super) struct GroupSlot {
    rules: Group,
    state: State,
}

impl Default for GroupSlot {
    fn default() -> Self {
        Self {
            rules: Group::default(),
            state: State::Init,
        }
    }
}

impl<H: Host> Driver<H> {
    /// An interface went up or down, appeared, vanished, or got another address.
    pub async fn interface_changed(&mut self, link: &LinkEvent) {
        let up = link.up && link.present;
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get(at) else {
                continue;
            };
            let matters = slot.config.track_primary || !link.present;
            match slot.ifindex {
                Some(own) if own != link.ifindex => {}
                Some(_) if !up && matters => self.step(at, Input::InterfaceDown).await,
                // Without an index it is waiting for any interface of its name to appear.
                Some(_) | None => self.look_again(at).await,
            }
        }
        for name in self.note_interface(link) {
            let condition = self.condition_of(&Tracked::Interface(name.clone()));
            self.observe(&Tracked::Interface(name), condition).await;
        }
        self.plan_rescan();
    }

    /// Events were lost: these are all interfaces there are.
    pub async fn interfaces_listed(&mut self, links: &[LinkEvent]) {
        let is_there = |ifindex: u32| links.iter().any(|link| link.ifindex == ifindex);
        let gone: Vec<LinkEvent> = self
            .interfaces
            .iter()
            .filter(|(ifindex, _)| !is_there(**ifindex))
            .map(|(ifindex, (name, _))| LinkEvent {
                ifindex: *ifindex,
                name: name.clone(),
                up: false,
                present: false,
                mac: None,
                mtu: 0,
            })
            .collect();
        for link in gone.iter().chain(links) {
            self.interface_changed(link).await;
        }
    }

    /// A script, file or process has another condition.
    pub async fn track_changed(&mut self, what: Tracked, condition: Condition) {
        self.observe(&what, condition).await;
        self.conditions.insert(what, condition);
        self.plan_rescan();
    }

    /// Tells the FIFOs the states of all instances and groups.
    pub fn restate(&mut self) {
        for slot in &self.slots {
            if let Some(told) = slot.fsm.state().told() {
                self.host.restate(slot.notice(told));
            }
        }
        for (name, group) in &self.groups {
            if let Some(told) = group.state.told() {
                self.host.restate(group_notice(name, told));
            }
        }
    }

    /// Looks at all interfaces, if any instance tracks one.
    pub(super) async fn list_interfaces(&mut self, instances: &[Arc<VrrpInstance>]) {
        let mut tracks = instances.iter().flat_map(|instance| &instance.tracks);
        if !tracks.any(|track| matches!(track.what, Tracked::Interface(_))) {
            return;
        }
        match watch::links(&self.netlink).await {
            Ok(links) => {
                self.interfaces.clear();
                for link in &links {
                    self.note_interface(link);
                }
            }
            Err(cause) => warn!("{cause}; tracked interfaces may be taken for missing"),
        }
    }

    /// Keeps what an event says; the names that may stand for something else from here on.
    fn note_interface(&mut self, link: &LinkEvent) -> Vec<String> {
        let now = (link.name.clone(), link.up);
        let before = if link.present {
            self.interfaces.insert(link.ifindex, now)
        } else {
            self.interfaces.remove(&link.ifindex)
        };
        let renamed = before
            .map(|(name, _)| name)
            .filter(|name| *name != link.name);
        renamed.into_iter().chain([link.name.clone()]).collect()
    }

    /// An interface that is not there is down; a script without result is unknown.
    pub(super) fn condition_of(&self, what: &Tracked) -> Condition {
        match what {
            Tracked::Script(_) | Tracked::File(_) | Tracked::Process(_) | Tracked::Bfd(_) => {
                self.conditions.get(what).copied().unwrap_or_default()
            }
            Tracked::Interface(wanted) => {
                let mut named = self.interfaces.values().filter(|(name, _)| name == wanted);
                if named.any(|(_, up)| *up) {
                    Condition::Up
                } else {
                    Condition::Down
                }
            }
        }
    }

    /// Tells the instances that track `what` of its condition.
    pub(super) async fn observe(&mut self, what: &Tracked, condition: Condition) {
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            if slot.observe(what, condition) {
                let verdict = slot.verdict();
                let name = &slot.config.name;
                let (kind, of) = (what.kind(), what.name());
                match condition {
                    Condition::Up => info!("{name}: tracked {kind} {of} is up"),
                    Condition::Down => warn!("{name}: tracked {kind} {of} is down"),
                    Condition::Disabled => warn!("{name}: {kind} {of} is not tracked"),
                    Condition::Value(n) => info!("{name}: tracked {kind} {of} says {n}"),
                    Condition::Unknown => info!("{name}: tracked {kind} {of} has no result yet"),
                }
                self.step(at, Input::Tracks(verdict)).await;
            }
        }
    }

    /// Moves the members of a sync group together, and tells of its state.
    pub(super) async fn follow(&mut self, name: &str) {
        let in_group = |slot: &Slot| slot.config.group.as_deref() == Some(name);
        let mut group = self.groups.remove(name).unwrap_or_default();
        for _ in 0..FOLLOW_MAX {
            let slots = self.slots.iter().enumerate();
            let (places, members): (Vec<usize>, Vec<Member>) = slots
                .filter(|(_, slot)| in_group(slot))
                .map(|(at, slot)| (at, slot.fsm.member()))
                .unzip();
            let orders = group.rules.orders(&members);
            if orders.is_empty() {
                break;
            }
            for (member, order) in orders {
                if let Some(at) = places.get(member) {
                    self.step_one(*at, Input::Group(order)).await;
                }
            }
        }
        let members = self.slots.iter().filter(|slot| in_group(slot));
        let state = sync_group::state_of(members.map(|slot| slot.fsm.state()));
        let told = state.and_then(State::told);
        if let Some(told) = told.filter(|_| state != Some(group.state)) {
            info!("sync group {name}: {told}");
            self.host.notify(group_notice(name, told));
        }
        group.state = state.unwrap_or(group.state);
        self.groups.insert(name.to_owned(), group);
    }
}

pub(super) fn group_notice(name: &str, told: Told) -> Notice<'_> {
    Notice {
        scope: Scope::Group,
        name,
        told,
        priority: 0,
    }
}
