// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vrrp_sync_group`: members, and what a group does to what they track.
//!
//! Comes in: raw groups and resolved instances. Goes out: groups; instances that know their group.
//! Invariant: an instance is in one group at most, and that group names it.

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::model::{SyncGroup, VrrpInstance};
use super::super::raw::{RawConfig, RawGroup};
use super::super::suggest;
use super::track;

/// Resolves all groups. One without members is left out, as keepalived does.
pub(super) fn groups(
    raw: &RawConfig,
    instances: &mut [VrrpInstance],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<SyncGroup> {
    let mut resolved: Vec<SyncGroup> = Vec::new();
    for group in &raw.groups {
        let name = quoted(&group.name);
        if resolved.iter().any(|known| known.name == group.name) {
            diagnostics.push(Diagnostic::warning(
                Code::Duplicate,
                group.head,
                format!("`vrrp_sync_group` {name} is defined twice; the first one counts"),
            ));
            continue;
        }
        let mut members: Vec<String> = Vec::new();
        for member in &group.members {
            if take(group, member, instances, diagnostics) {
                members.push(member.value.clone());
            }
        }
        if members.len() < 2 {
            diagnostics.push(Diagnostic::warning(
                Code::EmptyBlock,
                group.head,
                match members.len() {
                    0 => format!("`vrrp_sync_group` {name} has no members; it is left out"),
                    _ => format!("`vrrp_sync_group` {name} has one member only"),
                },
            ));
        }
        if members.is_empty() {
            continue;
        }
        share_tracks(raw, group, &members, instances, diagnostics);
        resolved.push(SyncGroup {
            name: group.name.clone(),
            members,
            notify: track::notify(&group.notify, &raw.global),
        });
    }
    resolved
}

/// Makes an instance a member.
fn take(
    group: &RawGroup,
    member: &Spanned<String>,
    instances: &mut [VrrpInstance],
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    let at = instances.iter().position(|one| one.name == member.value);
    let Some(instance) = at.and_then(|at| instances.get_mut(at)) else {
        let diagnostic = Diagnostic::warning(
            Code::UnknownName,
            member.span,
            format!("no `vrrp_instance` has the name {}", quoted(&member.value)),
        );
        let names = instances.iter().map(|one| one.name.as_str());
        diagnostics.push(match suggest::nearest(&member.value, names) {
            Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
            None => diagnostic,
        });
        return false;
    };
    if let Some(other) = &instance.group {
        diagnostics.push(Diagnostic::warning(
            Code::Duplicate,
            member.span,
            format!(
                "{} is in the group {} already; it cannot be in two",
                quoted(&member.value),
                quoted(other)
            ),
        ));
        return false;
    }
    instance.group = Some(group.name.clone());
    true
}

/// KEEPALIVED: what a group tracks all its members track. A weight that only one member had would
/// tear the group apart, so a member's own weights become 0, a failure a fault, unless the group
/// says `sync_group_tracking_weight`.
fn share_tracks(
    raw: &RawConfig,
    group: &RawGroup,
    members: &[String],
    instances: &mut [VrrpInstance],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let shared = track::tracks(&group.tracks, raw, diagnostics);
    let keep_weights = group.tracking_weight.is_some_and(|said| said.value);
    for instance in instances
        .iter_mut()
        .filter(|instance| members.contains(&instance.name))
    {
        for track in &mut instance.tracks {
            if track.weight != 0 && !keep_weights {
                diagnostics.push(
                    Diagnostic::warning(
                        Code::Conflict,
                        group.head,
                        format!(
                            "{} is in this group: weight {} of {} becomes 0, so a failure is a fault",
                            quoted(&instance.name),
                            track.weight,
                            quoted(track.what.name())
                        ),
                    )
                    .hint("track it in the group, or give the group `sync_group_tracking_weight`"),
                );
                track.weight = 0;
            }
        }
        for (track, _) in &shared {
            if !instance.tracks.iter().any(|own| own.what == track.what) {
                instance.tracks.push(track.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Loaded, parse};
    use super::*;
    use crate::config::model::Tracked;

    fn file(group: &str, member: &str) -> Loaded {
        let instance = |name: &str, vrid: u8, more: &str| {
            format!(
                "vrrp_instance {name} {{\ninterface eth{vrid}\nvirtual_router_id {vrid}\n\
                 virtual_ipaddress {{\n192.0.2.{vrid}\n}}\n{more}\n}}\n"
            )
        };
        let text = format!(
            "vrrp_script chk {{\nscript /bin/true\nweight 20\n}}\nvrrp_sync_group G {{\n{group}\n}}\n\
             {}{}",
            instance("A", 1, member),
            instance("B", 2, "")
        );
        parse("t", &text)
    }

    fn told(loaded: &Loaded) -> Vec<&'static str> {
        let found = loaded.diagnostics.iter().map(|d| d.code);
        found
            .filter(|code| ![Code::TakeoverTime, Code::TrackWeight].contains(code))
            .map(Code::as_str)
            .collect()
    }

    #[test]
    fn a_group_names_its_members_and_they_know_it() {
        let loaded = file("group {\nA\nB\n}\nnotify \"/bin/true x\"", "");
        assert_eq!(told(&loaded), Vec::<&str>::new());
        let group = &loaded.config.sync_groups[0];
        assert_eq!(group.members, ["A", "B"]);
        assert_eq!(group.notify.any.as_ref().unwrap().argv, ["/bin/true", "x"]);
        let of = |at: usize| loaded.config.vrrp_instances[at].group.as_deref();
        assert_eq!((of(0), of(1)), (Some("G"), Some("G")));
    }

    #[test]
    fn keepalived_what_a_group_tracks_all_members_track() {
        let loaded = file(
            "group {\nA\nB\n}\ntrack_script {\nchk\n}\ntrack_interface {\ne\n}",
            "",
        );
        for instance in &loaded.config.vrrp_instances {
            let tracks = instance.tracks.iter();
            let tracks: Vec<_> = tracks.map(|t| (t.what.clone(), t.weight)).collect();
            let expected = [
                (Tracked::Interface("e".to_owned()), 0),
                (Tracked::Script("chk".to_owned()), 20),
            ];
            assert_eq!(tracks, expected);
        }
    }

    #[test]
    fn keepalived_a_members_own_weight_becomes_0_unless_the_group_allows_it() {
        for (allowed, weight, codes) in [
            ("", 0, vec!["conflict"]),
            ("sync_group_tracking_weight", 20, vec![]),
            ("global_tracking", 20, vec![]),
        ] {
            let group = format!("group {{\nA\nB\n}}\n{allowed}");
            let loaded = file(&group, "track_script {\nchk\n}");
            let tracks = &loaded.config.vrrp_instances[0].tracks;
            assert_eq!((tracks[0].weight, told(&loaded)), (weight, codes));
        }
    }

    #[test]
    fn members_that_are_not_there_or_elsewhere_are_said() {
        assert_eq!(
            told(&file("group {\nA\nC\n}", "")),
            ["empty-block", "unknown-name"]
        );
        let two = "group {\nA\nB\n}\n}\nvrrp_sync_group H {\ngroup {\nA\n}";
        assert_eq!(told(&file(two, "")), ["empty-block", "duplicate"]);
    }
}
