// SPDX-License-Identifier: MIT OR Apache-2.0
//! `notify_fifo_script`: a program that reads a FIFO, for as long as the agent writes to it.
//!
//! In: a program and the FIFO's path, which is its last argument. Out: a process. Called by the
//! notifier. Invariants: there is at most one at a time; one that ends is started again after
//! [`PAUSE`] (KEEPALIVED: it is not); at the end it may read what is in the pipe, then gets SIGTERM,
//! and SIGKILL if that does not end it.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use crate::config::model::Program;
use crate::track::program::Runnable;
use crate::track::script::Run;

/// From the end of a reader to its next start.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a reader may go on once its pipe is closed.
const READ_OUT: Duration = Duration::from_millis(500);

/// A reader that runs.
#[derive(Debug)]
pub(super) struct Reader {
    program: Program,
    runnable: Runnable,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts it. Call inside a tokio runtime.
    pub(super) fn start(program: &Program, runnable: Runnable, fifo: &str) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self {
            program: program.clone(),
            task: tokio::spawn(keep(runnable.clone(), fifo.to_owned(), stopped)),
            runnable,
            stop,
        }
    }

    /// True if that program, found there, would be this one.
    pub(super) fn is(&self, program: &Program, runnable: &Runnable) -> bool {
        self.program == *program && self.runnable == *runnable
    }

    /// Ends it; close its pipe before. The end is to be waited for.
    pub(super) fn stop(self) -> JoinHandle<()> {
        // It may have ended.
        let _ = self.stop.send(());
        self.task
    }
}

/// Starts the program again and again. `stopped` also comes when its sender is gone.
async fn keep(runnable: Runnable, fifo: String, mut stopped: oneshot::Receiver<()>) {
    let name = runnable.path.display().to_string();
    loop {
        let mut command = runnable.command(std::slice::from_ref(&fifo));
        // Starting a program can take long (a file system that hangs): not on this thread.
        let started = tokio::task::spawn_blocking(move || command.spawn().map(Run::new)).await;
        match started.map_err(io::Error::other).and_then(|run| run) {
            Err(cause) => error!("cannot start {name}, which reads {fifo}: {cause}"),
            Ok(mut run) => tokio::select! {
                biased;
                _ = &mut stopped => {
                    let _ = timeout(READ_OUT, run.ended()).await;
                    return run.put_down().await;
                }
                ended = run.ended() => match ended {
                    Ok(status) => warn!(
                        "{name}, which reads {fifo}, ended ({status}); started again in {} s",
                        PAUSE.as_secs()
                    ),
                    Err(cause) => error!("cannot wait for {name}, which reads {fifo}: {cause}"),
                }
            },
        }
        tokio::select! {
            _ = &mut stopped => return,
            () = sleep(PAUSE) => {}
        }
    }
}
