// SPDX-License-Identifier: MIT OR Apache-2.0
//! A keyword's journey: text → lexer → tree → keyword registry → model.

pub mod model;
