// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells scripts, FIFOs and, by mail, people what happened to instances and groups.
//!
//! In: [`Notice`]s, in the order in which things happened. Out: programs started with keepalived's
//! arguments, lines in FIFOs, mail. Called by the director. Invariants: telling never waits; the programs
//! of one instance or group start in the order of what they tell, one after the other has ended or
//! [`PATIENCE`] is over; what cannot be told is logged.
//!
//! - `queue`: starts the programs of one instance, one after the other.
//! - `fifo`: a named pipe; `reader`: the program that reads it.
//! - `service`: virtual servers and real servers.
//! - `mail`: letters.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod fifo;
pub mod mail;
mod queue;
mod reader;
mod service;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::config::model::{Config, Notify, NotifyFifo, Program};
use crate::health::ServiceNotice;
use crate::track::program::{self, Runnable};
use crate::vrrp::event::{Notice, Scope, Told};
use fifo::Fifo;
use mail::{Letter, Mailer};
use queue::{Job, Queue};
use reader::Reader;
use service::Services;

/// How long a program may hold up the next one of its instance. It is not killed: keepalived does
/// not kill them either.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of the agent waits for the programs that tell of it.
pub const FAREWELL: Duration = Duration::from_secs(3);

type Key = (Scope, String);

/// All that is run and written.
#[derive(Debug, Default)]
pub struct Notifier {
    programs: BTreeMap<Key, Programs>,
    queues: BTreeMap<Key, Queue>,
    fifos: Vec<Pipe>,
    services: Services,
    mailer: Option<Mailer>,
}

/// A named pipe, and whom it is told of.
#[derive(Debug)]
struct Pipe {
    fifo: Fifo,
    /// Its `notify_fifo_script`.
    reader: Option<Reader>,
    instances: bool,
    services: bool,
}

/// [`Notify`], with the programs found.
#[derive(Debug, Default)]
struct Programs {
    master: Option<Runnable>,
    backup: Option<Runnable>,
    fault: Option<Runnable>,
    stop: Option<Runnable>,
    deleted: Option<Runnable>,
    rx_lower: Option<Runnable>,
    any: Option<Runnable>,
    tell_deleted: bool,
    priority_changes: bool,
    mail: bool,
}

impl Notifier {
    /// Takes over what `config` wants to be told. What only the configuration before had stays,
    /// so that its end can be told, until [`Notifier::forget_others`].
    pub fn adopt(&mut self, config: &Config) {
        let security = config.global.script_security;
        for (key, notify) in wanted(config) {
            // Of a thousand instances few have anything to run.
            if *notify == Notify::default() {
                self.programs.remove(&key);
            } else {
                let programs = Programs::find(&key.1, notify, security);
                self.programs.insert(key, programs);
            }
        }
        self.services.adopt(config);
        let mail = config.global.mail.as_ref();
        if self.mailer.as_ref().map(Mailer::settings) != mail {
            // What waits is sent all the same.
            self.mailer = mail.and_then(Mailer::start);
        }
        let mut before = std::mem::take(&mut self.fifos);
        for wanted in &config.global.notify_fifos {
            let known = before
                .iter()
                .position(|pipe| pipe.fifo.path() == wanted.path);
            let known = known.map(|at| before.swap_remove(at));
            let (fifo, reader) = match known {
                Some(Pipe { fifo, reader, .. }) => (Ok(fifo), reader),
                None => (open(wanted), None),
            };
            match fifo {
                Ok(fifo) => self.fifos.push(Pipe {
                    fifo,
                    reader: reading(wanted, reader, security),
                    instances: wanted.instances,
                    services: wanted.services,
                }),
                Err(cause) => error!("{cause}; it is not told of changes"),
            }
        }
        for pipe in before {
            // Nobody waits for its reader's end.
            drop(pipe.close());
        }
    }

    /// Forgets what `config` does not have.
    pub fn forget_others(&mut self, config: &Config) {
        let keys: Vec<Key> = wanted(config).map(|(key, _)| key).collect();
        self.services.forget_others(config);
        self.programs.retain(|key, _| keys.contains(key));
        // What is in a queue is told all the same.
        self.queues.retain(|key, _| keys.contains(key));
    }

