// SPDX-License-Identifier: MIT OR Apache-2.0
//! Golden cases: each `.conf` of `tests/config/cases` with what it means (`.json`) and what is said
//! about it (`.stderr`), as plain text.
//!
//! `UPDATE_EXPECT=1 cargo test -p lb-agent --lib config::` renews them; read the difference.

use std::path::{Path, PathBuf};

use expect_test::expect_file;

use super::{parse_bytes, render};

/// The directory of the cases.
pub(super) fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config/cases")
}

/// The `.conf` files of `ok` or `err`, sorted.
pub(super) fn conf_files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(cases().join(directory))
        .expect("the cases are in the repository")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{directory} has cases");
    files
}

fn run(directory: &str, applicable: bool) {
    for path in conf_files(directory) {
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let loaded = parse_bytes(&name, &std::fs::read(&path).expect("a readable case"));
        let said: String = loaded
            .diagnostics
            .iter()
            .map(|diagnostic| render::snippet(&loaded.source, diagnostic, false) + "\n\n")
            .collect();
        let meaning = serde_json::to_string_pretty(&loaded.config).expect("a model serialises");
        expect_file![path.with_extension("stderr")].assert_eq(&said);
        expect_file![path.with_extension("json")].assert_eq(&(meaning + "\n"));
        assert_eq!(loaded.is_applicable(), applicable, "{name}");
    }
}

#[test]
fn files_in_ok_are_applicable_and_mean_what_they_meant() {
    run("ok", true);
}

#[test]
fn files_in_err_are_refused_with_the_same_words() {
    run("err", false);
}
