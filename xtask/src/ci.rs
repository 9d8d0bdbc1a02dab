// SPDX-License-Identifier: MIT OR Apache-2.0
//! x
pub(crate) fn main() -> anyhow::Result<()> {
    anyhow::bail!("later")
}
