// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hosts on network cards in place of veth pairs: the virtual machine has virtio-net cards for it.
//!
//! In: the environment says that this machine's cards are the laboratory's. Out: cards, each given
//! to one host; they come back when its namespace is gone.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::{self, Namespace};
use crate::wait;

/// Set where every card named in it by its hardware address is the laboratory's.
pub const VARIABLE: &str = "XLVS_LAB_CARDS";

/// Whether hosts get cards.
pub(crate) fn are_used() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Moves a free card of LAN number `lan` into `namespace`, as `interface`.
pub(crate) fn give(namespace: &Namespace, interface: &str, lan: usize) -> Result<()> {
    // The last byte but one of a card's address is the number of its LAN.
    let prefix = format!("52:54:00:00:{lan:02x}:");
    let what = format!("a free network card of LAN {lan}");
    // Cards of a namespace that was just deleted take a moment to come back.
    let card = wait::until(Duration::from_secs(20), &what, || free(&prefix))?;
    let own = format!("card{lan}");
    netns::ip(&["link", "set", "dev", &card, "down"])?;
    netns::ip(&["link", "set", "dev", &card, "name", &own])?;
    netns::ip(&["link", "set", "dev", &own, "netns", namespace.name()])?;
    let renamed = namespace.ip(&["link", "set", "dev", &own, "name", interface]);
    renamed.map(drop).context("cannot name a card")
}

fn free(prefix: &str) -> Option<String> {
    let entries = fs::read_dir("/sys/class/net").ok()?;
    entries.flatten().find_map(|entry| {
        let address = fs::read_to_string(entry.path().join("address")).ok()?;
        let name = entry.file_name().into_string().ok()?;
        address.starts_with(prefix).then_some(name)
    })
}
