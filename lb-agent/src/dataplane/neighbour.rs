// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who else is in an interface's XDP hook, and what to do where a program cannot be attached.

use std::fmt;

use aya::programs::loaded_programs;
use lb_common::abi::maps::PROGRAM;

use super::pins;
use crate::netlink::xdp::XdpLink;

/// An XDP program that this agent has not attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The kernel's number of it.
    pub id: u32,
    /// Its name; empty if it has none.
    pub name: String,
    /// Pins of the xlvs agent that it belongs to.
    pub pins: Option<String>,
}

impl Neighbour {
    /// What can be learnt of program `id`.
    pub(super) fn of(id: u32) -> Self {
        let found = loaded_programs().flatten().find(|info| info.id() == id);
        let name = found.and_then(|info| info.name_as_str().map(str::to_owned));
        Self {
            id,
            name: name.unwrap_or_default(),
            pins: pins::owner_of(id),
        }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, pins } = self;
        match pins {
            Some(pins) => write!(
                f,
                "the packet program of another xlvs agent is attached (program {id}, pinned in {pins}); \
                 if that agent runs no more, remove that directory"
            ),
            None if name == PROGRAM => write!(
                f,
                "a packet program of xlvs is attached that no agent's pins know (program {id}); \
                 if no agent runs here, remove it with `ip link set dev … xdp off`"
            ),
            None => write!(
                f,
                "another XDP program is attached, {} (program {id}); it is left alone: see \
                 `bpftool prog show id {id}` whose it is",
                if name.is_empty() {
                    "without a name"
                } else {
                    name
                }
            ),
        }
    }
}

/// What to do about an interface whose driver takes no XDP program; empty where nothing helps.
pub(super) fn advice(link: &XdpLink) -> String {
    let parent = link.parent.and_then(|index| {
        let name = nix::net::if_::if_indextoname(index).ok()?;
        name.into_string().ok()
    });
    match (link.kind.as_deref(), parent) {
        (Some("vlan"), Some(parent)) => format!(
            "; it is a VLAN of {parent}, whose driver may take one: the program sees tagged frames \
             there, so an `interface {parent}` serves this VLAN, too"
        ),
        (Some("bond"), _) => {
            "; a bond takes one in native mode if all its ports do and its mode is \
                              active-backup, balance-rr, balance-xor or 802.3ad without vlan+srcmac"
                .to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_and_relatives_are_told_apart() {
        let told = |name: &str, pins: Option<&str>| {
            Neighbour {
                id: 7,
                name: name.to_owned(),
                pins: pins.map(str::to_owned),
            }
            .to_string()
        };
        assert!(
            told("firewall", None)
                .contains("another XDP program is attached, firewall (program 7)")
        );
        assert!(told("xlvs", None).contains("no agent's pins know"));
        assert!(told("xlvs", Some("/sys/fs/bpf/xlvs/1-a")).contains("another xlvs agent"));
    }
}
