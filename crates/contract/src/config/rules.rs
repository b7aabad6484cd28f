//! Values that are fine alone and contradict each other.

use super::Config;
use super::error::ConfigError;
use super::types::IsolationChoice;

/// Refuses contradictions, each at the line of a key that takes part in it.
pub(super) fn check(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for container in ["daemon", "user", "maintenance", "shutdown-monitor"] {
        let limits = match container {
            "daemon" => config.builder.daemon,
            "user" => config.builder.user,
            "maintenance" => config.builder.maintenance,
            _ => config.builder.shutdown_monitor,
        };
        let table = format!("builder.{container}");
        if limits.memory_request > limits.memory {
            errors.push(above(config, &table, ["memory-request", "memory"]));
        }
        if limits.cpu_request > limits.cpus {
            errors.push(above(config, &table, ["cpu-request", "cpus"]));
        }
    }
    if config.maintenance.refuse_below.is_above(config.maintenance.collect_below) {
        errors.push(above(config, "maintenance", ["refuse-below", "collect-below"]));
    }
    if config.daemon.proxy.is_none() && config.is_explicit("daemon.no-proxy") {
        errors.push(ConfigError {
            line: config.line("daemon.no-proxy").unwrap_or(0),
            key: "daemon.no-proxy".to_owned(),
            problem: "does nothing without `proxy`".to_owned(),
            accepted: "`no-proxy` together with `proxy`".to_owned(),
            nearest: None,
        });
    }
    if let Some(url) = config.hostless_substituter() {
        errors.push(ConfigError {
            line: config.line("kubernetes.egress").unwrap_or(0),
            key: "kubernetes.egress".to_owned(),
            problem: format!("\"substituters\" cannot stand for {url:?}, which names no host"),
            accepted: "`endpoint=HOST` in its URL, or networks and hosts in place of \"substituters\""
                .to_owned(),
            nearest: None,
        });
    }
    if config.daemon.isolation == IsolationChoice::Privileged && config.daemon.seccomp_profile().is_some() {
        errors.push(ConfigError {
            line: config.line("daemon.seccomp").unwrap_or(0),
            key: "daemon.seccomp".to_owned(),
            problem: "a privileged container has no seccomp profile, and `isolation` is \"privileged\""
                .to_owned(),
            accepted: "`seccomp` together with `isolation` \"userns\" or \"auto\"".to_owned(),
            nearest: None,
        });
    }
    errors
}

/// The first of two keys of the table is above the second.
fn above(config: &Config, table: &str, keys: [&str; 2]) -> ConfigError {
    let [request, limit] = keys.map(|key| format!("{table}.{key}"));
    let side = |path: &str| {
        let value = super::option(path).and_then(|option| option.shown(config)).unwrap_or_default();
        let from = if config.is_explicit(path) { "" } else { ", the default" };
        (value, from)
    };
    let ((small, small_from), (large, large_from)) = (side(&limit), side(&request));
    // Where only one of the two was written, that is the one to look at.
    let key = if config.is_explicit(&request) { &request } else { &limit };
    ConfigError {
        line: config.line(key).unwrap_or(0),
        key: key.clone(),
        problem: format!("`{}` ({large}{large_from}) is above `{}` ({small}{small_from})", keys[0], keys[1]),
        accepted: format!("`{}` of at most `{}`", keys[0], keys[1]),
        nearest: None,
    }
}
