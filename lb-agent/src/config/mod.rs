// SPDX-License-Identifier: MIT OR Apache-2.0
//! A keyword's journey: source → lexer → tree → keyword registry → raw → resolve → model.
//!
//! ```text
//! bytes ─source─ text with places ─lexer─ words, braces ─tree─ lines and blocks ─preprocess─ without
//!   includes and variables ─walk─ each line's row in keywords/<block>.rs reads it ─ raw: what was
//!   said ─resolve─ model: what it means
//! every stage ─ Diagnostic ─render─ text or JSON
//! ```
//!
//! Comes in: a keepalived.conf. Goes out: [`Loaded`]. Invariant: **parsing never fails** and never
//! panics, whatever the bytes; a file with an error-level diagnostic is never applied
//! ([`Loaded::is_applicable`]). Called by the agent at start and reload, and by `xlvs check`.
//!
//! To add a keyword: a row in its block's table. To find out why a line is read as it is: start at
//! its row's reader.

mod args;
pub mod diag;
#[cfg(test)]
mod golden;
mod keyword;
mod keywords;
mod lexer;
pub mod model;
mod preprocess;
mod raw;
mod reference;
pub mod render;
mod resolve;
pub mod source;
mod suggest;
mod tree;
mod walk;

use std::io;
use std::path::Path;

use diag::{Code, Diagnostic, Severity};
use model::Config;
use source::Source;
use walk::Context;

pub use reference::keyword_reference;

/// A configuration file that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file means. Blocks that cannot be done as asked are not in it.
    pub config: Config,
    /// What there is to say about it, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The text that spans refer to.
    pub source: Source,
}

impl Loaded {
    /// True when no diagnostic is an error: the configuration may be put to work.
    pub fn is_applicable(&self) -> bool {
        self.worst() < Some(Severity::Error)
    }

    /// The highest level of all diagnostics.
    pub fn worst(&self) -> Option<Severity> {
        self.diagnostics
            .iter()
            .map(|diagnostic| diagnostic.severity)
            .max()
    }
}

/// Reads a file. The only error is that it cannot be read; what it says is never one.
pub fn read(path: &Path) -> io::Result<Loaded> {
    Ok(parse_bytes(
        &path.display().to_string(),
        &std::fs::read(path)?,
    ))
}

/// Reads a file; one that cannot be read is an empty configuration with an error.
pub fn load(path: &Path) -> Loaded {
    read(path).unwrap_or_else(|error| {
        let name = path.display().to_string();
        let unreadable = Diagnostic::error(
            Code::Unreadable,
            source::Span::default(),
            format!("cannot read {}: {error}", diag::quoted(&name)),
        );
        Loaded {
            config: Config::default(),
            diagnostics: vec![unreadable],
            source: Source::new(&name, b""),
        }
    })
}

/// Reads a text; `name` stands for the file in messages.
pub fn parse(name: &str, text: &str) -> Loaded {
    parse_bytes(name, text.as_bytes())
}

/// Reads bytes, UTF-8 or not.
pub fn parse_bytes(name: &str, bytes: &[u8]) -> Loaded {
    let source = Source::new(name, bytes);
    let mut ctx = Context::default();
    let mut tree = None;
    let mut words_changed = false;
    ctx.with_diagnostics(|diagnostics| {
        let tokens = lexer::tokens(&source, diagnostics);
        words_changed = source.not_utf8().is_some() && tokens.iter().any(lexer::is_damaged);
        tree = Some(tree::build(
            tokens,
            keywords::always_opens_block,
            diagnostics,
        ));
    });
    let mut tree = tree.unwrap_or_default();
    ctx.lacks_brace = !tree.unclosed.is_empty();
    let mut raw = raw::RawConfig::default();
    let is_empty = tree.items.is_empty();
    preprocess::refuse(&mut tree.items, &mut ctx);
    ctx.walk_file(&keywords::TOP, &tree.items, &mut raw);

    let left_open = ctx.left_open;
    let mut diagnostics = ctx.finish(&source);
    let config = resolve::resolve(&raw, &mut diagnostics);
    diagnostics.extend(not_utf8(&source, words_changed));
    diagnostics.extend(missing_brace(&source, &tree, left_open));
    if is_empty {
        diagnostics.extend(defines_nothing(&source));
    }
    // Stable, so that findings about one place stay in the order of the stages.
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    Loaded {
        config,
        diagnostics,
        source,
    }
}

/// Bytes that are not UTF-8 do no harm in comments; in a value they are no longer what they were.
fn not_utf8(source: &Source, words_changed: bool) -> Option<Diagnostic> {
    let severity = if words_changed {
        Severity::Warning
    } else {
        Severity::Info
    };
    source.not_utf8().map(|span| {
        Diagnostic::new(
            Code::NotUtf8,
            severity,
            span,
            "the file is not UTF-8 from here on",
        )
        .hint("convert it, for example: iconv -f GB18030 -t UTF-8")
    })
}

/// Names the block that was left open: the one that a later line shows must have ended, else the
/// innermost one that is open at the end.
fn missing_brace(
    source: &Source,
    tree: &tree::Tree,
    left_open: Option<walk::LeftOpen>,
) -> Option<Diagnostic> {
    let innermost = *tree.unclosed.last()?;
    let block = left_open.map_or(innermost, |found| found.block);
    let head = diag::quoted(source.text().get(block.start..block.end).unwrap_or(""));
    let message = match tree.unclosed.len() {
        1 => format!("{head} is opened here and never closed: a `}}` is missing"),
        count => format!("{head} is opened here and never closed: {count} `}}` are missing"),
    };
    let diagnostic = Diagnostic::warning(Code::MissingCloseBrace, block, message);
    Some(match left_open {
        Some(found) => diagnostic.related(found.at, "this line does not belong in it"),
        None => diagnostic,
    })
}

/// A file that is all comment is accepted and does nothing, which nobody wants.
fn defines_nothing(source: &Source) -> Option<Diagnostic> {
    let text = source.text();
    let start = text.find(|c: char| !c.is_whitespace())?;
    let content = text.trim();
    let diagnostic = Diagnostic::warning(
        Code::DefinesNothing,
        source::Span::new(start, start + content.len()),
        "this file defines nothing: all of it is comment",
    );
    Some(if content.contains('\n') {
        diagnostic
    } else {
        diagnostic.hint("it is one line, and `!` or `#` makes the rest of a line a comment: were the line breaks lost?")
    })
}

#[cfg(test)]
mod tests;
