//! Public keys: the builder's own and those that may come in.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use agent::files;
use agent::paths::Paths;
use contract::config::Config;
use contract::places::Container;
use nix::fcntl::{Flock, FlockArg};

use super::{BANNER, CONFIG_KEYS, host_key_file, key_dir};
use crate::environment;
use crate::error::{Error, Result, errno, io_error};

/// Longest that anybody's is.
const KEY_MAX: usize = 16 << 10;

/// Makes the host key if there is none: under another name first, so that a half-made one never counts.
///
/// # Errors
/// When the image has no `ssh-keygen` or it fails.
pub(super) fn make_host_key(paths: &Paths) -> Result<()> {
    let key = host_key_file(paths);
    let public = key.with_extension("pub");
    if key.is_file() && public.is_file() {
        return Ok(());
    }
    let keygen = environment::find(paths, "ssh-keygen")
        .ok_or_else(|| Error::Child("the image has no `ssh-keygen`".into()))?;
    let new = key_dir(paths).join(".host_key.new");
    let new_public = new.with_extension("new.pub");
    files::withdraw(&new)?;
    files::withdraw(&new_public)?;
    let made = Command::new(&keygen)
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "trampoline", "-f"])
        .arg(&new)
        .stdin(Stdio::null())
        .output()
        .map_err(io_error("start", &keygen))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        return Err(Error::Child(format!("{} failed: {}", keygen.display(), said.trim())));
    }
    fs::rename(&new_public, &public).map_err(io_error("put in place", &public))?;
    fs::rename(&new, &key).map_err(io_error("put in place", &key))
}

/// The public host key, for the client to pin.
///
/// # Errors
/// When there is none yet.
pub fn host_key(paths: &Paths) -> Result<String> {
    let path = host_key_file(paths).with_extension("pub");
    fs::read_to_string(&path).map_err(io_error("read", &path))
}

/// Writes the keys of the configuration where sshd looks at each login.
///
/// # Errors
/// When the run folder cannot be written.
pub fn write_config_keys(paths: &Paths, config: &Config) -> Result<()> {
    let mut text = config.user.authorized_keys.join("\n");
    text.push('\n');
    files::write_bytes(&paths.run_dir(Container::User), CONFIG_KEYS, 0o600, text.as_bytes())?;
    tell_how_to_come_in(paths)
}

/// What sshd says before it refuses everybody: a builder that was made without the client has no key.
const NO_KEY: &str = "\
This builder lets nobody in over SSH yet: it has no key. Whoever may `kubectl exec` into it adds one with
`trampoline-cli setup`, or under [user] authorized-keys in trampoline.toml, which is in its ConfigMap.
";

/// Puts [`NO_KEY`] where sshd looks for it at each login, or takes it away.
fn tell_how_to_come_in(paths: &Paths) -> Result<()> {
    let dir = paths.run_dir(Container::User);
    if listed(paths)?.is_empty() {
        files::write_bytes(&dir, BANNER, 0o600, NO_KEY.as_bytes()).map_err(Into::into)
    } else {
        files::withdraw(&dir.join(BANNER)).map_err(Into::into)
    }
}

/// A public key as `ssh-add -L` prints it: type, base64, comment. Without options: those could undo what the
/// server's configuration says.
fn parse(line: &str) -> Result<(&str, &str)> {
    let wrong = || {
        let start: String = line.chars().take(40).collect();
        Error::Usage(format!("{start:?} is no public key: type, base64, comment, without options"))
    };
    let mut words = line.split_ascii_whitespace();
    let (kind, blob) = words.next().zip(words.next()).ok_or_else(wrong)?;
    let known = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| kind.starts_with(prefix));
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    // Each blob begins with the length of its type's name: 0, 0, 0.
    let fits = known && line.len() <= KEY_MAX && blob.starts_with("AAAA") && blob.bytes().all(base64);
    if fits && !line.chars().any(char::is_control) { Ok((kind, blob)) } else { Err(wrong()) }
}

/// Adds keys (one a line; empty lines and comments are skipped) to `~/.ssh/authorized_keys`. Returns how many are new.
///
/// # Errors
/// When one is no key; then none is added.
pub fn add(paths: &Paths, text: &str) -> Result<usize> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    if lines.is_empty() {
        return Err(Error::Usage("no public key on standard input".into()));
    }
    let keys = lines.iter().map(|l| parse(l)).collect::<Result<Vec<_>>>()?;
    let dir = paths.home.join(".ssh");
    let _lock = lock(&dir)?;
    let file = dir.join("authorized_keys");
    let mut there = match fs::read_to_string(&file) {
        Ok(there) => there,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(io_error("read", &file)(e)),
    };
    let mut new = 0;
    for (line, (_, blob)) in lines.iter().zip(keys) {
        if there.lines().any(|l| l.split_ascii_whitespace().any(|word| word == blob)) {
            continue;
        }
        if !there.is_empty() && !there.ends_with('\n') {
            there.push('\n');
        }
        there.push_str(line);
        there.push('\n');
        new += 1;
    }
    if new > 0 {
        files::write_bytes(&dir, "authorized_keys", 0o600, there.as_bytes())?;
    }
    tell_how_to_come_in(paths)?;
    Ok(new)
}

/// Two clients may add at once.
fn lock(dir: &Path) -> Result<Flock<fs::File>> {
    let path = dir.join(".trampoline.lock");
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| errno("lock", &path)(e))
}

/// All keys that may come in: the configuration's, then those that were added.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn listed(paths: &Paths) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for file in [paths.run_dir(Container::User).join(CONFIG_KEYS), paths.home.join(".ssh/authorized_keys")] {
        match fs::read_to_string(&file) {
            Ok(text) => {
                let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
                keys.extend(lines.map(str::to_owned));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_error("read", &file)(e)),
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBJGXmjOvTTDrbYcJcGLEYZpoMQWmJbTxMnVVE4LZyZ9 me@here";

    #[test]
    fn keys_are_added_once_and_only_keys() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        fs::create_dir_all(paths.home.join(".ssh")).unwrap();
        fs::write(paths.home.join(".ssh/authorized_keys"), "# mine").unwrap();
        let run = paths.run_dir(Container::User);
        fs::create_dir_all(&run).unwrap();
        let banner = run.join(BANNER);
        write_config_keys(&paths, &Config::default()).unwrap();
        assert!(fs::read_to_string(&banner).unwrap().contains("trampoline-cli setup"));
        assert_eq!(add(&paths, &format!("\n# a comment\n{KEY}\n")).unwrap(), 1);
        assert!(!banner.exists(), "it is for those whom no key lets in");
        assert_eq!(add(&paths, &KEY.replace("me@here", "other")).unwrap(), 0);
        for bad in [
            "",
            "hello",
            "ssh-ed25519",
            "command=\"x\" ssh-ed25519 AAAA",
            "ssh-rsa AAAA$x",
            "ssh-rsa AAAAB\u{7}",
        ] {
            assert!(add(&paths, bad).is_err(), "{bad:?}");
        }
        assert!(add(&paths, &format!("{}\nnonsense", KEY.replace("BJGX", "CJGX"))).is_err());
        assert_eq!(listed(&paths).unwrap(), [KEY]);
        let mode = std::os::unix::fs::MetadataExt::mode(
            &fs::metadata(paths.home.join(".ssh/authorized_keys")).unwrap(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
