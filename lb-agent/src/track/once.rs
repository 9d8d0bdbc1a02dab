// SPDX-License-Identifier: MIT OR Apache-2.0
//! `startup_script` and `shutdown_script`: a program that is waited for.
//!
//! In: a program. Out: a process and its end, in the log. Called by the application at its own
//! start and end. Invariant: it takes no longer than its `…_timeout` and what ending it takes.

use std::io;

use tokio::time::timeout;
use tracing::{info, warn};

use super::program;
use super::script::Run;
use crate::config::model::OnceScript;

/// Runs `script` to its end. KEEPALIVED: whatever it says, it goes on afterwards. `what` is its
/// keyword.
pub async fn run(what: &str, script: &OnceScript, security: bool) {
    let runnable = match program::resolve(&script.program, security) {
        Ok(runnable) => runnable,
        Err(cause) => return warn!("{what}: {cause}"),
    };
    let mut command = runnable.command(&[]);
    // Starting a program can take long (a file system that hangs): not on this thread.
    let started = tokio::task::spawn_blocking(move || command.spawn().map(Run::new)).await;
    let mut run = match started.map_err(io::Error::other).and_then(|run| run) {
        Ok(run) => run,
        Err(cause) => return warn!("{what}: it cannot be started: {cause}"),
    };
    match timeout(script.timeout, run.ended()).await {
        Ok(Ok(status)) if status.success() => info!("{what} succeeded"),
        Ok(Ok(status)) => warn!("{what} failed: {status}"),
        Ok(Err(cause)) => warn!("{what}: cannot wait for it: {cause}"),
        Err(_) => {
            let seconds = script.timeout.as_secs_f64();
            warn!("{what}: not ended within {seconds} s, stopping it");
            run.put_down().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::parse;

    fn script(command: &str) -> OnceScript {
        let file = format!(
            "global_defs {{\nstartup_script \"sh -c '{command}'\" root\nstartup_script_timeout 1\n}}\n"
        );
        parse("t", &file).config.global.startup_script.unwrap()
    }

    #[tokio::test]
    async fn it_is_waited_for_but_not_for_ever() {
        let path = std::env::temp_dir().join(format!("xlvs-once-{}", std::process::id()));
        let command = format!("echo done > {}", path.display());
        run("startup_script", &script(&command), false).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "done\n");
        std::fs::remove_file(&path).unwrap();
        let started = Instant::now();
        run("startup_script", &script("sleep 30"), false).await;
        let took = started.elapsed();
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(10),
            "{took:?}"
        );
    }
}
