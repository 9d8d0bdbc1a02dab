// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts and what instances track: names looked up, weights inherited, weights that move nothing.
//!
//! Comes in: raw scripts and raw `track_…` lines. Goes out: model and findings. Invariant: every
//! script that a track names is in the model; what keepalived would not track is not tracked.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::model::{
    Mail, Notify, Program, Track, TrackFile, TrackProcess, Tracked, VrrpInstance, VrrpScript,
};
use super::super::raw::{
    RawConfig, RawGlobal, RawInstance, RawNotify, RawTrack, RawTracks, RawWeight,
};
use super::super::source::Span;
use super::super::suggest;
use super::vrrp::OWNER;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// All scripts. Of two with one name the first one counts; one without `script` is left out.
pub(super) fn scripts(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) -> Vec<VrrpScript> {
    let mut resolved: Vec<VrrpScript> = Vec::new();
    for script in &raw.scripts {
        let name = quoted(&script.name);
        if resolved.iter().any(|known| known.name == script.name) {
            diagnostics.push(Diagnostic::warning(
                Code::Duplicate,
                script.head,
                format!("`vrrp_script` {name} is defined twice; the first one counts"),
            ));
            continue;
        }
        let Some(argv) = &script.argv else {
            diagnostics.push(Diagnostic::warning(
                Code::MissingSetting,
                script.head,
                format!("`vrrp_script` {name} has no `script` to run; it is not tracked"),
            ));
            continue;
        };
        let interval = script.interval.map_or(DEFAULT_INTERVAL, |v| v.value);
        let user = script.user.as_ref().or(raw.global.script_user.as_ref());
        resolved.push(VrrpScript {
            name: script.name.clone(),
            program: Program {
                argv: argv.value.clone(),
                user: user.map(|user| user.value.clone()),
            },
            interval,
            timeout: script.timeout.map_or(interval, |v| v.value),
            rise: script.rise.map_or(1, |v| v.value),
            fall: script.fall.map_or(1, |v| v.value),
            init_fail: script.init_fail,
        });
    }
    resolved
}

/// What an instance, or a group, runs and tells on a change.
pub(super) fn notify(raw: &RawNotify, global: &RawGlobal) -> Notify {
    let program = |line: &Option<Spanned<Program>>| {
        let program = line.as_ref().map(|line| line.value.clone());
        program.map(|program| with_default_user(program, global))
    };
    let deleted = raw.deleted.as_ref().and_then(|line| line.value.clone());
    Notify {
        master: program(&raw.master),
        backup: program(&raw.backup),
        fault: program(&raw.fault),
        stop: program(&raw.stop),
        deleted: deleted.map(|program| with_default_user(program, global)),
        tell_deleted: raw.deleted.is_some(),
        rx_lower: program(&raw.rx_lower),
        any: program(&raw.any),
        priority_changes: raw
            .priority_changes
            .or(global.priority_changes)
            .is_some_and(|said| said.value),
        mail: raw
            .mail
            .or(global.mail.alert_vrrp)
            .or(global.mail.alert)
            .is_some_and(|said| said.value),
    }
}

/// Where mail goes, if it goes to anybody.
pub(super) fn mail(global: &RawGlobal) -> Option<Mail> {
    const TIMEOUT: Duration = Duration::from_secs(30);
    let said = &global.mail;
    let text = |said: &Option<Spanned<String>>| said.as_ref().map(|said| said.value.clone());
    let server = said.server.as_ref().map(|server| server.value.clone());
    let (server, port) = server.unwrap_or_else(|| ("127.0.0.1".to_owned(), 25));
    let to: Vec<String> = said.to.iter().map(|to| to.value.clone()).collect();
    (!to.is_empty()).then(|| Mail {
        router: text(&global.router_id),
        to,
        from: text(&said.from),
        server,
        port,
        helo: text(&said.helo),
        timeout: said.timeout.map_or(TIMEOUT, |timeout| timeout.value),
        no_faults: said.no_faults.is_some(),
    })
}

/// A program, run as `script_user` if its line names no user.
pub(super) fn with_default_user(program: Program, global: &RawGlobal) -> Program {
    let default = || global.script_user.as_ref().map(|user| user.value.clone());
    Program {
        user: program.user.or_else(default),
        argv: program.argv,
    }
}

