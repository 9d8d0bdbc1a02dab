// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words between a state machine and its driver: inputs, actions, states, reasons.
//!
//! In and out: plain serde values, so a recording of them is a test and a bug report. Written by
//! [`super::driver`] and [`super::fsm`]. Invariant: `Display` is what logs and users read,
//! `State` in keepalived's words.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::priority::Verdict;
use super::sync_group::Order;

/// State as users and scripts know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Not started, or stopped.
    Init,
    /// Listening.
    Backup,
    /// Holding the addresses and forwarding.
    Master,
    /// Unable to be MASTER.
    Fault,
}

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Begin; `source` is the address to send from, absent when the interface is unusable.
    Start {
        /// Own address on the wire.
        source: Option<IpAddr>,
    },
    /// An advert of this virtual router passed every check.
    Advert {
        /// Who sent it.
        src: IpAddr,
        /// Its priority.
        priority: u8,
        /// Its interval.
        interval: Duration,
    },
    /// The moment of `poll_timeout` has come.
    Timer,
    /// The interface works, or its address changed.
    InterfaceUp {
        /// Own address on the wire.
        source: IpAddr,
    },
    /// The interface is down, gone or without an address.
    InterfaceDown,
    /// What is tracked comes to this; also given before `Start`.
    Tracks(Verdict),
    /// Its sync group tells it to.
    Group(Order),
    /// A `Claim` could not be performed.
    ClaimFailed,
    /// Hand over to a successor: tell the peers, and hold on until one of them is MASTER.
    HandOver {
        /// Stay MASTER if none of them is; else stop then.
        stays: bool,
    },
    /// Stop for good.
    Shutdown,
}

/// What the driver has to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Send one advert (to every peer when unicast).
    SendAdvert {
        /// Its priority.
        priority: u8,
    },
    /// Attach the packet program and add the addresses.
    Claim,
    /// A round of gratuitous ARP, or unsolicited neighbour advertisements, for every address.
    Announce {
        /// Packets for each address.
        repeat: u32,
    },
    /// Remove the addresses.
    Release,
    /// Detach the packet program. It comes after the word to the peers: detaching waits for the
    /// kernel, and until the successor is there the program forwards what still comes.
    Detach,
    /// Tell who asked to hear of it: adverts carry another priority from here on.
    PriorityChanged {
        /// Priority before.
        from: u8,
        /// Priority from here on.
        to: u8,
    },
    /// Tell the world.
    StateChanged {
        /// State before.
        from: State,
        /// State from here on.
        to: State,
        /// Why.
        reason: Reason,
    },
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The instance was started.
    Started,
    /// Priority 255: the addresses are its own.
    Owner,
    /// No advert was heard for the master down interval.
    Silence,
    /// The MASTER gave its role up with priority 0.
    MasterReleased,
    /// Only a MASTER of lower priority was heard.
    Preempted,
    /// A MASTER of higher priority was heard.
    HigherPriority {
        /// Who.
        src: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// A MASTER of equal priority and higher address was heard.
    HigherAddress {
        /// Who.
        src: IpAddr,
    },
    /// It handed over, and its successor was heard.
    HandedOver {
        /// Who.
        src: IpAddr,
    },
    /// This process did not run for so long that the peers must have elected another MASTER.
    Overslept,
    /// The interface cannot be used.
    InterfaceDown,
    /// The interface can be used again.
    InterfaceUp,
    /// A tracked interface or script without weight is down.
    TrackFailed,
    /// Another member of its sync group is in FAULT.
    GroupFailed,
    /// No member of its sync group is in FAULT any more.
    GroupReady,
    /// All members of its sync group found no MASTER.
    GroupMaster,
    /// Another member of its sync group is not MASTER any more.
    GroupBackup,
    /// Nothing that is tracked stands in the way any more.
    TracksReady,
    /// The addresses or the packet program could not be claimed.
    ClaimFailed,
    /// The pause after a failed claim is over.
    Retry,
    /// The agent stops the instance.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
            Self::Fault => "FAULT",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Owner => f.write_str("it owns the addresses (priority 255)"),
            Self::Silence => f.write_str("no advert within the master down interval"),
            Self::MasterReleased => f.write_str("the MASTER gave its role up"),
            Self::Preempted => f.write_str("the MASTER has a lower priority"),
            Self::HigherPriority { src, priority } => {
                write!(f, "{src} is MASTER with the higher priority {priority}")
            }
            Self::HigherAddress { src } => {
                write!(
                    f,
                    "{src} is MASTER with the same priority and the higher address"
                )
            }
            Self::HandedOver { src } => write!(f, "it handed over to {src}"),
            Self::Overslept => f.write_str(
                "this process did not run for longer than the peers wait, so one of them took over",
            ),
            Self::InterfaceDown => f.write_str("its interface is down, gone or without an address"),
            Self::InterfaceUp => f.write_str("its interface is back"),
            Self::TrackFailed => f.write_str("what it tracks failed"),
            Self::GroupFailed => f.write_str("another member of its sync group is in FAULT"),
            Self::GroupReady => f.write_str("no member of its sync group is in FAULT any more"),
            Self::GroupMaster => f.write_str("no member of its sync group heard a MASTER"),
            Self::GroupBackup => f.write_str("another member of its sync group gave its role up"),
            Self::TracksReady => f.write_str("what it tracks is good"),
            Self::ClaimFailed => f.write_str("addresses or packet program could not be claimed"),
            Self::Retry => f.write_str("the pause after the failed claim is over"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Whom a [`Notice`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scope {
    /// A `vrrp_instance`.
    Instance,
    /// A `vrrp_sync_group`.
    Group,
}

/// What scripts and FIFOs are told.
///
/// KEEPALIVED: the words are those of `notify` and of the FIFOs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Told {
    /// It became MASTER.
    Master,
    /// It became BACKUP.
    Backup,
    /// It is in FAULT.
    Fault,
    /// The agent stops.
    Stop,
    /// A reload removed it.
    Deleted,
    /// A MASTER elects with another priority.
    MasterPriority,
    /// A router that is not MASTER elects with another priority.
    BackupPriority,
    /// A MASTER heard another one of a lower priority.
    MasterRxLowerPri,
}

/// Something that scripts and FIFOs are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// Instance or group.
    pub scope: Scope,
    /// Its name.
    pub name: &'a str,
    /// What happened.
    pub told: Told,
    /// Effective priority; 0 for a group.
    pub priority: u8,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance => "INSTANCE",
            Self::Group => "GROUP",
        })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::Deleted => "DELETED",
            Self::MasterPriority => "MASTER_PRIORITY",
            Self::BackupPriority => "BACKUP_PRIORITY",
            Self::MasterRxLowerPri => "MASTER_RX_LOWER_PRI",
        })
    }
}

impl State {
    /// What is told of entering it; INIT is told of as what led to it.
    pub fn told(self) -> Option<Told> {
        match self {
            Self::Init => None,
            Self::Backup => Some(Told::Backup),
            Self::Master => Some(Told::Master),
            Self::Fault => Some(Told::Fault),
        }
    }
}
