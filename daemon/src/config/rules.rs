//! Rules between keys: pure, on values that are each right by themselves.

use super::read::written;
use super::{Config, NoModel, ProviderKind};

/// A broken rule: the keys it speaks of, the most telling first, and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) keys: Vec<String>,
    pub(super) problem: String,
}

/// uids below this belong to the host's own services; without userns-remap an agent's uid is a uid of the host.
const FIRST_UID: u32 = 1_000;
/// With userns-remap the engine has this many uids by default.
const UIDS: u32 = 65_536;

/// Every rule that `config` breaks.
pub(super) fn broken(config: &Config) -> Vec<Broken> {
    let mut found = Vec::new();
    let mut rule = |kept: bool, keys: &[&str], problem: &dyn Fn() -> String| {
        if !kept {
            found.push(Broken { keys: keys.iter().map(|key| (*key).to_owned()).collect(), problem: problem() });
        }
    };
    let Config { slots, limits, restart, beat, store, http, .. } = config;
    let uids = slots.uid_range;
    rule(uids.first <= uids.last, &["slots.uid_range"], &|| "the first uid is above the last".to_owned());
    rule(uids.first >= FIRST_UID && uids.last < UIDS, &["slots.uid_range"], &|| {
        format!("uids from {FIRST_UID} to {} are allowed: above, userns-remap cannot map them", UIDS - 1)
    });
    rule(uids.first > uids.last || slots.max <= uids.count(), &["slots.max", "slots.uid_range"], &|| {
        format!("{} agents need as many uids, and slots.uid_range has {}", slots.max, uids.count())
    });
    rule(limits.drain >= limits.body, &["limits.drain", "limits.body"], &|| {
        "limits.drain must not be below limits.body".to_owned()
    });
    rule(store.batch <= store.queue, &["store.batch", "store.queue"], &|| {
        "store.batch must not be above store.queue: more than what waits is never committed at once".to_owned()
    });
    rule(restart.base <= restart.max, &["restart.base", "restart.max"], &|| {
        "restart.base must not be above restart.max".to_owned()
    });
    rule(beat.unhealthy_after < beat.restart_after, &["beat.unhealthy_after", "beat.restart_after"], &|| {
        "beat.unhealthy_after must be below beat.restart_after: an agent is unhealthy before it is restarted".to_owned()
    });
    rule(http.listen.is_none_or(|listen| listen.ip().to_canonical().is_loopback()), &["http.listen"], &|| {
        "off loopback the door would need TLS, which this version does not have; listen on 127.0.0.1, and put a proxy \
         with TLS before it or use `ssh -L`"
            .to_owned()
    });
    rule(http.listen.is_none() || http.tls.is_none(), &["http.tls", "http.listen"], &|| {
        "this version does not have TLS; remove the key, and put a proxy with TLS before the door".to_owned()
    });
    found.extend(models(config));
    found
}

fn models(config: &Config) -> Vec<Broken> {
    let words = config.models.aliases.keys().map(|alias| (format!("models.aliases.{}", written(alias)), alias));
    let words = words.chain([("models.default".to_owned(), &config.models.default)]);
    let broken = |(alias, word): (String, &String)| {
        let problem = config.models.resolve(word).err()?;
        let provider = match &problem {
            NoModel::Provider { name, .. } => Some(format!("models.providers.{}", written(name))),
            _ => None,
        };
        Some(Broken { keys: [alias].into_iter().chain(provider).collect(), problem: problem.to_string() })
    };
    words.filter_map(broken).collect()
}

