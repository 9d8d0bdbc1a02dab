// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a keyword is: its name, what xlvs does with it, and the function that reads it.
//!
//! The tables themselves are in `keywords`, one per block, and are constants: documentation, the
//! did-you-mean and the parser all read the same rows. Invariant: a name occurs once per table.
//!
//! To add a keyword, add a row to its block's table; its reader writes into that block's `raw` type.

use super::args::Line;
use super::diag::Severity;
use super::tree::Item;
use super::walk::Context;

/// What xlvs does with a keyword.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Status {
    /// Does what keepalived does.
    Supported,
    /// A word that keepalived does not know: it would warn and ignore the line.
    Own,
    /// Accepted; there is nothing for it to do here. The sentence says why.
    NoEffect(&'static str),
    /// Accepted or refused together with the other keywords of a feature that is not there yet.
    NotYet(&'static Feature),
    /// Not applied, because xlvs would do something else than asked. The sentence says what.
    Refused(&'static str),
}

/// Something that several keywords serve, reported once per file however many of them are used.
#[derive(Debug)]
pub(crate) struct Feature {
    /// Its name, for example "mail alerts".
    pub(crate) name: &'static str,
    /// What xlvs does instead, a clause, for example "no mail is sent".
    pub(crate) instead: &'static str,
    /// `Warning` where the rest works without it; `Error` where it does not.
    pub(crate) severity: Severity,
}

/// A row of a keyword table, without the function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    /// As written in the file.
    pub(crate) name: &'static str,
    /// One sentence.
    pub(crate) doc: &'static str,
    /// What holds without it, as printed.
    pub(crate) default: Option<&'static str>,
    /// What it can be, as printed.
    pub(crate) range: Option<&'static str>,
    /// What xlvs does with it.
    pub(crate) status: Status,
    /// A block follows.
    pub(crate) is_block: bool,
    /// KEEPALIVED: stops (exit status 2) when fewer words follow.
    pub(crate) min_params: usize,
    /// More words than this are not looked at.
    pub(crate) max_params: usize,
}

/// Reads one line into the block's raw form.
pub(crate) type Apply<T> = fn(&mut T, &mut Line<'_>);

/// Reads one block into the raw form of the block around it.
pub(crate) type Enter<T> = fn(&mut T, &Item, &mut Context);

/// What happens when a keyword is met.
pub(crate) enum Action<T> {
    /// Nothing: its status has said it all.
    Skip,
    /// A line is read.
    Line(Apply<T>),
    /// A block is read.
    Block(Enter<T>),
}

/// A row of a keyword table.
pub(crate) struct Keyword<T: 'static> {
    /// What is known of it.
    pub(crate) info: Info,
    /// What happens when it is met.
    pub(crate) action: Action<T>,
}

/// The keywords of one block.
pub(crate) struct Table<T: 'static> {
    /// Where the block is, for example `vrrp_instance/authentication`; empty for the top level.
    pub(crate) path: &'static str,
    /// Its rows, in groups so that blocks can share some.
    pub(crate) groups: &'static [&'static [Keyword<T>]],
}

impl<T> Table<T> {
    /// The row of `name`.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Keyword<T>> {
        self.rows().find(|keyword| keyword.info.name == name)
    }

    /// All rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'static Keyword<T>> + use<T> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<T> {
        self.rows().map(|keyword| keyword.info.name)
    }
}

/// As many words as there are.
pub(crate) const ANY: usize = usize::MAX;

const fn info(name: &'static str, doc: &'static str, status: Status) -> Info {
    Info {
        name,
        doc,
        default: None,
        range: None,
        status,
        is_block: false,
        min_params: 1,
        max_params: ANY,
    }
}

/// A supported keyword with one value.
pub(crate) const fn line<T>(name: &'static str, doc: &'static str, apply: Apply<T>) -> Keyword<T> {
    Keyword {
        info: info(name, doc, Status::Supported),
        action: Action::Line(apply),
    }
    .params(1, 1)
}

/// A supported keyword that may stand alone or with a `<BOOL>`.
pub(crate) const fn flag<T>(name: &'static str, doc: &'static str, apply: Apply<T>) -> Keyword<T> {
    line(name, doc, apply).params(0, 1)
}

/// A supported block.
pub(crate) const fn block<T>(name: &'static str, doc: &'static str, enter: Enter<T>) -> Keyword<T> {
    let mut info = info(name, doc, Status::Supported);
    info.is_block = true;
    info.min_params = 0;
    Keyword {
        info,
        action: Action::Block(enter),
    }
}

/// A known keyword with at least one value, which xlvs does not act on.
pub(crate) const fn off<T>(name: &'static str, doc: &'static str, status: Status) -> Keyword<T> {
    Keyword {
        info: info(name, doc, status),
        action: Action::Skip,
    }
}

/// A known keyword that may stand alone, which xlvs does not act on.
pub(crate) const fn off_flag<T>(
    name: &'static str,
    doc: &'static str,
    status: Status,
) -> Keyword<T> {
    off(name, doc, status).params(0, ANY)
}

/// A known block that xlvs does not act on; its content is not looked at.
pub(crate) const fn off_block<T>(
    name: &'static str,
    doc: &'static str,
    status: Status,
) -> Keyword<T> {
    let mut keyword = off_flag(name, doc, status);
    keyword.info.is_block = true;
    keyword
}

impl<T> Keyword<T> {
    /// The same, called with `min` to `max` words.
    pub(crate) const fn params(mut self, min: usize, max: usize) -> Self {
        self.info.min_params = min;
        self.info.max_params = max;
        self
    }

    /// The same with what holds when the file does not say.
    pub(crate) const fn default(mut self, default: &'static str) -> Self {
        self.info.default = Some(default);
        self
    }

    /// The same with what its value can be.
    pub(crate) const fn range(mut self, range: &'static str) -> Self {
        self.info.range = Some(range);
        self
    }

    /// The same, not acted on, or not always (the reader decides and says so).
    pub(crate) const fn status(mut self, status: Status) -> Self {
        self.info.status = status;
        self
    }

    /// The same with a block whose words are checked with `enter`.
    pub(crate) const fn within(mut self, enter: Enter<T>) -> Self {
        self.info.is_block = true;
        self.action = Action::Block(enter);
        self
    }
}
