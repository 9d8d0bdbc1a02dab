// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the laboratory can run here.
//!
//! In: this process's credentials. Out: yes, or an error that says what to do.

use anyhow::{Result, bail};

/// Whether this process is root; network namespaces and XDP need it.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// An error that names the command to use, unless this is root.
pub fn require_root() -> Result<()> {
    if !is_root() {
        bail!("the laboratory needs root (network namespaces, XDP): use `cargo xtask test lab`");
    }
    Ok(())
}
