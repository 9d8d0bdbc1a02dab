// SPDX-License-Identifier: MIT OR Apache-2.0
//! A named pipe that is told of changes, one line each.
//!
//! In: lines. Out: bytes in the pipe. Called by the notifier. Invariants: a write never waits; a
//! line is written whole or not at all (it is shorter than a pipe's atomic size); a pipe that was
//! made here is removed in the end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chown, mkfifo};
use tracing::warn;

/// Why there is no pipe.
#[derive(Debug, thiserror::Error)]
#[error("cannot open FIFO {path}: {cause}")]
pub(super) struct FifoError {
    path: String,
    cause: io::Error,
}

/// A named pipe, open for as long as this value lives.
#[derive(Debug)]
pub(super) struct Fifo {
    path: String,
    file: File,
    made: bool,
    /// Lines lost since the last one that was written.
    lost: u64,
}

impl Fifo {
    /// Opens the pipe, and makes it for `owner` if there is none.
    ///
    /// KEEPALIVED: open for reading too, so that it is there while nobody reads.
    pub(super) fn open(path: &str, owner: Option<(Uid, Gid)>) -> Result<Self, FifoError> {
        let error = |cause| FifoError {
            path: path.to_owned(),
            cause,
        };
        let made = match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(cause) => return Err(error(cause.into())),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(path)
            .map_err(error)?;
        let kind = file.metadata().map_err(error)?.file_type();
        if !kind.is_fifo() {
            return Err(error(io::Error::other("there is something else")));
        }
        if let Some((uid, gid)) = owner.filter(|_| made) {
            chown(path, Some(uid), Some(gid)).map_err(|cause| error(cause.into()))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            made,
            lost: 0,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Lines lost since the last one that was written.
    #[cfg(test)]
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Writes a line, unless the pipe is full.
    pub(super) fn write(&mut self, line: &str) {
        let path = &self.path;
        match self.file.write_all(line.as_bytes()) {
            Ok(()) if self.lost > 0 => {
                warn!("FIFO {path} is read again; {} lines were lost", self.lost);
                self.lost = 0;
            }
            Ok(()) => {}
            Err(cause) => {
                if self.lost == 0 {
                    warn!("cannot write to FIFO {path}: {cause}; lines are lost until it is read");
                }
                self.lost = self.lost.saturating_add(1);
            }
        }
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        if self.made {
            // Someone else may have removed it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
