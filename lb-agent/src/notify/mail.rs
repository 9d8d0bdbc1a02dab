// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mail about changes: one task that sends one message after the other.
//!
//! In: subjects and bodies. Out: messages at the configured server. Called by the notifier.
//! Invariants: telling never waits; of more than [`WAITING_MAX`] messages the rest is lost, which
//! is logged, as is each message that the server does not take.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, warn};

use super::super::config::model::Mail;

/// Messages that may wait.
pub const WAITING_MAX: usize = 256;
/// How long a whole message may take, as a multiple of the connection's timeout.
const PATIENCE: u32 = 4;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Behind the router's name in square brackets.
    pub subject: String,
    /// One line.
    pub body: String,
}

/// The way to the mail server.
#[derive(Debug)]
pub(super) struct Mailer {
    settings: Mail,
    letters: Sender<Letter>,
    task: JoinHandle<()>,
}

impl Mailer {
    /// Starts the task; none if an address cannot be used. Call inside a tokio runtime.
    pub(super) fn start(settings: &Mail) -> Option<Self> {
        let usable = |address: &String| {
            let parsed = address.parse::<Mailbox>();
            if let Err(cause) = &parsed {
                error!("cannot send mail to or from {address}: {cause}");
            }
            parsed.ok()
        };
        let host = host_name();
        let sender = settings.from.clone();
        let from = usable(&sender.unwrap_or_else(|| format!("keepalived@{host}")))?;
        let to: Vec<Mailbox> = settings.to.iter().filter_map(usable).collect();
        if to.is_empty() {
            return None;
        }
        let (letters, inbox) = channel(WAITING_MAX);
        let task = tokio::spawn(deliver(settings.clone(), from, to, inbox));
        Some(Self {
            settings: settings.clone(),
            letters,
            task,
        })
    }

    pub(super) fn settings(&self) -> &Mail {
        &self.settings
    }

    /// Sends a letter, when its turn has come.
    pub(super) fn send(&self, letter: Letter) {
        if let Err(cause) = self.letters.try_send(letter) {
            warn!("cannot send mail: {cause}");
        }
    }

    /// Waits until everything is sent.
    pub(super) async fn finish(self) {
        drop(self.letters);
        let _ = self.task.await;
    }
}

async fn deliver(settings: Mail, from: Mailbox, to: Vec<Mailbox>, mut inbox: Receiver<Letter>) {
    let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.server);
    let transport = builder
        .port(settings.port)
        .timeout(Some(settings.timeout))
        .hello_name(ClientId::Domain(
            settings.helo.clone().unwrap_or_else(host_name),
        ))
        .build();
    while let Some(letter) = inbox.recv().await {
        let subject = letter.subject.clone();
        let message = message(&settings, &from, &to, letter);
        let limit = settings
            .timeout
            .saturating_mul(PATIENCE)
            .max(Duration::from_secs(1));
        let result = match message {
            Ok(message) => match timeout(limit, transport.send(message)).await {
                Ok(Ok(_)) => continue,
                Ok(Err(cause)) => cause.to_string(),
                Err(_) => "the server takes too long".to_owned(),
            },
            Err(cause) => cause.to_string(),
        };
        let (server, port) = (&settings.server, settings.port);
        error!("cannot send mail about {subject:?} by {server} port {port}: {result}");
    }
}

/// KEEPALIVED: its headers, but for the name of the program.
fn message(
    settings: &Mail,
    from: &Mailbox,
    to: &[Mailbox],
    letter: Letter,
) -> Result<Message, lettre::error::Error> {
    let router = settings.router.clone().unwrap_or_else(host_name);
    let mailer = HeaderName::new_from_ascii_str("X-Mailer");
    let mut builder = Message::builder()
        .date_now()
        .from(from.clone())
        .subject(format!("[{router}] {}", letter.subject))
        .raw_header(HeaderValue::new(mailer, "xlvs".to_owned()));
    for mailbox in to {
        builder = builder.to(mailbox.clone());
    }
    builder.body(letter.body)
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok();
    let name = name.and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned())
}
