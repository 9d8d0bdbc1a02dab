// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which Rust compiles the BPF program: a complete rustup nightly, or Debian's own packages.
//!
//! In: what is on this machine. Out: a [`Toolchain`] that `build_ebpf` can run, or the reason why
//! there is none yet. Invariant: nothing here changes the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// The Debian packages that make the second kind of toolchain.
pub(crate) const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// The target that the object is compiled for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// The oldest compiler that the workspace accepts, as (major, minor).
const MINIMUM: (u32, u32) = (1, 95);

/// A compiler and a linker that fit each other.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    /// How to call it.
    pub(crate) kind: Kind,
    /// What `rustc --version` says, and where it comes from.
    pub(crate) description: String,
    /// The bpf-linker to use.
    pub(crate) linker: PathBuf,
}

/// The two kinds of toolchain.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// `rustup run NAME cargo … -Z build-std=core`.
    Nightly { name: String },
    /// Debian's cargo and rustc with a core library for BPF ready made, under `/` or unpacked.
    Debian { root: PathBuf },
}

/// A rustup nightly that has rust-src and whose LLVM a bpf-linker on PATH was built with.
///
/// Returns the reasons why each nightly that is here cannot be used, when none can.
pub(crate) fn nightly() -> Result<Toolchain, Vec<String>> {
    let mut reasons = Vec::new();
    let Ok(list) = run::capture(Command::new("rustup").args(["toolchain", "list"])) else {
        return Err(vec!["no rustup".to_owned()]);
    };
    for name in list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        if !name.starts_with("nightly") {
            continue;
        }
        match usable_nightly(name) {
            Ok(toolchain) => return Ok(toolchain),
            Err(reason) => reasons.push(format!("rustup's {name} is unusable: {reason}")),
        }
    }
    if reasons.is_empty() {
        reasons.push("rustup has no nightly".to_owned());
    }
    Err(reasons)
}

fn usable_nightly(name: &str) -> Result<Toolchain, String> {
    // Without these, rustup would answer for the toolchain that runs this program.
    let rustc = |arguments: &[&str]| {
        let mut command = Command::new("rustup");
        command
            .args(["run", name, "rustc"])
            .args(arguments)
            .env_remove("RUSTUP_TOOLCHAIN");
        run::capture(&mut command).map_err(|error| error.to_string())
    };
    let sysroot = rustc(&["--print", "sysroot"])?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if !core.is_dir() {
        return Err("it lacks rust-src".to_owned());
    }
    let version = rustc(&["-vV"])?;
    check_version(&version)?;
    let llvm = version
        .lines()
        .find_map(|line| {
            line.strip_prefix("LLVM version: ")?
                .split('.')
                .next()?
                .parse::<u32>()
                .ok()
        })
        .ok_or("it does not name its LLVM")?;
    let linker = run::find("bpf-linker").ok_or("there is no bpf-linker on PATH")?;
    match linker_llvm(&linker) {
        Some(major) if major == llvm => {}
        Some(major) => {
            return Err(format!(
                "it has LLVM {llvm} and {} has LLVM {major}",
                linker.display()
            ));
        }
        None => return Err(format!("{} does not tell its LLVM", linker.display())),
    }
    let description = format!(
        "{} (rustup {name})",
        version.lines().next().unwrap_or_default()
    );
    Ok(Toolchain {
        kind: Kind::Nightly {
            name: name.to_owned(),
        },
        description,
        linker,
    })
}

/// The major version of the LLVM library that a linker was built against, where it is a shared one.
fn linker_llvm(linker: &Path) -> Option<u32> {
    let libraries = run::capture(Command::new("ldd").arg(linker)).ok()?;
    let after = libraries.split("libLLVM").nth(1)?;
    let digits = after.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Debian's compiler, installed under `/` or unpacked privately; the linker is `setup`'s to build.
pub(crate) fn debian(linker: PathBuf) -> Result<Toolchain, String> {
    let mut reason = String::new();
    for root in [PathBuf::from("/"), crate::apt::private_root()] {
        match usable_debian(&root) {
            Ok(version) => {
                let description = format!("{version} ({})", root.join("usr/bin/rustc").display());
                return Ok(Toolchain {
                    kind: Kind::Debian { root },
                    description,
                    linker,
                });
            }
            Err(error) if reason.is_empty() => reason = error,
            Err(_) => {}
        }
    }
    Err(reason)
}

fn usable_debian(root: &Path) -> Result<String, String> {
    if !root.join("usr/bin/cargo").exists() || !root.join("usr/bin/rustc").exists() {
        return Err("Debian's cargo and rustc are not here".to_owned());
    }
    let library = root.join("usr/lib/rustlib").join(TARGET).join("lib");
    let has_core = std::fs::read_dir(&library).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if !has_core {
        return Err(format!("{} has no core library", library.display()));
    }
    let mut command = Command::new(root.join("usr/bin/rustc"));
    command.arg("-vV").env_remove("LD_LIBRARY_PATH");
    private_libraries(root, &mut command);
    let version = run::capture(&mut command).map_err(|error| error.to_string())?;
    check_version(&version)?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

/// Lets a program find the libraries that were unpacked beside it.
pub(crate) fn private_libraries(root: &Path, command: &mut Command) {
    if root != Path::new("/") {
        // Debian 12 has some of them in /lib, which is /usr/lib once they are installed.
        let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
        let directories = ["usr/lib", "lib"].map(|lib| root.join(lib).join(&machine));
        if let Ok(path) = std::env::join_paths(directories) {
            command.env("LD_LIBRARY_PATH", path);
        }
    }
}

fn check_version(text: &str) -> Result<(), String> {
    let release = text
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < MINIMUM {
        return Err(format!(
            "rustc {release} is older than {}.{}",
            MINIMUM.0, MINIMUM.1
        ));
    }
    Ok(())
}
