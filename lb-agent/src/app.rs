// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wiring: builds the rooms, runs the one select loop, stops in order.
//!
//! ```text
//!            signals   control socket
//!                 ▾        ▾
//! VRRP driver ─▸ the loop ◂─ health events, script results
//!  (Director)     ▴   ▾
//!        next hops    data plane
//! ```
//!
//! Invariant: nothing else changes the data plane or the addresses; all of it happens here, one
//! event at a time.

use std::collections::BTreeSet;
use std::mem;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::bfd::driver::Bfd;
use crate::config::model::{Config, Statics, Tracked};
use crate::config::{self, diag::Severity};
use crate::control::server::{Answer, Call, Server};
use crate::control::{Moved, Request, Response};
use crate::dataplane::rates::{self, Estimator};
use crate::dataplane::{Dataplane, LoadOptions, Pins, Question};
use crate::director::{DEFAULT_WATCHDOG, Director};
use crate::firewall::{Firewall, Rules};
use crate::follow::Followers;
use crate::health::{Quorums, RealServerEvent, Runner, ServiceNotice, Subject, desired};
use crate::heap::Heap;
use crate::netlink::nexthop::NextHops;
use crate::netlink::watch::{self, Event as NetlinkEvent, Topic, Watch};
use crate::realtime::InEffect;
use crate::status;
use crate::supervisor;
use crate::supervisor::link::Link;
use crate::supervisor::page::Holdings;
use crate::systemd::{self, Moment};
use crate::track::once;
use crate::track::script::{ScriptEvent, Scripts};
use crate::track::watch::{WatchEvent, Watches};
use crate::vrrp::driver::{Driver, Handover};
use crate::vrrp::event::State;
use crate::vrrp::record::Recorder;

/// What the VRRP driver has to hear of.
const WATCHED: &[Topic] = &[Topic::Links];

/// How often a part of the connection table is looked through for connections past their time, and
/// the packet program's watchdog gets a sign of life.
const EXPIRE_EVERY: Duration = Duration::from_millis(250);

/// How long a reload waits for the MAC addresses of its new servers. KERNEL: an unanswered ARP
/// request is repeated after a second (`retrans_time_ms`), so two of them get their chance.
const NEXT_HOP_PATIENCE: Duration = Duration::from_secs(2);

/// Pause before a broken netlink subscription is tried again.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// What the agent is told on its command line.
#[derive(Debug)]
pub struct Options {
    /// Configuration file.
    pub config: PathBuf,
    /// Control socket.
    pub control: PathBuf,
    /// Where maps and attachments are pinned; a directory of its own for each control socket unless
    /// said otherwise.
    pub pins: Option<PathBuf>,
    /// Where the inputs and outputs of the VRRP state machines are written.
    pub record: Option<PathBuf>,
    /// The supervisor that started it.
    pub link: Option<Link>,
}

