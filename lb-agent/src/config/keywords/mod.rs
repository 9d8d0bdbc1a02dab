// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry: every keyword of keepalived 2.4.3, one table per block.
//!
//! Comes in: nothing. Goes out: tables for the walk, and a view of all rows for the did-you-mean
//! and the keyword reference. Invariant (tested): every name that keepalived registers is in a
//! table, so that only misspellings are unknown.

mod address;
mod address_group;
mod announcing;
mod bfd;
mod checkers;
mod connections;
mod features;
mod forwarding;
mod global;
mod global_vrrp;
mod mail;
mod notify;
mod quorum;
mod real_server;
mod routing;
mod rules;
mod sync_group;
mod timing;
mod top;
mod tracking;
mod virtual_ipaddress;
mod virtual_server;
mod vmac;
mod vrrp_instance;
mod vrrp_other;
mod watched;

use std::sync::LazyLock;

use super::keyword::{Info, Table};

pub(crate) use address_group::offset;
pub(crate) use rules::RawRule;
pub(crate) use top::TOP;

/// A block's rows without their readers.
pub(crate) struct BlockView {
    /// The block's path, empty for the top level.
    pub(crate) path: &'static str,
    /// Its rows.
    pub(crate) infos: Vec<&'static Info>,
}

fn view<T>(table: &'static Table<T>) -> BlockView {
    BlockView {
        path: table.path,
        infos: table.rows().map(|keyword| &keyword.info).collect(),
    }
}

/// All blocks, outermost first.
pub(crate) fn registry() -> &'static [BlockView] {
    static REGISTRY: LazyLock<Vec<BlockView>> = LazyLock::new(|| {
        let mut blocks = vec![
            view(&top::TOP),
            view(&global::GLOBAL),
            view(&vrrp_instance::INSTANCE),
            view(&vrrp_instance::AUTHENTICATION),
            view(&virtual_server::VIRTUAL_SERVER),
            view(&real_server::REAL_SERVER),
            view(&checkers::TCP_CHECK),
            view(&sync_group::SYNC_GROUP),
            view(&tracking::VRRP_SCRIPT),
            view(&announcing::GARP_GROUP),
            view(&watched::TRACK_FILE),
            view(&watched::VRRP_TRACK_FILE),
            view(&watched::TRACK_PROCESS),
            view(&bfd::BFD),
        ];
        blocks.extend(checkers::OTHERS.iter().map(|table| view(table)));
        blocks.extend(vrrp_other::TABLES.iter().map(|table| view(table)));
        blocks
    });
    &REGISTRY
}

/// True for a word that opens a block wherever it is a keyword.
pub(crate) fn always_opens_block(word: &str) -> bool {
    let mut rows = registry()
        .iter()
        .flat_map(|block| &block.infos)
        .filter(|info| info.name == word)
        .peekable();
    rows.peek().is_some() && rows.all(|info| info.is_block)
}

/// Where a block's words stand, as messages say it.
pub(crate) fn located(path: &str) -> String {
    match path.rsplit('/').next() {
        None | Some("") => "at the top level".to_owned(),
        Some(name) => format!("in `{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const REGISTERED: &str = include_str!("../../../../tests/config/keywords-2.4.3.txt");

    /// The include family is read before keywords are.
    const READ_EARLIER: [&str; 1] = ["include_check"];

    #[test]
    fn every_keyword_of_keepalived_2_4_3_is_known() {
        let known: BTreeSet<&str> = registry()
            .iter()
            .flat_map(|block| &block.infos)
            .map(|info| info.name)
            .collect();
        let missing: Vec<&str> = REGISTERED
            .lines()
            .filter(|name| !known.contains(name) && !READ_EARLIER.contains(name))
            .collect();
        assert!(
            REGISTERED.lines().count() == 354,
            "the list itself is complete"
        );
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn a_name_occurs_once_per_block() {
        for block in registry() {
            let mut seen = BTreeSet::new();
            for info in &block.infos {
                assert!(
                    seen.insert(info.name),
                    "{} twice in `{}`",
                    info.name,
                    block.path
                );
            }
        }
    }

    #[test]
    fn every_keyword_has_a_sentence() {
        for info in registry().iter().flat_map(|block| &block.infos) {
            assert!(info.doc.ends_with('.'), "{}: {}", info.name, info.doc);
            assert!(
                info.doc.starts_with(char::is_uppercase),
                "{}: {}",
                info.name,
                info.doc
            );
        }
    }

    #[test]
    fn block_words_are_known_as_such() {
        assert!(always_opens_block("vrrp_instance") && always_opens_block("TCP_CHECK"));
        assert!(!always_opens_block("weight") && !always_opens_block("x"));
        // A block in one place and a line in another.
        assert!(!always_opens_block("track_file"));
    }
}
