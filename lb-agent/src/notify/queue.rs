// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts the programs of one instance or group, one after the other.
//!
//! In: [`Job`]s. Out: processes. Called by the notifier. Invariant: the order of the jobs is the
//! order of the starts; a program that cannot be started, fails or takes long is logged and holds
//! up the next one for [`PATIENCE`] at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, warn};

use super::PATIENCE;
use crate::track::program::Runnable;

/// A program to start.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) runnable: Runnable,
    /// Arguments behind its own.
    pub(super) more: Vec<String>,
}

/// The jobs of one instance or group, and the task that does them.
#[derive(Debug)]
pub(super) struct Queue {
    jobs: UnboundedSender<Job>,
    /// Jobs that are not done.
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Queue {
    /// An empty queue; `name` is what it is called in the log.
    pub(super) fn start(name: &str) -> Self {
        let (jobs, inbox) = unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(work(name.to_owned(), inbox, Arc::clone(&open)));
        Self { jobs, open, task }
    }

    /// Adds a job.
    pub(super) fn add(&self, job: Job) {
        self.open.fetch_add(1, Ordering::Relaxed);
        // The task ends only when this sender does.
        let _ = self.jobs.send(job);
    }

    /// Whether everything is done.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Waits until all jobs are done.
    pub(super) async fn finish(self) {
        drop(self.jobs);
        // It cannot panic, and is not aborted.
        let _ = self.task.await;
    }
}

async fn work(name: String, mut inbox: UnboundedReceiver<Job>, open: Arc<AtomicUsize>) {
    while let Some(job) = inbox.recv().await {
        let program = job.runnable.path.display().to_string();
        // On a task of its own, so that one that takes long is still waited for.
        let run = tokio::spawn(run(name.clone(), program.clone(), job));
        if timeout(PATIENCE, run).await.is_err() {
            let seconds = PATIENCE.as_secs();
            warn!(
                "{name}: notify script {program} still runs after {seconds} s; going on without it"
            );
        }
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run(name: String, program: String, job: Job) {
    let mut command = job.runnable.command(&job.more);
    // Starting a program can take long (a file system that hangs): not on this thread.
    let started = tokio::task::spawn_blocking(move || command.spawn()).await;
    let mut child = match started
        .map_err(std::io::Error::other)
        .and_then(|child| child)
    {
        Ok(child) => child,
        Err(cause) => {
            error!("{name}: cannot start notify script {program}: {cause}");
            return;
        }
    };
    match child.wait().await {
        Ok(status) if status.success() => {}
        Ok(status) => warn!("{name}: notify script {program} failed: {status}"),
        Err(cause) => warn!("{name}: cannot wait for notify script {program}: {cause}"),
    }
}
