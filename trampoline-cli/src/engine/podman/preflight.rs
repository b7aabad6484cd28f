//! Machines on which a builder would fail later, with a message that nobody understands.

use std::path::Path;

use contract::exit::Exit;

use super::command;
use super::machine::{IdMap, Info};
use crate::error::{CliError, Result};
use crate::ui::Ui;

/// Ids that the pod uses: the highest is `nobody`, the usual range is 65536.
const IDS: u64 = 65_536;
/// The first version whose `kube play` was tried.
const OLDEST: (u32, u32) = (4, 3);

/// Refuses, or warns.
pub(super) fn check(info: &Info, ui: Ui) -> Result<()> {
    version(&info.version.version)?;
    if info.store.graph_driver_name == "vfs" {
        ui.warn(
            "podman copies every image whole (storage driver vfs): starting takes 20 times as long and much disk; \
             install fuse-overlayfs, then `podman system reset` (it removes all of your containers and images)",
        );
    }
    if !info.host.security.rootless {
        return Ok(());
    }
    let mappings = info.host.id_mappings.as_ref();
    enough_ids("subuid", mappings.and_then(|m| m.uidmap.as_deref()).unwrap_or_default())?;
    enough_ids("subgid", mappings.and_then(|m| m.gidmap.as_deref()).unwrap_or_default())?;
    if command::is_remote() {
        // The programs of another machine cannot be looked for; `podman machine` brings them.
        return Ok(());
    }
    program("newuidmap", "uidmap", "rootless podman cannot map ids without it")?;
    network(info)?;
    if find("catatonit").is_none() && !Path::new("/usr/libexec/podman/catatonit").exists() {
        return Err(missing("catatonit", "catatonit", "rootless podman keeps its namespace with it"));
    }
    Ok(())
}

fn version(text: &str) -> Result<()> {
    let mut numbers = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if text.is_empty() || found >= OLDEST {
        return Ok(());
    }
    Err(CliError::new(Exit::Unsupported, format!("podman {text} is too old"))
        .hint("podman 4.3 or newer is needed: Debian 12, Ubuntu 24.04, Fedora 37 and RHEL 9.2 have it"))
}

fn enough_ids(file: &str, maps: &[IdMap]) -> Result<()> {
    let covered = maps.iter().map(|map| map.container_id.saturating_add(map.size)).max().unwrap_or(0);
    if covered >= IDS {
        return Ok(());
    }
    let option = if file == "subuid" { "--add-subuids" } else { "--add-subgids" };
    let (user, whose) = if command::is_remote() {
        ("USER".to_owned(), "of the machine that runs podman gives its user".to_owned())
    } else {
        let user = crate::settings::user_name();
        (user.clone(), format!("gives {user}"))
    };
    Err(CliError::new(
        Exit::Unsupported,
        format!(
            "/etc/{file} {whose} too few subordinate ids: {covered} of {IDS} that the builder's users need"
        ),
    )
    .hint(format!("sudo usermod {option} 100000-165535 {user} && podman system migrate")))
}

fn network(info: &Info) -> Result<()> {
    if info.host.slirp4netns.executable.is_empty() && info.host.pasta.executable.is_empty() {
        return Err(missing(
            "slirp4netns",
            "slirp4netns (or passt)",
            "rootless pods have no network without it",
        ));
    }
    let tun = Path::new("/dev/net/tun");
    if std::fs::OpenOptions::new().read(true).write(true).open(tun).is_err() {
        return Err(CliError::new(
            Exit::Unsupported,
            format!("{} cannot be opened: rootless pods have no network", tun.display()),
        )
        .hint("sudo modprobe tun && sudo chmod 0666 /dev/net/tun"));
    }
    if info.host.network_backend == "netavark" && find("nft").is_none() && find("iptables").is_none() {
        return Err(missing("iptables", "iptables", "netavark forwards the SSH port with it"));
    }
    Ok(())
}

fn program(name: &str, package: &str, why: &str) -> Result<()> {
    if find(name).is_some() { Ok(()) } else { Err(missing(name, package, why)) }
}

fn missing(name: &str, package: &str, why: &str) -> CliError {
    CliError::new(Exit::Unsupported, format!("{name} is not installed: {why}"))
        .hint(format!("install the package {package} (`sudo apt install {package}` on Debian and Ubuntu)"))
}

/// On PATH, or where administrators' programs are.
fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_refused() {
        for (text, fine) in [
            ("4.3.1", true),
            ("5.0.0-dev", true),
            ("10.1", true),
            ("", true),
            ("3.4.4", false),
            ("4.2.9", false),
        ] {
            assert_eq!(version(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn a_small_range_of_ids_is_named() {
        let few = [IdMap { container_id: 0, size: 1 }, IdMap { container_id: 1, size: 1000 }];
        let error = enough_ids("subuid", &few).unwrap_err();
        assert!(error.message.contains("1001 of 65536"), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("--add-subuids")));
        let usual = [IdMap { container_id: 0, size: 1 }, IdMap { container_id: 1, size: 65536 }];
        assert!(enough_ids("subuid", &usual).is_ok());
    }
}
