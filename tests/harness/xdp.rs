// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who has an XDP program attached: the kernel's own word, through `ip -j link`.
//!
//! In: a host. Out: mode and program id, or nothing.

use anyhow::{Context, Result};

use crate::lab::{Host, INTERFACE};

/// A program on a host's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// `native`, `generic` or what else `ip` says.
    pub mode: String,
    /// The kernel's number of the program.
    pub program: u64,
}

/// The program attached to the host's interface, if any.
pub fn attachment(host: &Host) -> Result<Option<Attachment>> {
    let text = host
        .namespace()
        .ip(&["-j", "-d", "link", "show", "dev", INTERFACE])?;
    let links: serde_json::Value = serde_json::from_str(&text).context("cannot read ip's JSON")?;
    let xdp = &links[0]["xdp"];
    let Some(program) = xdp["prog"]["id"].as_u64() else {
        return Ok(None);
    };
    // linux/if_link.h: XDP_ATTACHED_DRV 1, XDP_ATTACHED_SKB 2, XDP_ATTACHED_HW 3.
    let mode = match xdp["mode"].as_u64() {
        Some(1) => "native".to_owned(),
        Some(2) => "generic".to_owned(),
        other => format!("mode {other:?}"),
    };
    Ok(Some(Attachment { mode, program }))
}

/// Whether bpftool, a second witness, sees a program on the host's interface.
pub fn seen_by_bpftool(host: &Host) -> Result<bool> {
    let text = host.run("bpftool", &["-j", "net", "show", "dev", INTERFACE])?;
    let nets: serde_json::Value =
        serde_json::from_str(&text).context("cannot read bpftool's JSON")?;
    Ok(nets[0]["xdp"]
        .as_array()
        .is_some_and(|attached| !attached.is_empty()))
}