/// What is allowed and has no effect in this version.
pub(super) fn without_effect(config: &Config) -> Vec<String> {
    let Config { http, models, .. } = config;
    let closed = http.listen.is_none();
    let set = [
        (closed && !http.allowed_hosts.is_empty(), "http.allowed_hosts has no effect while there is no http.listen"),
        (
            closed && !http.allowed_origins.is_empty(),
            "http.allowed_origins has no effect while there is no http.listen",
        ),
        (closed && http.tls.is_some(), "http.tls has no effect while there is no http.listen"),
        (
            models.providers.values().any(|provider| provider.kind == ProviderKind::Anthropic),
            "a provider of kind \"anthropic\" has no effect in this version; \"openai\" has",
        ),
    ];
    set.iter().filter(|(set, _)| *set).map(|(_, warning)| (*warning).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;

    use super::super::UidRange;
    use super::*;

    fn first_broken(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        broken(&config).first().map(|broken| broken.keys[0].clone())
    }

    fn uids(first: u32, last: u32) -> Option<String> {
        first_broken(|config| config.slots.uid_range = UidRange { first, last })
    }

    #[test]
    fn the_defaults_break_no_rule() {
        assert_eq!(broken(&Config::default()), []);
        assert!(without_effect(&Config::default()).is_empty());
    }

    #[test]
    fn each_rule_holds_on_both_sides_of_its_border() {
        let range = Some("slots.uid_range".to_owned());
        assert_eq!(uids(1_000, 65_535), None);
        assert_eq!(uids(999, 65_535), range);
        assert_eq!(uids(1_000, 65_536), range);
        assert_eq!(uids(20_001, 20_000), range);

        let slots = |max| first_broken(|config| (config.slots.max, config.slots.uid_range.last) = (max, 20_009));
        assert_eq!(slots(10), None);
        assert_eq!(slots(11).as_deref(), Some("slots.max"));

        let drain = |size| first_broken(|config| config.limits.drain = ByteSize::b(size));
        assert_eq!(drain(1 << 20), None);
        assert_eq!(drain((1 << 20) - 1).as_deref(), Some("limits.drain"));

        let batch = |batch| first_broken(|config| config.store.batch = batch);
        assert_eq!(batch(1_024), None);
        assert_eq!(batch(1_025).as_deref(), Some("store.batch"));

        let base = |secs| first_broken(|config| config.restart.base = Duration::from_secs(secs));
        assert_eq!(base(300), None);
        assert_eq!(base(301).as_deref(), Some("restart.base"));

        let unhealthy = |count| first_broken(|config| config.beat.unhealthy_after = count);
        assert_eq!(unhealthy(5), None);
        assert_eq!(unhealthy(6).as_deref(), Some("beat.unhealthy_after"));
    }

    #[test]
    fn the_tcp_door_stays_on_loopback() {
        let listen = |at: &str| first_broken(|config| config.http.listen = Some(at.parse().unwrap()));
        for at in ["127.0.0.1:7171", "127.9.9.9:1", "[::1]:7171", "[::ffff:127.0.0.1]:7171"] {
            assert_eq!(listen(at), None, "{at}");
        }
        for at in ["0.0.0.0:7171", "[::]:7171", "192.168.1.2:7171", "[fe80::1]:7171", "[::ffff:10.0.0.1]:7171"] {
            assert_eq!(listen(at).as_deref(), Some("http.listen"), "{at}");
        }
        let tls = first_broken(|config| {
            config.http.listen = "127.0.0.1:7171".parse().ok();
            config.http.tls = Some(super::super::Tls { certificate: "/c".into(), key: "/k".into() });
        });
        assert_eq!(tls.as_deref(), Some("http.tls"), "rather refused than ignored");
    }

    #[test]
    fn aliases_lead_somewhere() {
        let alias = |target: &str| {
            first_broken(|config| drop(config.models.aliases.insert("a.b".to_owned(), target.to_owned())))
        };
        assert_eq!(alias("builtin/basic"), None);
        assert_eq!(alias("a.b").as_deref(), Some("models.aliases.\"a.b\""));
        assert_eq!(alias("nobody/model").as_deref(), Some("models.aliases.\"a.b\""));
        let default = first_broken(|config| config.models.default = "gone".to_owned());
        assert_eq!(default.as_deref(), Some("models.default"));
    }
}
