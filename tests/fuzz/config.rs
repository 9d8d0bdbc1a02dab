// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzz target: whatever the bytes of a configuration file, reading it does not panic, and what is
//! said of it can be shown.

#![no_main]

use lb_agent::config::{parse_bytes, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let loaded = parse_bytes("fuzz.conf", input);
    for diagnostic in &loaded.diagnostics {
        let _shown = (
            render::snippet(&loaded.source, diagnostic, false),
            render::line(&loaded.source, diagnostic),
            render::json(&loaded.source, diagnostic),
        );
    }
});
