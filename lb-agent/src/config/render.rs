// SPDX-License-Identifier: MIT OR Apache-2.0
//! Diagnostics as text for people, as JSON for programs, and as one line for a log.
//!
//! Comes in: a diagnostic and its source. Goes out: text. Invariant: no diagnostic makes rendering
//! fail, and the file's control characters never reach a terminal.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::diag::{Diagnostic, Severity};
use super::source::{Source, Span};

/// Renders as rustc does: message, the line, a caret line, a hint.
pub fn snippet(source: &Source, diagnostic: &Diagnostic, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let title = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code.as_str());
    let mut group = title.element(excerpt(source, diagnostic));
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let report: [Group<'_>; 1] = [group];
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.render(&report)
}

/// The lines that the diagnostic is about, with the rest of the file left out.
fn excerpt<'a>(
    source: &'a Source,
    diagnostic: &'a Diagnostic,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let related = diagnostic.related.as_ref();
    let spans = [Some(diagnostic.span), related.map(|related| related.span)];
    let lines = || {
        spans
            .iter()
            .flatten()
            .map(|span| source.line_of(span.start))
    };
    let first = lines().min().unwrap_or(1);
    let last = lines().max().unwrap_or(1);
    let window = source.lines_range(first, last);
    let text = source.text().get(window.clone()).unwrap_or("");
    let within = |span: Span| {
        // A span is shown up to the end of its first line.
        let line = source.line_of(span.start);
        let line_end = source.lines_range(line, line).end;
        let start = source
            .floor_char(span.start)
            .clamp(window.start, window.end);
        let end = source
            .floor_char(span.end)
            .clamp(start, line_end.max(start));
        start - window.start..end - window.start
    };
    let mut snippet = Snippet::source(text)
        .line_start(first)
        .path(source.name())
        .annotation(AnnotationKind::Primary.span(within(diagnostic.span)));
    if let Some(related) = related {
        snippet = snippet.annotation(
            AnnotationKind::Context
                .span(within(related.span))
                .label(related.label.as_str()),
        );
    }
    snippet
}

/// One line: `FILE:LINE:COLUMN: LEVEL[CODE]: MESSAGE (HINT)`.
pub fn line(source: &Source, diagnostic: &Diagnostic) -> String {
    let place = source.locate(diagnostic.span);
    let hint = diagnostic
        .hint
        .as_ref()
        .map(|hint| format!(" ({hint})"))
        .unwrap_or_default();
    format!(
        "{}:{}:{}: {}[{}]: {}{hint}",
        source.name(),
        place.line,
        place.column,
        diagnostic.severity.as_str(),
        diagnostic.code.as_str(),
        diagnostic.message
    )
}

/// One JSON object: file, line, column, length, severity, code, message, hint (null when none).
pub fn json(source: &Source, diagnostic: &Diagnostic) -> String {
    #[derive(Serialize)]
    struct Row<'a> {
        file: &'a str,
        line: usize,
        column: usize,
        length: usize,
        severity: &'static str,
        code: &'static str,
        message: &'a str,
        hint: Option<&'a str>,
    }
    let place = source.locate(diagnostic.span);
    let row = Row {
        file: source.name(),
        line: place.line,
        column: place.column,
        length: place.length,
        severity: diagnostic.severity.as_str(),
        code: diagnostic.code.as_str(),
        message: &diagnostic.message,
        hint: diagnostic.hint.as_deref(),
    };
    // Strings and numbers always serialise; an empty object would still be valid JSON.
    serde_json::to_string(&row).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn wide_characters_keep_the_caret_under_its_word() {
        let loaded = parse("t.conf", "vrrp_instance A { # 一\n  優先度 x100\n}\n");
        let unknown = loaded
            .diagnostics
            .iter()
            .find(|d| d.message.contains("優先度"))
            .unwrap();
        let text = snippet(&loaded.source, unknown, false);
        assert!(
            text.contains("|   ^^^^^^\n"),
            "three wide characters are six columns:\n{text}"
        );
        let place = loaded.source.locate(unknown.span);
        assert_eq!((place.line, place.column, place.length), (2, 3, 3));
    }

    #[test]
    fn plain_text_has_no_escape_sequences_and_colour_has() {
        let loaded = parse("t.conf", "x\u{1b}[2Jy\n");
        let diagnostic = &loaded.diagnostics[0];
        assert!(!snippet(&loaded.source, diagnostic, false).contains('\u{1b}'));
        assert!(!line(&loaded.source, diagnostic).contains('\u{1b}'));
        assert!(snippet(&loaded.source, diagnostic, true).contains("\u{1b}["));
        assert!(!snippet(&loaded.source, diagnostic, true).contains("\u{1b}[2J"));
    }

    #[test]
    fn json_holds_the_place_and_the_code() {
        let loaded = parse("t.conf", "\nweigth 3\n");
        let text = json(&loaded.source, &loaded.diagnostics[0]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["line"], 2);
        assert_eq!(value["column"], 1);
        assert_eq!(value["length"], 6);
        assert_eq!(value["code"], "unknown-keyword");
        assert_eq!(value["severity"], "warning");
    }
}
