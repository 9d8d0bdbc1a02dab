// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver asks of all instances at every event, close together in memory.
//!
//! In: an instance after each step. Out: whose timer is due, whom a virtual router id concerns,
//! whether any interface has to be looked at again. Invariant: it says of each instance what that
//! says of itself. With a thousand instances, asking them one by one costs more than an advert.

use super::super::event::State;
use super::super::slot::Slot;
use super::super::time::Nanos;

/// Timers, virtual router ids and worries, in the order of the instances.
#[derive(Debug, Default)]
pub(super) struct Index {
    due: Vec<Option<Nanos>>,
    vrids: Vec<u8>,
    looks: Vec<bool>,
    looking: usize,
}

impl Index {
    /// Instances came, went or changed places.
    pub(super) fn rebuild(&mut self, slots: &[Slot]) {
        self.due = slots.iter().map(|slot| slot.fsm.poll_timeout()).collect();
        self.vrids = slots.iter().map(|slot| slot.config.vrid).collect();
        self.looks = slots.iter().map(needs_look).collect();
        self.looking = self.looks.iter().filter(|look| **look).count();
    }

    /// An instance made a step.
    pub(super) fn note(&mut self, at: usize, slot: &Slot) {
        if let Some(due) = self.due.get_mut(at) {
            *due = slot.fsm.poll_timeout();
        }
        if let Some(look) = self.looks.get_mut(at) {
            self.looking -= usize::from(*look);
            *look = needs_look(slot);
            self.looking += usize::from(*look);
        }
    }

    /// The earliest timer.
    pub(super) fn next_timer(&self) -> Option<Nanos> {
        self.due.iter().copied().flatten().min()
    }

    /// The first instance from `from` on whose timer is due.
    pub(super) fn due(&self, from: usize, now: Nanos) -> Option<usize> {
        let is_due = |due: &Option<Nanos>| due.is_some_and(|due| due <= now);
        let found = self.due.get(from..)?.iter().position(is_due)?;
        from.checked_add(found)
    }

    /// The first instance from `from` on that a virtual router id concerns; none concerns all.
    pub(super) fn concerned(&self, from: usize, vrid: Option<u8>) -> Option<usize> {
        let vrids = self.vrids.get(from..)?;
        let found = vrids
            .iter()
            .position(|own| vrid.is_none_or(|vrid| vrid == *own))?;
        from.checked_add(found)
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
