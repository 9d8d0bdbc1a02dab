// SPDX-License-Identifier: MIT OR Apache-2.0
//! Embeds the BPF object: copies it to `OUT_DIR/xlvs.bpf.o`, which the dataplane room includes.
//!
//! In: `target/bpf/xlvs.bpf.o` and its digest, written by `cargo xtask build-ebpf`, or the file
//! that `XLVS_BPF_OBJECT` names. Out: the object, or in a debug build an **empty stub** where the
//! object is absent or older than its source, so that `cargo check`, clippy and the unit tests
//! need no BPF toolchain. Invariant: a release build never embeds a stub or a stale object; it
//! fails and says which command helps.

#[path = "build/object.rs"]
mod object;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Names another object file than `target/bpf/xlvs.bpf.o`; its digest is looked for beside it.
const OVERRIDE: &str = "XLVS_BPF_OBJECT";

fn main() -> ExitCode {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = manifest.parent().unwrap_or(&manifest).to_owned();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("xlvs.bpf.o");
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    watch(&root);

    let bytes = match fresh_object(&root) {
        Ok(bytes) => bytes,
        Err(cause) if release => {
            println!("cargo::error={cause}; run `cargo xtask build`");
            return ExitCode::FAILURE;
        }
        Err(cause) => {
            println!(
                "cargo::warning={cause}: this debug build cannot forward packets; \
                 `cargo xtask build` makes one that can"
            );
            Vec::new()
        }
    };
    if let Err(error) = fs::write(&out, bytes) {
        println!("cargo::error=cannot write {}: {error}", out.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The object to embed: what the environment names, else the one `cargo xtask build-ebpf` writes.
fn object_path(root: &Path) -> PathBuf {
    env::var_os(OVERRIDE).map_or_else(
        || object::directory(root).join("xlvs.bpf.o"),
        |path| root.join(path),
    )
}

/// The object's bytes, or why it must not be embedded.
fn fresh_object(root: &Path) -> Result<Vec<u8>, String> {
    let path = object_path(root);
    let bytes =
        fs::read(&path).map_err(|error| format!("no BPF object {}: {error}", path.display()))?;
    let built_from = fs::read_to_string(object::digest_path(&path)).unwrap_or_default();
    let source = object::source_digest(root)
        .map_err(|error| format!("cannot read the BPF program's source: {error}"))?;
    // The digest comes first, then the features the object was built with.
    if built_from.split_whitespace().next() != Some(source.as_str()) {
        return Err(format!(
            "BPF object {} is older than its source",
            path.display()
        ));
    }
    Ok(bytes)
}

/// Asks cargo to come back when the object or its sources change.
fn watch(root: &Path) {
    // Cargo takes a path that does not exist for changed at every build. The directory is made
    // here, so that a machine without the BPF toolchain does not compile the agent anew each time.
    let directory = object::directory(root);
    let _ = fs::create_dir_all(&directory);
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-changed={}", directory.display());
    if env::var_os(OVERRIDE).is_some() {
        println!("cargo::rerun-if-changed={}", object_path(root).display());
    }
    for input in object::INPUTS {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    for file in ["Cargo.lock", "Cargo.toml", "lb-agent/build"] {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
}
