// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the built BPF object lies, and whether it still matches the source it was built from.
//!
//! In: the workspace's root directory. Out: paths, and a digest over everything that decides what
//! the object contains. Invariant: `cargo xtask build-ebpf`, which writes the object, and
//! `lb-agent/build.rs`, which embeds it, include this one file, so they cannot disagree.
//! Standard library only: a build script should cost nothing to compile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Source trees and manifests that decide what the object contains, relative to the root.
pub(crate) const INPUTS: [&str; 4] = [
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

/// Packages of `Cargo.lock` that end up in the object, by the beginning of their names.
const LOCKED: [&str; 2] = ["aya-ebpf", "bytemuck"];

/// The directory that holds the object and its digest, and nothing else.
pub(crate) fn directory(root: &Path) -> PathBuf {
    root.join("target/bpf")
}

/// The digest that belongs to an object: `xlvs.bpf.o` → `xlvs.bpf.digest`.
pub(crate) fn digest_path(object: &Path) -> PathBuf {
    object.with_extension("digest")
}

/// The digest of the sources as they are, 16 hexadecimal digits.
///
/// FNV-1a over each file's relative path, length and content in sorted order. It recognises an
/// object that somebody forgot to rebuild; it is no protection against forgery.
pub(crate) fn source_digest(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        collect(&root.join(input), &mut files)?;
    }
    files.sort();
    let mut hash = Fnv::new();
    for file in &files {
        let name = file.strip_prefix(root).unwrap_or(file);
        hash.field(name.to_string_lossy().as_bytes());
        hash.field(&fs::read(file)?);
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    hash.field(profile(&manifest).as_bytes());
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    for package in lock.split("[[package]]").filter(|block| is_locked(block)) {
        hash.field(package.trim().as_bytes());
    }
    Ok(format!("{:016x}", hash.0))
}

/// All files under `path` (or `path` itself), in no particular order.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

/// The `[profile.bpf]` section of the workspace manifest.
fn profile(manifest: &str) -> &str {
    let section = manifest
        .split_once("[profile.bpf]")
        .map_or("", |(_, rest)| rest);
    section.split("\n[").next().unwrap_or_default()
}

/// Whether a `[[package]]` block of the lock file is one the object is linked from.
fn is_locked(block: &str) -> bool {
    let name = block
        .trim_start()
        .strip_prefix("name = \"")
        .unwrap_or_default();
    LOCKED.iter().any(|prefix| name.starts_with(prefix))
}

/// FNV-1a, 64 bit.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds one field with its length, so that moving a byte between fields changes the result.
    fn field(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        self.bytes(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
