// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sync groups: instances that are MASTER together or not at all.
//!
//! In: what each member is like. Out: [`Order`]s for members, until there are none. Called by the
//! driver and the simulated LAN after each input of a member. Pure. Invariants: no member is
//! MASTER while another one is in FAULT; once the orders are carried out, all members are MASTER
//! or none is.
//!
//! KEEPALIVED: a member's FAULT takes all down; a group becomes MASTER when the last of its
//! members finds no other MASTER, and leaves the role when the first of them yields.

use serde::{Deserialize, Serialize};

use super::event::State;
use super::priority::Standing;

/// What a member is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its state.
    pub state: State,
    /// Whether it could take part for itself.
    pub standing: Standing,
    /// What the last [`Order::Hold`] said.
    pub held: Standing,
    /// It is BACKUP and found no MASTER to listen to.
    pub wants: bool,
}

/// What a member is told by its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The other members stand like this: nobody takes part unless all can.
    Hold(Standing),
    /// All members want to be MASTER: be it.
    Master,
    /// Another member is not MASTER any more: nor be you.
    Backup,
}

/// What a group remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    master: bool,
}

impl Group {
    /// What has to be told to whom, by the members' place in `members`. Carry it out, and ask
    /// again until it is empty.
    pub fn orders(&mut self, members: &[Member]) -> Vec<(usize, Order)> {
        let holds: Vec<_> = holds(members).collect();
        if !holds.is_empty() {
            return holds;
        }
        let is_master = |member: &Member| member.state == State::Master;
        if self.master && !members.iter().all(is_master) {
            self.master = false;
            return give(members, State::Master, Order::Backup);
        }
        let ready = |member: &Member| is_master(member) || member.wants;
        if !self.master && !members.is_empty() && members.iter().all(ready) {
            self.master = true;
            return give(members, State::Backup, Order::Master);
        }
        Vec::new()
    }
}

fn give(members: &[Member], state: State, order: Order) -> Vec<(usize, Order)> {
    let those = members.iter().enumerate();
    those
        .filter(|(_, member)| member.state == state)
        .map(|(at, _)| (at, order))
        .collect()
}

/// Tells each member of the worst standing among the others, if it does not know.
fn holds(members: &[Member]) -> impl Iterator<Item = (usize, Order)> {
    members.iter().enumerate().filter_map(|(at, member)| {
        let others = members.iter().enumerate().filter(|(other, _)| *other != at);
        let worst = others.map(|(_, other)| other.standing).max();
        let worst = worst.unwrap_or(Standing::Ready);
        (worst != member.held).then_some((at, Order::Hold(worst)))
    })
}

/// The state of a group with members in these states; none while they differ otherwise.
pub fn state_of(states: impl IntoIterator<Item = State>) -> Option<State> {
    let mut all = None;
    for state in states {
        if state == State::Fault {
            return Some(State::Fault);
        }
        match all {
            None => all = Some(Some(state)),
            Some(one) if one == Some(state) => {}
            Some(_) => all = Some(None),
        }
    }
    all.flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(state: State) -> Member {
        Member {
            state,
            standing: Standing::Ready,
            held: Standing::Ready,
            wants: false,
        }
    }

    fn wanting() -> Member {
        Member {
            wants: true,
            ..member(State::Backup)
        }
    }

    #[test]
    fn keepalived_a_group_becomes_master_when_its_last_member_wants_to() {
        let mut group = Group::default();
        assert_eq!(group.orders(&[wanting(), member(State::Backup)]), []);
        assert_eq!(
            group.orders(&[wanting(), wanting()]),
            [(0, Order::Master), (1, Order::Master)]
        );
    }

    #[test]
    fn keepalived_a_member_that_yields_takes_the_others_along() {
        let mut group = Group { master: true };
        let members = [member(State::Backup), member(State::Master)];
        assert_eq!(group.orders(&members), [(1, Order::Backup)]);
        assert_eq!(group.orders(&[member(State::Backup); 2]), []);
    }

    #[test]
    fn keepalived_a_fault_of_one_holds_all_others_until_it_is_over() {
        let mut group = Group { master: true };
        let failed = Member {
            standing: Standing::Failed,
            ..member(State::Fault)
        };
        let held = Member {
            held: Standing::Failed,
            ..member(State::Fault)
        };
        let well = member(State::Master);
        assert_eq!(
            group.orders(&[failed, well, well]),
            [
                (1, Order::Hold(Standing::Failed)),
                (2, Order::Hold(Standing::Failed))
            ]
        );
        assert_eq!(group.orders(&[failed, held, held]), []);
        // Two in trouble: the first one that is well again stays where it is.
        let both = Member {
            held: Standing::Failed,
            ..failed
        };
        assert_eq!(group.orders(&[both, both, held]), []);
        assert_eq!(
            group.orders(&[member(State::Backup), held]),
            [(1, Order::Hold(Standing::Ready))]
        );
    }

    #[test]
    fn the_state_of_a_group_is_what_its_members_share() {
        use State::{Backup, Fault, Init, Master};
        for (states, state) in [
            (&[Master, Master][..], Some(Master)),
            (&[Backup, Backup], Some(Backup)),
            (&[Backup, Fault], Some(Fault)),
            (&[Init, Backup], None),
            (&[Init, Backup, Backup], None),
            (&[], None),
        ] {
            assert_eq!(state_of(states.iter().copied()), state, "{states:?}");
        }
    }
}
