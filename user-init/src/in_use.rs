//! Which store paths this user's processes use, as Nix itself would find them: it asks `/proc` as well, but may read there only
//! what its own user or the whole machine's root may.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agent::paths::Paths;
use contract::in_use::{MOST, find_names};
use nix::unistd::geteuid;

/// What a process runs, stands in, and has its root at.
const LINKS: [&str; 3] = ["exe", "cwd", "root"];
/// What it has mapped, was given as its environment, and was called with: an interpreter closes its script's file.
const TEXTS: [&str; 3] = ["maps", "environ", "cmdline"];
/// Bytes of one of them. Only a process that means harm has more, and it harms nobody but its own user.
const TEXT_MAX: u64 = 16 << 20;
/// A process may start another and end before it is looked at itself: those that are new are looked at too, so often.
const ROUNDS: u32 = 5;

/// Names of the store paths in use now. What cannot be read is left out: processes that have ended, and those that have
/// closed themselves to their own user, as key agents do.
///
/// # Errors
/// When `/proc` itself cannot be read.
pub fn look(paths: &Paths) -> io::Result<BTreeSet<String>> {
    let mut store = paths.nix.join("store").into_os_string();
    store.push("/");
    let mut look = Look { store: store.as_bytes(), names: BTreeSet::new(), buffer: Vec::new() };
    let mut seen = HashSet::new();
    for _ in 0..ROUNDS {
        let mut any = false;
        for process in processes(&paths.proc)? {
            if seen.insert(process.clone()) {
                any = true;
                look.process(&process);
            }
        }
        if !any {
            break;
        }
    }
    if look.names.len() > MOST {
        tracing::warn!(
            found = look.names.len(),
            "more store paths are in use than can be told; some are left out"
        );
    }
    Ok(look.names.into_iter().take(MOST).collect())
}

/// Folders of this user's processes.
fn processes(proc: &Path) -> io::Result<Vec<PathBuf>> {
    let own = geteuid().as_raw();
    let numbered = |name: &std::ffi::OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let entries = fs::read_dir(proc)?.flatten().filter(|entry| numbered(&entry.file_name()));
    Ok(entries.filter(|e| e.metadata().is_ok_and(|m| m.uid() == own)).map(|e| e.path()).collect())
}

struct Look<'a> {
    store: &'a [u8],
    names: BTreeSet<String>,
    buffer: Vec<u8>,
}

impl Look<'_> {
    fn process(&mut self, process: &Path) {
        for name in LINKS {
            self.link(&process.join(name));
        }
        for open in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            self.link(&open.path());
        }
        for name in TEXTS {
            self.buffer.clear();
            let read = File::open(process.join(name))
                .and_then(|file| file.take(TEXT_MAX).read_to_end(&mut self.buffer));
            if read.is_ok() {
                find_names(&self.buffer, self.store, &mut self.names);
            }
        }
    }

    fn link(&mut self, link: &Path) {
        if let Ok(target) = fs::read_link(link) {
            find_names(target.as_os_str().as_bytes(), self.store, &mut self.names);
        }
    }
}
