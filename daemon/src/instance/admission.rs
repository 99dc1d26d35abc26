//! Checks a provision request and turns it into limits: pure, so that every rule stands in one place with its test.

use agentbot_wire::{AgentName, Code, Plan, ProvisionRequest};

use crate::config::{Config, plan_alias};
use crate::error::{Error, Result};

/// The plan of whoever names none.
pub const DEFAULT_PLAN: &str = "small";
/// The smallest memory that the agent and its tools start in.
pub const MIN_MEMORY: u64 = 16 * 1024 * 1024;
/// The fewest processes.
pub const MIN_PIDS: u32 = 8;
/// The most processes: what the kernel's pid range leaves for others.
pub const MAX_PIDS: u32 = 32_768;
/// The smallest share of a core.
pub const MIN_CPUS: f64 = 0.01;
/// The longest free-form configuration, as JSON text.
pub const MAX_CONFIG: usize = 64 * 1024;
/// The longest image reference: the limit of the distribution specification for a name, and room for tag and digest.
pub const MAX_IMAGE: usize = 512;

/// A provision request that keeps every rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// Its name.
    pub name: AgentName,
    /// Its plan's name.
    pub plan: String,
    /// Its limits.
    pub limits: Plan,
    /// Its model, aliases resolved.
    pub model: String,
    /// Its image, when it is not ours.
    pub image: Option<String>,
    /// Its configuration as JSON text.
    pub config: String,
}

/// What the host has to give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Host {
    /// Bytes of memory that are available now.
    pub available_memory: u64,
    /// Cores.
    pub cpus: u32,
}

/// Checks a request.
///
/// # Errors
/// `invalid` with field and rule; `limit_reached` when the host is too small for the plan.
pub fn admit(request: &ProvisionRequest, config: &Config, host: Host) -> Result<Admitted> {
    let name = request
        .name
        .as_deref()
        .ok_or_else(|| Error::invalid("name", "is required").hint("for example {\"name\": \"helper\"}"))?
        .parse::<AgentName>()
        .map_err(|rule| Error::invalid("name", rule).hint("for example `helper` or `agent-7`"))?;
    let (plan, mut limits) = plan(request, config)?;
    limits.memory = request.memory.unwrap_or(limits.memory);
    limits.cpus = request.cpus.unwrap_or(limits.cpus);
    limits.pids = request.pids.unwrap_or(limits.pids);
    check_limits(&limits, config, host)?;
    let word = request.model.as_deref().unwrap_or(&config.models.default);
    let model = config.models.resolve(word).map_err(|why| {
        Error::invalid("model", why).hint("`builtin/basic` is always there; others stand in the configuration")
    })?;
    let image = request.image.as_deref().map(image).transpose()?;
    Ok(Admitted { name, plan, limits, model, image, config: free_form(request)? })
}

fn plan(request: &ProvisionRequest, config: &Config) -> Result<(String, Plan)> {
    let (field, word) = match (&request.plan, &request.tier) {
        (Some(plan), _) => ("plan", plan.as_str()),
        (None, Some(tier)) => ("tier", tier.as_str()),
        (None, None) => ("plan", DEFAULT_PLAN),
    };
    let name = if config.plans.contains_key(word) { word } else { plan_alias(word) };
    match config.plans.get(name) {
        Some(plan) => Ok((name.to_owned(), plan.clone())),
        None => {
            let names: Vec<&str> = config.plans.keys().map(String::as_str).collect();
            let shown: String = word.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(Error::invalid(field, format!("there is no plan `{shown}`"))
                .hint(format!("there are {}", names.join(", "))))
        }
    }
}

fn check_limits(limits: &Plan, config: &Config, host: Host) -> Result<()> {
    if limits.memory < MIN_MEMORY {
        return Err(Error::invalid("memory", format!("{} bytes are below the least, {MIN_MEMORY}", limits.memory))
            .hint("it is given in bytes"));
    }
    if !limits.cpus.is_finite() || limits.cpus < MIN_CPUS {
        return Err(Error::invalid("cpus", format!("{} is below the least, {MIN_CPUS}", limits.cpus))
            .hint("it is given in cores: 0.5 is half of one"));
    }
    if !(MIN_PIDS..=MAX_PIDS).contains(&limits.pids) {
        return Err(Error::invalid("pids", format!("{} is not between {MIN_PIDS} and {MAX_PIDS}", limits.pids))
            .hint("it counts processes and threads"));
    }
    check_room(limits.memory, limits.cpus, config, host)
}

