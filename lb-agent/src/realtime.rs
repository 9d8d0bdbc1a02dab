// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the kernel schedules the agent: real-time priority, nice value, memory that is never swapped.
//!
//! In: what `global_defs` says. Out: the calling thread's scheduling, which is that of VRRP.
//! Called by the application at the start and after a reload. Invariant: what the kernel refuses is
//! told and costs no more than that; scripts inherit nothing of it.

#![expect(
    unsafe_code,
    reason = "sched_setscheduler and setpriority are in no safe crate of this project"
)]

use std::io;

use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use tracing::{info, warn};

use crate::config::model::Scheduling;

/// What is in effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InEffect {
    /// Real-time priority.
    pub(crate) priority: Option<u8>,
    /// All memory is locked.
    pub(crate) locked: bool,
    nice: i8,
}

impl InEffect {
    /// Brings this thread to what is wanted; says what could not be done.
    pub(crate) fn apply(&mut self, wanted: &Scheduling) {
        let nice = wanted.nice.unwrap_or_default();
        if self.priority != wanted.rt_priority {
            match set_scheduler(wanted.rt_priority) {
                Ok(()) => {
                    self.priority = wanted.rt_priority;
                    match self.priority {
                        Some(priority) => info!("runs with real-time priority {priority}"),
                        None => info!("runs without real-time priority"),
                    }
                }
                Err(cause) => warn!(
                    "cannot set `vrrp_rt_priority`: {cause}; a busy host may delay adverts (needs \
                     CAP_SYS_NICE, and a cgroup that is given real-time)"
                ),
            }
        }
        if self.nice != nice {
            match set_nice(nice) {
                Ok(()) => self.nice = nice,
                Err(cause) => warn!("cannot set `vrrp_priority` {nice}: {cause}"),
            }
        }
        if self.locked != wanted.no_swap {
            let done = if wanted.no_swap {
                mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
            } else {
                munlockall()
            };
            match done {
                Ok(()) => self.locked = wanted.no_swap,
                Err(cause) => warn!("cannot do as `vrrp_no_swap` says: {cause}"),
            }
        }
    }
}

/// KEEPALIVED: round robin, and children start without it.
fn set_scheduler(priority: Option<u8>) -> io::Result<()> {
    let (policy, priority) = match priority {
        Some(priority) => (libc::SCHED_RR, libc::c_int::from(priority)),
        None => (libc::SCHED_OTHER, 0),
    };
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the structure lives until the call returns, which only reads it; 0 is this thread.
    let result = unsafe {
        libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const param)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set_nice(nice: i8) -> io::Result<()> {
    // SAFETY: numbers alone; 0 is this thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, libc::c_int::from(nice)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_set_and_taken_back_and_a_refusal_is_survived() {
        // A thread of its own: scheduling is a thread's. Memory is the whole process's, so it is
        // left alone here.
        let thread = std::thread::spawn(|| {
            let mut now = InEffect::default();
            now.apply(&Scheduling {
                rt_priority: Some(7),
                nice: Some(-5),
                no_swap: false,
            });
            // SAFETY: no pointers; 0 is this thread.
            let policy = unsafe { libc::sched_getscheduler(0) };
            let is_realtime = policy & !libc::SCHED_RESET_ON_FORK == libc::SCHED_RR;
            assert_eq!(now.priority == Some(7), is_realtime);
            now.apply(&Scheduling::default());
            assert_eq!(now.priority, None);
            // SAFETY: as above.
            let policy = unsafe { libc::sched_getscheduler(0) };
            assert_eq!(policy & !libc::SCHED_RESET_ON_FORK, libc::SCHED_OTHER);
        });
        thread.join().unwrap();
    }
}
