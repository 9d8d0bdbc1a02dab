// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keyword reference, generated from the registry.
//!
//! Goes out: `docs/keywords.md`. Invariant (tested): the file in the repository is what this makes.

use std::fmt::Write as _;

use super::keyword::{Info, Status};
use super::keywords::registry;

/// The text of `docs/keywords.md`.
pub fn keyword_reference() -> String {
    let mut out = String::from(
        "# Keywords\n\n\
         Generated from the tables in `lb-agent/src/config/keywords`; do not edit.\n\
         To renew it: `UPDATE_EXPECT=1 cargo test -p lb-agent --lib config::`.\n\n\
         Every keyword that keepalived 2.4.3 registers is here, and a few of xlvs's own.\n\n\
         - *yes*: does what keepalived does.\n\
         - *no effect*: accepted; there is nothing for it to do.\n\
         - *not yet*: accepted with a warning; the rest of the file works as asked.\n\
         - *refused*: an error, because xlvs would do something else than asked.\n",
    );
    for block in registry() {
        let title = if block.path.is_empty() {
            "Top level"
        } else {
            block.path
        };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n## {title}\n\n| keyword | what it is | default | range | here |\n|---|---|---|---|---|\n"
        );
        for info in &block.infos {
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} | {} |",
                info.name,
                escaped(info.doc),
                escaped(info.default.unwrap_or("")),
                escaped(info.range.unwrap_or("")),
                escaped(&status(info))
            );
        }
    }
    out
}

fn status(info: &Info) -> String {
    use super::diag::Severity;
    match info.status {
        Status::Supported => "yes".to_owned(),
        Status::Own => "yes, here only: keepalived warns and ignores the line".to_owned(),
        Status::NoEffect(why) => format!("no effect: {why}"),
        Status::NotYet(feature) if feature.severity == Severity::Error => {
            format!("refused: {}", feature.instead)
        }
        Status::NotYet(feature) => format!("not yet: {}", feature.instead),
        Status::Refused(why) => format!("refused: {why}"),
    }
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_docs_is_fresh() {
        expect_test::expect_file!["../../../docs/keywords.md"].assert_eq(&keyword_reference());
    }
}
