// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask`: the project's own commands. A verb is a file; without a verb they are listed.
//!
//! In: the command line. Out: work done and said on the terminal, exit status 0 only on success.
//! The laboratory itself is the library `xlvs-tests`; these verbs prepare it, drive it and report.

mod apt;
mod bench;
mod bench_connections;
mod bench_forward;
mod bench_instances;
mod bench_ipvs;
mod bench_packet;
mod build;
mod build_ebpf;
mod ci;
mod demo;
mod fuzz;
mod linker;
mod progress;
mod record_ipvs;
mod run;
mod setup;
mod test;
mod tidy;
mod toolchain;
mod vm;

#[path = "../../lb-agent/build/object.rs"]
mod object;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The project's own commands: set-up, build, demo, test, bench, CI.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install the BPF toolchain and the servers and clients that the laboratory uses.
    Setup(setup::Args),
    /// Build the BPF object and the release binary that embeds it: target/release/xlvs.
    Build,
    /// Build the BPF object alone: target/bpf/xlvs.bpf.o.
    BuildEbpf,
    /// Show the main job on two directors, three web servers and a client, step by step.
    Demo(demo::Args),
    /// Run the unit tests and the laboratory's suites, after set-up and build.
    Test(test::Args),
    /// Measure takeover times beside Debian's keepalived, or what a packet costs.
    Bench(bench::Args),
    /// Fuzz the packet pipeline, the VRRP decoder and the configuration parser.
    Fuzz(fuzz::Args),
    /// Run a script on Debian's stock kernel in a virtual machine.
    Vm(vm::Args),
    /// Record which servers the real IPVS chooses, for the replay in tests/ipvs.
    RecordIpvs,
    /// Check the house rules that no compiler checks.
    Tidy,
    /// Everything a change must pass: format, clippy, tidy, test.
    Ci,
}

fn main() -> ExitCode {
    let Some(verb) = Cli::parse().verb else {
        list_verbs();
        return ExitCode::SUCCESS;
    };
    let result = match verb {
        Verb::Setup(args) => setup::main(&args),
        Verb::Build => setup::ensure().and_then(|ready| build::main(&ready)),
        Verb::BuildEbpf => setup::ensure().and_then(|ready| build_ebpf::main(&ready.toolchain)),
        Verb::Demo(args) => demo::main(&args),
        Verb::Test(args) => test::main(&args),
        Verb::Bench(args) => bench::main(&args),
        Verb::Fuzz(args) => fuzz::main(&args),
        Verb::RecordIpvs => record_ipvs::main(),
        Verb::Vm(args) => vm::main(&args),
        Verb::Tidy => tidy::main(),
        Verb::Ci => ci::main(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One line a verb: what `cargo xtask` alone prints.
fn list_verbs() {
    println!("cargo xtask VERB\n");
    for verb in Cli::command().get_subcommands() {
        let about = verb
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        println!("  {:<11} {about}", verb.get_name());
    }
}
