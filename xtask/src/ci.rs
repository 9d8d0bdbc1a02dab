// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask ci`: everything a change must pass, in the order in which it fails fastest.
//!
//! In: the work tree. Out: the first error, or the tests' closing line.

use anyhow::Result;
use clap::Parser;

use crate::{run, test, tidy};

/// The verb itself.
pub(crate) fn main() -> Result<()> {
    run::show(run::cargo().args(["fmt", "--all", "--check"]))?;
    tidy::main()?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        // The fuzz targets, which nothing else compiles here.
        "--features=xlvs-tests/fuzz",
        "--",
        "-D",
        "warnings",
    ];
    run::show(run::cargo().args(clippy))?;
    test::main(&Defaults::parse_from(["test"]).test)
}

/// The test verb's options as they are when nothing is said.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    test: test::Args,
}
