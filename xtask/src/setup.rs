// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask setup`: what this machine needs to build the BPF program and run the laboratory.
//!
//! In: the machine as it is. Out: [`Ready`], with the toolchain to use. Invariants: what is there
//! already is not touched, and a second run finds everything and changes nothing. `demo`, `test`
//! and `build` call [`ensure`] first.

use anyhow::{Result, bail};

use crate::progress::fact;
use crate::toolchain::Toolchain;
use crate::{apt, linker, run, toolchain};

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only report what is here and what is missing; exit status 1 if something is.
    #[arg(long)]
    check: bool,
}

/// What set-up leaves to the verbs that need it.
pub(crate) struct Ready {
    /// Compiles and links the BPF program.
    pub(crate) toolchain: Toolchain,
}

/// Programs that the laboratory runs, each with the Debian package that brings it.
const PROGRAMS: [(&str, &str); 13] = [
    ("cc", "gcc"),
    ("nginx", "nginx"),
    ("ab", "apache2-utils"),
    ("keepalived", "keepalived"),
    ("bird", "bird2"),
    ("vtysh", "frr"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("curl", "curl"),
    ("bpftool", "bpftool"),
    ("sysctl", "procps"),
];

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    if args.check {
        return report();
    }
    let ready = ensure()?;
    describe(&ready.toolchain);
    let programs: Vec<&str> = PROGRAMS.iter().map(|(program, _)| *program).collect();
    fact(&format!("servers and clients: {}", programs.join(", ")));
    fact("everything is there");
    Ok(())
}

/// Brings whatever is missing; says nothing when nothing is.
pub(crate) fn ensure() -> Result<Ready> {
    let missing = missing_programs();
    let found = find_toolchain();
    if missing.is_empty()
        && let Ok(toolchain) = found
    {
        return Ok(Ready { toolchain });
    }
    if !apt::exists() {
        bail!("{}", instructions(&missing, found.is_err()));
    }
    eprintln!("Setting up (nothing installed is removed or replaced):");
    bring_programs(&missing)?;
    let toolchain = match found {
        Ok(toolchain) => toolchain,
        Err(_) => bring_toolchain()?,
    };
    describe(&toolchain);
    Ok(Ready { toolchain })
}

/// A complete nightly first, then Debian's compiler with the project's own linker.
fn find_toolchain() -> Result<Toolchain, Vec<String>> {
    let mut reasons = match toolchain::nightly() {
        Ok(toolchain) => return Ok(toolchain),
        Err(reasons) => reasons,
    };
    match toolchain::debian(linker::path()) {
        Ok(toolchain) if linker::is_built() => return Ok(toolchain),
        Ok(_) => reasons.push(format!("{} is not built yet", linker::path().display())),
        Err(reason) => reasons.push(reason),
    }
    Err(reasons)
}

fn bring_toolchain() -> Result<Toolchain> {
    if toolchain::debian(linker::path()).is_err() {
        apt::bring(&toolchain::PACKAGES)?;
    }
    if !linker::is_built() {
        linker::build()?;
    }
    match find_toolchain() {
        Ok(toolchain) => Ok(toolchain),
        Err(reasons) => bail!("no BPF toolchain after set-up: {}", reasons.join("; ")),
    }
}

fn missing_programs() -> Vec<(&'static str, &'static str)> {
    PROGRAMS
        .into_iter()
        .filter(|(program, _)| run::find(program).is_none())
        .collect()
}

/// Installs in one go what disturbs nothing; what would, one package at a time and privately.
fn bring_programs(missing: &[(&str, &'static str)]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    apt::bring_each(&packages)?;
    match missing_programs().as_slice() {
        [] => Ok(()),
        still => bail!("still missing after set-up: {still:?}"),
    }
}

fn describe(toolchain: &Toolchain) {
    fact(&format!("compiler for BPF: {}", toolchain.description));
    fact(&format!("linker for BPF: {}", toolchain.linker.display()));
}

fn report() -> Result<()> {
    let missing = missing_programs();
    for (program, package) in PROGRAMS {
        match run::find(program) {
            Some(path) => fact(&format!("{program}: {}", path.display())),
            None => eprintln!("  ✗ {program}: missing (Debian package {package})"),
        }
    }
    if let Err(reasons) = toolchain::nightly() {
        eprintln!("  · {}", reasons.join("; "));
    }
    let found = find_toolchain();
    match &found {
        Ok(toolchain) => describe(toolchain),
        Err(reasons) => eprintln!("  ✗ no BPF toolchain: {}", reasons.join("; ")),
    }
    if !missing.is_empty() || found.is_err() {
        bail!("something is missing; `cargo xtask setup` brings it");
    }
    Ok(())
}

/// What to install by hand where there is no apt.
fn instructions(missing: &[(&str, &str)], toolchain: bool) -> String {
    let mut text = "this system has no apt, so set-up cannot install what is missing.".to_owned();
    if !missing.is_empty() {
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        text += "\nInstall these programs so that they are on PATH: ";
        text += &programs.join(", ");
    }
    if toolchain {
        text += "\nInstall a BPF toolchain:\n  rustup toolchain install nightly --component rust-src\n  \
                 cargo install bpf-linker   (built with the LLVM version that \
                 `rustup run nightly rustc -vV` names, as a shared library)";
    }
    text
}
