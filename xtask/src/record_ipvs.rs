// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask record-ipvs`: asks the real IPVS, on Debian's kernel in the virtual machine, which
//! real servers it chooses, and keeps the answers for the replay in `tests/ipvs`.

use anyhow::{Context, Result, bail};

use crate::progress::{Work, fact};
use crate::run;
use crate::vm::{self, Guest};

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
    let files = vec![
        recorder,
        vm::program("ipvsadm", "ipvsadm")?,
        vm::program("ip", "iproute2")?,
    ];
    let modules = MODULES.map(str::to_owned);
    let work = Work::begin("recording IPVS's choices in the virtual machine");
    let mut record = String::new();
    let guest = Guest {
        memory: 1024,
        modules: &modules,
        icount: false,
        script: "exec ./ipvs-record\n",
        files: &files,
        cards: &[],
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
