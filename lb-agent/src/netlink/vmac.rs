// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces with a virtual router's link address: macvlan, in private mode, on another interface.
//!
//! In: an rtnetlink handle and what the configuration says. Out: the interface, and the kernel
//! settings that go with it. Called by the VRRP driver. Invariants: an interface that is not such a
//! one is never touched; settings of the interface beneath are put back with the last of them.
//!
//! KEEPALIVED: mode and settings are its; it leaves those of the interface beneath behind.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::link::MacVlanMode;
use rtnetlink::{Handle, LinkMacVlan, LinkUnspec};

use super::addrs::{self, AddressError};
use super::links::{self, Link, LinkError};
use crate::config::model::{Family, VirtualAddress, Vmac};

/// Why the interface is not there.
#[derive(Debug, thiserror::Error)]
pub enum VmacError {
    /// One of that name is something else.
    #[error(
        "cannot use {0} as virtual MAC interface: an interface of that name has another MAC address"
    )]
    Taken(String),
    /// The kernel refused.
    #[error("cannot make the virtual MAC interface {name}: {cause}")]
    Kernel {
        /// Its name.
        name: String,
        /// The kernel's answer.
        cause: rtnetlink::Error,
    },
    /// A setting could not be made.
    #[error("cannot set {path}: {cause}")]
    Setting {
        /// The file in /proc/sys.
        path: String,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// It is not to be found.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its link-local address could not be added.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// All of the agent's, and what they changed elsewhere.
#[derive(Debug, Default)]
pub struct Vmacs {
    /// Name of the interface beneath, by name.
    bases: BTreeMap<String, String>,
    /// Settings as they were, by path.
    before: BTreeMap<String, String>,
}

impl Vmacs {
    /// Makes the interface if it is not there; its index. Repeating it is fine.
    pub async fn ensure(
        &mut self,
        handle: &Handle,
        base: &Link,
        vmac: &Vmac,
        family: Family,
    ) -> Result<u32, VmacError> {
        let mut settled = self.bases.contains_key(&vmac.name);
        let link = match links::find(handle, &vmac.name).await {
            Ok(link) if link.mac == Some(vmac.mac) => link,
            Ok(_) => return Err(VmacError::Taken(vmac.name.clone())),
            Err(LinkError::NotFound { .. }) => {
                create(handle, base, vmac).await?;
                settled = false;
                links::find(handle, &vmac.name).await?
            }
            Err(other) => return Err(other.into()),
        };
        if !settled {
            self.bases.insert(vmac.name.clone(), base.name.clone());
            self.settle(base, vmac, family)?;
        }
        if !link.up {
            let up = LinkUnspec::new_with_index(link.ifindex).up().build();
            handle
                .link()
                .set(up)
                .execute()
                .await
                .map_err(|cause| kernel(vmac, cause))?;
        }
        if let (Family::V6, false, Some(own)) = (family, vmac.xmit_base, base.link_local) {
            // Adverts leave from the address that the interface beneath has.
            let address = VirtualAddress {
                prefix_len: 64,
                ..VirtualAddress::plain(IpAddr::V6(own))
            };
            addrs::add(handle, link.ifindex, &address).await?;
        }
        Ok(link.ifindex)
    }

    /// Removes the interface, if it is one of ours.
    pub async fn remove(&mut self, handle: &Handle, name: &str) -> Result<(), VmacError> {
        let Some(base) = self.bases.remove(name) else {
            return Ok(());
        };
        if !self.bases.values().any(|other| *other == base) {
            self.restore(&base);
        }
        let link = match links::find(handle, name).await {
            Ok(link) => link,
            Err(LinkError::NotFound { .. }) => return Ok(()),
            Err(other) => return Err(other.into()),
        };
        let deleted = handle.link().del(link.ifindex).execute().await;
        deleted.map_err(|cause| VmacError::Kernel {
            name: name.to_owned(),
            cause,
        })
    }

    fn settle(&mut self, base: &Link, vmac: &Vmac, family: Family) -> Result<(), VmacError> {
        // No addresses of its own.
        write(&conf("ipv6", &vmac.name, "addr_gen_mode"), "1")?;
        if family == Family::V6 {
            return Ok(());
        }
        write(&conf("ipv6", &vmac.name, "disable_ipv6"), "1")?;
        for (setting, value) in [
            // Answers for its own addresses only, and hears adverts from its base's address.
            ("arp_ignore", "1"),
            ("accept_local", "1"),
            ("rp_filter", "0"),
            ("promote_secondaries", "1"),
        ] {
            write(&conf("ipv4", &vmac.name, setting), value)?;
        }
        // Nor does the interface beneath answer for the virtual addresses, or name one of them as
        // the sender of its own questions: RFC 9568 §8.1.2 wants no other link address in them.
        // KEEPALIVED: it leaves `arp_announce` alone, so a reply from a virtual address gives the
        // interface's own link address away.
        for (setting, value) in [
            ("arp_ignore", "1"),
            ("arp_filter", "1"),
            ("arp_announce", "2"),
        ] {
            self.change(&conf("ipv4", &base.name, setting), value)?;
        }
        self.loosen()
    }

    /// The kernel takes the stricter of an interface's and all interfaces' `rp_filter`, and the
    /// virtual MAC interface needs none: so each interface gets what holds for all.
    fn loosen(&mut self) -> Result<(), VmacError> {
        let all = conf("ipv4", "all", "rp_filter");
        let strict = read(&all);
        if matches!(strict.as_deref(), None | Some("0")) {
            return Ok(());
        }
        let names = std::fs::read_dir("/proc/sys/net/ipv4/conf")
            .into_iter()
            .flatten();
        for name in names.flatten() {
            let name = name.file_name().to_string_lossy().into_owned();
            let own = conf("ipv4", &name, "rp_filter");
            if name != "all" && !self.bases.contains_key(&name) && read(&own) < strict {
                self.change(&own, strict.as_deref().unwrap_or("0"))?;
            }
        }
        self.change(&all, "0")
    }

    /// Writes a setting, and remembers what it was.
    fn change(&mut self, path: &str, value: &str) -> Result<(), VmacError> {
        let before = read(path);
        write(path, value)?;
        if let Some(before) = before {
            self.before.entry(path.to_owned()).or_insert(before);
        }
        Ok(())
    }

    /// Puts the settings of `base` back, and with the last one those of all interfaces.
    fn restore(&mut self, base: &str) {
        let own = format!("/proc/sys/net/ipv4/conf/{base}/arp_");
        let last = self.bases.is_empty();
        let mine: Vec<String> = self.before.keys().cloned().collect();
        for path in mine {
            if (last || path.starts_with(&own))
                && let Some(before) = self.before.remove(&path)
            {
                // An interface that is gone has no settings.
                let _ = write(&path, &before);
            }
        }
    }
}

async fn create(handle: &Handle, base: &Link, vmac: &Vmac) -> Result<(), VmacError> {
    let message = LinkMacVlan::new(&vmac.name, base.ifindex, MacVlanMode::Private)
        .address(vmac.mac.to_vec())
        .build();
    let created = handle.link().add(message).execute().await;
    created.map_err(|cause| kernel(vmac, cause))
}

fn kernel(vmac: &Vmac, cause: rtnetlink::Error) -> VmacError {
    VmacError::Kernel {
        name: vmac.name.clone(),
        cause,
    }
}

/// `/proc/sys/net/ipv4/conf/eth0/arp_ignore`
fn conf(family: &str, interface: &str, setting: &str) -> String {
    format!("/proc/sys/net/{family}/conf/{interface}/{setting}")
}

fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// A kernel without IPv6 has no settings for it.
fn write(path: &str, value: &str) -> Result<(), VmacError> {
    match std::fs::write(path, value) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && path.contains("/ipv6/") => Ok(()),
        Err(cause) => Err(VmacError::Setting {
            path: path.to_owned(),
            cause,
        }),
        Ok(()) => Ok(()),
    }
}

/// `promote_secondaries`: an address that goes takes no other one of its network along.
pub fn promote_secondaries(interface: &str) -> Result<(), VmacError> {
    write(&conf("ipv4", interface, "promote_secondaries"), "1")
}