/// Whether the host has room for an agent that is about to run. Limits are not summed: what others may still take is
/// not counted.
///
/// # Errors
/// `limit_reached` with the figures.
pub fn check_room(memory: u64, cpus: f64, config: &Config, host: Host) -> Result<()> {
    let reserve = config.slots.memory_reserve.as_u64();
    let room = host.available_memory.saturating_sub(reserve);
    if memory > room {
        return Err(Error::new(
            Code::LimitReached,
            format!(
                "memory: {} MiB are wanted, the host has {} MiB available less a reserve of {} MiB",
                mib(memory),
                mib(host.available_memory),
                mib(reserve)
            ),
        )
        .hint("take a smaller plan, stop other agents, or lower `slots.memory_reserve`"));
    }
    if cpus > f64::from(host.cpus) {
        return Err(Error::new(
            Code::LimitReached,
            format!("cpus: {cpus} cores are wanted, the host has {}", host.cpus),
        )
        .hint("take a smaller plan"));
    }
    Ok(())
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

fn image(text: &str) -> Result<String> {
    if is_image(text) {
        return Ok(text.to_owned());
    }
    Err(Error::invalid("image", format!("is not an image reference or id of at most {MAX_IMAGE} characters"))
        .hint("for example `my/agent:1` or `sha256:` and 64 hexadecimal digits"))
}

/// Whether a text is an image id or a reference `name[:tag][@digest]`, as the grammar of
/// <https://pkg.go.dev/github.com/distribution/reference> has it.
fn is_image(text: &str) -> bool {
    if text.is_empty() || text.len() > MAX_IMAGE {
        return false;
    }
    if is_digest(text) {
        return true;
    }
    let (named, digest) = text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
    let (name, tag) = match named.rsplit_once(':') {
        // A colon before the last slash belongs to a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (named, None),
    };
    digest.is_none_or(is_digest) && tag.is_none_or(is_tag) && is_name(name)
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_name(text: &str) -> bool {
    let mut parts: Vec<&str> = text.split('/').collect();
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    if parts.len() > 1 && is_host(parts[0]) {
        let host = parts.remove(0);
        let (host, port) = host.split_once(':').unwrap_or((host, "0"));
        let label = |label: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        };
        if !host.split('.').all(label) || port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &&str| {
        let bytes = part.as_bytes();
        bytes.first().copied().is_some_and(plain)
            && bytes.last().copied().is_some_and(plain)
            && bytes.iter().all(|b| plain(*b) || matches!(b, b'.' | b'_' | b'-'))
            && !part.contains("..")
            && !part.contains("___")
    };
    parts.iter().all(part)
}

fn free_form(request: &ProvisionRequest) -> Result<String> {
    let Some(config) = &request.config else { return Ok("{}".to_owned()) };
    if config.is_null() {
        return Ok("{}".to_owned());
    }
    if !config.is_object() {
        return Err(Error::invalid("config", "is not a JSON object").hint("for example {\"persona\": \"terse\"}"));
    }
    let text = config.to_string();
    if text.len() > MAX_CONFIG {
        return Err(Error::new(
            Code::TooLarge,
            format!("config: {} bytes are over the limit of {MAX_CONFIG}", text.len()),
        ));
    }
    Ok(text)
}

/// Billionths of a core, rounded to the hundredths that plans are given in.
#[must_use]
pub fn nano_cpus(cpus: f64) -> u64 {
    // `admit` has checked that it is finite, positive and at most the number of cores of the host.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let hundredths = (cpus * 100.0).round() as u64;
    hundredths * 10_000_000
}

/// The cores that so many billionths are, to the hundredth.
#[must_use]
pub fn cores(nano_cpus: u64) -> f64 {
    // Hundredths of a core: far below what a double holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let hundredths = (nano_cpus / 10_000_000) as f64;
    hundredths / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HOST: Host = Host { available_memory: 8 << 30, cpus: 2 };

    fn request() -> ProvisionRequest {
        ProvisionRequest { name: Some("helper".to_owned()), ..ProvisionRequest::default() }
    }

    fn refused(request: &ProvisionRequest) -> String {
        admit(request, &Config::default(), HOST).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_name_is_enough() {
        let admitted = admit(&request(), &Config::default(), HOST).unwrap();
        assert_eq!((admitted.plan.as_str(), admitted.limits.memory), ("small", 256 << 20));
        assert_eq!(admitted.model, "builtin/basic");
        assert_eq!(nano_cpus(admitted.limits.cpus), 500_000_000);
    }

    #[test]
    fn each_refusal_names_its_field() {
        let with = |change: fn(&mut ProvisionRequest)| {
            let mut request = request();
            change(&mut request);
            refused(&request)
        };
        for (field, said) in [
            ("name", with(|r| r.name = None)),
            ("name", with(|r| r.name = Some("A".to_owned()))),
            ("plan", with(|r| r.plan = Some("huge".to_owned()))),
            ("tier", with(|r| r.tier = Some("huge".to_owned()))),
            ("memory", with(|r| r.memory = Some(MIN_MEMORY - 1))),
            ("memory", with(|r| r.memory = Some(8 << 30))),
            ("cpus", with(|r| r.cpus = Some(0.0))),
            ("cpus", with(|r| r.cpus = Some(f64::NAN))),
            ("cpus", with(|r| r.cpus = Some(2.01))),
            ("pids", with(|r| r.pids = Some(MIN_PIDS - 1))),
            ("pids", with(|r| r.pids = Some(MAX_PIDS + 1))),
            ("model", with(|r| r.model = Some("nobody/nothing".to_owned()))),
            ("image", with(|r| r.image = Some("../x".to_owned()))),
            ("image", with(|r| r.image = Some(String::new()))),
            ("config", with(|r| r.config = Some(json!([1])))),
            ("config", with(|r| r.config = Some(json!({"x": "y".repeat(MAX_CONFIG)})))),
        ] {
            assert!(said.starts_with(field), "{field}: {said}");
        }
    }

    #[test]
    fn the_other_side_of_each_border_passes() {
        let passes = |change: fn(&mut ProvisionRequest)| {
            let mut request = request();
            change(&mut request);
            admit(&request, &Config::default(), HOST).unwrap()
        };
        passes(|r| r.memory = Some(MIN_MEMORY));
        passes(|r| r.memory = Some((8 << 30) - (512 << 20)));
        passes(|r| r.cpus = Some(MIN_CPUS));
        passes(|r| r.cpus = Some(2.0));
        passes(|r| r.pids = Some(MIN_PIDS));
        passes(|r| r.pids = Some(MAX_PIDS));
        passes(|r| r.image = Some(format!("registry.example:5000/team/agent:1.2@sha256:{}", "ab".repeat(32))));
        passes(|r| r.config = Some(json!({"x": "y".repeat(MAX_CONFIG - 8)})));
        passes(|r| r.config = Some(serde_json::Value::Null));
    }

    #[test]
    fn images_are_references_or_ids_and_nothing_else() {
        let id = format!("sha256:{}", "0".repeat(64));
        for good in ["agent", "agent:1", "my/agent:V_1", "localhost/x", "a.b:5000/x/y", "x@sha256:", id.as_str()] {
            assert_eq!(is_image(good), good != "x@sha256:", "{good}");
        }
        let long = "a".repeat(MAX_IMAGE + 1);
        for bad in [
            "",
            "UPPER",
            "a b",
            "x:y:z",
            "../etc",
            "/x",
            "x/",
            "x//y",
            "-x",
            "x:",
            "x:.t",
            "x@sha256:ab",
            "a:b/c",
            "x\n",
            "-a.b/x",
            "x..y",
            long.as_str(),
        ] {
            assert!(!is_image(bad), "{bad:?}");
        }
    }

    #[test]
    fn older_words_for_plans_are_taken() {
        let mut request = request();
        request.tier = Some("starter".to_owned());
        assert_eq!(admit(&request, &Config::default(), HOST).unwrap().plan, "solo");
    }
}
