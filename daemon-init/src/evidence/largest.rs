//! Which build has most of the memory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use agent::proc;

/// Id of the build user whose processes have most memory of their own; `pool` has a file per user id. None: nothing is built.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn build_user(procfs: &Path, pool: &Path) -> io::Result<Option<u32>> {
    let mut pages: BTreeMap<u32, u64> = BTreeMap::new();
    for (pid, uid, _) in proc::processes(procfs)? {
        if uid != 0 && pool.join(uid.to_string()).exists() {
            *pages.entry(uid).or_default() += proc::resident(procfs, pid).unwrap_or(0);
        }
    }
    Ok(pages.into_iter().max_by_key(|(_, pages)| *pages).map(|(uid, _)| uid))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Nobody's on a machine where tests run.
    const USERS: [u32; 2] = [987_602, 987_603];

    /// A shell that holds so many characters.
    fn holding(uid: u32, characters: u32) -> Child {
        let line = format!("x=$(head -c {characters} /dev/zero | tr '\\0' x); echo held; read end");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).uid(uid).gid(uid);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        child
    }

    #[test]
    fn the_build_with_most_memory_is_found_and_ended() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let (dir, proc) = (tempfile::tempdir().unwrap(), Path::new("/proc"));
        assert_eq!(build_user(proc, dir.path()).unwrap(), None);
        USERS.iter().for_each(|uid| drop(File::create(dir.path().join(uid.to_string())).unwrap()));
        let (mut small, mut large) = (holding(USERS[0], 10), holding(USERS[1], 20_000_000));
        let found = build_user(proc, dir.path()).unwrap();
        assert_eq!(found, Some(USERS[1]));
        super::super::leftovers::end_all_of(USERS[1]).unwrap();
        assert!(!large.wait().unwrap().success());
        assert!(small.try_wait().unwrap().is_none(), "the others go on");
        drop(small.stdin.take());
        small.wait().unwrap();
    }
}
