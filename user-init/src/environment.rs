//! What sessions and jobs find in their environment, and where programs are.

use std::path::{Path, PathBuf};

use agent::paths::Paths;
use contract::config::Config;
use contract::places;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Folders with programs: the user's profiles, the image's profile, and where the offline base has them.
fn search_path(paths: &Paths) -> Vec<PathBuf> {
    let profile = paths.default_profile();
    let mut dirs = vec![
        paths.home.join(".nix-profile/bin"),
        paths.home.join(".local/state/nix/profile/bin"),
        profile.join("bin"),
        profile.join("sbin"),
    ];
    dirs.extend(["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs
}

/// An absolute path of a program of the image. The user's own profile does not count: sshd and `nix` are not his to replace.
#[must_use]
pub fn find(paths: &Paths, name: &str) -> Option<PathBuf> {
    let own = &paths.home;
    search_path(paths).into_iter().filter(|d| !d.starts_with(own)).map(|d| d.join(name)).find(|p| p.is_file())
}

/// Variables in a fixed order. `TERM` and what sshd adds stay as they are.
#[must_use]
pub fn variables(paths: &Paths, config: &Config) -> Vec<(String, String)> {
    let path: Vec<String> = search_path(paths).iter().map(|d| d.display().to_string()).collect();
    let mut variables = vec![
        ("PATH".to_owned(), path.join(":")),
        ("HOME".to_owned(), paths.home.display().to_string()),
        ("USER".to_owned(), places::USER.to_owned()),
        ("LOGNAME".to_owned(), places::USER.to_owned()),
        // Only the daemon opens the store.
        ("NIX_REMOTE".to_owned(), "daemon".to_owned()),
    ];
    let bundle = paths.default_profile().join("etc/ssl/certs/ca-bundle.crt");
    if config.daemon.ca_bundle.is_none() && bundle.is_file() {
        // As nixos/nix sets them: there is nothing at the places where programs look by themselves.
        for name in ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "GIT_SSL_CAINFO"] {
            variables.push((name.to_owned(), bundle.display().to_string()));
        }
    }
    variables.extend(contract::config::environment(config).into_iter().map(|(k, v)| (k.to_owned(), v)));
    variables
}

/// The shell that commands run in.
#[must_use]
pub fn shell(paths: &Paths) -> PathBuf {
    let usable = |p: &PathBuf| p.is_absolute() && p.is_file();
    let own = std::env::var_os("SHELL").map(PathBuf::from).filter(usable);
    // A plain `sh` gives no history and no completion: bash where there is one.
    let own = own.filter(|p| p.file_name().is_some_and(|n| n != "sh" && n != "nologin" && n != "false"));
    own.or_else(|| find(paths, "bash"))
        .or_else(|| find(paths, "sh"))
        .unwrap_or_else(|| Path::new("/bin/sh").to_owned())
}

/// The limit on processes that is in force for what we start.
#[must_use]
pub fn process_limit(config: &Config) -> u64 {
    let hard = getrlimit(Resource::RLIMIT_NPROC).map_or(RLIM_INFINITY, |(_, hard)| hard);
    config.user.max_processes.min(hard)
}

/// Sets it on this process, so that all that it starts inherits it: under `kube play` nothing else limits the number.
pub fn limit_processes(config: &Config) {
    let limit = process_limit(config);
    if let Err(error) = setrlimit(Resource::RLIMIT_NPROC, limit, limit) {
        tracing::warn!(error = %error, limit, "no limit on processes");
    }
}
