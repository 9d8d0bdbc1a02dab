// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeds: inputs that a fuzzer starts from, written by the targets themselves.

use std::path::PathBuf;

/// Where the variable says, writes these inputs and ends the program; else does nothing.
pub(crate) fn write(inputs: impl Iterator<Item = Vec<u8>>) {
    let Some(directory) = std::env::var_os("XLVS_FUZZ_SEEDS").map(PathBuf::from) else {
        return;
    };
    for (number, input) in inputs.enumerate() {
        let path = directory.join(format!("seed-{number:03}"));
        if let Err(err) = std::fs::write(&path, input) {
            eprintln!("cannot write {}: {err}", path.display());
            std::process::exit(1);
        }
    }
    std::process::exit(0);
}
