//! `leave`: asks every agent of the pod to end, beside whoever has asked before. Asked twice, none of them waits for work; a
//! cluster asks once, and gives no less time to a pod whose end it has begun.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use agent::paths::Paths;
use agent::proc::status_field;
use contract::exit::Exit;
use contract::places::Container;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};

/// Why nobody could be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot ask the pod's processes to end")]
pub struct Error(#[from] io::Error);

impl Error {
    /// For the process's end.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::Internal
    }
}

/// Asks all of them.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn leave(paths: &Paths) -> Result<(), Error> {
    let mut owners = BTreeSet::new();
    for (pid, _, stat) in agent::proc::processes(&paths.proc)? {
        // What was started from without has no parent here: first processes, and commands of the engine's.
        if stat.ppid == 0
            && is_agent(&std::fs::read(paths.proc.join(pid.to_string()).join("cmdline")).unwrap_or_default())
        {
            // It may have ended by now.
            if kill(Pid::from_raw(pid), Signal::SIGTERM) == Err(Errno::EPERM) {
                owners.extend(owner(paths, pid));
            }
        }
    }
    // In a user namespace root may become anybody of the pod, and yet not signal them.
    if getuid().is_root() {
        for (uid, gid) in owners {
            let again = Command::new(std::env::current_exe()?).arg("leave").uid(uid).gid(gid).status()?;
            tracing::debug!(uid, %again, "asked by its own id");
        }
    }
    Ok(())
}

fn owner(paths: &Paths, pid: i32) -> Option<(u32, u32)> {
    let status = std::fs::read_to_string(paths.proc.join(pid.to_string()).join("status")).ok()?;
    // Real, effective, saved, and that of files.
    let id = |name| status_field(&status, name)?.split_ascii_whitespace().next()?.parse().ok();
    Some((id("Uid")?, id("Gid")?))
}

/// Whether these words are a container's own command, and no other of the same program's.
fn is_agent(words: &[u8]) -> bool {
    let mut words =
        words.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy);
    let Some(program) = words.next() else { return false };
    let program = Path::new(&*program).file_name().unwrap_or_default();
    let ours = Container::ALL.iter().any(|container| program == container.agent());
    ours && words.next().is_none_or(|command| command == "serve" || command.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::is_agent;

    #[test]
    fn only_the_first_processes_of_containers_are_asked() {
        for agent in [
            "/opt/trampoline/bin/daemon-init\0serve\0",
            "user-init\0serve\0",
            "/x/shutdown-monitor\0",
            "maintenance-agent\0",
        ] {
            assert!(is_agent(agent.as_bytes()), "{agent}");
        }
        for other in [
            "",
            "/opt/trampoline/bin/user-init\0job\0follow\0",
            "/pause\0",
            "daemon-init\0leave\0",
            "sh\0-c\0daemon-init\0",
        ] {
            assert!(!is_agent(other.as_bytes()), "{other}");
        }
    }
}