/// What an instance, or a group, tracks.
pub(super) fn tracks(
    lines: &RawTracks,
    raw: &RawConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<(Track, Spanned<RawWeight>)> {
    let mut found = Vec::new();
    let none = |what: fn(String) -> Tracked, line: &RawTrack| what(line.name.value.clone());
    for line in &lines.interfaces {
        found.push((line, none(Tracked::Interface, line), None));
    }
    for line in &lines.scripts {
        let script = raw.scripts.iter().find(|s| s.name == line.name.value);
        let names = raw.scripts.iter().map(|script| script.name.as_str());
        match script {
            None => diagnostics.push(unknown(&line.name, "vrrp_script", names)),
            Some(script) if script.argv.is_none() => {}
            Some(script) => found.push((line, none(Tracked::Script, line), script.weight)),
        }
    }
    for line in &lines.files {
        let file = raw.files.iter().find(|file| file.name == line.name.value);
        let names = raw.files.iter().map(|file| file.name.as_str());
        match file {
            None => diagnostics.push(unknown(&line.name, "track_file", names)),
            Some(file) if file.path.is_none() => {}
            Some(file) => {
                let weight = file.weight.or_else(|| Some(one(file.head)));
                found.push((line, none(Tracked::File, line), weight));
            }
        }
    }
    for line in &lines.processes {
        let process = raw.processes.iter().find(|p| p.name == line.name.value);
        let names = raw.processes.iter().map(|process| process.name.as_str());
        match process {
            None => diagnostics.push(unknown(&line.name, "vrrp_track_process", names)),
            Some(process) if process.argv.is_none() => {}
            Some(process) => {
                let weight = process.weight.or_else(|| Some(one(process.head)));
                found.push((line, none(Tracked::Process, line), weight));
            }
        }
    }
    for line in &lines.bfds {
        let bfd = raw.bfds.iter().find(|bfd| bfd.name == line.name.value);
        let names = raw.bfds.iter().map(|bfd| bfd.name.as_str());
        match bfd {
            None => diagnostics.push(unknown(&line.name, "bfd_instance", names)),
            Some(bfd) => match (bfd.vrrp, bfd.checker) {
                (None, Some(checker)) => diagnostics.push(for_checkers_only(&line.name, checker)),
                _ => found.push((line, none(Tracked::Bfd, line), bfd.weight)),
            },
        }
    }
    weigh(found, diagnostics)
}

fn for_checkers_only(name: &Spanned<String>, checker: Span) -> Diagnostic {
    let name_quoted = quoted(&name.value);
    Diagnostic::warning(
        Code::Conflict,
        name.span,
        format!("`bfd_instance` {name_quoted} is for checkers only; it is not tracked"),
    )
    .related(checker, "said here")
    .hint("give it `vrrp`, too")
}

/// KEEPALIVED: the weight of a file or process that says none.
fn one(span: Span) -> Spanned<RawWeight> {
    let weight = RawWeight {
        value: 1,
        reverse: None,
    };
    Spanned::new(weight, span)
}

/// Gives each its weight; of two lines with one name the first counts.
fn weigh(
    lines: Vec<(&RawTrack, Tracked, Option<Spanned<RawWeight>>)>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<(Track, Spanned<RawWeight>)> {
    let mut resolved = Vec::new();
    let mut seen = BTreeSet::new();
    for (track, what, inherited) in lines {
        if !seen.insert(what.clone()) {
            diagnostics.push(Diagnostic::warning(
                Code::Duplicate,
                track.name.span,
                format!(
                    "{} is tracked twice; the first one counts",
                    quoted(&track.name.value)
                ),
            ));
            continue;
        }
        let (weight, reverse) = weight(track.weight, inherited);
        let place = Spanned::new(
            RawWeight {
                value: weight,
                reverse: Some(reverse),
            },
            track.weight.map_or(track.name.span, |own| own.span),
        );
        resolved.push((
            Track {
                what,
                weight,
                reverse,
            },
            place,
        ));
    }
    resolved
}

/// All files. One without `file` is left out.
pub(super) fn files(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) -> Vec<TrackFile> {
    let mut resolved: Vec<TrackFile> = Vec::new();
    for file in &raw.files {
        let known = resolved.iter().any(|known| known.name == file.name);
        let path = usable(
            "track_file",
            &file.name,
            file.head,
            known,
            file.path.as_ref(),
            "file",
            diagnostics,
        );
        if let Some(path) = path {
            resolved.push(TrackFile {
                name: file.name.clone(),
                path: path.clone(),
                init: file.init.map(|init| init.value),
            });
        }
    }
    resolved
}

/// All processes. One without `process` is left out.
pub(super) fn processes(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) -> Vec<TrackProcess> {
    let mut resolved: Vec<TrackProcess> = Vec::new();
    for process in &raw.processes {
        let (name, known) = (
            &process.name,
            resolved.iter().any(|known| known.name == process.name),
        );
        let argv = process.argv.as_ref();
        let block = "vrrp_track_process";
        let argv = usable(
            block,
            name,
            process.head,
            known,
            argv,
            "process",
            diagnostics,
        );
        if let Some(argv) = argv {
            let delay = |said: Option<Spanned<Duration>>| said.map_or(Duration::ZERO, |d| d.value);
            resolved.push(TrackProcess {
                name: name.clone(),
                argv: argv.clone(),
                params: process.params.map(|said| said.value),
                full_command: process.full_command.is_some_and(|said| said.value),
                quorum: process.quorum.map_or(1, |said| said.value),
                quorum_max: process.quorum_max.map(|said| said.value),
                fork_delay: delay(process.fork_delay),
                terminate_delay: delay(process.terminate_delay),
            });
        }
    }
    resolved
}

/// What a block must say, unless another one has its name.
fn usable<'a, T>(
    block: &str,
    name: &str,
    head: Span,
    known: bool,
    said: Option<&'a Spanned<T>>,
    setting: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<&'a T> {
    let name = quoted(name);
    let diagnostic = match said {
        _ if known => Diagnostic::warning(
            Code::Duplicate,
            head,
            format!("`{block}` {name} is defined twice; the first one counts"),
        ),
        None => Diagnostic::warning(
            Code::MissingSetting,
            head,
            format!("`{block}` {name} has no `{setting}`; it is not tracked"),
        ),
        Some(said) => return Some(&said.value),
    };
    diagnostics.push(diagnostic);
    None
}

/// The line's own weight, else the script's. KEEPALIVED: a line that gives a weight keeps the
/// script's direction unless it names one.
fn weight(own: Option<Spanned<RawWeight>>, script: Option<Spanned<RawWeight>>) -> (i32, bool) {
    let value = own.or(script).map_or(0, |w| w.value.value);
    let said = |w: Option<Spanned<RawWeight>>| w.and_then(|w| w.value.reverse);
    (value, said(own).or(said(script)).unwrap_or(false))
}

fn unknown<'a>(
    name: &Spanned<String>,
    block: &str,
    names: impl Iterator<Item = &'a str>,
) -> Diagnostic {
    let diagnostic = Diagnostic::warning(
        Code::UnknownName,
        name.span,
        format!(
            "no `{block}` has the name {}; it is not tracked",
            quoted(&name.value)
        ),
    );
    match suggest::nearest(&name.value, names) {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// A weight moves the MASTER role only when it is larger than the distance between the priorities
/// of MASTER and BACKUP. Both are known when both are in this file; else the limit is told.
pub(super) fn check_weights(
    model: &VrrpInstance,
    places: &[(Track, Spanned<RawWeight>)],
    instances: &[RawInstance],
    diagnostics: &mut Vec<Diagnostic>,
) {
    if model.priority == OWNER {
        return;
    }
    // Two lines on one virtual router and one interface are the two hosts of a pair.
    let partner = instances.iter().find_map(|other| {
        let same = other.name != model.name
            && other.vrid.map(|v| v.value) == Some(model.vrid)
            && other.interface.as_ref().map(|v| &v.value) == Some(&model.interface);
        other.priority.filter(|_| same)
    });
    // A file's number makes any weight large enough.
    let fixed = |track: &Track| track.weight != 0 && !matches!(track.what, Tracked::File(_));
    for (track, place) in places.iter().filter(|(track, _)| fixed(track)) {
        let size = track.weight.unsigned_abs();
        let name = quoted(track.what.name());
        match partner {
            Some(partner) if u32::from(partner.value.abs_diff(model.priority)) >= size => {
                diagnostics.push(
                    Diagnostic::warning(
                        Code::TrackWeight,
                        place.span,
                        format!(
                            "weight {} of {name} cannot move the MASTER role: priorities {} and {} are too far apart",
                            track.weight, model.priority, partner.value
                        ),
                    )
                    .related(partner.span, "the other priority")
                    .hint("make the weight larger than their difference, or leave it out to make a failure a fault"),
                );
            }
            Some(_) => {}
            None => diagnostics.push(
                Diagnostic::info(
                    Code::TrackWeight,
                    place.span,
                    format!(
                        "{name} moves the MASTER role only between hosts whose priorities differ by less than {size}",
                    ),
                )
                .hint(format!(
                    "with priority {} here, give the other host {} to {}; a larger weight or none (a failure is then a fault) always moves it",
                    model.priority,
                    i64::from(model.priority).saturating_sub(i64::from(size) - 1).max(1),
                    i64::from(model.priority).saturating_add(i64::from(size) - 1).min(254),
                )),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::diag::Severity;
    use super::super::super::{Loaded, parse};
    use super::*;

    fn file(script: &str, instance: &str) -> Loaded {
        let text = format!(
            "vrrp_script chk {{\nscript \"pidof nginx\"\n{script}\n}}\nvrrp_instance A {{\n\
             interface eth0\nvirtual_router_id 5\npriority 100\nvirtual_ipaddress {{\n192.0.2.9\n\
             }}\n{instance}\n}}\n"
        );
        parse("t", &text)
    }

    fn told(loaded: &Loaded) -> Vec<(&'static str, Severity)> {
        let found = loaded.diagnostics.iter();
        found
            .filter(|d| d.code != Code::TakeoverTime)
            .map(|d| (d.code.as_str(), d.severity))
            .collect()
    }

    fn weight_of(script: &str, line: &str) -> (i32, bool) {
        let loaded = file(script, &format!("track_script {{\n{line}\n}}"));
        let track = &loaded.config.vrrp_instances[0].tracks[0];
        (track.weight, track.reverse)
    }

    #[test]
    fn a_track_inherits_its_scripts_weight_unless_it_has_its_own() {
        assert_eq!(weight_of("", "chk"), (0, false));
        assert_eq!(weight_of("weight -20", "chk"), (-20, false));
        assert_eq!(weight_of("weight 20 reverse", "chk"), (20, true));
        assert_eq!(weight_of("weight 20", "chk weight 0"), (0, false));
        assert_eq!(weight_of("weight 20", "chk weight 5 reverse"), (5, true));
        assert_eq!(weight_of("weight 20 reverse", "chk weight 5"), (5, true));
        assert_eq!(
            weight_of("weight 20 reverse", "chk weight 5 noreverse"),
            (5, false)
        );
        assert_eq!(weight_of("weight 20", "chk weight 300"), (20, false));
    }

    #[test]
    fn scripts_have_keepalived_s_defaults() {
        let loaded = file("interval 2", "track_script {\nchk\n}");
        let script = &loaded.config.vrrp_scripts[0];
        assert_eq!(script.program.argv, ["pidof", "nginx"]);
        assert_eq!(script.timeout, Duration::from_secs(2));
        assert_eq!((script.rise, script.fall, script.init_fail), (1, 1, false));
        assert_eq!(told(&loaded), []);
    }

    #[test]
    fn a_weight_in_one_file_is_told_with_the_distance_it_can_bridge() {
        let loaded = file("weight 2", "track_script {\nchk\n}");
        assert_eq!(told(&loaded), [("track-weight", Severity::Info)]);
        assert!(loaded.diagnostics.iter().any(|d| {
            d.message.contains("differ by less than 2")
                && d.hint
                    .as_ref()
                    .is_some_and(|hint| hint.contains("99 to 101"))
        }));
    }

    #[test]
    fn a_weight_too_small_for_the_pair_in_one_file_is_a_warning() {
        let pair = |weight: i32| {
            file(
                &format!("weight {weight}"),
                "track_script {\nchk\n}\n}\nvrrp_instance B {\ninterface eth0\n\
                 virtual_router_id 5\npriority 90\nvirtual_ipaddress {\n192.0.2.9\n}",
            )
        };
        for (weight, warned) in [
            (2, true),
            (10, true),
            (11, false),
            (-10, true),
            (-11, false),
        ] {
            let found = told(&pair(weight));
            let expected = ("track-weight", Severity::Warning);
            assert_eq!(found.contains(&expected), warned, "{weight}: {found:?}");
        }
    }

    #[test]
    fn what_cannot_be_tracked_is_said_and_left_out() {
        let tracked = "track_script {\nchl\nchk\nchk\n}\ntrack_interface {\neth1 eth2 weight 7\n}";
        let loaded = file("rise 2", tracked);
        assert_eq!(
            told(&loaded),
            [
                ("unknown-name", Severity::Warning),
                ("duplicate", Severity::Warning),
                ("two-on-one-line", Severity::Warning),
                ("track-weight", Severity::Info),
                ("track-weight", Severity::Info),
            ]
        );
        let tracks = &loaded.config.vrrp_instances[0].tracks;
        let interface = |name: &str| Tracked::Interface(name.to_owned());
        let what: Vec<_> = tracks.iter().map(|t| (t.what.clone(), t.weight)).collect();
        assert_eq!(
            what,
            [
                (interface("eth1"), 7),
                (interface("eth2"), 7),
                (Tracked::Script("chk".to_owned()), 0)
            ]
        );
    }
}