/// Runs the agent until it is told to stop (SIGTERM, SIGINT), which is a success.
pub async fn run(options: Options) -> Result<()> {
    let mut signals = Signals::listen()?;
    let config = load(&options.config)?;
    let mut control = Server::open(&options.control).await?;
    let pins = Pins::of(&options.control, options.pins);
    let recorder = options.record.as_deref().map(record).transpose()?;
    let global = &config.global;
    let anew = options.link.as_ref().is_none_or(|link| link.crashes() == 0);
    if let Some(script) = global.startup_script.as_ref().filter(|_| anew) {
        once::run("startup_script", script, global.script_security).await;
    }
    let firewall = Firewall::of(&options.control);
    let mut agent = Agent::new(options.config, pins, recorder, options.link, firewall)?;
    agent.take(config).await?;
    agent.tell_supervisor();
    info!(
        "running; pid {}, control socket {}",
        process::id(),
        options.control.display()
    );
    systemd::tell(Moment::Ready);
    let mut watchdog = systemd::Watchdog::new();
    let mut expire = interval(EXPIRE_EVERY);
    expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut estimate = interval(rates::EVERY);
    loop {
        // Not biased: a flood of adverts must not keep signals and checks waiting.
        tokio::select! {
            event = agent.driver.next_event() => agent.driver.handle(event).await,
            told = signals.next() => match told {
                Told::Stop(signal) => {
                    info!("{signal} received: releasing and stopping");
                    break;
                }
                Told::Reload => agent.reload().await,
                Told::Data(signal) => info!(
                    "{signal} received: `xlvs status` shows what keepalived would write to a file"
                ),
            },
            Some(event) = agent.health_events.recv() => agent.server_changed(&event),
            Some(event) = agent.script_events.recv() => {
                agent.driver.track_changed(Tracked::Script(event.name), event.condition).await;
            }
            Some(event) = agent.watch_events.recv() => {
                agent.driver.track_changed(event.what, event.condition).await;
            }
            _ = agent.next_hops.changed() => agent.ways_changed().await,
            event = agent.watch.next() => agent.netlink_event(event).await,
            _ = expire.tick() => {
                agent.expire();
                agent.take_pending().await;
                agent.heap.look_after();
                if mem::take(&mut agent.links_changed) || agent.driver.held_ages() {
                    agent.told = None;
                }
            }
            _ = estimate.tick() => agent.estimate(),
            () = watchdog.due() => systemd::tell(Moment::Alive),
            call = control.next_call() => agent.answer(call).await,
            event = agent.followers.next() => {
                agent.followers.handle(event, agent.driver.host().dataplane_mut());
            }
        }
        agent.settle().await;
        agent.tell_supervisor();
        agent.answer_failovers();
        if agent.leaves {
            info!("told to leave: program and addresses stay for a successor");
            // The answer is another task's to write.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
    }
    systemd::tell(Moment::Stopping);
    agent.driver.shutdown().await;
    // What a predecessor left, and no instance has claimed yet.
    agent.driver.host().settle(&[], &[]).await;
    agent.firewall.set(&Rules::default()).await;
    // Its sessions say that they end.
    let _ = agent.bfd.reconfigure(&[]);
    agent.driver.host().set_dataplane(None);
    agent.tell_of_services(agent.quorums.farewell(&agent.config.virtual_servers));
    let statics = &agent.config.statics;
    agent
        .driver
        .host()
        .set_statics(statics, &Statics::default())
        .await;
    agent.driver.host().notifier().finish().await;
    let global = &agent.config.global;
    if let Some(script) = &global.shutdown_script {
        once::run("shutdown_script", script, global.script_security).await;
    }
    info!("stopped");
    Ok(())
}

/// Begins a recording.
fn record(path: &Path) -> Result<Recorder> {
    let recorder = Recorder::append(path);
    recorder.with_context(|| format!("cannot write the recording {}", path.display()))
}

/// Reads a configuration and prints what is to be said of it; an error if it must not be applied.
fn load(path: &Path) -> Result<Config> {
    let loaded = config::load(path);
    for diagnostic in &loaded.diagnostics {
        let line = config::render::line(&loaded.source, diagnostic);
        match diagnostic.severity {
            Severity::Info => info!("{line}"),
            Severity::Warning => warn!("{line}"),
            Severity::Error => error!("{line}"),
        }
    }
    if !loaded.is_applicable() {
        bail!(
            "cannot apply {}: see the errors above, or run `xlvs check {0}`",
            path.display()
        );
    }
    Ok(loaded.config)
}

/// The running rooms.
pub(crate) struct Agent {
    pub(crate) config_path: PathBuf,
    pub(crate) config: Config,
    pub(crate) driver: Driver<Director>,
    pub(crate) runner: Runner,
    pub(crate) quorums: Quorums,
    next_hops: NextHops,
    netlink: rtnetlink::Handle,
    watch: Watch,
    health_events: UnboundedReceiver<RealServerEvent>,
    scripts: Scripts,
    script_events: UnboundedReceiver<ScriptEvent>,
    pub(crate) rates: Estimator,
    /// It was told to end and leave everything as it is.
    leaves: bool,
    watches: Watches,
    pub(crate) bfd: Bfd,
    watch_events: UnboundedReceiver<WatchEvent>,
    pub(crate) followers: Followers,
    pub(crate) link: Option<Link>,
    pub(crate) realtime: InEffect,
    pub(crate) firewall: Firewall,
    /// Hand-overs under way, and who waits for their end.
    failovers: Vec<(Vec<String>, oneshot::Sender<Answer>)>,
    /// What the supervisor was told last: the driver's revision, and whether all is settled.
    told: Option<(u64, bool)>,
    /// An interface has changed since: its number may be another.
    links_changed: bool,
    /// What a reload read and did not take over yet.
    pending: Option<Pending>,
    heap: Heap,
}

/// A configuration that waits for the ways to its new servers.
struct Pending {
    config: Config,
    servers: BTreeSet<IpAddr>,
    /// When it is taken over all the same: health checks will find out about who does not answer.
    until: Instant,
}

impl Agent {
    /// The rooms, empty: `take` fills them.
    fn new(
        config_path: PathBuf,
        pins: Pins,
        recorder: Option<Recorder>,
        link: Option<Link>,
        firewall: Firewall,
    ) -> Result<Self> {
        let (connection, netlink, _) =
            rtnetlink::new_connection().context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        let (events, health_events): (UnboundedSender<RealServerEvent>, _) = unbounded_channel();
        let (script_sender, script_events) = unbounded_channel();
        let (watch_sender, watch_events) = unbounded_channel();
        let mut director = Director::new(netlink.clone(), Some(pins));
        if let Some(link) = &link {
            director.inherit(link.inheritance().clone());
        }
        let mut agent = Self {
            config_path,
            driver: Driver::new(director, netlink.clone()),
            runner: Runner::start(&[], events),
            quorums: Quorums::default(),
            next_hops: NextHops::new()?,
            netlink,
            watch: Watch::open(WATCHED)?,
            health_events,
            scripts: Scripts::new(script_sender),
            script_events,
            bfd: Bfd::new(watch_sender.clone()),
            watches: Watches::new(watch_sender),
            watch_events,
            config: Config::default(),
            rates: Estimator::default(),
            leaves: false,
            followers: Followers::default(),
            link,
            realtime: InEffect::default(),
            firewall,
            failovers: Vec::new(),
            told: None,
            links_changed: false,
            pending: None,
            heap: Heap::default(),
        };
        agent.driver.record(recorder);
        Ok(agent)
    }

    /// Takes over a configuration: loads the data plane, fills its maps, starts the checks, and only
    /// then VRRP. On an error the one before goes on.
    async fn take(&mut self, config: Config) -> Result<()> {
        self.heap.disturbed();
        let needed = !config.virtual_servers.is_empty();
        let first = needed && self.driver.host().dataplane().is_none();
        if first {
            let max_conns = config.global.conns.capacity;
            let pins = self.driver.host().pins().cloned();
            let dataplane = Dataplane::load(&LoadOptions {
                max_conns,
                pins,
                hash_key: None,
                ..LoadOptions::default()
            })?;
            if dataplane.goes_on() {
                info!("going on with the services and connections of an earlier agent");
            }
            if let Some(verified) = dataplane.info().verified_instructions {
                info!("packet program loaded; the verifier walked {verified} instructions");
            }
            self.driver.host().set_dataplane(Some(dataplane));
        }
        // The maps first: what does not fit is found before anything else has changed.
        let snapshot = self.runner.snapshot();
        let mut quorums = self.quorums.clone();
        quorums.configure(&config.virtual_servers, &snapshot, false);
        let wanted = desired(&config.virtual_servers, &snapshot, &quorums);
        if let Err(err) = self.driver.host().apply(&wanted) {
            if first {
                self.driver.host().abandon_dataplane();
            }
            return Err(err.into());
        }
        self.driver.host().tune(&config.global)?;
        self.runner.reconfigure(&config.virtual_servers);
        self.next_hops.set_targets(config.server_addresses());
        let instances = config.vrrp_instances.clone();
        // What is refused is so before an address is there, and until it is gone.
        let refused = Rules::of(&config);
        let meanwhile = Rules::of(&self.config).union(&refused);
        self.firewall.set(&meanwhile).await;
        let director = self.driver.host();
        director
            .set_statics(&self.config.statics, &config.statics)
            .await;
        self.config = config;
        // With its checks known, a server may be down from the start (`alpha`).
        let notices = self.quorums.configure(
            &self.config.virtual_servers,
            &self.runner.snapshot(),
            self.config.global.rs_init_notifies,
        );
        self.apply_health();
        if first {
            self.driver.host().adopt()?;
        }
        self.route();
        self.run_scripts().await;
        self.driver.host().notifier().adopt(&self.config);
        self.tell_of_services(notices);
        self.driver.set_global(&self.config.global);
        self.driver.reconfigure(instances).await;
        if refused != meanwhile {
            self.firewall.set(&refused).await;
        }
        self.driver.host().notifier().forget_others(&self.config);
        if first {
            self.attach_for_masters().await;
        }
        if !needed {
            self.driver.host().set_dataplane(None);
        }
        self.realtime.apply(&self.config.global.scheduling);
        Ok(())
    }

    /// An instance that was MASTER before there was anything to balance has claimed its addresses,
    /// but no program.
    async fn attach_for_masters(&mut self) {
        let statuses = self.driver.snapshot();
        let is_master = |name: &str| {
            statuses
                .iter()
                .any(|status| status.name == name && status.state == State::Master)
        };
        for instance in self
            .config
            .vrrp_instances
            .iter()
            .filter(|i| is_master(&i.name))
        {
            if let Err(err) = self.driver.host().attach(instance).await {
                error!(
                    "{}: {err}; its virtual servers are not served",
                    instance.name
                );
            }
        }
    }

    /// Runs the scripts, and watches the files and processes, that an instance tracks, no others.
    async fn run_scripts(&mut self) {
        let tracked = self.config.tracked_scripts();
        let security = self.config.global.script_security;
        for known in self.scripts.reconfigure(&tracked, security) {
            let what = Tracked::Script(known.name);
            self.driver.track_changed(what, known.condition).await;
        }
        let mut known = self.watches.reconfigure(&self.config);
        match self.bfd.reconfigure(&self.config.bfd_instances) {
            Ok(down) => known.extend(down),
            Err(err) => error!("cannot run BFD sessions: {err}"),
        }
        for known in known {
            self.driver.track_changed(known.what, known.condition).await;
        }
    }

    async fn reload(&mut self) {
        info!("SIGHUP received: reading {}", self.config_path.display());
        systemd::tell(Moment::Reloading);
        match load(&self.config_path) {
            Ok(config) => {
                let known = self.config.server_addresses();
                let wanted = config.server_addresses();
                self.next_hops.set_targets(&known | &wanted);
                self.pending = Some(Pending {
                    config,
                    servers: &wanted - &known,
                    until: Instant::now() + NEXT_HOP_PATIENCE,
                });
                self.take_pending().await;
            }
            Err(err) => self.reloaded(Err(err)),
        }
    }

    async fn ways_changed(&mut self) {
        self.route();
        self.take_pending().await;
    }

    /// Takes over a configuration that was read again, as soon as the ways to its new servers are
    /// known: no connection is sent to one whose MAC address is still being asked for.
    async fn take_pending(&mut self) {
        let is_due = |pending: &mut Pending| {
            self.next_hops.are_settled(&pending.servers) || pending.until <= Instant::now()
        };
        if let Some(Pending { config, .. }) = self.pending.take_if(is_due) {
            let taken = self.take(config).await;
            if taken.is_err() {
                self.next_hops.set_targets(self.config.server_addresses());
            }
            self.reloaded(taken);
        }
    }

    /// A reload is over.
    fn reloaded(&mut self, taken: Result<()>) {
        match taken {
            Ok(()) => {
                info!("configuration reloaded");
                if self.config.global.fifo_states_on_reload {
                    self.driver.restate();
                }
            }
            Err(err) => error!("{err:#}; the running configuration stays"),
        }
        systemd::tell(Moment::Ready);
    }

    fn server_changed(&mut self, event: &RealServerEvent) {
        if !event.up {
            // Its MAC may have moved to another machine.
            self.next_hops.suspect(event.server.ip());
        }
        let services = &self.config.virtual_servers;
        let notices = self.quorums.server_changed(services, event);
        self.apply_health();
        self.tell_of_services(notices);
    }

    fn tell_of_services(&mut self, notices: Vec<ServiceNotice>) {
        for notice in notices {
            if let Subject::Quorum { weight, threshold } = notice.what
                && threshold > 0
            {
                let service = notice.service;
                if notice.up {
                    info!(
                        "virtual server {service} gained its quorum: a weight of {weight} is up, \
                         {threshold} is enough"
                    );
                } else {
                    warn!(
                        "virtual server {service} has no quorum: a weight of {weight} is up, \
                         {threshold} is wanted"
                    );
                }
            }
            self.driver.host().notifier().tell_of_service(notice);
        }
    }

    fn apply_health(&mut self) {
        let services = &self.config.virtual_servers;
        let wanted = desired(services, &self.runner.snapshot(), &self.quorums);
        if let Err(err) = self.driver.host().apply(&wanted) {
            error!("{err}; the data plane stays as it was");
        }
        // New rows know no next hop yet.
        self.route();
    }

    fn route(&mut self) {
        let states = self.next_hops.states();
        let director = self.driver.host();
        director.route(states);
        if self.config.vrrp_instances.is_empty() {
            director.attach_without_vrrp(states);
        }
    }

    /// Tells the VRRP driver of interfaces that changed.
    async fn netlink_event(&mut self, event: Option<NetlinkEvent>) {
        match event {
            Some(NetlinkEvent::Link(link)) => {
                self.links_changed = true;
                self.driver.interface_changed(&link).await;
            }
            Some(NetlinkEvent::Overrun) => {
                // Events were lost: look at every interface.
                self.links_changed = true;
                match watch::links(&self.netlink).await {
                    Ok(links) => self.driver.interfaces_listed(&links).await,
                    Err(err) => warn!("{err}; interface changes may have been missed"),
                }
            }
            // Routes and neighbours are the next hops' business; own addresses change only here.
            Some(_) => {}
            None => match Watch::open(WATCHED) {
                Ok(watch) => self.watch = watch,
                Err(err) => {
                    error!("{err}; interface changes go unnoticed for now");
                    tokio::time::sleep(WATCH_PAUSE).await;
                }
            },
        }
    }

    /// Gives up what an earlier agent left, as soon as it is known that it is not needed.
    async fn settle(&mut self) {
        if !self.driver.host().is_unsettled() {
            return;
        }
        let statuses = self.driver.snapshot();
        let instances = &self.config.vrrp_instances;
        self.driver.host().settle(instances, &statuses).await;
    }

    /// Tells the supervisor what would have to be given up if this agent crashed now.
    fn tell_supervisor(&mut self) {
        let Some(link) = &mut self.link else {
            return;
        };
        let now = (self.driver.revision(), !self.driver.host().is_unsettled());
        if self.told == Some(now) {
            return;
        }
        self.told = Some(now);
        let masters = self.driver.held();
        let watchdog = self.config.global.conns.watchdog;
        let hold = supervisor::hold(&masters, watchdog.unwrap_or(DEFAULT_WATCHDOG));
        link.tell(Holdings {
            hold,
            settled: now.1,
            masters,
            ..Holdings::default()
        });
    }

    fn expire(&mut self) {
        self.followers
            .look_after(self.driver.host().dataplane_mut());
        self.driver.host().note_masters();
        if let Err(err) = self.driver.host().expire() {
            warn!("cannot free old connections: {err}");
        }
    }

    fn estimate(&mut self) {
        let Some(dataplane) = self.driver.host().dataplane() else {
            return;
        };
        match dataplane.stats() {
            Ok(stats) => self.rates.step(&stats),
            Err(err) => warn!("cannot estimate rates: {err}"),
        }
    }

    fn trace(&mut self, question: &Question) -> Response {
        let Some(dataplane) = self.driver.host().dataplane() else {
            return Response::Error("no virtual server is configured".to_owned());
        };
        match dataplane.trace(question) {
            Ok(Some(answer)) => Response::Trace(Box::new(answer)),
            Ok(None) => Response::Error(match &question.interface {
                Some(name) => format!("the packet program does not know interface {name}"),
                None => "the packet program is attached nowhere".to_owned(),
            }),
            Err(err) => Response::Error(err.to_string()),
        }
    }

    /// Begins to hand over; the answer follows when it is over.
    async fn fail_over(&mut self, names: Vec<String>) -> Result<Vec<String>, String> {
        let masters = self.driver.masters();
        let names = if names.is_empty() { masters } else { names };
        if names.is_empty() {
            return Err("no instance is MASTER here: nothing to hand over".to_owned());
        }
        for name in &names {
            match self.driver.state_of(name) {
                Some(State::Master) => {}
                Some(state) => return Err(format!("{name} is {state} here: nothing to hand over")),
                None => return Err(format!("there is no vrrp_instance {name}")),
            }
        }
        self.driver.hand_over(&names).await;
        Ok(names)
    }

    /// Answers those who wait for hand-overs that are over.
    fn answer_failovers(&mut self) {
        let under_way = |name: &String| self.driver.handover(name) == Handover::UnderWay;
        let over = self
            .failovers
            .extract_if(.., |(names, _)| !names.iter().any(under_way));
        for (names, answer) in over {
            let moved = names.into_iter().map(|instance| {
                let (moved, to) = match self.driver.handover(&instance) {
                    Handover::Done(to) => (true, to),
                    Handover::NoPeer | Handover::UnderWay => (false, None),
                };
                Moved {
                    instance,
                    moved,
                    to,
                }
            });
            let _ = answer.send(Response::Failover(moved.collect()).into());
        }
    }

    async fn answer(&mut self, (request, answer): Call) {
        let response = match request {
            Request::Status => match status::collect(self) {
                Ok(status) => Response::Status(Box::new(status)),
                Err(err) => Response::Error(format!("{err:#}")),
            },
            Request::Trace(question) => self.trace(&question),
            Request::Follow(wanted) => {
                let dataplane = self.driver.host().dataplane_mut();
                return self.followers.ask(&wanted, answer, dataplane);
            }
            Request::Failover(names) => match self.fail_over(names).await {
                Ok(names) => return self.failovers.push((names, answer)),
                Err(why) => Response::Error(why),
            },
            Request::Leave => {
                // A successor has programs of its own to follow by.
                if let Some(dataplane) = self.driver.host().dataplane_mut() {
                    self.followers.end(dataplane);
                }
                self.leaves = true;
                Response::Leaving
            }
        };
        // The asker may be gone.
        let _ = answer.send(response.into());
    }
}

struct Signals {
    terminate: SignalStream,
    interrupt: SignalStream,
    hangup: SignalStream,
    user: [SignalStream; 2],
}

/// What a signal asks for.
enum Told {
    Stop(&'static str),
    Reload,
    /// KEEPALIVED: writes its data, or statistics, to /tmp.
    Data(&'static str),
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let signals = Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            user: [
                listen(SignalKind::user_defined1())?,
                listen(SignalKind::user_defined2())?,
            ],
        };
        // Whoever starts the agent may have them blocked, as the supervisor has; and only now is
        // somebody there to take what waits.
        let mine = supervisor::blocked_signals();
        mine.thread_unblock().context("cannot unblock signals")?;
        Ok(signals)
    }

    /// The next signal. Cancel-safe.
    async fn next(&mut self) -> Told {
        let [first, second] = &mut self.user;
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hangup.recv() => Told::Reload,
            _ = first.recv() => Told::Data("SIGUSR1"),
            _ = second.recv() => Told::Data("SIGUSR2"),
        }
    }
}
