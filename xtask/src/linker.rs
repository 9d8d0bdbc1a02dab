// SPDX-License-Identifier: MIT OR Apache-2.0
//! bpf-linker, built once into `target/tools` against the LLVM of Debian's compiler.
//!
//! In: nothing but the machine. Out: the linker's path. Called by `setup`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::Work;
use crate::{apt, run};

/// The version that goes with LLVM 22.
const VERSION: &str = "0.13.0";

/// The Debian package that it is built with.
const LLVM_PACKAGE: &str = "llvm-22-dev";

/// Where the project's own linker lies.
pub(crate) fn path() -> PathBuf {
    run::tools_dir().join("bin/bpf-linker")
}

/// Whether it is built and runs.
pub(crate) fn is_built() -> bool {
    let said = run::capture(
        Command::new(path())
            .arg("--version")
            .env_remove("LD_LIBRARY_PATH"),
    );
    said.is_ok_and(|version| version.contains(VERSION))
}

/// Builds it, after bringing the LLVM it links with.
pub(crate) fn build() -> Result<()> {
    if llvm_prefix().is_none() {
        apt::bring(&[LLVM_PACKAGE])?;
    }
    let Some(prefix) = llvm_prefix() else {
        bail!("{LLVM_PACKAGE} brought no usr/lib/llvm-22/bin/llvm-config");
    };
    let work = Work::begin(format!(
        "building bpf-linker {VERSION} (once, about two minutes)"
    ));
    let mut command = run::cargo();
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
        ])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(run::tools_dir())
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_TARGET_DIR", run::tools_dir().join("build"))
        .env_remove("RUSTFLAGS");
    run::stream(&mut command, |line| work.line(line)).context("cannot build bpf-linker")?;
    // Only the program is wanted; its intermediate files are a few hundred megabytes.
    let _ = std::fs::remove_dir_all(run::tools_dir().join("build"));
    if !is_built() {
        bail!("{} was built but does not run", path().display());
    }
    work.done();
    Ok(())
}

fn llvm_prefix() -> Option<PathBuf> {
    [Path::new("/").to_owned(), apt::private_root()]
        .into_iter()
        .map(|root| root.join("usr/lib/llvm-22"))
        .find(|prefix| prefix.join("bin/llvm-config").exists())
}
