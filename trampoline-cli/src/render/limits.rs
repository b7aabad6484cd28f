//! What each container gets on this machine.

use std::collections::BTreeMap;

use contract::config::{Config, Limits, Size};
use contract::exit::Exit;
use contract::places::Container;

use crate::engine::Capacity;
use crate::error::{CliError, Result};
use crate::ui;

/// Limits of each container; none where the machine cannot limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Resolved {
    /// By container.
    pub(crate) limits: BTreeMap<Container, Limit>,
    /// What differs from what was asked for, for the user.
    pub(crate) notes: Vec<String>,
}

/// Limits of one container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit {
    /// Bytes.
    pub(crate) memory: Size,
    /// CPUs.
    pub(crate) cpus: f64,
}

/// Where trampoline.toml says it, and what.
pub(super) fn wanted(config: &Config, container: Container) -> (&'static str, Limits) {
    match container {
        Container::Daemon => ("builder.daemon", config.builder.daemon),
        Container::User => ("builder.user", config.builder.user),
        Container::Maintenance => ("builder.maintenance", config.builder.maintenance),
        Container::ShutdownMonitor => ("builder.shutdown-monitor", config.builder.shutdown_monitor),
    }
}

/// Lowers defaults to what is there and says so; refuses an explicit value that cannot be met.
pub(crate) fn resolve(config: &Config, capacity: &Capacity, new_store: bool) -> Result<Resolved> {
    let mut resolved = Resolved::default();
    let cpus = f64::from(capacity.cpus);
    let mut lowered = Vec::new();
    for container in Container::ALL {
        let (table, limits) = wanted(config, container);
        let mut limit = Limit { memory: limits.memory, cpus: limits.cpus };
        if limit.memory.bytes() > capacity.memory {
            let there = format!("this machine has {}", ui::bytes(capacity.memory));
            refuse_explicit(config, &format!("{table}.memory"), &limit.memory.to_string(), &there)?;
            // Whole MiB: the machine's own number is no round one.
            limit.memory = Size::mib(capacity.memory >> 20);
            lowered.push(format!(
                "{} {} (default {})",
                container.name(),
                ui::bytes(limit.memory.bytes()),
                limits.memory
            ));
        }
        if limit.cpus > cpus {
            let there = format!("this machine has {}", capacity.cpus);
            refuse_explicit(config, &format!("{table}.cpus"), &limit.cpus.to_string(), &there)?;
            limit.cpus = cpus;
            lowered.push(format!("{} {} CPUs (default {})", container.name(), cpus, limits.cpus));
        }
        resolved.limits.insert(container, limit);
    }
    if let Err(why) = capacity.limits {
        resolved.limits.clear();
        resolved.notes.push(format!("no limits on memory and CPUs: {why}"));
    } else if !lowered.is_empty() {
        resolved.notes.push(format!(
            "this machine has {} CPUs and {}: {}",
            capacity.cpus,
            ui::bytes(capacity.memory),
            lowered.join(", ")
        ));
    }
    if let (true, Some(free)) = (new_store, capacity.volumes_free) {
        room(config, free, &mut resolved)?;
    }
    Ok(resolved)
}

/// podman's volumes have no size of their own, so what is asked for must be free.
fn room(config: &Config, free: u64, resolved: &mut Resolved) -> Result<()> {
    let of = [
        ("store", "builder.store-size", config.builder.store_size),
        ("build directory", "builder.build-size", config.builder.build_size),
    ];
    for (what, key, wanted) in of {
        if wanted.bytes() > free {
            let there = format!("{} are free where podman keeps its volumes", ui::bytes(free));
            refuse_explicit(config, key, &wanted.to_string(), &there)?;
            resolved.notes.push(format!("the {what} has less room than usual: {there} (default {wanted})"));
        }
    }
    Ok(())
}

fn refuse_explicit(config: &Config, key: &str, value: &str, there: &str) -> Result<()> {
    if !config.is_explicit(key) {
        return Ok(());
    }
    Err(CliError::new(
        Exit::Config,
        format!("{}: {key} = {value} cannot be met: {there}", config.origin(key)),
    )
    .hint("lower it, or leave it out: the default is lowered to what is there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Capacity =
        Capacity { memory: 4 << 30, cpus: 2, limits: Ok(()), volumes_free: Some(1 << 40) };

    #[test]
    fn defaults_are_lowered_and_explicit_values_refused() {
        let resolved = resolve(&Config::default(), &SMALL, true).unwrap();
        let daemon = resolved.limits[&Container::Daemon];
        assert_eq!((daemon.memory, daemon.cpus), (Size::gib(4), 2.0));
        assert!(resolved.notes[0].contains("daemon 4.0 GiB (default 16Gi)"), "{:?}", resolved.notes);
        let explicit = Config::parse("[builder.daemon]\nmemory = \"16Gi\"\n", "f.toml").unwrap();
        let error = resolve(&explicit, &SMALL, true).unwrap_err();
        assert_eq!(error.exit, Exit::Config);
        assert!(error.message.starts_with("f.toml:2: builder.daemon.memory"), "{error}");
    }

    #[test]
    fn without_controllers_there_are_no_limits() {
        let capacity = Capacity { limits: Err("because"), ..SMALL };
        let resolved = resolve(&Config::default(), &capacity, true).unwrap();
        assert!(resolved.limits.is_empty());
        assert_eq!(resolved.notes, ["no limits on memory and CPUs: because"]);
    }

    #[test]
    fn an_explicit_store_must_fit() {
        let capacity = Capacity { volumes_free: Some(1 << 30), ..SMALL };
        assert!(resolve(&Config::default(), &capacity, true).unwrap().notes[1].contains("less room"));
        let explicit = Config::parse("[builder]\nstore-size = \"10Gi\"\n", "f.toml").unwrap();
        assert_eq!(resolve(&explicit, &capacity, true).unwrap_err().exit, Exit::Config);
        // What an existing store holds is not free, and needs not be.
        assert!(resolve(&explicit, &capacity, false).is_ok());
    }
}
