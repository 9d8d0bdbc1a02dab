// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which file a command of the configuration is, whether it may be run, and as whom.
//!
//! In: a [`Program`]. Out: a [`Runnable`], or why not. Called by [`super::script`] and by the
//! notifier, when a configuration is taken. Invariant: what is run is never given to a shell, gets
//! no terminal, no pipe and a process group of its own.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::unistd::{Gid, Group, Uid, User, geteuid};
use tokio::process::Command;

use crate::config::model::{Program, RunAs};

/// KEEPALIVED: the user that scripts run as when the file names none, if there is such a user.
const DEFAULT_USER: &str = "keepalived_script";
/// Where a name without `/` is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const STICKY: u32 = 0o1000;
const WRITABLE_BY_GROUP: u32 = 0o020;
const WRITABLE_BY_OTHERS: u32 = 0o002;
const EXECUTABLE: u32 = 0o111;

/// Why a program is not run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No such file, or it cannot be looked at.
    #[error("cannot run {name}: not found or not accessible ({cause})")]
    NotFound {
        /// As written.
        name: String,
        /// Why.
        cause: io::Error,
    },
    /// A directory, or a file without the permission.
    #[error("cannot run {path}: it is not an executable file")]
    NotExecutable {
        /// Its path.
        path: PathBuf,
    },
    /// The system does not know the user or the group.
    #[error("cannot run {name} as {who}: there is no such user or group")]
    NoSuchUser {
        /// As written.
        name: String,
        /// User or group.
        who: String,
    },
    /// `enable_script_security`, and someone else than root could change what root would run.
    #[error(
        "cannot run {name} as root: others than root can change {path}, and enable_script_security is set"
    )]
    Unsafe {
        /// As written.
        name: String,
        /// File or directory that others can change.
        path: PathBuf,
    },
}

/// A program that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runnable {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Who to become; absent when the agent itself is not root.
    pub identity: Option<(Uid, Gid)>,
    /// What others than root could change although root will run it.
    pub unsafe_path: Option<PathBuf>,
}

impl Runnable {
    /// The command with `more` arguments behind its own: nothing to read, nowhere to write, a
    /// process group of its own, no other groups than its user's.
    pub fn command(&self, more: &[String]) -> Command {
        let mut command = std::process::Command::new(&self.path);
        command
            .args(&self.args)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut command = Command::from(command);
        if let Some((uid, gid)) = self.identity {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }
}

/// Finds the file, the user, and what speaks against it.
///
/// KEEPALIVED: the first word is the file (a name without `/` is looked for in `PATH`); a file
/// that is not there or not executable is not run; with `enable_script_security` nothing is run
/// as root that others than root can change, neither the file nor a directory above it.
pub fn resolve(program: &Program, security: bool) -> Result<Runnable, ProgramError> {
    let (name, args) = program
        .argv
        .split_first()
        .map_or(("", &[][..]), |(name, args)| (name.as_str(), args));
    let search = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let not_found = |cause| ProgramError::NotFound {
        name: name.to_owned(),
        cause,
    };
    let path = find(name, &search).map_err(not_found)?;
    let real = path.canonicalize().map_err(not_found)?;
    let about = real.metadata().map_err(not_found)?;
    if !is_executable(&about) {
        return Err(ProgramError::NotExecutable { path });
    }
    let identity = identity(name, program.user.as_ref())?;
    let as_root = identity.is_some_and(|(uid, _)| uid.is_root());
    let unsafe_path = if as_root { weakest(&real) } else { None };
    match unsafe_path {
        Some(path) if security => Err(ProgramError::Unsafe {
            name: name.to_owned(),
            path,
        }),
        unsafe_path => Ok(Runnable {
            path,
            args: args.to_vec(),
            identity,
            unsafe_path,
        }),
    }
}

fn is_executable(about: &Metadata) -> bool {
    about.is_file() && about.permissions().mode() & EXECUTABLE != 0
}

fn find(name: &str, search: &OsStr) -> io::Result<PathBuf> {
    if name.contains('/') {
        return Path::new(name).metadata().map(|_| PathBuf::from(name));
    }
    std::env::split_paths(search)
        .map(|directory| directory.join(name))
        .find(|path| path.metadata().is_ok_and(|about| is_executable(&about)))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Who to become. Someone who is not root can become nobody else.
pub fn identity(name: &str, asked: Option<&RunAs>) -> Result<Option<(Uid, Gid)>, ProgramError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let unknown = |who: &str| ProgramError::NoSuchUser {
        name: name.to_owned(),
        who: who.to_owned(),
    };
    let Some(asked) = asked else {
        let user = User::from_name(DEFAULT_USER).ok().flatten();
        let root = (Uid::from_raw(0), Gid::from_raw(0));
        return Ok(Some(user.map_or(root, |user| (user.uid, user.gid))));
    };
    let user = match asked.user.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(&asked.user),
    };
    let user = user.ok().flatten().ok_or_else(|| unknown(&asked.user))?;
    let gid = match &asked.group {
        None => user.gid,
        Some(group) => {
            let found = match group.parse() {
                Ok(number) => Group::from_gid(Gid::from_raw(number)),
                Err(_) => Group::from_name(group),
            };
            found.ok().flatten().ok_or_else(|| unknown(group))?.gid
        }
    };
    Ok(Some((user.uid, gid)))
}

