// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching the program: native mode first, generic mode as a fallback with a warning.
//!
//! A link belongs to this process: the kernel detaches it when the process is gone, however it
//! goes, so that a dead agent's director forwards nothing.

use std::collections::BTreeMap;

use aya::programs::links::Link;
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use serde::Serialize;
use tracing::{info, warn};

use super::{DataplaneError, innermost};

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the kernel makes a packet buffer of the frame.
    Native,
    /// In the kernel's receive path, after it did: correct, but as dear as the stack's own path.
    Generic,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// One attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Interface.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Mode.
    pub mode: Mode,
}

/// All attachments, by interface index.
#[derive(Default)]
pub(super) struct Attachments(BTreeMap<u32, (Attachment, XdpLink)>);

impl Attachments {
    pub(super) fn attach(
        &mut self,
        xdp: &mut Xdp,
        interface: &str,
        ifindex: u32,
    ) -> Result<Mode, DataplaneError> {
        if let Some((attachment, _)) = self.0.get(&ifindex) {
            return Ok(attachment.mode);
        }
        let (mode, link) = match link(xdp, ifindex, XdpMode::Driver) {
            Ok(link) => (Mode::Native, link),
            Err(native) => match link(xdp, ifindex, XdpMode::Skb) {
                Ok(link) => {
                    warn!(
                        "{interface}: the driver does not take XDP programs ({}); running in generic mode, \
                         where a packet costs as much as in the kernel's own stack",
                        innermost(&native)
                    );
                    (Mode::Generic, link)
                }
                Err(generic) => {
                    return Err(DataplaneError::Attach {
                        interface: interface.to_owned(),
                        native: innermost(&native),
                        generic: innermost(&generic),
                    });
                }
            },
        };
        info!("{interface}: packet program attached, {mode} mode");
        let attachment = Attachment {
            interface: interface.to_owned(),
            ifindex,
            mode,
        };
        self.0.insert(ifindex, (attachment, link));
        Ok(mode)
    }

    pub(super) fn detach(&mut self, ifindex: u32) {
        let Some((Attachment { interface, .. }, link)) = self.0.remove(&ifindex) else {
            return;
        };
        match link.detach() {
            Ok(()) => info!("{interface}: packet program detached"),
            Err(err) => warn!("{interface}: cannot detach the packet program: {err}"),
        }
    }

    pub(super) fn list(&self) -> Vec<Attachment> {
        self.0
            .values()
            .map(|(attachment, _)| attachment.clone())
            .collect()
    }
}

fn link(xdp: &mut Xdp, ifindex: u32, mode: XdpMode) -> Result<XdpLink, ProgramError> {
    let id = xdp.attach_to_if_index(ifindex, mode)?;
    xdp.take_link(id)
}
