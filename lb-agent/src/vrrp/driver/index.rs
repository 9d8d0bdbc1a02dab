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

/// The interface that an instance sends and receives by, and its virtual router id.
type Place = (Option<u32>, u8);

/// Timers, virtual routers and worries. Instances are numbered in their order.
#[derive(Debug, Default)]
pub(super) struct Index {
    due: Vec<Option<Nanos>>,
    /// The same, by time.
    timers: BTreeSet<(Nanos, usize)>,
    places: Vec<Place>,
    /// Who is there, in order.
    by_place: BTreeMap<Place, Vec<usize>>,
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
        self.places = slots.iter().map(place).collect();
        self.by_place.clear();
        for (at, place) in self.places.iter().enumerate() {
            self.by_place.entry(*place).or_default().push(at);
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
        self.note_place(at, slot);
        if let Some(look) = self.looks.get_mut(at) {
            self.looking -= usize::from(*look);
            *look = needs_look(slot);
            self.looking += usize::from(*look);
        }
    }

    /// An instance may have got another interface.
    pub(super) fn note_place(&mut self, at: usize, slot: &Slot) {
        let now = place(slot);
        if let Some(known) = self.places.get_mut(at)
            && *known != now
        {
            let before = std::mem::replace(known, now);
            if let Some(there) = self.by_place.get_mut(&before) {
                there.retain(|other| *other != at);
            }
            let there = self.by_place.entry(now).or_default();
            there.insert(there.partition_point(|other| *other < at), at);
        }
    }

    /// The earliest timer.
    pub(super) fn next_timer(&self) -> Option<Nanos> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The instances whose timers are due, in order.
    pub(super) fn due(&self, now: Nanos) -> Vec<usize> {
        let due = self.timers.range(..=(now, usize::MAX));
        let mut due: Vec<_> = due.map(|(_, at)| *at).collect();
        due.sort_unstable();
        due
    }

    /// Whether the timer of an instance is due.
    pub(super) fn is_due(&self, at: usize, now: Nanos) -> bool {
        let timer = self.due.get(at).copied().flatten();
        timer.is_some_and(|due| due <= now)
    }

    /// The first instance from `from` on that a virtual router id on an interface concerns; none
    /// concerns all.
    pub(super) fn concerned(&self, from: usize, ifindex: u32, vrid: Option<u8>) -> Option<usize> {
        match vrid {
            Some(vrid) => {
                let there = self.by_place.get(&(Some(ifindex), vrid))?;
                there.iter().copied().find(|at| *at >= from)
            }
            None => Some(from).filter(|at| *at < self.due.len()),
        }
    }

    /// Whether an interface has to be looked at again.
    pub(super) fn looks(&self) -> bool {
        self.looking > 0
    }
}

fn place(slot: &Slot) -> Place {
    (slot.port, slot.config.vrid)
}

/// FAULT without a source means waiting for the interface.
pub(super) fn needs_look(slot: &Slot) -> bool {
    let waiting = slot.fsm.state() == State::Fault && slot.fsm.source().is_none();
    slot.suspect || waiting
}
