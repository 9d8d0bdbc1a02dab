// SPDX-License-Identifier: MIT OR Apache-2.0
//! The laboratory as a library.

pub mod pass;
pub mod privilege;
