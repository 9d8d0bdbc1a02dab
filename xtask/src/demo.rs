// SPDX-License-Identifier: MIT OR Apache-2.0
//! x
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn main(_: &Args) -> anyhow::Result<()> {
    anyhow::bail!("later")
}
