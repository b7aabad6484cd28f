//! Lack of memory in the user's container, where the kernel would end all of it: every session and job for one evaluation that
//! grows. See [`Guard`].

use std::path::Path;
use std::time::{Duration, Instant};

use agent::files;
use agent::out_of_memory::{Guard, Left};
use agent::paths::Paths;
use agent::proc;
use agent::status::chain;
use contract::handshake::{Life, file};
use contract::resources::Memory;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getpid};

use super::CONTAINER;

/// A process that was ended gives its memory back within that.
const SETTLE: Duration = Duration::from_millis(300);

/// Looks while there are sessions or jobs.
#[derive(Debug)]
pub(super) struct OwnMemory {
    guard: Option<Guard>,
    at: Option<Instant>,
    ended: u64,
}

impl OwnMemory {
    /// For the control group at `root`.
    pub(super) fn of(root: &Path) -> Self {
        Self { guard: Guard::new(root), at: None, ended: 0 }
    }

    /// When [`Self::look`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Ends the largest process if there is nearly nothing left, but none of `spared`; `works`: there is something that may grow.
    pub(super) fn look(&mut self, paths: &Paths, life: &Life, works: bool, spared: &[i32]) {
        let now = Instant::now();
        let Some(guard) = self.guard.as_ref().filter(|_| works) else {
            self.at = None;
            return;
        };
        if self.at.is_some_and(|at| now < at) {
            return;
        }
        let pause = match guard.left() {
            Left::For(time) => time,
            Left::Nothing => {
                if let Some((pid, name)) = largest(&paths.proc, spared)
                    && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
                {
                    self.ended += 1;
                    tracing::warn!(
                        pid,
                        name,
                        "memory is nearly used up: ended the largest process before the kernel ends all of them"
                    );
                    self.publish(paths, life);
                }
                SETTLE
            }
        };
        self.at = Some(now + pause);
    }

    /// Those that we have ended: the kernel does not count them.
    fn publish(&self, paths: &Paths, life: &Life) {
        let memory = Memory {
            life: life.clone(),
            kills: self.ended,
            limit: None,
            peak: None,
            last_kill: agent::unix_now(),
        };
        if let Err(error) = files::write_json(&paths.run_dir(CONTAINER), file::MEMORY, &memory) {
            tracing::warn!(error = %chain(&error), "use of memory not published");
        }
    }
}

/// Of the user's processes, by the memory that it has.
fn largest(procfs: &Path, spared: &[i32]) -> Option<(i32, String)> {
    let own = getpid().as_raw();
    let all = proc::processes_of(procfs, geteuid().as_raw()).ok()?;
    let others = all.into_iter().filter(|(pid, ..)| *pid != own && !spared.contains(pid));
    let largest = others.max_by_key(|(pid, ..)| proc::resident(procfs, *pid).unwrap_or(0))?;
    Some((largest.0, largest.1))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use agent::published;

    use super::*;

    /// A shell that holds so many characters, more than anything else that tests of ours start.
    fn holding(characters: u32) -> Child {
        let line = format!("x=$(head -c {characters} /dev/zero | tr '\\0' x); echo held; read end");
        let mut shell = Command::new("sh");
        let mut child =
            shell.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        child
    }

    #[test]
    fn the_largest_process_is_ended_before_everything_is() {
        let dir = tempfile::tempdir().unwrap();
        // The real /proc has processes of whoever runs this.
        let paths = Paths { proc: dir.path().join("proc"), ..Paths::scratch(dir.path()) };
        let life = Life("a".into());
        for made in [&paths.run_dir(CONTAINER), &paths.proc] {
            fs::create_dir_all(made).unwrap();
        }
        let group = dir.path();
        let write = |name: &str, text: &str| fs::write(group.join(name), text).unwrap();
        write("cgroup.controllers", "memory\n");
        write("memory.max", "1000000\n");
        write("memory.events", "oom_kill 0\n");
        write("memory.oom.group", "1\n");
        write("memory.stat", "inactive_file 0\nactive_file 0\n");
        write("memory.current", "500000\n");
        let (mut small, mut large, mut spared) = (holding(10), holding(20_000_000), holding(40_000_000));
        for child in [&small, &large, &spared] {
            let pid = child.id().to_string();
            std::os::unix::fs::symlink(Path::new("/proc").join(&pid), paths.proc.join(pid)).unwrap();
        }
        let spare = [i32::try_from(spared.id()).unwrap()];
        let mut memory = OwnMemory::of(group);
        memory.look(&paths, &life, true, &spare);
        assert!(memory.deadline().is_some() && large.try_wait().unwrap().is_none(), "there is enough");
        memory.look(&paths, &life, false, &spare);
        assert_eq!(memory.deadline(), None, "nobody works");
        write("memory.current", "950000\n");
        memory.look(&paths, &life, true, &spare);
        assert_eq!(large.wait().unwrap().signal(), Some(9));
        assert!(small.try_wait().unwrap().is_none() && spared.try_wait().unwrap().is_none());
        let told: Option<Memory> = published::read(&paths, &life, CONTAINER, file::MEMORY);
        assert_eq!(told.map(|memory| memory.kills), Some(1));
        for child in [&mut small, &mut spared] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
