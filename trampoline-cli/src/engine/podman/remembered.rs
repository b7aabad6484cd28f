//! The last answer of `podman info`, kept as long as nothing has changed that it depends on. podman asks its helpers and the
//! package manager for their versions each time, which takes as long as starting two containers.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{command, machine, preflight};
use crate::error::Result;
use crate::render::digest;
use crate::state;
use crate::ui::Ui;

/// Beside the builders' folder.
const FILE: &str = "podman-info.json";
/// What leads podman to other settings or another storage.
const VARIABLES: [&str; 7] = [
    "CONTAINERS_CONF",
    "CONTAINERS_CONF_OVERRIDE",
    "CONTAINERS_STORAGE_CONF",
    "STORAGE_DRIVER",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];
/// What tells how much there is of the machine, and that it is still the same start of it.
const MACHINE: [&str; 2] = ["/proc/sys/kernel/random/boot_id", "/sys/fs/cgroup/cgroup.controllers"];

#[derive(Serialize, Deserialize)]
struct Remembered {
    /// Of all that it depends on.
    facts: String,
    info: serde_json::Value,
}

/// From memory where it holds and finds nothing wrong; what stands in a builder's way may be gone by now.
pub(super) async fn info(ui: Ui) -> Result<machine::Info> {
    // Nothing here changes with another machine.
    let facts = if command::is_remote() { None } else { facts() };
    if let Some(info) = facts.as_deref().and_then(|facts| read(facts, ui)) {
        return Ok(info);
    }
    let bytes = machine::ask(ui).await?;
    let info = machine::parse(&bytes)?;
    if let (Some(facts), true) = (facts, is_good(&info, ui)) {
        // Without it the next command asks again, nothing else.
        let _ = write(facts, &bytes);
    }
    Ok(info)
}

fn path() -> Option<PathBuf> {
    Some(state::root().ok()?.parent()?.join(FILE))
}

fn read(facts: &str, ui: Ui) -> Option<machine::Info> {
    let text = std::fs::read(path()?).ok()?;
    let remembered = serde_json::from_slice::<Remembered>(&text).ok().filter(|old| old.facts == facts)?;
    serde_json::from_value::<machine::Info>(remembered.info).ok().filter(|info| is_good(info, ui))
}

fn write(facts: String, bytes: &[u8]) -> Option<()> {
    let remembered = Remembered { facts, info: serde_json::from_slice(bytes).ok()? };
    let path = path()?;
    std::fs::create_dir_all(path.parent()?).ok()?;
    state::replace(&path, &serde_json::to_vec(&remembered).ok()?, 0o600).ok()
}

/// Nothing to refuse, to warn of or to leave out.
fn is_good(info: &machine::Info, ui: Ui) -> bool {
    info.store.graph_driver_name != "vfs"
        && info.capacity().limits.is_ok()
        && preflight::check(info, ui).is_ok()
}

/// `None` where podman cannot be found.
fn facts() -> Option<String> {
    let program = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(command::PROGRAM))
        .find(|path| path.is_file())?;
    let mut text = std::fs::read_to_string(MACHINE[0]).ok()?;
    text.extend(std::fs::read_to_string(MACHINE[1]));
    text.extend(std::fs::read_to_string("/proc/meminfo").ok()?.lines().next());
    for variable in VARIABLES {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{variable}={:?}", std::env::var_os(variable));
    }
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let _ = writeln!(text, "{} {cpus}", rustix::process::geteuid().as_raw());
    for file in files(program) {
        let seen =
            std::fs::metadata(&file).map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()));
        let _ = writeln!(text, "{} {:?}", file.display(), seen.ok());
    }
    Some(digest(text.as_bytes()))
}

/// Those whose change may change the answer.
fn files(program: PathBuf) -> Vec<PathBuf> {
    let mut files = vec![program, "/etc/subuid".into(), "/etc/subgid".into()];
    let named = |key: &str| std::env::var_os(key).map(PathBuf::from);
    files.extend(
        ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_STORAGE_CONF"]
            .map(named)
            .into_iter()
            .flatten(),
    );
    let own = named("XDG_CONFIG_HOME").or_else(|| named("HOME").map(|home| home.join(".config")));
    let folders = ["/usr/share/containers", "/etc/containers"].map(PathBuf::from).into_iter();
    for folder in folders.chain(own.map(|own| own.join("containers"))) {
        files.extend(["containers.conf", "containers.conf.d", "storage.conf"].map(|name| folder.join(name)));
    }
    // Programs that podman reports as there.
    files.extend(["/usr/bin", "/usr/libexec/podman", "/usr/lib/podman"].map(|dir| Path::new(dir).to_owned()));
    files
}
