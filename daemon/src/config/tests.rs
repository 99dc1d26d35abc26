use std::path::Path;

use proptest::prelude::*;

use super::*;

const SAMPLE: &str = include_str!("../../../config/agentbot.toml");

fn read(text: &str) -> Result<Loaded, Mistakes> {
    parse(Path::new("agentbot.toml"), text)
}

fn mistakes(text: &str) -> Vec<String> {
    read(text).map_or_else(|mistakes| mistakes.iter().map(Mistake::to_string).collect(), |_| Vec::new())
}

#[track_caller]
fn mistake(text: &str) -> String {
    let found = mistakes(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// Sections by name, with the keys that the code declares.
fn declared() -> Vec<(&'static str, &'static [&'static str])> {
    vec![
        ("admin", Admin::KEYS),
        ("engine", Engine::KEYS),
        ("store", Store::KEYS),
        ("slots", Slots::KEYS),
        ("limits", Limits::KEYS),
        ("restart", Restart::KEYS),
        ("beat", Beat::KEYS),
        ("chat", Chat::KEYS),
        ("events", Events::KEYS),
        ("log", Log::KEYS),
        ("http", Http::KEYS),
        ("models", Models::KEYS),
    ]
}

/// The lines of a section of the sample, up to the next section.
fn lines_of(section: &str) -> Vec<&'static str> {
    let header = format!("[{section}]");
    SAMPLE.lines().skip_while(|line| *line != header).skip(1).take_while(|line| !line.starts_with('[')).collect()
}

#[test]
fn the_sample_is_the_defaults() {
    assert_eq!(read(SAMPLE), Ok(Loaded { config: Config::default(), warnings: Vec::new() }));
    assert_eq!(read("").unwrap().config, Config::default());
}

#[test]
fn the_sample_has_every_key() {
    for (section, keys) in declared() {
        let lines = lines_of(section);
        for key in keys {
            let (set, shown) = (format!("{key} = "), format!("# {key} = "));
            assert!(lines.iter().any(|line| line.starts_with(&set) || line.starts_with(&shown)), "{section}.{key}");
        }
    }
    for plan in default_plans().keys() {
        assert!(SAMPLE.contains(&format!("[plans.{plan}]")), "{plan}");
    }
}

#[test]
fn every_section_is_declared() {
    let mut names: Vec<_> = declared().into_iter().map(|(name, _)| name).chain(["plans"]).collect();
    let mut known = SECTIONS.to_vec();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn examples_in_the_comments_of_the_sample_are_right() {
    let example =
        |line: &'static str| line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && !rest.contains(": "));
    let mut tried = 0;
    for section in ["engine", "models.aliases", "http"] {
        for line in lines_of(section).into_iter().filter_map(example) {
            assert_eq!(mistakes(&format!("[{section}]\n{line}")), [""; 0], "{line}");
            tried += 1;
        }
    }
    assert_eq!(tried, 5);
    let provider: Vec<_> = lines_of("models.providers").into_iter().filter_map(example).collect();
    let one_key = |other: &str| {
        let lines: Vec<_> = provider.iter().filter(|line| !line.contains(other)).copied().collect();
        format!("[models.providers]\n{}", lines.join("\n"))
    };
    assert_eq!(mistakes(&one_key("api_key_env")), [""; 0]);
    assert_eq!(mistakes(&one_key("api_key_file")), [""; 0]);
}

#[test]
fn all_mistakes_are_shown_at_once_with_their_lines() {
    let text = "\
[beat]
period = 5
perriod = \"5s\"
unhealthy_after = 7

[engin]
socket = \"/x\"

[limits]
connections = 0
body = \"1 parsec\"

[http]
listen = \"0.0.0.0:7171\"
";
    let found = mistakes(text);
    let expected = [
        "agentbot.toml:2: beat.period: expected a duration such as \"200ms\", \"5s\", \"10m\" or \"30d\"",
        "agentbot.toml:3: beat.perriod: unknown key; did you mean `period`?",
        "agentbot.toml:4: beat.unhealthy_after: beat.unhealthy_after must be below beat.restart_after: \
         an agent is unhealthy before it is restarted",
        "agentbot.toml:6: engin: unknown key; did you mean `engine`?",
        "agentbot.toml:10: limits.connections: 0 is out of range: 1 to 65536 is allowed",
        "agentbot.toml:11: limits.body: expected a size such as \"256 MiB\", or a number of bytes",
        "agentbot.toml:14: http.listen: off loopback the door would need TLS, which this version does not have; \
         listen on 127.0.0.1, and put a proxy with TLS before it or use `ssh -L`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn broken_syntax_is_shown_beside_other_mistakes() {
    let found = mistakes("[beat]\nperiod = \n[store]\nreaders = 0\n[slots]\nmax = = 3\n");
    assert!(found.iter().any(|line| line.starts_with("agentbot.toml:2: not TOML")), "{found:?}");
    assert!(
        found.iter().any(|line| line.starts_with("agentbot.toml:4: store.readers: 0 is out of range")),
        "{found:?}"
    );
    assert!(found.iter().any(|line| line.starts_with("agentbot.toml:6: not TOML")), "{found:?}");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_key_written_twice_is_a_mistake() {
    assert!(
        mistake("[beat]\nperiod = \"1s\"\nperiod = \"2s\"\n").starts_with("agentbot.toml:3: not TOML: duplicate key")
    );
}

#[test]
fn no_text_of_a_file_makes_the_reader_fail_otherwise() {
    for text in
        ["\u{feff}", "[", "=", "\"", "[[engine]]", "[beat.period]", "engine = 1", "plans = []", "[plans.'']", "\0"]
    {
        let _ = read(text);
    }
    assert!(mistake("engine = 1").contains("write [engine] and its keys below"));
    assert!(mistake("[[engine]]").contains("expected a section"));
    assert!(mistake("[beat.period]").contains("beat.period: expected a duration"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a slip makes of the file, it is read or refused with a place in it.
    #[test]
    fn a_slip_anywhere_is_read_or_refused_with_its_line(at in 0..SAMPLE.len(), removed in 0..40_usize, put in "[\\[\\]=\"'.,a-z0-9#{}\n\\\\-]{0,4}") {
        let end = (at + removed).min(SAMPLE.len());
        prop_assume!(SAMPLE.is_char_boundary(at) && SAMPLE.is_char_boundary(end));
        let text = format!("{}{put}{}", &SAMPLE[..at], &SAMPLE[end..]);
        if let Err(mistakes) = read(&text) {
            prop_assert!(mistakes.iter().count() > 0);
            for mistake in mistakes.iter() {
                prop_assert!(mistake.line.is_some_and(|line| (1..=text.lines().count() + 1).contains(&line)), "{mistake}");
            }
        }
    }
}

#[test]
fn durations_begin_at_a_millisecond() {
    assert_eq!(mistakes("[beat]\nperiod = \"1ms\""), [""; 0]);
    let problem = mistake("[beat]\nperiod = \"0s\"");
    assert!(problem.ends_with("0s is out of range: 1ms to 1h is allowed"), "{problem}");
    assert_eq!(mistakes("[events]\nretention = \"3650d\""), [""; 0]);
    let problem = mistake("[events]\nretention = \"3651d\"");
    assert!(problem.ends_with("3651d is out of range: 1ms to 3650d is allowed"), "{problem}");
}

#[test]
fn a_key_without_default_has_its_range_too() {
    assert_eq!(read("[engine]\nparallel = 256").unwrap().config.engine.parallel, Some(256));
    assert!(mistake("[engine]\nparallel = 257").ends_with("257 is out of range: 1 to 256 is allowed"));
}

#[test]
fn a_plan_is_changed_key_by_key_and_a_new_one_is_complete() {
    let plans =
        read("[plans.small]\nmemory = \"300 MiB\"\n[plans.big]\nmemory = 1073741824\ncpus = 3").unwrap().config.plans;
    assert_eq!(plans["small"], Plan { memory: 300 << 20, ..default_plans()["small"].clone() });
    assert_eq!(plans["big"], Plan { memory: 1 << 30, cpus: 3.0, pids: 512, disk: 10 << 30 });
    assert_eq!(plans.len(), 6);

    let found = mistakes("[plans.big]\npids = 100");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("agentbot.toml:1: plans.big.memory: missing; expected a size"), "{found:?}");
}

#[test]
fn figures_of_plans_are_bounded() {
    for good in ["memory = \"16 MiB\"", "cpus = 0.01", "cpus = 1024", "pids = 8", "disk = \"1 MiB\""] {
        assert_eq!(mistakes(&format!("[plans.small]\n{good}")), [""; 0]);
    }
    for bad in
        ["memory = \"15 MiB\"", "cpus = 0", "cpus = 0.009", "cpus = 0.015", "cpus = 1024.01", "pids = 7", "disk = 1"]
    {
        mistake(&format!("[plans.small]\n{bad}"));
    }
    assert!(mistake("[plans.pro]\nmemory = \"1 GiB\"\ncpus = 1").contains("another word for the plan `collective`"));
    assert!(mistake("[plans.Big]\nmemory = \"1 GiB\"\ncpus = 1").contains("lower-case"));
}

#[test]
fn providers_have_one_place_for_their_key_or_none() {
    let provider =
        |rest: &str| format!("[models.providers.mine]\nkind = \"openai\"\nbase_url = \"https://h/v1\"\n{rest}");
    let read_one = read(&provider("api_key_env = \"KEY\"")).unwrap();
    assert_eq!(read_one.config.models.providers["mine"].api_key, ApiKey::Env("KEY".to_owned()));
    assert_eq!(read_one.warnings, [""; 0]);
    let other = read(&provider("api_key_env = \"KEY\"").replace("\"openai\"", "\"anthropic\"")).unwrap();
    assert!(other.warnings[0].contains("anthropic"), "{:?}", other.warnings);
    assert_eq!(read(&provider("")).unwrap().config.models.providers["mine"].api_key, ApiKey::None);
    assert!(mistake(&provider("api_key_env = \"KEY\"\napi_key_file = \"/k\"")).contains("one of them is allowed"));
    let inline = mistakes(&provider("api_key = \"sk-live\""));
    assert!(inline.iter().any(|line| line.contains("did you mean `api_key_file`?")), "{inline:?}");
    assert!(!inline.concat().contains("sk-live"), "{inline:?}");
}

#[test]
fn bounds_of_model_calls_have_ranges() {
    for good in [
        "parallel = 1",
        "parallel = 1024",
        "max_response = \"1 KiB\"",
        "idle_timeout = \"1ms\"",
        "max_duration = \"24h\"",
    ] {
        assert_eq!(mistakes(&format!("[models]\n{good}")), [""; 0], "{good}");
    }
    for bad in [
        "parallel = 0",
        "parallel = 1025",
        "max_response = 1023",
        "first_byte_timeout = \"0s\"",
        "max_duration = \"25h\"",
    ] {
        assert!(mistake(&format!("[models]\n{bad}")).contains("out of range"), "{bad}");
    }
}

#[test]
fn providers_are_complete_and_not_builtin() {
    let found = mistakes("[models.providers.mine]\n");
    assert_eq!(found.len(), 2, "{found:?}");
    let found =
        mistakes("[models.providers.builtin]\nkind = \"openai\"\nbase_url = \"https://h\"\napi_key_env = \"K\"");
    assert!(found[0].contains("taken by the provider that is always there"), "{found:?}");
    assert!(
        mistake("[models.providers.m]\nkind = \"telepathy\"\nbase_url = \"https://h\"\napi_key_env = \"K\"")
            .contains("openai")
    );
}

#[test]
fn aliases_are_checked_with_their_lines() {
    let found = mistakes("[models.aliases]\nok = \"builtin/basic\"\na = \"b\"\nb = \"a\"\nc = \"nobody/x\"\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("agentbot.toml:3: models.aliases.a: aliases go in a circle"), "{found:?}");
    assert!(found[2].starts_with("agentbot.toml:5: models.aliases.c: no provider `nobody`"), "{found:?}");
}

#[test]
fn an_alias_to_a_provider_with_a_mistake_is_not_a_second_one() {
    let text = "[models.aliases]\na = \"mine/x\"\n[models.providers.mine]\nkind = \"openai\"\napi_key_env = \"K\"\n";
    assert!(mistake(text).contains("models.providers.mine.base_url: missing"));
}

#[test]
fn a_missing_file_is_a_mistake_only_when_it_was_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agentbot.toml");
    assert!(load(Some(&file)).unwrap_err().to_string().ends_with("agentbot.toml: there is no such file"));
    std::fs::write(&file, "[slots]\nmax = 7").unwrap();
    assert_eq!(load(Some(&file)).unwrap().config.slots.max, 7);
}

#[test]
fn mistakes_become_one_error_with_a_hint() {
    let error = crate::error::Error::from(read("[beat]\nperiod = 5\n[store]\nreaders = 0").unwrap_err());
    assert_eq!(error.message().lines().count(), 2);
    assert!(error.to_api().hint.is_some());
}