/// The file, or the first directory above it, that others than root can change. In a sticky
/// directory no one can replace what belongs to root.
fn weakest(path: &Path) -> Option<PathBuf> {
    let weak = |path: &&Path| {
        path.metadata().map_or(true, |about| {
            let mode = about.permissions().mode();
            let by_group = mode & WRITABLE_BY_GROUP != 0 && about.gid() != 0;
            let by_others = mode & WRITABLE_BY_OTHERS != 0;
            let sticky = about.is_dir() && mode & STICKY != 0;
            about.uid() != 0 || ((by_group || by_others) && !sticky)
        })
    };
    path.ancestors().find(weak).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn program(argv: &[&str], user: Option<&str>) -> Program {
        Program {
            argv: argv.iter().map(ToString::to_string).collect(),
            user: user.map(|user| RunAs {
                user: user.to_owned(),
                group: None,
            }),
        }
    }

    /// A directory that goes with its test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("tr-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
            Self(dir)
        }

        fn file(&self, name: &str, mode: u32) -> String {
            let path = self.0.join(name);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_name_without_a_slash_is_looked_for_in_path() {
        let found = resolve(&program(&["sh", "-c", "exit 0"], None), false).unwrap();
        assert!(found.path.is_absolute() && found.path.ends_with("sh"));
        assert_eq!(found.args, ["-c", "exit 0"]);
    }

    #[test]
    fn what_is_not_there_or_not_executable_is_refused_by_name() {
        let scratch = Scratch::new("exec");
        let plain = scratch.file("plain", 0o644);
        for (argv, said) in [
            (
                "/no/such/script.sh",
                "cannot run /no/such/script.sh: not found",
            ),
            (
                "no-such-program-anywhere",
                "cannot run no-such-program-anywhere: not found",
            ),
            ("/", "cannot run /: it is not an executable file"),
            (&plain, "it is not an executable file"),
        ] {
            let error = resolve(&program(&[argv], None), false).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn an_unknown_user_is_refused_by_name() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root becomes someone else (run: sudo -E cargo test)");
            return;
        }
        let error = resolve(&program(&["sh"], Some("no-such-user")), false).unwrap_err();
        assert!(error.to_string().contains("as no-such-user"), "{error}");
        let found = resolve(&program(&["sh"], Some("nobody")), false).unwrap();
        let nobody = User::from_name("nobody").unwrap().unwrap();
        assert_eq!(found.identity, Some((nobody.uid, nobody.gid)));
    }

    #[test]
    fn script_security_refuses_what_others_can_change_before_root_runs_it() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root runs scripts as root (run: sudo -E cargo test)");
            return;
        }
        let scratch = Scratch::new("security");
        let (good, bad) = (scratch.file("good", 0o755), scratch.file("bad", 0o757));
        let root = |path: &str, security| resolve(&program(&[path], Some("root")), security);
        assert_eq!(root(&good, true).unwrap().unsafe_path, None);
        assert!(matches!(root(&bad, true), Err(ProgramError::Unsafe { .. })));
        assert_eq!(
            root(&bad, false).unwrap().unsafe_path,
            Some(bad.clone().into())
        );
        // Who is not root may run what others can change.
        assert!(resolve(&program(&[&bad], Some("nobody")), true).is_ok());
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            root(&good, true),
            Err(ProgramError::Unsafe { .. })
        ));
    }
}
