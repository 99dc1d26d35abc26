//! How a container differs from what was asked for.
//!
//! Both sides are brought to one form first: the engine fills defaults in, forgets limits it cannot set and keeps the
//! order it likes. What remains different is a finding; nothing is guessed to be harmless.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Facts;
use super::harden::Hardening;

const LONGEST: usize = 160;

/// One field that is not as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The field, as [`Hardening`] names it.
    pub field: String,
    /// What was asked for, shortened.
    pub wanted: String,
    /// What the engine holds, shortened.
    pub found: String,
}

/// Compares every field but one; empty means equal. The time an engine gives a container to stop is left out: it guards
/// nothing, each of our stops names its own, and a container need not be made anew because the configuration changed.
#[must_use]
pub fn drift(wanted: &Hardening, found: &Hardening, facts: &Facts) -> Vec<Drift> {
    let left = fields(&normalise(wanted, wanted, facts));
    let mut right = fields(&normalise(found, wanted, facts));
    left.into_iter()
        .filter_map(|(field, wanted)| {
            let found = right.remove(&field).unwrap_or_default();
            (wanted != found).then(|| Drift { field, wanted: shorten(&wanted), found: shorten(&found) })
        })
        .collect()
}

/// One form for both sides. `wanted` decides what is left to the image: its program, and the variables we do not set.
fn normalise(side: &Hardening, wanted: &Hardening, facts: &Facts) -> Hardening {
    let mut side = side.clone();
    if wanted.entrypoint.is_none() {
        side.entrypoint = None;
        let names: BTreeSet<&str> = wanted.env.iter().map(|entry| name(entry)).collect();
        side.env.retain(|entry| names.contains(name(entry)));
    }
    if wanted.command.is_none() {
        side.command = None;
    }
    for capabilities in [&mut side.cap_add, &mut side.cap_drop] {
        for capability in capabilities.iter_mut() {
            let upper = capability.to_ascii_uppercase();
            *capability = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
        }
    }
    for list in [
        &mut side.env,
        &mut side.volumes,
        &mut side.cap_add,
        &mut side.cap_drop,
        &mut side.security_opt,
        &mut side.binds,
        &mut side.devices,
        &mut side.device_requests,
        &mut side.device_cgroup_rules,
        &mut side.volumes_from,
        &mut side.group_add,
        &mut side.extra_hosts,
        &mut side.port_bindings,
        &mut side.links,
    ] {
        list.sort();
    }
    side.mounts.sort();
    side.stop_timeout = wanted.stop_timeout;
    if !facts.limits_swap {
        side.memory_swap = -1;
    }
    if !facts.limits_pids {
        side.pids = 0;
    }
    if !facts.limits_cpu {
        side.nano_cpus = 0;
        side.cpu_shares = 0;
    }
    side
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn fields(hardening: &Hardening) -> Map<String, Value> {
    match serde_json::to_value(hardening) {
        Ok(Value::Object(fields)) => fields,
        // Every field is a number, a text, or a list or map of these with text keys: such a struct is an object.
        _ => unreachable!(),
    }
}

fn shorten(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::super::harden::harden;
    use super::super::{ContainerSpec, sample};
    use super::*;

    fn changed(value: &Value) -> Value {
        match value {
            Value::Null => Value::Array(vec!["x".into()]),
            Value::Bool(flag) => (!flag).into(),
            Value::Number(number) => (number.as_i64().unwrap() + 1).into(),
            Value::String(text) => format!("{text}x").into(),
            Value::Array(list) => list.iter().skip(1).cloned().collect::<Vec<_>>().into(),
            Value::Object(map) => map.iter().skip(1).map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>().into(),
        }
    }

    fn filled(field: &str, value: &Value) -> Value {
        match (field, value) {
            (_, Value::Array(list)) if list.is_empty() => Value::Array(vec!["x".into()]),
            (_, Value::Object(map)) if map.is_empty() => serde_json::json!({"x": "y"}),
            (_, other) => changed(other),
        }
    }

    #[test]
    fn what_was_asked_for_does_not_drift_from_itself() {
        let wanted = harden(&sample::spec(), &sample::facts());
        assert_eq!(drift(&wanted, &wanted, &sample::facts()), []);
    }

    #[test]
    fn every_single_field_that_changes_is_seen_and_named() {
        let wanted = harden(&sample::spec(), &sample::facts());
        let all = fields(&wanted);
        assert!(all.len() >= 50);
        for (field, value) in &all {
            let mut other = all.clone();
            other.insert(field.clone(), filled(field, value));
            let found: Hardening = serde_json::from_value(other.into()).unwrap();
            let seen: Vec<_> = drift(&wanted, &found, &sample::facts()).into_iter().map(|d| d.field).collect();
            let left_out = field == "stop_timeout";
            assert_eq!(seen, if left_out { &[] } else { std::slice::from_ref(field) });
        }
    }

    #[test]
    fn something_added_to_a_list_that_is_not_empty_is_seen() {
        let wanted = harden(&sample::spec(), &sample::facts());
        let all = fields(&wanted);
        for (field, value) in &all {
            let mut more = value.clone();
            match &mut more {
                Value::Array(list) if list.first().is_some_and(Value::is_string) => list.push("zz=1".into()),
                Value::Array(list) if !list.is_empty() => list.push(list[0].clone()),
                Value::Object(map) if map.values().any(Value::is_string) => drop(map.insert("zz".into(), "1".into())),
                _ => continue,
            }
            let mut other = all.clone();
            other.insert(field.clone(), more);
            let found: Hardening = serde_json::from_value(other.into()).unwrap();
            assert_eq!(drift(&wanted, &found, &sample::facts()).len(), 1, "{field}");
        }
    }

    #[test]
    fn order_and_spelling_of_capabilities_do_not_count() {
        let wanted = harden(&sample::spec(), &sample::facts());
        let mut found = wanted.clone();
        found.cap_drop = vec!["cap_all".to_owned()];
        found.security_opt.reverse();
        found.mounts.reverse();
        assert_eq!(drift(&wanted, &found, &sample::facts()), []);
    }

    #[test]
    fn a_limit_counts_only_where_the_engine_can_set_it() {
        let able = sample::facts();
        let unable = Facts { limits_swap: false, limits_pids: false, limits_cpu: false, ..able.clone() };
        let mut found = harden(&sample::spec(), &able);
        (found.memory_swap, found.pids, found.nano_cpus, found.cpu_shares) = (0, 7, 7, 7);
        assert_eq!(drift(&harden(&sample::spec(), &unable), &found, &unable), []);
        assert_eq!(drift(&harden(&sample::spec(), &able), &found, &able).len(), 4);
        found.memory += 1;
        assert_eq!(drift(&harden(&sample::spec(), &unable), &found, &unable)[0].field, "memory");
    }

    #[test]
    fn another_image_chooses_its_program_and_variables_but_not_ours() {
        let wanted = harden(&ContainerSpec { own_image: false, ..sample::spec() }, &sample::facts());
        let mut found = wanted.clone();
        found.entrypoint = Some(vec!["/bin/sh".to_owned()]);
        found.command = Some(vec!["-c".to_owned()]);
        found.env.push("PATH=/bin".to_owned());
        assert_eq!(drift(&wanted, &found, &sample::facts()), []);
        found.env[0] = "AGENTBOT_SOCKET=/elsewhere".to_owned();
        found.volumes = vec!["/data".to_owned()];
        let seen: Vec<_> = drift(&wanted, &found, &sample::facts()).into_iter().map(|d| d.field).collect();
        assert_eq!(seen, ["env", "volumes"]);
    }

    #[test]
    fn a_long_value_is_shortened_for_people() {
        let wanted = harden(&sample::spec(), &sample::facts());
        let mut found = wanted.clone();
        found.security_opt.pop();
        assert!(drift(&wanted, &found, &sample::facts())[0].wanted.chars().count() <= LONGEST + 1);
    }
}
