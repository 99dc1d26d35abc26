//! `[plans]`: named sets of limits.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use agentbot_wire::{AgentName, Plan};
use bytesize::ByteSize;

use super::read::Section;
use super::value::Value;

/// The plan of an agent for which none was asked.
pub const DEFAULT_PLAN: &str = "small";

const GIB: u64 = 1 << 30;

/// The plans that exist without any configuration: dialect B's four, and a small one.
#[must_use]
pub fn default_plans() -> BTreeMap<String, Plan> {
    let plan = |memory, cpus, pids, disk| Plan { memory, cpus, pids, disk };
    [
        (DEFAULT_PLAN, plan(GIB / 4, 0.5, 128, GIB)),
        ("solo", plan(2 * GIB, 1.0, 512, 10 * GIB)),
        ("collective", plan(4 * GIB, 2.0, 512, 10 * GIB)),
        ("label", plan(8 * GIB, 4.0, 512, 10 * GIB)),
        ("network", plan(16 * GIB, 4.0, 512, 10 * GIB)),
    ]
    .map(|(name, plan)| (name.to_owned(), plan))
    .into()
}

/// The plan that a word means: dialect B's other names for its four plans, or the word itself.
#[must_use]
pub fn plan_alias(word: &str) -> &str {
    match word {
        "underground" | "starter" => "solo",
        "pro" => "collective",
        "scale" => "label",
        "enterprise" => "network",
        other => other,
    }
}

/// The least memory a container's own start-up fits into, and more than any one host has.
const MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(16)..=ByteSize::tib(64);
/// The engine's own step is a hundredth of a core.
const CPUS: RangeInclusive<f64> = 0.01..=1_024.0;
/// The agent, its threads and one program it runs; up to the kernel's largest pid.
const PIDS: RangeInclusive<u32> = 8..=4_194_304;
const DISK: RangeInclusive<ByteSize> = ByteSize::mib(1)..=ByteSize::pib(1);

/// Reads `[plans]`. A plan that exists by default is changed key by key; a new one must say memory and cpus, and has
/// the pids and disk of the larger default plans.
pub(super) fn read(section: &Section<'_>) -> BTreeMap<String, Plan> {
    let mut plans = default_plans();
    for name in section.names() {
        let own = section.section(name);
        if let Some(rule) = name_rule(name) {
            section.mistake(name, rule);
        }
        if let Some(plan) = read_plan(&own, plans.get(name)) {
            plans.insert(name.to_owned(), plan);
        }
    }
    plans
}

fn read_plan(section: &Section<'_>, base: Option<&Plan>) -> Option<Plan> {
    section.finish(&["memory", "cpus", "pids", "disk"]);
    let memory = section.optional_in("memory", &MEMORY).map(|size| size.as_u64());
    let cpus = section.optional_in("cpus", &CPUS);
    let pids = section.optional_in("pids", &PIDS);
    let disk = section.optional_in("disk", &DISK).map(|size| size.as_u64());
    if cpus.is_some_and(|cpus| (cpus * 100.0 - (cpus * 100.0).round()).abs() > 1e-6) {
        section.mistake("cpus", "expected steps of 0.01 core".to_owned());
    }
    if base.is_none() {
        if !section.has("memory") {
            section.missing("memory", ByteSize::EXPECTED);
        }
        if !section.has("cpus") {
            section.missing("cpus", f64::EXPECTED);
        }
    }
    Some(Plan {
        memory: memory.or_else(|| Some(base?.memory))?,
        cpus: cpus.or_else(|| Some(base?.cpus))?,
        pids: pids.or_else(|| Some(base?.pids)).unwrap_or(512),
        disk: disk.or_else(|| Some(base?.disk)).unwrap_or(10 * GIB),
    })
}

fn name_rule(name: &str) -> Option<String> {
    if plan_alias(name) != name {
        return Some(format!("this name is another word for the plan `{}`", plan_alias(name)));
    }
    let formed = name.parse::<AgentName>().is_ok();
    (!formed).then(|| "a plan's name has 1 to 40 lower-case letters, digits or hyphens, as an agent's".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_words_mean_the_plans_of_dialect_b() {
        let plans = default_plans();
        for word in
            ["underground", "starter", "solo", "pro", "collective", "scale", "label", "enterprise", "network", "small"]
        {
            assert!(plans.contains_key(plan_alias(word)), "{word}");
        }
        assert!(!plans.contains_key(plan_alias("huge")));
    }

    #[test]
    fn the_default_plans_keep_the_rules_of_plans() {
        for (name, plan) in default_plans() {
            assert_eq!(name_rule(&name), None);
            assert!(MEMORY.contains(&ByteSize::b(plan.memory)) && CPUS.contains(&plan.cpus), "{name}");
            assert!(PIDS.contains(&plan.pids) && DISK.contains(&ByteSize::b(plan.disk)), "{name}");
        }
    }
}
