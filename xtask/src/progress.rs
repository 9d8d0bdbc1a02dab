// SPDX-License-Identifier: MIT OR Apache-2.0
//! Progress that a person can follow: a spinner on a terminal, plain lines anywhere else.
//!
//! In: what is being done. Out: standard error, so that `--json` on standard output stays clean.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One piece of work in progress; its line turns into a result when it ends.
pub(crate) struct Work {
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Work {
    /// Says that `what` begins.
    pub(crate) fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = spinner(&what);
        if bar.is_none() {
            eprintln!("  · {what} …");
        }
        Self {
            what,
            started: Instant::now(),
            bar,
        }
    }

    /// Shows the latest line of the program at work; a terminal only.
    pub(crate) fn line(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    /// True if a terminal shows its lines.
    pub(crate) fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// A spinner on a terminal and nothing elsewhere: the caller says what happens.
    pub(crate) fn unsaid() -> Self {
        Self {
            what: String::new(),
            started: Instant::now(),
            bar: spinner(""),
        }
    }

    /// Ends without a line of its own: the caller has more to say.
    pub(crate) fn clear(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Says that the work is done, and how long it took.
    pub(crate) fn done(self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let line = format!("  ✓ {} ({seconds:.1} s)", self.what);
        self.clear();
        eprintln!("{line}");
    }
}

fn spinner(what: &str) -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new_spinner();
    let template = "{spinner:.cyan} {prefix} {elapsed:.dim} {wide_msg:.dim}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    Some(bar)
}

/// Says one fact, in the same column as finished work.
pub(crate) fn fact(text: &str) {
    eprintln!("  ✓ {text}");
}

/// What [`paint`] takes: the numbers of ECMA-48's "select graphic rendition".
pub(crate) const BOLD: &str = "1";
pub(crate) const DIM: &str = "2";
pub(crate) const GREEN: &str = "32";
pub(crate) const RED: &str = "31";

/// Colours a text where standard output is a terminal that wants colours.
pub(crate) fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
