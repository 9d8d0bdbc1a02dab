// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `xlvs` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_agent::cli::main()
}
