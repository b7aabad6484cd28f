//! The image's own `nix-store`, run on the store of the volume (or the image).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::abort::Abort;
use super::error::{Context, StoreError};

/// Fewer arguments than the kernel takes (2 MiB), whatever the names' lengths.
const PATHS_AT_ONCE: usize = 4000;

/// Where the program is, and which store it is to open.
#[derive(Debug, Clone)]
pub(crate) struct NixStore {
    program: PathBuf,
    store: String,
}

impl NixStore {
    /// The profile of the store at `nix` comes first, then PATH.
    pub(crate) fn find(nix: &Path) -> Result<PathBuf, StoreError> {
        let profile = nix.join("var/nix/profiles/default/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::iter::once(profile)
            .chain(std::env::split_paths(&path))
            .map(|dir| dir.join("nix-store"))
            .find(|program| program.exists())
            .ok_or_else(|| StoreError::Image {
                path: nix.into(),
                reason: "it has no nix-store in profiles/default/bin, nor on PATH".into(),
            })
    }

    /// `root` is the folder that holds `nix/store`; `/` is the machine's own store.
    pub(crate) fn new(program: PathBuf, root: &Path) -> Self {
        let store =
            if root == Path::new("/") { "local".into() } else { format!("local?root={}", root.display()) };
        Self { program, store }
    }

    /// The program's version, e.g. `2.26.3`.
    pub(crate) fn version(program: &Path) -> Result<String, StoreError> {
        let output = clean(Command::new(program).arg("--version")).output().context("run", program)?;
        if !output.status.success() {
            return Err(StoreError::Child {
                command: format!("{} --version", program.display()),
                status: output.status.to_string(),
                stderr: tail(&String::from_utf8_lossy(&output.stderr)),
            });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_whitespace().next_back().map(String::from).ok_or_else(|| StoreError::Image {
            path: program.into(),
            reason: format!("--version said {text:?}"),
        })
    }

    /// All valid paths with their registration.
    pub(crate) fn dump_db(&self, lock: Option<&File>, abort: &Abort) -> Result<String, StoreError> {
        self.run(&["--dump-db"], lock, None, abort)
    }

    /// Registers paths that are on disk, in one transaction.
    pub(crate) fn load_db(&self, lock: &File, text: &str, abort: &Abort) -> Result<(), StoreError> {
        self.run(&["--load-db"], Some(lock), Some(text), abort).map(drop)
    }

    /// Deletes what no root keeps alive.
    pub(crate) fn collect(&self, lock: &File, abort: &Abort) -> Result<(), StoreError> {
        self.run(&["--gc", "--quiet"], Some(lock), None, abort).map(drop)
    }

    /// Paths that are not there are valid no more, with all that refers to them, as far as that is not there either. Roots of any kind
    /// keep nothing from it.
    pub(crate) fn forget_missing(&self, lock: Option<&File>, abort: &Abort) -> Result<(), StoreError> {
        self.run(&["--verify", "--quiet"], lock, None, abort).map(drop)
    }

    /// Those of `paths` that are not valid.
    pub(crate) fn invalid(
        &self,
        paths: &[&str],
        lock: &File,
        abort: &Abort,
    ) -> Result<Vec<String>, StoreError> {
        let mut invalid = Vec::new();
        for some in paths.chunks(PATHS_AT_ONCE) {
            let args: Vec<&str> =
                ["--check-validity", "--print-invalid"].iter().chain(some).copied().collect();
            invalid.extend(self.run(&args, Some(lock), None, abort)?.lines().map(String::from));
        }
        Ok(invalid)
    }

    /// The child holds the volume's `lock` as one of its own files: should we be killed, the next start waits until
    /// it has ended too.
    fn run(
        &self,
        args: &[&str],
        lock: Option<&File>,
        input: Option<&str>,
        abort: &Abort,
    ) -> Result<String, StoreError> {
        abort.check()?;
        let held = || match lock {
            Some(lock) => Ok(Stdio::from(lock.try_clone()?)),
            None => Ok(Stdio::null()),
        };
        let held = |path: &Path| held().map_err(|e: std::io::Error| StoreError::io("start", path, e));
        let mut command = Command::new(&self.program);
        // Nothing is built, and without build users it leaves the store folder's group, which not every root may change, alone.
        let options = ["--store", &self.store, "--option", "build-users-group", ""];
        clean(command.args(options).args(args)).stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped()).stdout(held(&self.program)?);
        } else {
            command.stdin(held(&self.program)?).stdout(Stdio::piped());
        }
        let mut child = command.spawn().context("start", &self.program)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (status, stdout, stderr) = std::thread::scope(|scope| {
            let out = scope.spawn(move || read(stdout));
            let err = scope.spawn(move || read(stderr));
            if let (Some(mut stdin), Some(text)) = (stdin, input) {
                // A child that dies early says why itself.
                let _ = stdin.write_all(text.as_bytes());
            }
            (abort.wait(&mut child), out.join().unwrap_or_default(), err.join().unwrap_or_default())
        });
        let status = match status {
            // Who serves takes the statuses of all children, as many are not its own. What this one did has to be looked at.
            Err(error) if lock.is_none() && error.raw_os_error() == Some(Errno::ECHILD as i32) => {
                return Ok(stdout);
            }
            status => status.context("wait for", &self.program)?,
        };
        if status.success() {
            return Ok(stdout);
        }
        abort.check()?;
        let shown = args.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        Err(StoreError::Child {
            command: format!("nix-store --store {} {shown}", self.store),
            status: status.to_string(),
            stderr: tail(&stderr),
        })
    }
}

/// Nothing of the container's environment may lead Nix elsewhere.
fn clean(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", "/").env("NIX_USER_CONF_FILES", OsStr::new(""))
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // Cut off: the exit status tells.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines, which hold the error; the rest is what it did before.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