    /// Tells of one thing. Call inside a tokio runtime.
    pub fn tell(&mut self, notice: Notice<'_>) {
        let key = (notice.scope, notice.name.to_owned());
        let nothing = Programs::default();
        let programs = self.programs.get(&key).unwrap_or(&nothing);
        // KEEPALIVED: a removed instance is in FAULT to those who did not ask for more.
        let told = match notice.told {
            Told::Deleted if !programs.tell_deleted => Told::Fault,
            told => told,
        };
        let notice = Notice { told, ..notice };
        let own = match told {
            Told::Master => &programs.master,
            Told::Backup => &programs.backup,
            Told::Fault => &programs.fault,
            Told::Stop => &programs.stop,
            Told::Deleted => &programs.deleted,
            Told::MasterPriority | Told::BackupPriority => {
                if programs.priority_changes {
                    self.write(notice);
                }
                return;
            }
            Told::MasterRxLowerPri => return self.tell_of_lower(notice),
        };
        let specific = own.iter().map(|runnable| (runnable, Vec::new()));
        let any = programs.any.iter();
        let general = any.map(|runnable| (runnable, arguments(notice)));
        let jobs: Vec<Job> = specific
            .chain(general)
            .map(|(runnable, more)| Job {
                runnable: runnable.clone(),
                more,
            })
            .collect();
        if !jobs.is_empty() {
            let queue = self.queues.entry(key);
            let queue = queue.or_insert_with(|| Queue::start(notice.name));
            for job in jobs {
                queue.add(job);
            }
        }
        let wanted = self.programs.get(&(notice.scope, notice.name.to_owned()));
        if wanted.is_some_and(|programs| programs.mail) {
            self.mail_about(notice);
        }
        self.write(notice);
    }

    /// KEEPALIVED: its own program and the FIFOs hear of it, not the general program nor people.
    /// A flood of adverts starts no flood of programs: one that has not begun stands for the next.
    fn tell_of_lower(&mut self, notice: Notice<'_>) {
        let key = (notice.scope, notice.name.to_owned());
        let runnable = self.programs.get(&key).and_then(|of| of.rx_lower.clone());
        if let Some(runnable) = runnable {
            let queue = self.queues.entry(key);
            let queue = queue.or_insert_with(|| Queue::start(notice.name));
            if queue.is_idle() {
                let more = Vec::new();
                queue.add(Job { runnable, more });
            }
        }
        self.write(notice);
    }

    /// Tells of a virtual server or one of its real servers. Call inside a tokio runtime.
    pub fn tell_of_service(&mut self, notice: ServiceNotice) {
        let line = self.services.tell(notice);
        for pipe in self.fifos.iter_mut().filter(|pipe| pipe.services) {
            pipe.fifo.write(&line);
        }
    }

    fn mail_about(&self, notice: Notice<'_>) {
        let Some(mailer) = &self.mailer else {
            return;
        };
        // KEEPALIVED: `no_email_faults`.
        if notice.told == Told::Fault && mailer.settings().no_faults {
            return;
        }
        if let Some(letter) = letter(notice) {
            mailer.send(letter);
        }
    }

    /// Mails something that is not about an instance or a group. Call inside a tokio runtime.
    pub fn mail(&self, letter: Letter) {
        if let Some(mailer) = &self.mailer {
            mailer.send(letter);
        }
    }

    /// Waits for what is still to be started, up to [`FAREWELL`].
    pub async fn finish(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        let queues = std::mem::take(&mut self.queues).into_iter();
        let queues = queues.map(|((_, name), queue)| (name, queue));
        for (name, queue) in queues.chain(self.services.take_queues()) {
            if timeout_at(deadline, queue.finish()).await.is_err() {
                warn!("{name}: not waiting any longer for its notify scripts");
            }
        }
        let pipes = std::mem::take(&mut self.fifos);
        let readers: Vec<_> = pipes.into_iter().filter_map(Pipe::close).collect();
        for reader in readers {
            if timeout_at(deadline, reader).await.is_err() {
                warn!("not waiting any longer for a program that reads a FIFO");
            }
        }
        if let Some(mailer) = self.mailer.take()
            && timeout_at(deadline, mailer.finish()).await.is_err()
        {
            warn!("not waiting any longer for the mail server");
        }
    }

    /// Writes a line to the FIFOs without telling anybody else.
    pub fn write(&mut self, notice: Notice<'_>) {
        for pipe in self.fifos.iter_mut().filter(|pipe| pipe.instances) {
            pipe.fifo.write(&line(notice));
        }
    }
}

impl Pipe {
    /// Closes the pipe, and ends who reads it; the end is to be waited for.
    fn close(self) -> Option<JoinHandle<()>> {
        drop(self.fifo);
        self.reader.map(Reader::stop)
    }
}

