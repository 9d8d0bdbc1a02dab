// SPDX-License-Identifier: MIT OR Apache-2.0
//! `no_accept`: packets to virtual addresses that are for no service are dropped.
//!
//! In: the [`Rules`] of a configuration. Out: an nftables table, by running `nft`. Called by the
//! application around a reload and at its end; by a supervisor that gives up for a dead agent.
//! Invariants: a table is replaced in one transaction, so no packet sees half of it; there is one
//! only while something is refused; one that cannot be written is told, and the instances go on
//! (KEEPALIVED: so too).

mod rules;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use crate::control::DEFAULT_PATH;
pub use rules::Rules;

/// Where nft is found: a service manager's path may have no sbin.
const PROGRAMS: [&str; 2] = ["nft", "/usr/sbin/nft"];

/// The agent waits for nft no longer: it has adverts to send.
const PATIENCE: Duration = Duration::from_secs(2);

/// nft takes shorter names only.
const NAME_MAX: usize = 200;

/// Why the table is not as it should be.
#[derive(Debug, Error)]
pub enum FirewallError {
    /// No nft.
    #[error("cannot run nft: it is not installed (Debian package nftables)")]
    NotInstalled,
    /// It did not start.
    #[error("cannot run nft: {0}")]
    NotRun(#[from] io::Error),
    /// It said no.
    #[error("cannot write firewall rules: nft says {0:?}")]
    Refused(String),
    /// It did not end.
    #[error("cannot write firewall rules: no answer from nft within {} s", PATIENCE.as_secs())]
    TimedOut,
}

/// The table of one agent.
#[derive(Debug)]
pub struct Firewall {
    table: String,
    /// The table is known not to be there; at the start a killed predecessor's may be.
    absent: bool,
    /// The table is there.
    stands: bool,
}

impl Firewall {
    /// Of the agent with this control socket.
    pub fn of(control: &Path) -> Self {
        Self {
            table: table_of(control),
            absent: false,
            stands: false,
        }
    }

    /// Whether anything is refused.
    pub fn stands(&self) -> bool {
        self.stands
    }

    /// Makes these rules the ones that hold; also removes what a killed predecessor left, and
    /// writes again what somebody else flushed.
    pub async fn set(&mut self, rules: &Rules) {
        let text = rules.text(&self.table);
        if rules.is_empty() && self.absent {
            return;
        }
        match write(&text).await {
            Ok(()) => {
                self.absent = rules.is_empty();
                let table = &self.table;
                if rules.is_empty() && self.stands {
                    info!("virtual addresses are answered at: table inet {table} removed");
                } else if !rules.is_empty() && !self.stands {
                    info!("what is for no service is dropped by table inet {table} (no_accept)");
                }
                self.stands = !rules.is_empty();
            }
            // Without nft, or without nftables in the kernel, there is nothing to remove either.
            Err(err) if rules.is_empty() && !self.stands => debug!("{err}"),
            Err(err) if self.stands => {
                error!(
                    "{err}; the rules of before hold on, see `nft list table inet {}`",
                    self.table
                );
            }
            Err(err) => {
                warn!("no_accept: {err}; what is for no service is answered at virtual addresses");
            }
        }
    }
}

/// Removes the table of the agent with this control socket, if there is one. Waits for nft.
pub fn remove_now(control: &Path) {
    let text = Rules::default().text(&table_of(control));
    let run = |program: &&str| {
        let mut command = std::process::Command::new(program);
        let command = command.args(["-f", "-"]).stdin(Stdio::piped());
        let mut nft = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = nft.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        nft.wait_with_output()
    };
    let removed = PROGRAMS.iter().map(run).find(|run| !is_missing(run));
    if let Err(err) = judge(removed) {
        debug!("{err}");
    }
}

/// Passes `text` to nft.
async fn write(text: &str) -> Result<(), FirewallError> {
    let mut done = None;
    for program in PROGRAMS {
        let run = timeout(PATIENCE, run(program, text)).await;
        let run = run.map_err(|_| FirewallError::TimedOut)?;
        if !is_missing(&run) {
            done = Some(run);
            break;
        }
    }
    judge(done)
}

async fn run(program: &str, text: &str) -> io::Result<Output> {
    let mut command = tokio::process::Command::new(program);
    command.args(["-f", "-"]).kill_on_drop(true);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut nft = command.stderr(Stdio::piped()).spawn()?;
    let stdin = nft.stdin.take();
    let feed = async {
        // One that ends early says why; its status counts, not the broken pipe.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(text.as_bytes()).await;
        }
    };
    tokio::join!(feed, nft.wait_with_output()).1
}

fn is_missing(run: &io::Result<Output>) -> bool {
    matches!(run, Err(cause) if cause.kind() == io::ErrorKind::NotFound)
}

fn judge(run: Option<io::Result<Output>>) -> Result<(), FirewallError> {
    let output = run.ok_or(FirewallError::NotInstalled)??;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or_default().trim();
    Err(FirewallError::Refused(first.to_owned()))
}

/// `xlvs`, and for an agent whose control socket is elsewhere also where: several may run on a
/// host.
fn table_of(control: &Path) -> String {
    if control == Path::new(DEFAULT_PATH) {
        return "xlvs".to_owned();
    }
    let path = control.with_extension("");
    let name = path.to_string_lossy();
    let cleaned = name.chars().map(|c| match c {
        '/' => '-',
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    });
    // The end tells more than the beginning.
    let cleaned: Vec<char> = cleaned.collect();
    let end = cleaned.get(cleaned.len().saturating_sub(NAME_MAX)..);
    format!(
        "xlvs-{}",
        end.unwrap_or_default()
            .iter()
            .collect::<String>()
            .trim_matches('-')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_with_different_sockets_have_different_tables() {
        for (control, table) in [
            (DEFAULT_PATH, "xlvs"),
            ("/run/xlvs/second.sock", "xlvs-run-xlvs-second"),
            ("/tmp/a b/x.sock", "xlvs-tmp-a_b-x"),
        ] {
            assert_eq!(table_of(Path::new(control)), table);
        }
        assert!(table_of(Path::new(&"/x".repeat(300))).len() < 256);
    }

    #[test]
    fn what_nft_says_is_told() {
        let run = |status: &str, text: &str| {
            let script = format!("echo '{text}' >&2; exit {status}");
            std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
        };
        assert!(judge(Some(run("0", "hint"))).is_ok());
        let refused = judge(Some(run("1", "Error: no"))).unwrap_err().to_string();
        assert_eq!(
            refused,
            "cannot write firewall rules: nft says \"Error: no\""
        );
        let missing = judge(None).unwrap_err().to_string();
        assert!(missing.contains("Debian package nftables"), "{missing}");
    }
}
