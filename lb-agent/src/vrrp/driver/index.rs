// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver asks of all instances at every event, in order.
//!
//! In: an instance after each step. Out: whose timer is due, whom a virtual router id concerns,
//! whether any interface has to be looked at again. Invariant: it says of each instance what that
//! says of itself. With a thousand instances, asking them one by one costs more than an advert.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::State;
use super::super::slot::Slot;
use super::super::time::Nanos;

/// Timers, virtual router ids and worries. Instances are numbered in their order.
#[derive(Debug, Default)]
pub(super) struct Index {
    due: Vec<Option<Nanos>>,
    /// The same, by time.
    timers: BTreeSet<(Nanos, usize)>,
    /// By virtual router id, in order.
    by_vrid: BTreeMap<u8, Vec<usize>>,
    looks: Vec<bool>,
    looking: usize,
}

impl Index {
    /// Instances came, went or changed places.
    pub(super) fn rebuild(&mut self, slots: &[Slot]) {
        self.due = slots.iter().map(|slot| slot.fsm.poll_timeout()).collect();
        let timers = (0..).zip(&self.due);
        self.timers = timers
            .filter_map(|(at, due)| due.map(|due| (due, at)))
            .collect();
        self.by_vrid.clear();
        for (at, slot) in slots.iter().enumerate() {
            self.by_vrid.entry(slot.config.vrid).or_default().push(at);
        }
        self.looks = slots.iter().map(needs_look).collect();
        self.looking = self.looks.iter().filter(|look| **look).count();
    }

    /// An instance made a step.
    pub(super) fn note(&mut self, at: usize, slot: &Slot) {
        let now = slot.fsm.poll_timeout();
        if let Some(due) = self.due.get_mut(at)
            && *due != now
        {
            if let Some(before) = std::mem::replace(due, now) {
                self.timers.remove(&(before, at));
            }
            self.timers.extend(now.map(|now| (now, at)));
        }
        if let Some(look) = self.looks.get_mut(at) {
            self.looking -= usize::from(*look);
            *look = needs_look(slot);
            self.looking += usize::from(*look);
        }
    }

    /// The earliest timer.
    pub(super) fn next_timer(&self) -> Option<Nanos> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The first instance from `from` on whose timer is due.
    pub(super) fn due(&self, from: usize, now: Nanos) -> Option<usize> {
        let due = self.timers.range(..=(now, usize::MAX));
        due.map(|(_, at)| *at).filter(|at| *at >= from).min()
    }

    /// The first instance from `from` on that a virtual router id concerns; none concerns all.
    pub(super) fn concerned(&self, from: usize, vrid: Option<u8>) -> Option<usize> {
        match vrid {
            Some(vrid) => {
                let known = self.by_vrid.get(&vrid)?;
                known.iter().copied().find(|at| *at >= from)
            }
            None => Some(from).filter(|at| *at < self.due.len()),
        }
    }

    /// Whether an interface has to be looked at again.
    pub(super) fn looks(&self) -> bool {
        self.looking > 0
    }
}

/// FAULT without a source means waiting for the interface.
pub(super) fn needs_look(slot: &Slot) -> bool {
    let waiting = slot.fsm.state() == State::Fault && slot.fsm.source().is_none();
    slot.suspect || waiting
}
