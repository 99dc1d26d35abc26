//! The hardening table, judged from outside and from inside. It shares nothing with the daemon's own `harden`.

use agentbot_wire::Plan;
use serde_json::{Value, json};

const FIRST_UID: u64 = 20_000;
const LAST_UID: u64 = 59_999;

/// Nothing: absent, null, false, zero, or an empty text, list or map.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Fields that must be exactly so.
fn exact(limits: &Plan) -> Vec<(&'static str, Value)> {
    vec![
        ("/HostConfig/CapDrop", json!(["ALL"])),
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/NetworkMode", json!("none")),
        ("/HostConfig/IpcMode", json!("private")),
        ("/HostConfig/CgroupnsMode", json!("private")),
        ("/HostConfig/RestartPolicy/Name", json!("no")),
        ("/HostConfig/PidsLimit", json!(limits.pids)),
        ("/HostConfig/Memory", json!(limits.memory)),
        ("/HostConfig/MemorySwap", json!(limits.memory)),
        ("/HostConfig/OomScoreAdj", json!(500)),
        ("/HostConfig/LogConfig/Type", json!("local")),
        ("/HostConfig/LogConfig/Config/max-size", json!("10m")),
        ("/HostConfig/LogConfig/Config/max-file", json!("3")),
        ("/HostConfig/LogConfig/Config/mode", json!("non-blocking")),
        ("/Config/WorkingDir", json!("/workspace")),
        ("/Config/Hostname", json!("agent")),
        ("/Config/StopSignal", json!("SIGTERM")),
        ("/Config/Healthcheck/Test", json!(["NONE"])),
    ]
}

/// Fields that give power and must be empty.
const EMPTY: &[&str] = &[
    "/HostConfig/Privileged",
    "/HostConfig/CapAdd",
    "/HostConfig/Binds",
    "/HostConfig/Devices",
    "/HostConfig/DeviceRequests",
    "/HostConfig/DeviceCgroupRules",
    "/HostConfig/VolumesFrom",
    "/HostConfig/VolumeDriver",
    "/HostConfig/GroupAdd",
    "/HostConfig/ExtraHosts",
    "/HostConfig/Links",
    "/HostConfig/Sysctls",
    "/HostConfig/PortBindings",
    "/HostConfig/PublishAllPorts",
    "/HostConfig/OomKillDisable",
    "/HostConfig/PidMode",
    "/HostConfig/UTSMode",
    "/HostConfig/UsernsMode",
    "/HostConfig/AutoRemove",
    "/HostConfig/Init",
    "/HostConfig/Dns",
    "/Config/Tty",
    "/Config/OpenStdin",
    "/Config/AttachStdin",
    "/Config/Volumes",
];

/// Where the container, as the engine inspects it, differs from the hardening table with these limits.
#[must_use]
pub fn inspect_deviations(container: &Value, limits: &Plan) -> Vec<String> {
    let at = |pointer: &str| container.pointer(pointer).cloned().unwrap_or(Value::Null);
    let mut found = Vec::new();
    for (pointer, wanted) in exact(limits) {
        if at(pointer) != wanted {
            found.push(format!("{pointer}: {} instead of {wanted}", at(pointer)));
        }
    }
    for pointer in EMPTY {
        if !is_empty(&at(pointer)) {
            found.push(format!("{pointer}: {} instead of nothing", at(pointer)));
        }
    }
    let mut wants = |holds: bool, what: &str, seen: &Value| {
        if !holds {
            found.push(format!("{what}: {seen}"));
        }
    };
    let cpus = at("/HostConfig/NanoCpus");
    let as_wanted = cpus.as_f64().is_some_and(|billionths| (billionths - limits.cpus * 1e9).abs() < 1.0);
    wants(as_wanted, &format!("/HostConfig/NanoCpus for {} cores", limits.cpus), &cpus);
    let user = at("/Config/User");
    let number = |text: &str| text.parse::<u64>().ok();
    let halves = user.as_str().and_then(|user| user.split_once(':')).map(|(uid, gid)| (number(uid), number(gid)));
    let own = matches!(halves, Some((Some(uid), Some(gid))) if uid == gid && (FIRST_UID..=LAST_UID).contains(&uid));
    wants(own, "/Config/User is uid:gid of a slot", &user);
    let options = at("/HostConfig/SecurityOpt");
    let option = |start: &str| {
        options.as_array().is_some_and(|list| list.iter().filter_map(Value::as_str).any(|text| text.starts_with(start)))
    };
    wants(option("no-new-privileges"), "no-new-privileges", &options);
    wants(option("seccomp={"), "a seccomp profile of our own", &json!("not among the security options"));
    let only_two = options.as_array().is_some_and(|list| list.len() == 2);
    wants(only_two, "no other security option", &json!("there are more or fewer"));
    let parent = at("/HostConfig/CgroupParent");
    wants(matches!(parent.as_str(), Some("/agentbot" | "agentbot.slice")), "/HostConfig/CgroupParent", &parent);
    for (target, words) in [("/tmp", "rw,noexec,nosuid,nodev,size=64m"), ("/run", "rw,noexec,nosuid,nodev,size=8m")] {
        let options = at("/HostConfig/Tmpfs")[target].clone();
        let has = |word: &str| options.as_str().is_some_and(|given| given.split(',').any(|given| given == word));
        wants(words.split(',').all(has), &format!("tmpfs {target} with {words}"), &options);
    }
    let tmpfs = at("/HostConfig/Tmpfs");
    wants(tmpfs.as_object().is_some_and(|map| map.len() == 2), "two tmpfs", &tmpfs);
    let ulimits = at("/HostConfig/Ulimits");
    for wanted in [json!({"Name": "nofile", "Soft": 1024, "Hard": 4096}), json!({"Name": "core", "Soft": 0, "Hard": 0})]
    {
        let has = ulimits.as_array().is_some_and(|list| list.contains(&wanted));
        wants(has, &format!("ulimit {wanted}"), &ulimits);
    }
    for pointer in ["/HostConfig/MaskedPaths", "/HostConfig/ReadonlyPaths"] {
        let paths = at(pointer);
        wants(paths.as_array().is_some_and(|list| !list.is_empty()), &format!("{pointer} of the engine"), &paths);
    }
    let mounts = at("/Mounts");
    let mounts = mounts.as_array().map(Vec::as_slice).unwrap_or_default();
    wants(mounts.len() == 2, "two mounts", &json!(mounts));
    for (target, writable) in [("/workspace", true), ("/run/agentbot", false)] {
        let as_wanted = mounts.iter().any(|mount| {
            mount["Destination"] == target
                && mount["Type"] == "bind"
                && mount["RW"] == writable
                && mount["Propagation"] == "rprivate"
                && mount["Source"].as_str().is_some_and(|from| from.contains("/slots/slt_"))
        });
        wants(as_wanted, &format!("{target} bound from its slot, rprivate, writable {writable}"), &json!(mounts));
    }
    for label in ["daemon", "slot", "gen", "mac"] {
        let value = at("/Config/Labels")[format!("io.agentbot.{label}")].clone();
        wants(value.as_str().is_some_and(|text| !text.is_empty()), &format!("label {label}"), &value);
    }
    let variables = at("/Config/Env");
    let secretive = variables.as_array().into_iter().flatten().filter_map(Value::as_str).find(|variable| {
        let name = variable.split('=').next().unwrap_or_default().to_ascii_uppercase();
        ["TOKEN", "KEY", "SECRET", "NONCE", "PASSWORD"].iter().any(|word| name.contains(word))
    });
    wants(secretive.is_none(), "no secret in the environment", &variables);
    found
}
