// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting other programs: one way to capture, one way to stream, one way to be root.
//!
//! In: commands. Out: their output or an error that names the command and ends with what it said.
//! Every verb calls this.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where cargo puts what it builds for this machine.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where set-up keeps what it builds or unpacks for this project alone.
pub(crate) fn tools_dir() -> PathBuf {
    root().join("target/tools")
}

/// The cargo that runs this program, of the caller's own toolchain.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Whether this process may do what only root may.
pub(crate) fn is_root() -> bool {
    xlvs_tests::privilege::is_root()
}

/// `program` as root: itself when root already, else through sudo.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if find("sudo").is_none() {
        bail!("cannot become root: there is no sudo; run this as root");
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    Ok(command)
}

/// Set for the second run of a verb that needs root, when everything is built.
const PREPARED: &str = "XLVS_XTASK_PREPARED";

/// Whether this is that second run.
pub(crate) fn is_prepared() -> bool {
    is_root() && std::env::var_os(PREPARED).is_some()
}

/// Runs this same command line again as root, with set-up's private tools on its PATH.
pub(crate) fn again_as_root() -> Result<()> {
    let mut command = as_root("env")?;
    command.args([assign("PATH", path_variable()), assign(PREPARED, "1")]);
    command.arg(assign("XLVS_BINARY", crate::build::binary()));
    command.arg(std::env::current_exe().context("cannot find this program")?);
    let status = command
        .args(std::env::args_os().skip(1))
        .status()
        .context("cannot start sudo")?;
    if !status.success() {
        // The second run has said why.
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

/// The search path as a value for `PATH`.
pub(crate) fn path_variable() -> OsString {
    std::env::join_paths(search_path()).unwrap_or_default()
}

/// `NAME=value` for `env`, which survives sudo where the environment does not.
pub(crate) fn assign(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(value);
    text
}

/// Directories that are searched for programs: PATH, the system's own, what set-up unpacked.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let unpacked = tools_dir().join("deb");
    let more = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let private = ["usr/sbin", "usr/bin", "sbin", "bin"].map(|sub| unpacked.join(sub));
    for directory in more.into_iter().chain(private) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

/// The first executable of that name on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let executable = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    search_path()
        .into_iter()
        .map(|directory| directory.join(program))
        .find(executable)
}

/// Runs to the end and returns standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs with this terminal's own output; an error if it fails.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// Runs, hands each line of both outputs to `on_line`, and on failure repeats the last of them.
pub(crate) fn stream(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<()> {
    let name = describe(command);
    let mut child = command
        // A backtrace would push the message itself out of the lines that are repeated.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let (sender, lines) = std::sync::mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child
            .stdout
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child
            .stderr
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
    }
    drop(sender);
    let mut said = Vec::new();
    for line in lines {
        on_line(&line);
        said.push(line);
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {name}"))?;
    if !status.success() {
        let tail = said
            .iter()
            .rev()
            .take(30)
            .rev()
            .fold(String::new(), |mut text, line| {
                let _ = write!(text, "\n    {line}");
                text
            });
        bail!("{name} failed ({status}); it said:{tail}");
    }
    Ok(())
}

/// The command as a person would type it.
fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        if argument.contains('\n') {
            text.push_str(" …");
        } else {
            let _ = write!(text, " {argument}");
        }
    }
    text
}
