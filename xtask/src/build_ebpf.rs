// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask build-ebpf`: compiles lb-ebpf's program for the kernel.
//!
//! In: a toolchain. Out: `target/bpf/xlvs.bpf.o` and, beside it, the digest of the sources it was
//! built from. Invariant: the caller's own Rust settings (toolchain, flags, wrappers) have no
//! influence, so the object is the same whoever builds it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::{Work, fact};
use crate::toolchain::{self, Kind, Toolchain};
use crate::{object, run};

/// Variables that reach the compiler: where things are and how to reach the registry.
const KEPT: [&str; 7] = [
    "HOME",
    "USER",
    "PATH",
    "TERM",
    "LANG",
    "TMPDIR",
    "CARGO_HOME",
];
const KEPT_PARTS: [&str; 5] = ["_PROXY", "_proxy", "SSL_CERT", "CARGO_HTTP", "CARGO_NET"];

/// ELF's number for BPF (`EM_BPF`), at offset 18 of a little-endian object.
const MACHINE_BPF: [u8; 2] = [247, 0];

/// Builds the object unless the one that is there matches the sources.
pub(crate) fn main(toolchain: &Toolchain) -> Result<()> {
    let root = run::root();
    let directory = object::directory(&root);
    let object = directory.join("xlvs.bpf.o");
    let digest = object::digest_path(&object);
    let features = features();
    // What the object was built from, and how, so that another choice builds it anew.
    let source = format!(
        "{} {features}",
        object::source_digest(&root).context("cannot read the BPF program's source")?
    );
    let built_from = std::fs::read_to_string(&digest).unwrap_or_default();
    if object.exists() && built_from.trim() == source {
        fact(&format!("BPF object {} is up to date", object.display()));
        return Ok(());
    }

    let work = Work::begin("compiling the BPF program");
    let built = compile(toolchain, "xlvs-xdp", &work)?;
    let bytes = std::fs::read(&built)
        .with_context(|| format!("cannot read the object {}", built.display()))?;
    if bytes.get(18..20) != Some(MACHINE_BPF.as_slice()) {
        bail!("{} is not a BPF object", built.display());
    }
    std::fs::create_dir_all(&directory)?;
    // The digest goes first and comes last: an interrupted build leaves no object that looks fresh.
    let _ = std::fs::remove_file(&digest);
    std::fs::write(&object, &bytes)?;
    std::fs::write(&digest, format!("{source}\n"))?;
    work.done();
    fact(&format!(
        "{}, {} bytes, by {}",
        object.display(),
        bytes.len(),
        toolchain.description
    ));
    Ok(())
}

/// Builds a benchmark's programs (`xlvs-bench-xdp`, `xlvs-generator-xdp`); returns the object.
pub(crate) fn bench(toolchain: &Toolchain, bin: &str) -> Result<PathBuf> {
    let work = Work::begin("compiling the benchmark's BPF programs");
    let built = compile(toolchain, bin, &work)?;
    work.done();
    Ok(built)
}

/// Features of lb-ebpf: with `XLVS_PACKET_LOG` set, the program logs every packet's verdict.
fn features() -> &'static str {
    if std::env::var_os("XLVS_PACKET_LOG").is_some() {
        "packet-log"
    } else {
        "bpf"
    }
}

/// Runs the BPF toolchain's cargo for one binary; returns the object it wrote.
fn compile(toolchain: &Toolchain, bin: &str, work: &Work) -> Result<PathBuf> {
    let target_dir = run::root().join("target/bpf-build");
    let mut command = clean_cargo(toolchain);
    command
        .args(["build", "--locked", "--package", "lb-ebpf", "--bin", bin])
        .args([
            "--features",
            features(),
            "--profile",
            "bpf",
            "--target",
            toolchain::TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&toolchain.linker));
    if matches!(toolchain.kind, Kind::Nightly { .. }) {
        command.args(["-Z", "build-std=core"]);
    }
    let mut warned = false;
    run::stream(&mut command, |line| {
        warned |= line.starts_with("warning");
        if warned {
            eprintln!("{line}");
        }
        work.line(line);
    })
    .context("cannot compile the BPF program")?;
    Ok(target_dir.join(toolchain::TARGET).join("bpf").join(bin))
}

/// The toolchain's cargo with an environment that holds nothing of the caller's own toolchain.
fn clean_cargo(toolchain: &Toolchain) -> Command {
    let mut command = match &toolchain.kind {
        Kind::Nightly { name } => {
            let mut command = Command::new(run::find("rustup").unwrap_or_else(|| "rustup".into()));
            command.args(["run", name, "cargo"]);
            command
        }
        Kind::Debian { root } => Command::new(root.join("usr/bin/cargo")),
    };
    command.current_dir(run::root()).env_clear();
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if KEPT.contains(&text.as_ref()) || KEPT_PARTS.iter().any(|part| text.contains(part)) {
            command.env(name, value);
        }
    }
    // An empty wrapper overrides one that the user's ~/.cargo/config.toml may name.
    command
        .env("RUSTC_WRAPPER", "")
        .env("CARGO_TERM_COLOR", "never");
    if let Kind::Debian { root } = &toolchain.kind {
        command
            .env("RUSTC", root.join("usr/bin/rustc"))
            // aya-ebpf needs `asm_experimental_arch`, which a stable compiler grants only so.
            .env("RUSTC_BOOTSTRAP", "1");
        toolchain::private_libraries(root, &mut command);
    }
    command
}

/// Flags for the BPF target, separated as `CARGO_ENCODED_RUSTFLAGS` wants them.
fn rustflags(linker: &Path) -> OsString {
    let mut flags = OsString::from("-Clinker=");
    flags.push(linker);
    let architecture = std::env::consts::ARCH;
    for flag in [
        // Atomics that return the old value need the v3 instruction set (Linux 5.12 and later).
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
    ] {
        flags.push("\x1f");
        flags.push(flag);
    }
    flags
}
