// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent tells systemd, passed on.
//!
//! systemd believes the main process of a service alone (`NotifyAccess=main`, its default), and
//! that is the supervisor. So the agent is given a socket of the supervisor's, and what comes there
//! goes on to systemd's, word for word. Invariant: without systemd nothing happens.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use tracing::warn;

/// Messages are a few lines.
const MESSAGE_MAX: usize = 4096;

/// The socket in the agent's `NOTIFY_SOCKET`.
#[derive(Debug)]
pub(super) struct Relay {
    socket: UnixDatagram,
    path: PathBuf,
    systemd: SocketAddr,
}

impl Relay {
    /// Opens it at `path`, if `systemd`, the value of `NOTIFY_SOCKET`, is there.
    pub(super) fn open(path: &Path, systemd: Option<&OsStr>) -> io::Result<Option<Self>> {
        let Some(systemd) = systemd else {
            return Ok(None);
        };
        let systemd = match systemd.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(systemd)?,
        };
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self {
            socket,
            path: path.to_owned(),
            systemd,
        }))
    }

    /// Where the agent writes to.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To wait for.
    pub(super) fn socket(&self) -> &UnixDatagram {
        &self.socket
    }

    /// Passes on what waits.
    pub(super) fn pass_on(&self) {
        let mut message = [0; MESSAGE_MAX];
        while let Ok(length) = self.socket.recv(&mut message) {
            let words = message.get(..length).unwrap_or_default();
            if let Err(cause) = self.socket.send_to_addr(words, &self.systemd) {
                warn!("supervisor: cannot tell systemd what the agent says: {cause}");
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
