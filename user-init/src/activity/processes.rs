//! The user's processes, added up by the session that they belong to. Of what has ended, its parent has taken over the count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agent::paths::Paths;
use agent::proc::{self, Process};
use nix::unistd::geteuid;

/// sshd and the processes that it has for each connection: they work for keepalives, too.
const SSHD: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];
/// Ourselves, by whatever subcommand: `status` and `await`, or a session, whose own work is nothing.
const OURS: &str = "user-init";

/// What a number of processes have done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Processes.
    pub count: usize,
    /// Processor time in ticks.
    pub ticks: u64,
    /// Read and written.
    pub bytes: u64,
    /// When each terminal was last read and written, seconds since the epoch, by its number.
    pub terminals: BTreeMap<u32, (i64, i64)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By the session's pid.
    pub(super) sessions: HashMap<i32, Group>,
    /// Those of no session, job or agent.
    pub(super) detached: Group,
}

/// First process of the pod; where it is one of the user's, this is none.
const POD: i32 = 1;

/// Whose a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Session(i32),
    Elsewhere,
    Detached,
}

/// Looks at all processes of this user.
pub(super) fn groups(
    paths: &Paths,
    sessions: &BTreeSet<i32>,
    elsewhere: &BTreeSet<i32>,
    serve: i32,
) -> io::Result<Groups> {
    let all = proc::processes_of(&paths.proc, geteuid().as_raw())?;
    let by_pid: HashMap<i32, &Process> = all.iter().map(|process| (process.0, process)).collect();
    let mut groups = Groups::default();
    for process in &all {
        let group = match owner(process, &by_pid, sessions, elsewhere, serve) {
            Owner::Session(pid) => groups.sessions.entry(pid).or_default(),
            Owner::Detached => &mut groups.detached,
            Owner::Elsewhere => continue,
        };
        add(group, process, &paths.proc);
    }
    Ok(groups)
}

/// By its nearest ancestor that is known.
fn owner(
    process: &Process,
    by_pid: &HashMap<i32, &Process>,
    sessions: &BTreeSet<i32>,
    elsewhere: &BTreeSet<i32>,
    serve: i32,
) -> Owner {
    let itself = process.0;
    if process.2.state == 'Z' || itself == serve {
        return Owner::Elsewhere;
    }
    let mut at = process;
    // The table is of many moments: a pid that was used again must not lead in circles.
    for _ in 0..by_pid.len() {
        if sessions.contains(&at.0) {
            return Owner::Session(at.0);
        }
        if elsewhere.contains(&at.0) || (at.0 == itself && (at.1 == OURS || SSHD.contains(&at.1.as_str()))) {
            return Owner::Elsewhere;
        }
        if at.0 == serve {
            return Owner::Detached;
        }
        match by_pid.get(&at.2.ppid) {
            Some(parent) => at = parent,
            // What has come in through the engine, and what that has left, is nobody's but the pod's.
            None if at.2.ppid <= POD && !by_pid.contains_key(&POD) => return Owner::Detached,
            None => break,
        }
    }
    Owner::Elsewhere
}

fn add(group: &mut Group, process: &Process, proc: &Path) {
    let (pid, _, stat) = process;
    group.count += 1;
    group.ticks += stat.ticks;
    let dir = proc.join(pid.to_string());
    // It may have ended by now, or have closed itself to its own user, as key agents do.
    group.bytes += fs::read_to_string(dir.join("io")).map_or(0, |io| moved(&io));
    if let Some(number) = stat.pts() {
        if let Ok(meta) = fs::metadata(format!("/dev/pts/{number}")) {
            group.terminals.insert(number, (meta.atime(), meta.mtime()));
        }
    }
}

/// `rchar` and `wchar`: whatever was asked of the kernel, wherever it came from.
fn moved(io: &str) -> u64 {
    let fields = io.lines().filter_map(|line| line.split_once(": "));
    fields
        .filter(|(name, _)| matches!(*name, "rchar" | "wchar"))
        .filter_map(|(_, n)| n.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::proc::Stat;

    fn process(pid: i32, ppid: i32, name: &str) -> Process {
        (pid, name.to_owned(), Stat { state: 'S', ppid, start_time: None, tty: 0, ticks: 1 })
    }

    #[test]
    fn each_belongs_to_its_nearest_ancestor() {
        let all = [
            process(10, 1, "user-init"),
            process(20, 10, "sshd"),
            process(21, 20, "sshd-session"),
            process(30, 21, "user-init"),
            process(31, 30, "bash"),
            process(32, 31, "cc1plus"),
            process(40, 10, "nix"),
            process(41, 40, "nix"),
            process(50, 10, "tmux: server"),
            process(51, 50, "bash"),
            process(60, 0, "user-init"),
            process(61, 0, "bash"),
            process(62, 1, "tmux: server"),
            process(70, 69, "of another user's"),
        ];
        let by_pid: HashMap<i32, &Process> = all.iter().map(|p| (p.0, p)).collect();
        let (sessions, elsewhere) = (BTreeSet::from([30]), BTreeSet::from([20, 40]));
        let of = |pid: i32| owner(by_pid[&pid], &by_pid, &sessions, &elsewhere, 10);
        for (pid, expected) in [
            (10, Owner::Elsewhere),
            (20, Owner::Elsewhere),
            (21, Owner::Elsewhere),
            (30, Owner::Session(30)),
            (31, Owner::Session(30)),
            (32, Owner::Session(30)),
            (40, Owner::Elsewhere),
            (41, Owner::Elsewhere),
            (50, Owner::Detached),
            (51, Owner::Detached),
            (60, Owner::Elsewhere),
            (61, Owner::Detached),
            (62, Owner::Detached),
            (70, Owner::Elsewhere),
        ] {
            assert_eq!(of(pid), expected, "{pid}");
        }
        let circle = [process(5, 6, "a"), process(6, 5, "b")];
        let by_pid: HashMap<i32, &Process> = circle.iter().map(|p| (p.0, p)).collect();
        assert_eq!(owner(&circle[0], &by_pid, &sessions, &elsewhere, 10), Owner::Elsewhere);
    }

    #[test]
    fn what_a_process_moves_is_read() {
        assert_eq!(moved("rchar: 5\nwchar: 7\nsyscr: 100\nread_bytes: 100\ncancelled_write_bytes: 0\n"), 12);
        let paths = Paths::default();
        let me = i32::try_from(std::process::id()).unwrap();
        let groups = groups(&paths, &BTreeSet::from([me]), &BTreeSet::new(), 0).unwrap();
        assert!(groups.sessions[&me].bytes > 0 && groups.sessions[&me].count > 0);
    }
}
