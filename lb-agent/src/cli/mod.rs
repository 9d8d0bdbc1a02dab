// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room `cli`.

pub mod check;
