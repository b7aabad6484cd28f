//! Public keys of the person at this machine.

use std::path::PathBuf;

use contract::exit::Exit;
use tokio::process::Command;

use crate::error::{CliError, OnPath, Result};
use crate::state::State;
use crate::ui::Ui;

/// A key made for this builder, in the client's state.
pub(crate) const OWN_KEY: &str = "ssh/id_ed25519";

/// Names that OpenSSH looks for by itself.
const USUAL: [&str; 5] = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];

/// What was found, one `authorized_keys` line each.
pub(crate) struct Keys {
    /// The lines.
    pub(crate) lines: Vec<String>,
    /// For a person.
    pub(crate) source: String,
}

impl Keys {
    /// As the builder takes them.
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

/// From `~/.ssh/id_*.pub`, the agent, or made for this builder.
pub(crate) async fn find(state: &State, ui: Ui) -> Result<Keys> {
    let own = state.path(&format!("{OWN_KEY}.pub"));
    let mut lines = Vec::new();
    let mut sources = Vec::new();
    for path in files() {
        if let Some(line) = std::fs::read_to_string(&path).ok().and_then(|text| first_key(&text)) {
            lines.push(line);
            sources.push(path.display().to_string());
        }
    }
    let from_agent = agent().await;
    if !from_agent.is_empty() {
        sources.push("the ssh agent".to_owned());
        lines.extend(from_agent);
    }
    if lines.is_empty() {
        if !own.exists() {
            generate(state, ui).await?;
        }
        let text = std::fs::read_to_string(&own).on("cannot read", &own)?;
        lines.extend(first_key(&text));
        sources.push(own.display().to_string());
    }
    let mut seen = std::collections::BTreeSet::new();
    // The same key with another comment is the same key.
    lines.retain(|line| seen.insert(line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")));
    Ok(Keys { lines, source: sources.join(", ") })
}

fn files() -> Vec<PathBuf> {
    let Some(dir) = ssh_dir() else { return Vec::new() };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("id_") && name.ends_with(".pub"))
        })
        .collect();
    paths.sort();
    paths
}

/// What ssh is to offer, besides the agent's: the keys that are let in. By itself it looks for a few names alone, and not below `HOME` but
/// where the password file says; and for none of these once another is named.
pub(crate) fn identities(state: &State) -> Vec<PathBuf> {
    let usual = ssh_dir().into_iter().flat_map(|dir| USUAL.map(|name| dir.join(name)));
    let found = files().into_iter().map(|path| path.with_extension(""));
    let mut identities = vec![state.path(OWN_KEY)];
    for path in found.chain(usual) {
        if !identities.contains(&path) {
            identities.push(path);
        }
    }
    identities.retain(|path| path.is_file());
    identities
}

/// `~/.ssh`.
pub(crate) fn ssh_dir() -> Option<PathBuf> {
    home().map(|home| home.join(".ssh"))
}

/// The person's home.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

async fn agent() -> Vec<String> {
    if std::env::var_os("SSH_AUTH_SOCK").is_none() {
        return Vec::new();
    }
    // No agent, no keys, no ssh: then there are none from there.
    let Ok(output) = Command::new("ssh-add").arg("-L").output().await else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(first_key).collect()
}

fn first_key(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let kind = line.split_whitespace().next()?;
    let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| kind.starts_with(prefix));
    // The builder takes no control characters, which a comment may hold.
    known.then(|| line.replace(char::is_control, " "))
}

async fn generate(state: &State, ui: Ui) -> Result<()> {
    let path = state.path(OWN_KEY);
    // Makes the folder with the right mode.
    state.write_bytes(
        "ssh/README",
        b"The key of one builder, made because none was found in ~/.ssh.\n",
        0o600,
    )?;
    let comment = format!("trampoline {}", crate::settings::owner());
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f"])
        .arg(&path)
        .output()
        .await
        .map_err(|error| {
            CliError::new(
                Exit::Unsupported,
                format!("no SSH key was found, and ssh-keygen cannot be run: {error}"),
            )
            .hint("install the package openssh-client")
        })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(CliError::new(Exit::ChildFailed, format!("ssh-keygen failed: {words}")));
    }
    ui.say(format!("no SSH key in ~/.ssh or the agent: made one for this builder, {}", path.display()));
    Ok(())
}
