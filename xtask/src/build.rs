// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask build`: the BPF object, then the release binary that embeds it.
//!
//! In: a machine that set-up has seen. Out: `target/release/xlvs`, one file to copy.

use std::path::PathBuf;

use anyhow::Result;

use crate::progress::fact;
use crate::setup::Ready;
use crate::{build_ebpf, run};

/// Builds both; cargo's own progress shows the second.
pub(crate) fn main(ready: &Ready) -> Result<()> {
    build_ebpf::main(&ready.toolchain)?;
    run::show(run::cargo().args(["build", "--release", "--package", "lb-agent"]))?;
    fact(&format!("{} is ready", binary().display()));
    Ok(())
}

/// The binary that this verb builds.
pub(crate) fn binary() -> PathBuf {
    run::target_dir().join("release/xlvs")
}
