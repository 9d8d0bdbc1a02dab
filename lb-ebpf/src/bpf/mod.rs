// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only the kernel's half needs: the maps, the programs, and instructions that rustc does not
//! make.

pub(crate) mod follow;
pub(crate) mod instructions;
pub(crate) mod maps;
mod programs;
