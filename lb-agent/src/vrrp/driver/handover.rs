// SPDX-License-Identifier: MIT OR Apache-2.0
//! Roles that are handed over: on request, and at the end.
//!
//! In: names of instances. Out: inputs of their machines, and how it went. Called by the
//! application. Invariant: members of a sync group leave together.

use std::collections::HashMap;
use std::net::IpAddr;

use nix::net::if_::if_nametoindex;
use tracing::info;

use super::super::event::{Input, State};
use super::super::slot::Slot;
use super::{Driver, Host};
use crate::supervisor::page::Held;

/// How a hand-over went, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The peers know; none of them has been heard.
    UnderWay,
    /// Another router is MASTER.
    Done(Option<IpAddr>),
    /// No peer took over: it is MASTER as before.
    NoPeer,
}

impl<H: Host> Driver<H> {
    /// Names of the instances that are MASTER.
    pub fn masters(&self) -> Vec<String> {
        let masters = self.slots.iter();
        let masters = masters.filter(|slot| slot.fsm.state() == State::Master);
        masters.map(|slot| slot.config.name.clone()).collect()
    }

    /// What each MASTER holds, with the adverts that would speak for it.
    pub fn held(&self) -> Vec<Held> {
        // Instances share interfaces: each is asked for once.
        let mut known: HashMap<&str, Option<u32>> = HashMap::new();
        let mut number = |device| {
            *known
                .entry(device)
                .or_insert_with(|| if_nametoindex(device).ok())
        };
        self.holding().map(|slot| slot.held(&mut number)).collect()
    }

    /// Whether what [`Driver::held`] tells grows old by itself: the numbers of authenticated adverts
    /// go on.
    pub fn held_ages(&self) -> bool {
        self.holding().any(Slot::is_numbered)
    }

    fn holding(&self) -> impl Iterator<Item = &Slot> {
        let is_master = |slot: &&Slot| slot.fsm.state() == State::Master;
        self.slots.iter().filter(is_master)
    }

    /// The state of an instance, if there is one of that name.
    pub fn state_of(&self, name: &str) -> Option<State> {
        let slot = self.slots.iter().find(|slot| slot.config.name == name);
        slot.map(|slot| slot.fsm.state())
    }

    /// Has these instances, and the other members of their sync groups, hand over.
    pub async fn hand_over(&mut self, names: &[String]) {
        let named = |name: &str| names.iter().any(|n| n == name);
        let groups: Vec<String> = self
            .slots
            .iter()
            .filter(|slot| named(&slot.config.name))
            .filter_map(|slot| slot.config.group.clone())
            .collect();
        for at in 0..self.slots.len() {
            let leaves = self.slots.get(at).is_some_and(|slot| {
                let group = slot.config.group.as_ref();
                named(&slot.config.name) || group.is_some_and(|group| groups.contains(group))
            });
            if leaves {
                self.begin_leaving(at, true).await;
            }
        }
    }

    /// How the hand-over of an instance goes.
    pub fn handover(&self, name: &str) -> Handover {
        let slot = self.slots.iter().find(|slot| slot.config.name == name);
        match slot {
            // Until its program is gone, too.
            Some(slot) if slot.fsm.is_leaving() => Handover::UnderWay,
            Some(slot) if slot.fsm.state() == State::Master => Handover::NoPeer,
            Some(slot) => Handover::Done(slot.status(super::now()).master),
            None => Handover::Done(None),
        }
    }

    /// Has all instances hand over and stop, and waits until no MASTER is left. A peer that is there
    /// takes over meanwhile, while this host still forwards.
    pub(super) async fn leave_all(&mut self) {
        for at in 0..self.slots.len() {
            self.begin_leaving(at, false).await;
        }
        while self.slots.iter().any(|slot| slot.fsm.is_leaving()) {
            let event = self.next_event().await;
            self.handle(event).await;
        }
    }

    async fn begin_leaving(&mut self, at: usize, stays: bool) {
        let Some(slot) = self.slots.get(at) else {
            return;
        };
        if slot.fsm.state() == State::Master {
            let name = &slot.config.name;
            info!("{name}: handing over; goes on until another MASTER is heard");
            self.announcements.cancel(name);
            self.step_one(at, Input::HandOver { stays }).await;
        }
    }
}