/// KEEPALIVED: a pipe belongs to whom its line names, else to whom scripts run as.
fn open(wanted: &NotifyFifo) -> Result<Fifo, String> {
    let owner = program::identity(&wanted.path, wanted.owner.as_ref());
    let owner = owner.unwrap_or_else(|cause| {
        warn!("{cause}; it belongs to root");
        None
    });
    Fifo::open(&wanted.path, owner).map_err(|cause| cause.to_string())
}

/// The reader of a pipe: the one that runs, if it is the one that is wanted.
fn reading(wanted: &NotifyFifo, runs: Option<Reader>, security: bool) -> Option<Reader> {
    let script = wanted.script.as_ref();
    let found = find(&wanted.path, script, security);
    match (script.zip(found), runs) {
        (Some((script, found)), Some(runs)) if runs.is(script, &found) => Some(runs),
        (now, runs) => {
            // Nobody waits for its end: the pipe is open, it gets SIGTERM soon.
            drop(runs.map(Reader::stop));
            now.map(|(script, found)| Reader::start(script, found, &wanted.path))
        }
    }
}

impl Programs {
    fn find(name: &str, notify: &Notify, security: bool) -> Self {
        let find = |program: &Option<Program>| find(name, program.as_ref(), security);
        Self {
            master: find(&notify.master),
            backup: find(&notify.backup),
            fault: find(&notify.fault),
            stop: find(&notify.stop),
            deleted: find(&notify.deleted),
            rx_lower: find(&notify.rx_lower),
            any: find(&notify.any),
            tell_deleted: notify.tell_deleted,
            priority_changes: notify.priority_changes,
            mail: notify.mail,
        }
    }
}

/// A program that can be run; what cannot is logged, and not run.
fn find(name: &str, program: Option<&Program>, security: bool) -> Option<Runnable> {
    program::resolve(program?, security)
        .inspect_err(|cause| warn!("{name}: disabling a notify script: {cause}"))
        .ok()
}

fn wanted(config: &Config) -> impl Iterator<Item = (Key, &Notify)> {
    let instances = config.vrrp_instances.iter();
    let instances =
        instances.map(|instance| ((Scope::Instance, instance.name.clone()), &*instance.notify));
    let groups = config.sync_groups.iter();
    instances.chain(groups.map(|group| ((Scope::Group, group.name.clone()), &group.notify)))
}

/// KEEPALIVED: its words; nothing is mailed of priorities.
fn letter(notice: Notice<'_>) -> Option<Letter> {
    let Notice {
        scope, name, told, ..
    } = notice;
    let (what, body) = match (scope, told) {
        (_, Told::MasterPriority | Told::BackupPriority | Told::MasterRxLowerPri) => return None,
        (Scope::Instance, Told::Master) => (
            "Entering MASTER state",
            "VRRP Instance is now owning VRRP VIPs",
        ),
        (Scope::Instance, Told::Backup) => (
            "Entering BACKUP state",
            "VRRP Instance is no longer owning VRRP VIPs",
        ),
        (Scope::Instance, Told::Fault) => (
            "Entering FAULT state",
            "VRRP Instance is no longer owning VRRP VIPs",
        ),
        (Scope::Instance, Told::Stop) => ("Stopping", "VRRP Instance stopping"),
        (Scope::Group, Told::Master) => (
            "Entering MASTER state",
            "All VRRP group instances are now in MASTER state",
        ),
        (Scope::Group, Told::Backup) => (
            "Entering BACKUP state",
            "All VRRP group instances are now in BACKUP state",
        ),
        (Scope::Group, Told::Fault) => (
            "Entering FAULT state",
            "All VRRP group instances are now in FAULT state",
        ),
        (Scope::Group, Told::Stop) => ("Stopping", "All VRRP group instances are now stopping"),
        (_, Told::Deleted) => ("Deleted", "VRRP Deleted at reload"),
    };
    let kind = match scope {
        Scope::Instance => "Instance",
        Scope::Group => "Group",
    };
    Some(Letter {
        subject: format!("VRRP {kind} {name} - {what}"),
        body: format!("=> {body} <=\n"),
    })
}

/// KEEPALIVED: what `notify` gets behind its own arguments.
fn arguments(notice: Notice<'_>) -> Vec<String> {
    vec![
        notice.scope.to_string(),
        notice.name.to_owned(),
        notice.told.to_string(),
        notice.priority.to_string(),
    ]
}

/// KEEPALIVED: a line of a FIFO, for example `INSTANCE "VI_1" MASTER 100`.
fn line(notice: Notice<'_>) -> String {
    let Notice {
        scope,
        name,
        told,
        priority,
    } = notice;
    format!("{scope} \"{name}\" {told} {priority}\n")
}

#[cfg(test)]
mod mail_tests;
#[cfg(test)]
mod tests;
