// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the laboratory can run here.
//!
//! In: this process's credentials. Out: yes, or a sentence that says what to do. Asked by every
//! suite and by xtask before anything is raised.

/// Whether this process is root; network namespaces and XDP need it.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
