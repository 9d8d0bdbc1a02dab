// SPDX-License-Identifier: MIT OR Apache-2.0
//! Serving requests: accepts connections and hands each request to the agent's loop, which alone
//! knows the answers.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::{Request, Response};

/// Longest request line; a longer one is an error.
const REQUEST_MAX: u64 = 64 * 1024;

/// Pause after a failed `accept` (out of descriptors, say), so that it cannot spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A killed agent's socket answers no longer than this.
const DYING: Duration = Duration::from_secs(2);

/// A request on its way to the agent's loop, with the way back.
pub type Call = (Request, oneshot::Sender<Answer>);

/// What the agent's loop answers.
pub struct Answer {
    /// The answer.
    pub response: Response,
    /// What comes after it, until either side has enough; then the connection ends.
    pub more: Option<mpsc::Receiver<Response>>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self {
            response,
            more: None,
        }
    }
}

/// Why the socket could not be opened.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Another agent answers there.
    #[error("cannot open control socket {0}: another agent is running (use --control PATH)")]
    InUse(PathBuf),
    /// The file system says no.
    #[error("cannot open control socket {path}: {cause}")]
    Open {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// An open control socket; dropping it removes the file.
pub struct Server {
    path: PathBuf,
    calls: mpsc::Receiver<Call>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Opens the socket. A file left by a killed agent is replaced, a living agent's is not.
    pub async fn open(path: &Path) -> Result<Self, ControlError> {
        let failed = |cause| ControlError::Open {
            path: path.to_owned(),
            cause,
        };
        while let Ok(mut other) = UnixStream::connect(path).await {
            // One that was killed a moment ago is gone once the kernel has taken it apart; a living one
            // waits for a request.
            let end = tokio::time::timeout(DYING, other.read_u8()).await;
            if end.is_err() {
                return Err(ControlError::InUse(path.to_owned()));
            }
        }
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
            _ => {}
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let (sender, calls) = mpsc::channel(16);
        let task = tokio::spawn(accept(listener, sender));
        Ok(Self {
            path: path.to_owned(),
            calls,
            task,
        })
    }

    /// The next request. Cancel-safe.
    pub async fn next_call(&mut self) -> Call {
        match self.calls.recv().await {
            Some(call) => call,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(err) = fs::remove_file(&self.path) {
            debug!("cannot remove {}: {err}", self.path.display());
        }
    }
}

async fn accept(listener: UnixListener, calls: mpsc::Sender<Call>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let calls = calls.clone();
                tokio::spawn(async move {
                    if let Err(err) = serve(socket, calls).await {
                        debug!("a control connection ended early: {err}");
                    }
                });
            }
            Err(err) => {
                warn!("cannot accept a control connection: {err}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection: requests until the peer closes it.
async fn serve(mut socket: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (read, mut write) = socket.split();
    let mut lines = BufReader::new(read);
    loop {
        let mut line = String::new();
        if (&mut lines).take(REQUEST_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => call(request, &calls).await,
            Err(err) => Response::Error(format!("cannot read the request: {err}")).into(),
        };
        say(&mut write, &answer.response).await?;
        if let Some(more) = answer.more {
            return go_on(&mut lines, &mut write, more).await;
        }
    }
}

/// Says what comes, until the peer closes the connection or says anything at all.
async fn go_on(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    mut more: mpsc::Receiver<Response>,
) -> io::Result<()> {
    let mut byte = [0];
    loop {
        tokio::select! {
            response = more.recv() => match response {
                Some(response) => say(write, &response).await?,
                None => return Ok(()),
            },
            _ = read.read(&mut byte) => return Ok(()),
        }
    }
}

async fn say(write: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    write.write_all(&line).await
}

async fn call(request: Request, calls: &mpsc::Sender<Call>) -> Answer {
    let (answer, response) = oneshot::channel();
    let stopping = || Response::Error("the agent is stopping".to_owned()).into();
    if calls.send((request, answer)).await.is_err() {
        return stopping();
    }
    response.await.unwrap_or_else(|_| stopping())
}
