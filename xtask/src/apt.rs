// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian packages, without ever taking anything away from the machine.
//!
//! In: package names. Out: installed packages or, where apt would remove, replace or upgrade what
//! is there, packages unpacked under `target/tools/deb`. Invariants: nothing installed is removed
//! or changed; no service is started; `policy-rc.d` is as it was afterwards. Called by `setup`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::Work;
use crate::run;

/// Runs `apt-get install` with service starts forbidden by a `policy-rc.d` of our own, unless the
/// machine has one. The shell's traps take it away again; a leftover of a killed run is known by
/// its second line.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
mark='# Written by "cargo xtask setup" while apt installs, and removed afterwards.'
if [ -e "$policy" ] && grep -qF "$mark" "$policy"; then rm -f "$policy"; fi
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy" && chmod 755 "$policy" || exit 1
fi
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -y \
    --no-install-recommends --no-remove --no-upgrade install "$@"
"#;

/// What apt would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Packages that are not on the machine yet.
    pub(crate) new: Vec<String>,
    /// Installed packages that apt would remove or exchange for another version.
    pub(crate) disturbed: Vec<String>,
}

/// Whether this system has apt at all.
pub(crate) fn exists() -> bool {
    run::find("apt-get").is_some() && run::find("dpkg").is_some()
}

/// What installing `packages` together would do to this machine, by apt's own simulation.
fn plan(packages: &[&str]) -> Result<Plan> {
    let mut command = Command::new("apt-get");
    command
        .args(["-s", "-y", "--no-install-recommends", "install"])
        .args(packages);
    Ok(parse_plan(&run::capture(command.env("LC_ALL", "C"))?))
}

/// Reads `Inst name (…)`, `Inst name [old] (…)` and `Remv name […]` lines.
fn parse_plan(text: &str) -> Plan {
    let mut plan = Plan::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("Inst"), Some(name), Some(next)) if !next.starts_with('[') => {
                plan.new.push(name.to_owned());
            }
            (Some("Inst" | "Remv"), Some(name), _) => plan.disturbed.push(name.to_owned()),
            _ => {}
        }
    }
    plan
}

/// Fetches the package lists.
pub(crate) fn update() -> Result<()> {
    let work = Work::begin("reading Debian's package lists");
    let mut command = run::as_root("apt-get")?;
    command.args(["-o", "DPkg::Lock::Timeout=300", "update"]);
    run::stream(&mut command, |line| work.line(line))?;
    work.done();
    Ok(())
}

/// Installs packages for the whole machine; the caller has seen that nothing is disturbed.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let work = Work::begin(format!("installing {}", packages.join(" ")));
    let mut command = run::as_root("sh")?;
    command.args(["-c", INSTALL, "sh"]).args(packages);
    run::stream(&mut command, |line| work.line(line))?;
    work.done();
    Ok(())
}

/// Where privately unpacked packages lie, with the file tree they would have under `/`.
pub(crate) fn private_root() -> PathBuf {
    run::tools_dir().join("deb")
}

/// Downloads packages and unpacks them under [`private_root`], touching nothing else.
pub(crate) fn unpack(packages: &[&str]) -> Result<()> {
    let work = Work::begin(format!(
        "unpacking {} for this project alone",
        packages.join(" ")
    ));
    let downloads = run::tools_dir().join("download");
    std::fs::create_dir_all(&downloads)
        .with_context(|| format!("cannot make {}", downloads.display()))?;
    let mut command = Command::new("apt-get");
    command
        .arg("download")
        .args(packages)
        .current_dir(&downloads);
    run::stream(&mut command, |line| work.line(line))?;
    for entry in std::fs::read_dir(&downloads)? {
        let package = entry?.path();
        run::capture(
            Command::new("dpkg")
                .arg("-x")
                .arg(&package)
                .arg(private_root()),
        )?;
    }
    std::fs::remove_dir_all(&downloads)?;
    work.done();
    Ok(())
}

/// Brings `packages` here: installed where that disturbs nothing, else unpacked privately.
///
/// The names are taken together: either all are installed or all are unpacked.
pub(crate) fn bring(packages: &[&str]) -> Result<()> {
    with_fresh_lists(|| {
        let plan = plan_or_update(packages)?;
        if plan.disturbed.is_empty() {
            return install(packages);
        }
        eprintln!(
            "  ! apt would change {} to install {}, so it is not installed",
            plan.disturbed.join(", "),
            packages.join(" ")
        );
        let new: Vec<&str> = plan.new.iter().map(String::as_str).collect();
        unpack(&new)
    })
}

/// Brings each of `packages` here: one that would disturb something keeps no other one from being
/// installed.
pub(crate) fn bring_each(packages: &[&str]) -> Result<()> {
    with_fresh_lists(|| {
        if plan_or_update(packages)?.disturbed.is_empty() {
            return install(packages);
        }
        packages.iter().try_for_each(|package| bring(&[*package]))
    })
}

/// Does it, and once more from the plan on if the lists were older than the archive: what they name
/// is no longer there, and what is there instead may disturb something else.
fn with_fresh_lists(act: impl Fn() -> Result<()>) -> Result<()> {
    match act() {
        Err(first)
            if first.to_string().contains("Unable to fetch")
                || first.to_string().contains("404") =>
        {
            update()?;
            act()
        }
        result => result,
    }
}

/// The plan; where apt does not know the packages, its lists are fetched first.
pub(crate) fn plan_or_update(packages: &[&str]) -> Result<Plan> {
    if let Ok(plan) = plan(packages) {
        return Ok(plan);
    }
    update()?;
    let plan = plan(packages)?;
    if plan.new.is_empty() {
        bail!("apt knows nothing to do for {}", packages.join(" "));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchanged_or_removed_package_counts_as_disturbed() {
        let text = "NOTE: This is only a simulation!\n\
            Remv cargo [0.66.0+ds1-1] [cargo-web:amd64 ]\n\
            Inst bpftool (7.1.0 Debian-Security:12 [amd64])\n\
            Inst linux-libc-dev [6.1.187-1] (6.1.192-2 Debian-Security:12 [amd64])\n\
            Conf bpftool (7.1.0 Debian-Security:12 [amd64])\n";
        let plan = parse_plan(text);
        assert_eq!(plan.new, ["bpftool"]);
        assert_eq!(plan.disturbed, ["cargo", "linux-libc-dev"]);
    }
}
