// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs replay`: gives the state machines what `xlvs run --record` wrote down.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::vrrp::event::Action;
use crate::vrrp::record::{self, Replay};

/// Differences that are shown; one often leads to the next.
const SHOWN: usize = 5;

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// Recording, as `xlvs run --record FILE` writes it
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &ReplayArgs) -> Result<()> {
    let name = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("cannot open {name}"))?;
    let replay = record::replay(BufReader::new(file)).with_context(|| format!("{name}"))?;
    print!("{}", render(&replay));
    if !replay.differences.is_empty() {
        bail!(
            "{} answers differ from the recorded ones",
            replay.differences.len()
        );
    }
    Ok(())
}

/// State changes with the seconds since the first, then what is to be said of the whole.
fn render(replay: &Replay) -> String {
    let mut out = String::new();
    let first = replay.changes.first().map(|(at, ..)| *at);
    for (at, instance, action) in &replay.changes {
        if let (Action::StateChanged { from, to, reason }, Some(first)) = (action, first) {
            let seconds = at.since(first).as_secs_f64();
            let _ = writeln!(
                out,
                "{seconds:12.6} s  {instance}: {from} -> {to}: {reason}"
            );
        }
    }
    let _ = writeln!(out, "{} inputs replayed", replay.steps);
    if replay.lost > 0 {
        let _ = writeln!(out, "{} lines are missing in the recording", replay.lost);
    }
    if replay.orphans > 0 {
        let count = replay.orphans;
        let _ = writeln!(
            out,
            "{count} inputs left out: the beginning of their instance is missing"
        );
    }
    for difference in replay.differences.iter().take(SHOWN) {
        let _ = writeln!(
            out,
            "line {}: {} was told {:?}\n  recorded: {:?}\n  now:      {:?}",
            difference.line,
            difference.instance,
            difference.input,
            difference.recorded,
            difference.replayed
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_told_in_seconds_and_states() {
        let text = concat!(
            r#"{"kind":"machine","at":1000000000,"instance":"A","settings":{"version":"V2","#,
            r#""priority":255,"interval":{"secs":1,"nanos":0},"preempt":true,"#,
            r#""preempt_delay":{"secs":0,"nanos":0},"grouped":false,"announcing":{"#,
            r#""delay":{"secs":5,"nanos":0},"repeat":5,"refresh":{"secs":0,"nanos":0},"#,
            r#""refresh_repeat":1,"lower_delay":{"secs":5,"nanos":0},"lower_repeat":5},"#,
            r#""exchange":{"down_adverts":3,"answer_lower":true,"last_word":true,"#,
            r#""check_src":false,"skip_addresses":false,"checksum":"PseudoHeader","#,
            r#""learn_checksum":true,"unicast_ttl":255,"owner_ignores":false}}}"#,
            "\n",
            r#"{"kind":"step","at":2000000000,"instance":"A","input":{"start":{"source":"192.0.2.1"}},"actions":[]}"#,
            "\n",
        );
        let replay = record::replay(text.as_bytes()).unwrap();
        let shown = render(&replay);
        let expected = "    0.000000 s  A: INIT -> MASTER: it owns the addresses (priority 255)\n\
                        1 inputs replayed\nline 2: A was told Start";
        assert!(shown.starts_with(expected), "{shown}");
    }
}
