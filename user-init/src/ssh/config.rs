//! sshd_config: keys only, this user only, everything through `user-init session`.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use agent::files;
use contract::config::Config;
use contract::places::Container;

use super::{BANNER, CONFIG_KEYS, host_key_file, keys};
use crate::Place;
use crate::environment;
use crate::error::{Error, Result, io_error};

/// Whoever has not come in by then is turned away.
pub(crate) const LOGIN: Duration = Duration::from_secs(60);
/// File name in the run folder.
const CONFIG: &str = "sshd_config";

/// sshd, ready to start.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// By absolute path, as it insists on.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
}

/// Makes host key and configuration, and has sshd check them.
///
/// # Errors
/// When the image has no sshd, or it refuses its configuration.
pub fn prepare(place: &Place, config: &Config) -> Result<Prepared> {
    let program = environment::find(&place.paths, "sshd")
        .ok_or_else(|| Error::Child("the image has no sshd".into()))?;
    keys::make_host_key(&place.paths)?;
    keys::write_config_keys(&place.paths, config)?;
    let dir = place.paths.run_dir(Container::User);
    let prepared = Prepared { config: dir.join(CONFIG), program };
    let user = user_name()?;
    // The penalties of OpenSSH 9.8 lock everybody out, as all clients come from one address; older ones do not know the word.
    let mut said = String::new();
    for penalties in [true, false] {
        let text = text(place, config, &user, &prepared.program, penalties);
        files::write_bytes(&dir, CONFIG, 0o600, text.as_bytes())?;
        match check(&prepared)? {
            None => return Ok(prepared),
            Some(complaint) => said = complaint,
        }
    }
    Err(Error::Child(format!("{} refuses its configuration: {said}", prepared.program.display())))
}

/// What sshd has to say against it.
fn check(prepared: &Prepared) -> Result<Option<String>> {
    let checked = Command::new(&prepared.program)
        .arg("-t")
        .arg("-f")
        .arg(&prepared.config)
        .stdin(Stdio::null())
        .output()
        .map_err(io_error("start", &prepared.program))?;
    let said = String::from_utf8_lossy(&checked.stderr).trim().to_owned();
    Ok((!checked.status.success()).then_some(said))
}

/// The only one that sshd can serve without privilege: whom it runs as.
fn user_name() -> Result<String> {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => Ok(user.name),
        Ok(None) => Err(Error::Child(format!("the image has no user with the id {uid}"))),
        Err(e) => Err(io_error("read", Path::new("/etc/passwd"))(e.into())),
    }
}

/// Next to the real sshd in its own package, or where Debian has it.
fn sftp_server(sshd: &Path) -> Option<PathBuf> {
    let real = sshd.canonicalize().ok()?;
    let package = real.parent()?.parent()?;
    let places = [package.join("libexec/sftp-server"), "/usr/lib/openssh/sftp-server".into()];
    places.into_iter().find(|p| p.metadata().is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0))
}

fn text(place: &Place, config: &Config, user: &str, sshd: &Path, penalties: bool) -> String {
    let paths = &place.paths;
    let run = paths.run_dir(Container::User);
    let config_keys = run.join(CONFIG_KEYS);
    let set: String = environment::variables(paths, config)
        .iter()
        // The rest is set by the session, from the configuration of that moment.
        .filter(|(name, _)| name == "PATH" || name == "NIX_REMOTE")
        .map(|(name, value)| format!(" \"{name}={value}\""))
        .collect();
    let grace = LOGIN.as_secs();
    let mut text = format!(
        "# Written by user-init at each start.\n\
         Port {port}\n\
         HostKey {key}\n\
         PidFile none\n\
         UsePAM no\n\
         AllowUsers {user}\n\
         AuthenticationMethods publickey\n\
         PubkeyAuthentication yes\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         AuthorizedKeysFile {config_keys} {home}/.ssh/authorized_keys\n\
         # There while there is no key.\n\
         Banner {banner}\n\
         StrictModes yes\n\
         PermitUserEnvironment no\n\
         PermitUserRC no\n\
         ForceCommand {program} session --kind ssh\n\
         SetEnv{set}\n\
         # Nix opens a connection per derivation, and all clients come from one address.\n\
         MaxStartups 1000:30:2000\n\
         MaxSessions 1000\n\
         PerSourceMaxStartups none\n\
         LoginGraceTime {grace}\n\
         # A client whose machine fell asleep is no session.\n\
         ClientAliveInterval 30\n\
         ClientAliveCountMax 4\n\
         # Ports of programs that run in the builder are for its users; credentials are not passed on, as all who\n\
         # have a key are one user there.\n\
         AllowTcpForwarding yes\n\
         AllowStreamLocalForwarding no\n\
         AllowAgentForwarding no\n\
         GatewayPorts no\n\
         X11Forwarding no\n\
         PermitTunnel no\n\
         PrintMotd no\n\
         PrintLastLog no\n\
         UseDNS no\n",
        port = place.ssh_port,
        key = host_key_file(paths).display(),
        config_keys = config_keys.display(),
        banner = run.join(BANNER).display(),
        home = paths.home.display(),
        program = place.program().display(),
    );
    if penalties {
        text.push_str("PerSourcePenalties no\n");
    }
    if let Some(sftp) = sftp_server(sshd) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Subsystem sftp {}", sftp.display());
    }
    text
}
