//! Mounts and loop devices of the tests. Each goes when its value does, also when a test fails; what a killed test
//! run has left goes when the next begins.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// Begins the name of everything that is made here.
const PREFIX: &str = "trampoline-test-seed-";

/// Runs a command that must work.
pub(crate) fn run(program: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) {
    let output = Command::new(program).args(args.iter().map(AsRef::as_ref)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {text}");
}

/// Something that is mounted.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(folder: &Path, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let args: Vec<_> = args.iter().copied().chain([&folder as &dyn AsRef<std::ffi::OsStr>]).collect();
        run("mount", &args);
        Self(folder.into())
    }

    /// A file with a file system in it; mount frees the loop device that it takes.
    pub(crate) fn image(folder: &Path, file: &Path, options: &str) -> Self {
        Self::new(folder, &[&"-o", &format!("loop,{options}"), &file])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // At once if it can be, else when its last user has gone.
        let quiet = |args: &[&str]| {
            Command::new("umount").args(args).arg(&self.0).output().is_ok_and(|o| o.status.success())
        };
        let _ = quiet(&[]) || quiet(&["-l"]);
    }
}

/// A folder in memory: other people's writes do not make its `syncfs` wait.
pub(crate) struct Memory {
    _mount: Mount,
    folder: tempfile::TempDir,
}

impl Memory {
    pub(crate) fn new(mib: u32) -> Self {
        Self::with(&format!("size={mib}m"))
    }

    pub(crate) fn with(options: &str) -> Self {
        static FIRST: Once = Once::new();
        FIRST.call_once(|| {
            if !nix::unistd::geteuid().is_root() {
                // Past the harness, which would keep it to itself.
                let _ = std::io::stderr()
                    .write_all(b"\nSKIPPED: the seeding tests mount and chown, so they need root\n");
                std::process::exit(0);
            }
            sweep();
        });
        // The pid tells the next run whose it is.
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let mount = Mount::new(folder.path(), &[&"-t", &"tmpfs", &"-o", &options, &"tmpfs"]);
        Self { _mount: mount, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what runs left behind that were killed.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let path = entry.path().display().to_string();
        let below = mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|m| m.starts_with(&path));
        for mount in below.collect::<Vec<_>>().into_iter().rev() {
            let _ = Command::new("umount").args(["-l", mount]).status();
        }
        let _ = fs::remove_dir(entry.path());
    }
}
