// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the configuration room has to say to an operator.
//!
//! Comes in: findings of every stage, lexer to resolver. Goes out: [`Diagnostic`]s in the order of
//! the file. Invariant: a diagnostic's [`Code`] is stable, its text may improve.
//!
//! Levels. `Error`: keepalived would stop, or xlvs would do something dangerous or other than the
//! file asks; the configuration is not applied. `Warning`: keepalived carries on, but the file does
//! not do what it seems to say. `Info`: worth knowing, nothing to repair.

use super::source::Span;

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing to repair.
    Info,
    /// Survived as keepalived survives it, but the file does not do what it seems to say.
    Warning,
    /// The configuration is not applied.
    Error,
}

impl Severity {
    /// The word for it in rendered and JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// What kind of finding a [`Diagnostic`] is; stable over releases.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// The code as printed, for example `unknown-keyword`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

codes! {
    /// A word that keepalived has no keyword for.
    UnknownKeyword = "unknown-keyword",
    /// A keyword that keepalived knows, but not in this block.
    MisplacedKeyword = "misplaced-keyword",
    /// Several unknown keywords are not ASCII: the file went through a translator.
    TranslatedFile = "translated-file",
    /// A keyword without its value; keepalived stops here (exit status 2).
    MissingParameter = "missing-parameter",
    /// A value that cannot be read; the default holds.
    InvalidValue = "invalid-value",
    /// A number outside its range; the default holds.
    OutOfRange = "out-of-range",
    /// A second directive follows on the same line, where keepalived ignores it.
    TwoOnOneLine = "two-on-one-line",
    /// Words after the last parameter, which keepalived ignores.
    ExtraWords = "extra-words",
    /// The same directive twice; only one of them counts.
    GivenTwice = "given-twice",
    /// A block that is never closed.
    MissingCloseBrace = "missing-close-brace",
    /// A block keyword without `{`.
    MissingOpenBrace = "missing-open-brace",
    /// A `}` that closes nothing.
    ExtraCloseBrace = "extra-close-brace",
    /// A `{` where no block can begin.
    UnexpectedBrace = "unexpected-brace",
    /// A quoted string that does not end on its line.
    UnterminatedQuote = "unterminated-quote",
    /// `#` or `!` inside a value starts a comment.
    CommentInValue = "comment-in-value",
    /// The file cannot be read at all.
    Unreadable = "unreadable",
    /// Bytes that are not UTF-8.
    NotUtf8 = "not-utf8",
    /// The file has text, all of it comment.
    DefinesNothing = "defines-nothing",
    /// Accepted; xlvs does not act on it yet.
    NoEffectYet = "no-effect-yet",
    /// Accepted; there is nothing for it to do in xlvs.
    NoEffect = "no-effect",
    /// xlvs would do something else than the file asks.
    NotSupported = "not-supported",
    /// IPv6 where xlvs does IPv4 only.
    Ipv6NotSupported = "ipv6-not-supported",
    /// A `vrrp_instance` without `virtual_router_id` or `interface`, a service without an address.
    MissingSetting = "missing-setting",
    /// Two settings that exclude each other; the message says which one holds.
    Conflict = "conflict",
    /// Two blocks with the same name or identity.
    Duplicate = "duplicate",
    /// Two instances with one virtual router id on one interface.
    DuplicateVrid = "duplicate-vrid",
    /// A name that is defined nowhere.
    UnknownName = "unknown-name",
    /// A password longer than the 8 bytes that VRRP carries.
    PasswordTruncated = "password-truncated",
    /// A value changed to one that the protocol can carry.
    Rounded = "rounded",
    /// keepalived's default, which surprises.
    DefaultUsed = "default-used",
    /// A block that holds nothing to do.
    EmptyBlock = "empty-block",
    /// How long a takeover takes with these timers.
    TakeoverTime = "takeover-time",
    /// What it takes for a tracking weight to move the MASTER role.
    TrackWeight = "track-weight",
    /// More rows than the data plane has room for.
    LimitExceeded = "limit-exceeded",
}

/// A second place that explains a [`Diagnostic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// Where.
    pub span: Span,
    /// What is there, for example "first given here".
    pub label: String,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// Where; [`super::source::Source::locate`] turns it into line and column.
    pub span: Span,
    /// What is the matter, in one sentence without full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// A second place.
    pub related: Option<Related>,
}

impl Diagnostic {
    /// A finding without hint.
    pub fn new(code: Code, severity: Severity, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            span,
            message: message.into(),
            hint: None,
            related: None,
        }
    }

    /// The configuration is not applied because of this.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, span, message)
    }

    /// The file does not do what it seems to say.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, span, message)
    }

    /// Worth knowing.
    pub fn info(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Info, span, message)
    }

    /// The same with a sentence on what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a second place.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related = Some(Related {
            span,
            label: label.into(),
        });
        self
    }
}

/// A word of the file as messages quote it: in backticks, cut to a readable length, control
/// characters escaped so that a file cannot steer the operator's terminal.
pub(crate) fn quoted(word: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut out = String::from("`");
    for (index, c) in word.chars().enumerate() {
        if index == MAX_CHARS {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_cannot_steer_a_terminal() {
        assert_eq!(quoted("a\x1b[2Jb"), "`a\\u{1b}[2Jb`");
    }

    #[test]
    fn error_outranks_warning_outranks_info() {
        assert!(Severity::Error > Severity::Warning && Severity::Warning > Severity::Info);
    }
}
