// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching the program: native mode first, generic mode as a fallback with a warning.
//!
//! With [`Pins`] a link outlives this process: a killed agent's program goes on, and its successor
//! puts its own in the old one's place without a packet in between. What keeps a dead agent's
//! director from forwarding for ever is the watchdog. Without pins the kernel detaches a link when
//! the process is gone.
//!
//! Invariant: a program that somebody else attached is never replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use aya::programs::links::{FdLink, Link, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use serde::Serialize;
use tracing::{info, warn};

use super::neighbour::{self, Neighbour};
use super::pins::Pins;
use super::{DataplaneError, innermost};
use crate::netlink::xdp;

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
pub(super) struct Attachments {
    links: BTreeMap<u32, (Attachment, XdpLink)>,
    pins: Option<Pins>,
}

impl Attachments {
    /// Links are pinned from now on.
    pub(super) fn pin_by(&mut self, pins: Pins) {
        self.pins = Some(pins);
    }

    /// Puts this program in the place of an earlier agent's, wherever that left one attached: each
    /// packet meets the one or the other. The interfaces.
    pub(super) fn adopt(&mut self, xdp: &mut Xdp) -> BTreeSet<u32> {
        let Some(pins) = self.pins.clone() else {
            return BTreeSet::new();
        };
        let mut adopted = BTreeSet::new();
        for ifindex in pins.links() {
            let interface = name_of(ifindex);
            match replace(xdp, &pins, ifindex) {
                Ok(link) => {
                    let generic = xdp::link(ifindex).is_ok_and(|link| link.generic);
                    let mode = if generic { Mode::Generic } else { Mode::Native };
                    info!(
                        "{interface}: packet program put in the place of an earlier agent's, {mode} mode"
                    );
                    let attachment = Attachment {
                        interface,
                        ifindex,
                        mode,
                    };
                    self.links.insert(ifindex, (attachment, link));
                    adopted.insert(ifindex);
                }
                Err(err) => {
                    // Its interface is gone, for example.
                    info!("{interface}: an earlier agent's attachment is of no use: {err}");
                    let _ = fs::remove_file(pins.link(ifindex));
                }
            }
        }
        adopted
    }

    pub(super) fn attach(
        &mut self,
        xdp: &mut Xdp,
        interface: &str,
        ifindex: u32,
    ) -> Result<Mode, DataplaneError> {
        if let Some((attachment, _)) = self.links.get(&ifindex) {
            return Ok(attachment.mode);
        }
        let about = xdp::link(ifindex).unwrap_or_default();
        if let Some(program) = about.program {
            return Err(DataplaneError::Occupied {
                interface: interface.to_owned(),
                neighbour: Neighbour::of(program),
            });
        }
        let (mode, link) = match link(xdp, ifindex, XdpMode::Driver) {
            Ok(link) => (Mode::Native, link),
            Err(native) => match link(xdp, ifindex, XdpMode::Skb) {
                Ok(link) => {
                    warn!(
                        "{interface}: the driver does not take XDP programs ({}); running in generic mode, \
                         where a packet costs as much as in the kernel's own stack{}",
                        innermost(&native),
                        neighbour::advice(&about)
                    );
                    (Mode::Generic, link)
                }
                Err(generic) => {
                    return Err(DataplaneError::Attach {
                        interface: interface.to_owned(),
                        native: innermost(&native),
                        generic: format!("{}{}", innermost(&generic), neighbour::advice(&about)),
                    });
                }
            },
        };
        let link = self.pin(link, interface, ifindex)?;
        info!("{interface}: packet program attached, {mode} mode");
        let attachment = Attachment {
            interface: interface.to_owned(),
            ifindex,
            mode,
        };
        self.links.insert(ifindex, (attachment, link));
        Ok(mode)
    }

    /// Puts another program of this agent's in the place of the one that is attached, everywhere:
    /// each packet meets the one or the other.
    pub(super) fn swap(&mut self, xdp: &mut Xdp) {
        for (ifindex, (attachment, link)) in std::mem::take(&mut self.links) {
            let swapped = xdp
                .attach_to_link(link)
                .and_then(|id| xdp.take_link(id))
                .map_err(|err| innermost(&err));
            // A link that is pinned is still there, with the program that it had.
            let link = swapped.or_else(|why| {
                let interface = &attachment.interface;
                warn!("{interface}: cannot exchange the packet program: {why}");
                let pins = self.pins.as_ref().ok_or(why)?;
                let link = PinnedLink::from_pin(pins.link(ifindex));
                let link = link.map_err(|err| innermost(&err))?;
                XdpLink::try_from(FdLink::from(link)).map_err(|err| innermost(&err))
            });
            match link {
                Ok(link) => {
                    self.links.insert(ifindex, (attachment, link));
                }
                Err(why) => warn!("{}: {why}", attachment.interface),
            }
        }
    }

    /// Lets a link outlive this process.
    fn pin(&self, link: XdpLink, interface: &str, ifindex: u32) -> Result<XdpLink, DataplaneError> {
        let Some(pins) = &self.pins else {
            return Ok(link);
        };
        let path = pins.link(ifindex);
        let _ = fs::remove_file(&path);
        let link = FdLink::try_from(link)?;
        let pinned = link.pin(&path).map_err(|err| DataplaneError::Attach {
            interface: interface.to_owned(),
            native: format!("cannot pin {}: {}", path.display(), innermost(&err)),
            generic: "not tried".to_owned(),
        })?;
        Ok(XdpLink::try_from(FdLink::from(pinned))?)
    }

    pub(super) fn detach(&mut self, ifindex: u32) {
        let Some((Attachment { interface, .. }, link)) = self.links.remove(&ifindex) else {
            return;
        };
        if let Some(pins) = &self.pins {
            let _ = fs::remove_file(pins.link(ifindex));
        }
        match link.detach() {
            Ok(()) => info!("{interface}: packet program detached"),
            Err(err) => warn!("{interface}: cannot detach the packet program: {err}"),
        }
    }

    pub(super) fn list(&self) -> Vec<Attachment> {
        self.links
            .values()
            .map(|(attachment, _)| attachment.clone())
            .collect()
    }
}

/// Puts the program in the place of the one on a pinned link.
fn replace(xdp: &mut Xdp, pins: &Pins, ifindex: u32) -> Result<XdpLink, DataplaneError> {
    let link = FdLink::from(PinnedLink::from_pin(pins.link(ifindex))?);
    let id = xdp.attach_to_link(XdpLink::try_from(link)?)?;
    Ok(xdp.take_link(id)?)
}

/// An interface's name, or its index where it has none any more.
pub(super) fn name_of(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("interface {ifindex}"))
}

fn link(xdp: &mut Xdp, ifindex: u32, mode: XdpMode) -> Result<XdpLink, ProgramError> {
    let id = xdp.attach_to_if_index(ifindex, mode)?;
    xdp.take_link(id)
}
