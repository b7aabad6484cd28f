//! OpenSSH's side of a builder: a Host block of its own, with a pinned host key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use contract::exit::Exit;
use contract::places::{USER, USER_INIT};

use crate::context::Context;
use crate::error::{CliError, OnPath, Result};
use crate::state::{self, State};
use crate::wake;
use crate::{keys, remote};

/// In the client's state: what `ssh -F` is given.
const CONFIG: &str = "ssh/config";
/// In the client's state: the builder's host key and nothing else.
const KNOWN_HOSTS: &str = "ssh/known_hosts";
/// Below `~/.ssh`.
const FOLDER: &str = "trampoline";
/// The line in `~/.ssh/config`.
const INCLUDE: &str = "Include trampoline/*.conf  # by trampoline-cli ssh-config";

/// Alias under which the host key is pinned: the address is shared by all builders.
fn alias(name: &str) -> String {
    format!("trampoline-{name}")
}

/// Asks the builder for its host key and writes the files of the client's state. The builder must run.
pub(crate) async fn refresh(context: &Context) -> Result<PathBuf> {
    let output = wake::exec(context, &[USER_INIT, "host-key"], &[]).await?;
    if output.code != 0 {
        return Err(remote::failed("cannot read the builder's host key", &output));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    let (Some(kind), Some(key)) = (words.next(), words.next()) else {
        return Err(CliError::new(Exit::Internal, "the builder has no host key"));
    };
    let line = format!("{} {kind} {key}\n", alias(&context.name));
    context.state.write_bytes(KNOWN_HOSTS, line.as_bytes(), 0o600)?;
    let block = block(context)?;
    context.state.write_bytes(CONFIG, block.as_bytes(), 0o600)?;
    Ok(context.state.path(CONFIG))
}

/// The Host block.
pub(crate) fn block(context: &Context) -> Result<String> {
    let Context { name, state, .. } = context;
    let program = std::env::current_exe().on("cannot find", Path::new("this program"))?;
    let mut identities = String::new();
    // One that OpenSSH cannot be given it would not find either.
    for path in keys::identities(state).iter().filter_map(|path| quoted(path).ok()) {
        identities += &format!("    IdentityFile {path}\n");
    }
    // ssh is run in any folder, and the file that names the engine may not be there.
    let options: Result<Vec<String>> =
        context.options.iter().map(|option| shell_quoted(Path::new(option))).collect();
    let options = options?;
    // The cipher is worth a factor of 1.4 on large transfers. Keep-alives end a connection whose builder is gone. A shared
    // connection would outlive a stop of the builder, and count as activity.
    Ok(format!(
        "# Builder {name} of trampoline-cli.\n\
         Host {name}\n\
         \x20   HostName 127.0.0.1\n\
         \x20   HostKeyAlias {alias}\n\
         \x20   User {USER}\n\
         \x20   ProxyCommand {program} {options} proxy {name}\n\
         {identities}\
         \x20   UserKnownHostsFile {known}\n\
         \x20   GlobalKnownHostsFile /dev/null\n\
         \x20   StrictHostKeyChecking yes\n\
         \x20   UpdateHostKeys no\n\
         \x20   ServerAliveInterval 15\n\
         \x20   ServerAliveCountMax 4\n\
         \x20   ControlMaster no\n\
         \x20   ControlPath none\n\
         \x20   Ciphers ^aes128-gcm@openssh.com\n",
        alias = alias(name),
        program = shell_quoted(&program)?,
        options = options.join(" "),
        known = quoted(&state.path(KNOWN_HOSTS))?,
    ))
}

/// As ssh_config reads a path: double quotes, `%` doubled.
fn quoted(path: &Path) -> Result<String> {
    let text = utf8(path)?.replace('%', "%%");
    Ok(if text.contains(' ') { format!("\"{text}\"") } else { text })
}

/// As the shell that runs a ProxyCommand reads it, within ssh_config.
fn shell_quoted(path: &Path) -> Result<String> {
    let text = utf8(path)?.replace('%', "%%");
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+%".contains(c));
    Ok(if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) })
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().filter(|text| !text.contains(['"', '\n'])).ok_or_else(|| {
        CliError::new(Exit::Io, format!("OpenSSH cannot be given the path {}", path.display()))
            .hint("set XDG_STATE_HOME to a folder with a plain name")
    })
}

fn ssh_dir() -> Result<PathBuf> {
    keys::ssh_dir().ok_or_else(|| {
        CliError::new(Exit::Config, "HOME is not set").hint("`ssh-config --stdout` prints the block")
    })
}

/// Where the block is put.
pub(crate) fn installed(name: &str) -> Result<PathBuf> {
    Ok(ssh_dir()?.join(FOLDER).join(format!("{name}.conf")))
}

/// Writes the block to a file of its own, which `~/.ssh/config` includes.
pub(crate) fn install(name: &str, block: &str) -> Result<PathBuf> {
    let path = installed(name)?;
    for dir in [ssh_dir()?, ssh_dir()?.join(FOLDER)] {
        if !dir.exists() {
            fs::create_dir(&dir).on("cannot create", &dir)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
                .on("cannot change the mode of", &dir)?;
        }
    }
    state::replace(&path, block.as_bytes(), 0o600)?;
    edit_config(|lines| {
        if !lines.iter().any(|line| line == INCLUDE) {
            // At the top: below a Host line it would count for that host alone.
            lines.insert(0, INCLUDE.to_owned());
        }
    })?;
    Ok(path)
}

/// Whether there is anything to remove.
pub(crate) fn exists(state: &State) -> Result<bool> {
    Ok(state.path(CONFIG).exists())
}

/// Takes the block away, and the line with the last one.
pub(crate) fn remove(name: &str, state: &State) -> Result<()> {
    for file in [CONFIG, KNOWN_HOSTS] {
        state.forget(file)?;
    }
    let Ok(path) = installed(name) else { return Ok(()) };
    // Another builder of this name, on another engine, may have taken its place.
    let ours = quoted(&state.path(KNOWN_HOSTS))?;
    if !fs::read_to_string(&path).is_ok_and(|block| block.contains(&ours)) {
        return Ok(());
    }
    fs::remove_file(&path).on("cannot remove", &path)?;
    let dir = ssh_dir()?.join(FOLDER);
    let empty = fs::read_dir(&dir).on("cannot read", &dir)?.next().is_none();
    if empty {
        fs::remove_dir(&dir).on("cannot remove", &dir)?;
        edit_config(|lines| lines.retain(|line| line != INCLUDE))?;
    }
    Ok(())
}

/// Changes `~/.ssh/config` if need be, which may be a link to where the user keeps such files.
fn edit_config(change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
    let path = ssh_dir()?.join("config");
    let path = fs::canonicalize(&path).unwrap_or(path);
    let (bytes, mode) = match fs::read(&path) {
        Ok(bytes) => (bytes, fs::metadata(&path).on("cannot read", &path)?.permissions().mode() & 0o777),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Vec::new(), 0o600),
        Err(error) => return Err(CliError::io("cannot read", &path, &error)),
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::new(Exit::Io, format!("{} is not UTF-8", path.display())))?;
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    change(&mut lines);
    let new = lines.join("\n");
    if new == text {
        return Ok(());
    }
    state::replace(&path, new.as_bytes(), mode).map_err(|error| {
        error.hint(format!("put this line at the top of {} yourself: {INCLUDE}", path.display()))
    })
}
