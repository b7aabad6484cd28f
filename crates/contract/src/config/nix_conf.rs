//! What nix-daemon and the user's Nix are told.

use super::Config;
use super::types::Durability;
use super::units::Size;
use crate::places;

/// What the daemon container may use: its limits, or the machine's where it has none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// CPUs.
    pub cpus: f64,
    /// Memory.
    pub memory: Size,
}

/// A build that links something large needs about so much.
const MEMORY_PER_JOB: u64 = Size::gib(2).bytes();
/// A compiler needs about so much.
const MEMORY_PER_CORE: u64 = Size::mib(512).bytes();

impl Capacity {
    /// Builds at once. Half as many as there are CPUs: few build steps use all the CPUs that they are given, and
    /// many need memory.
    #[must_use]
    pub fn max_jobs(self) -> u32 {
        let by_cpu = (whole(self.cpus) / 2).max(2);
        let by_memory = u32::try_from(self.memory.bytes() / MEMORY_PER_JOB).unwrap_or(u32::MAX);
        by_cpu.min(by_memory).max(1)
    }

    /// CPUs for each of so many builds at once: twice what a fair share would be, because they seldom all compile at
    /// the same time, but neither more than there are nor more compilers than fit into memory.
    #[must_use]
    pub fn cores(self, jobs: u32) -> u32 {
        let cpus = whole(self.cpus);
        let jobs = jobs.max(1);
        let share = cpus.saturating_mul(2).div_ceil(jobs).min(cpus);
        let room = self.memory.bytes() / MEMORY_PER_CORE / u64::from(jobs);
        share.min(u32::try_from(room).unwrap_or(u32::MAX)).max(1)
    }
}

/// Rounded up, at least 1.
fn whole(cpus: f64) -> u32 {
    // In range, so that nothing is lost, whatever the kernel says.
    cpus.ceil().clamp(1.0, 65536.0) as u32
}

/// Lines for nix.conf, to be read after the image's own, by the daemon *and* by the user's Nix: a client sends its own
/// `max-jobs` and `cores` along, and the daemon obeys.
#[must_use]
pub fn nix_conf(config: &Config, capacity: Capacity) -> String {
    let daemon = &config.daemon;
    let jobs = daemon.max_jobs.unwrap_or_else(|| capacity.max_jobs());
    let cores = daemon.cores.unwrap_or_else(|| capacity.cores(jobs));
    let mut lines = vec![format!("max-jobs = {jobs}"), format!("cores = {cores}")];
    if let Some(substituters) = &daemon.substituters {
        lines.push(format!("substituters = {}", substituters.join(" ")).trim_end().to_owned());
    }
    if !daemon.extra_substituters.is_empty() {
        lines.push(format!("extra-substituters = {}", daemon.extra_substituters.join(" ")));
    }
    if !daemon.trusted_public_keys.is_empty() {
        lines.push(trusted_keys(daemon.trusted_public_keys.iter().map(String::as_str)));
    }
    if !daemon.trusted_users.is_empty() {
        lines.push(format!("extra-trusted-users = {}", daemon.trusted_users.join(" ")));
    }
    if daemon.durability == Durability::Strict {
        // The first leaves out what is built (Nix 2.26).
        lines.push("fsync-store-paths = true".to_owned());
        lines.push("sync-before-registering = true".to_owned());
    }
    lines.extend(daemon.nix.iter().map(|(key, value)| format!("{key} = {value}").trim_end().to_owned()));
    // After a list that replaces Nix's own.
    if !config.builder.system_features.is_empty() {
        lines.push(format!("extra-system-features = {}", config.builder.system_features.join(" ")));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A line of nix.conf; several of them add up.
#[must_use]
pub fn trusted_keys<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    keys.fold("extra-trusted-public-keys =".to_owned(), |line, key| line + " " + key)
}

/// Variables for nix-daemon, for sshd's sessions and for jobs. Both spellings of the proxy's, because programs
/// differ in which they read.
#[must_use]
pub fn environment(config: &Config) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    if let Some(proxy) = &config.daemon.proxy {
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            variables.push((name, proxy.clone()));
        }
        let hosts = config.daemon.no_proxy.join(",");
        for name in ["no_proxy", "NO_PROXY"] {
            variables.push((name, hosts.clone()));
        }
    }
    if config.daemon.ca_bundle.is_some() {
        for name in ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE"] {
            variables.push((name, places::CA_BUNDLE.to_owned()));
        }
    }
    variables
}
