// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask record-ipvs`: asks the real IPVS, on Debian's kernel in the virtual machine, which
//! real servers it chooses, and keeps the answers for the replay in `tests/ipvs`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::progress::{Work, fact};
use crate::vm::Guest;
use crate::{apt, run};

/// What the recorder needs in the guest.
const MODULES: [&str; 15] = [
    "veth",
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_lc",
    "ip_vs_wlc",
    "ip_vs_sed",
    "ip_vs_nq",
    "ip_vs_fo",
    "ip_vs_ovf",
    "ip_vs_sh",
    "ip_vs_dh",
    "ip_vs_mh",
    "ip_vs_lblc",
    "ip_vs_lblcr",
];

/// The verb itself.
pub(crate) fn main() -> Result<()> {
    run::show(run::cargo().args([
        "build",
        "--package",
        "xlvs-tests",
        "--example",
        "ipvs-record",
    ]))?;
    let recorder = run::target_dir().join("debug/examples/ipvs-record");
    let mut files = vec![recorder, program("ipvsadm")?, program("ip")?];
    files.extend(LIBRARIES.into_iter().filter_map(private_library));
    let modules = MODULES.map(str::to_owned);
    let work = Work::begin("recording IPVS's choices in the virtual machine");
    let mut record = String::new();
    let guest = Guest {
        memory: 1024,
        modules: &modules,
        icount: false,
        script: "export LD_LIBRARY_PATH=.\nexec ./ipvs-record\n",
        files: &files,
    };
    let status = guest.run(|line| {
        work.line(line);
        record.push_str(line);
        record.push('\n');
    })?;
    if status != 0 {
        bail!("the recorder failed: {record}");
    }
    work.done();
    let path = run::root().join("tests/ipvs/recorded.txt");
    std::fs::write(&path, record).with_context(|| format!("cannot write {}", path.display()))?;
    fact(&format!("recorded in {}", path.display()));
    Ok(())
}

/// What ipvsadm needs, and the packages that have it.
const LIBRARIES: [&str; 3] = ["libpopt.so.0", "libnl-3.so.200", "libnl-genl-3.so.200"];
const LIBRARY_PACKAGES: [&str; 3] = ["libpopt0", "libnl-3-200", "libnl-genl-3-200"];

/// A library that was unpacked for this project alone; others come along with the program.
fn private_library(name: &str) -> Option<PathBuf> {
    ["usr/lib", "lib"]
        .iter()
        .filter_map(|directory| std::fs::read_dir(apt::private_root().join(directory)).ok())
        .flatten()
        .flatten()
        .map(|triple| triple.path().join(name))
        .find(|path| path.exists())
}

/// A program of this machine, or unpacked for this project alone.
fn program(name: &str) -> Result<PathBuf> {
    if run::find(name).is_none() {
        let mut packages = vec![name];
        packages.extend(LIBRARY_PACKAGES);
        apt::unpack(&packages)?;
    }
    run::find(name).with_context(|| format!("cannot find {name}"))
}
