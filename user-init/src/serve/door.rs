//! The way in over ssh while a stop is being decided, and after it. Whoever comes then must not get past sshd only to be refused by
//! us: ssh has said everything by then, and cannot say it again to the builder that is started next. A client that has not heard
//! sshd's first word waits, and tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use agent::proc::{self, Process};
use agent::status::chain;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};

use super::admission::Admission;
use super::connection::State;
use super::server::Server;
use crate::error::io_error;
use crate::ssh::{LOGIN, Prepared, Sshd};

/// A monitor that has not decided by then is not there. Longer than an engine may take to answer it.
const HELD: Duration = Duration::from_secs(90);
/// For the listener to stand still, in milliseconds: the kernel lets it leave whatever it has just asked for.
const STILL: u32 = 100;
/// `/proc` counts in hundredths of a second on every machine that Linux runs on today.
const TICKS: u64 = 100;

/// How the listener stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// It stands still: who comes waits in the kernel's queue.
    Held {
        until: Instant,
    },
    /// There is none: who comes is refused by the kernel. Open sessions go on.
    Shut,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Door {
    prepared: Option<Prepared>,
    way: Way,
}

impl Door {
    /// Open.
    pub(super) fn new(prepared: Option<Prepared>) -> Self {
        Self { prepared, way: Way::Open }
    }

    /// Whether the listener is to be there.
    pub(super) fn is_open(&self) -> bool {
        self.way == Way::Open
    }

    /// Whether nobody is to come in any more.
    pub(super) fn is_shut(&self) -> bool {
        self.way == Way::Shut
    }

    /// When it is held no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.way {
            Way::Held { until } => Some(until),
            Way::Open | Way::Shut => None,
        }
    }
}

impl Server<'_> {
    /// As admission stands now.
    pub(super) fn tend_door(&mut self) {
        match self.admission {
            Admission::Open => self.open_door(),
            Admission::Asked { .. } => self.hold_door(),
            Admission::Stopped { .. } | Admission::Closed { .. } => self.shut_door(),
        }
    }

    fn listener(&self) -> Option<Pid> {
        self.sshd.as_ref().and_then(Sshd::pid)
    }

    pub(super) fn open_door(&mut self) {
        match std::mem::replace(&mut self.door.way, Way::Open) {
            Way::Open => {}
            Way::Held { .. } => {
                if let Some(pid) = self.listener() {
                    // It may have ended by itself.
                    let _ = kill(pid, Signal::SIGCONT);
                }
            }
            Way::Shut => {
                self.sshd = self.door.prepared.clone().map(Sshd::start);
                self.publish(false);
            }
        }
    }

    fn hold_door(&mut self) {
        if self.door.is_shut() {
            return;
        }
        self.door.way = Way::Held { until: Instant::now() + HELD };
        let Some(pid) = self.listener() else { return };
        let _ = kill(pid, Signal::SIGSTOP);
        // Only then is nobody taken in who is not to be seen yet.
        for _ in 0..STILL {
            match waitpid(pid, Some(WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
                Ok(status @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..))) => {
                    if self.sshd.as_mut().is_some_and(|sshd| sshd.ended(pid, status)) {
                        self.publish(false);
                    }
                    return;
                }
                Ok(_) | Err(_) => return,
            }
        }
        tracing::warn!("sshd does not stand still: somebody may come in who is refused then");
    }

    fn shut_door(&mut self) {
        if std::mem::replace(&mut self.door.way, Way::Shut) == Way::Shut {
            return;
        }
        let listener = self.listener();
        if let Some(sshd) = &mut self.sshd {
            sshd.stop();
        }
        if let Some(pid) = listener {
            // One that stands still hears nothing else, and one that runs might let in somebody more.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// Who is past sshd's listener, and not yet a session: new work, which we have not been asked for yet.
    pub(super) fn on_the_way(&self) -> u32 {
        let waiting = self.connections.iter().filter(|c| matches!(c.state, State::Waiting(_))).count();
        let coming = self.listener().map_or(0, |listener| {
            let proc = &self.paths().proc;
            match proc::processes_of(proc, geteuid().as_raw()).map_err(io_error("look at", proc)) {
                Ok(all) => {
                    let uptime = std::fs::read_to_string(proc.join("uptime")).ok();
                    let now = uptime.as_deref().and_then(ticks);
                    let sessions: BTreeSet<i32> = self.sessions().map(|session| session.pid).collect();
                    coming(&all, listener.as_raw(), &sessions, now)
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "who is on the way in is not known");
                    // What is not known counts as work.
                    1
                }
            }
        });
        u32::try_from(waiting + coming).unwrap_or(u32::MAX)
    }
}

/// Since boot, from `/proc/uptime`, whose seconds have two digits behind the point.
fn ticks(uptime: &str) -> Option<u64> {
    let (seconds, hundredths) = uptime.split_ascii_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * TICKS + hundredths.parse::<u64>().ok()?)
}

/// The listener's children that are as young as one who is still coming in, and have no session among their own.
fn coming(all: &[Process], listener: i32, sessions: &BTreeSet<i32>, now: Option<u64>) -> usize {
    let parents: BTreeMap<i32, i32> = all.iter().map(|(pid, _, stat)| (*pid, stat.ppid)).collect();
    let of = |session: &i32| {
        let mut at = *session;
        // The table is of many moments: a pid that was used again must not lead in circles.
        for _ in 0..all.len() {
            let parent = *parents.get(&at)?;
            if parent == listener {
                return Some(at);
            }
            at = parent;
        }
        None
    };
    let inside: BTreeSet<i32> = sessions.iter().filter_map(of).collect();
    let young =
        |start: Option<u64>| now.zip(start).is_none_or(|(now, start)| now < start + LOGIN.as_secs() * TICKS);
    let connections = all.iter().filter(|(_, _, stat)| stat.ppid == listener && stat.state != 'Z');
    connections.filter(|(pid, _, stat)| !inside.contains(pid) && young(stat.start_time)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::proc::Stat;

    #[test]
    fn who_is_on_the_way_in_is_young_and_has_no_session() {
        let process = |pid, ppid, start| {
            let stat = Stat { state: 'S', ppid, start_time: Some(start), tty: 0, ticks: 0 };
            (pid, "sshd-session".to_owned(), stat)
        };
        let all = [
            process(10, 1, 0),
            process(20, 10, 1),
            process(21, 20, 99_000),
            process(22, 21, 99_000),
            process(30, 20, 99_500),
            process(31, 30, 99_500),
            // Forwards a port, and nothing else.
            process(40, 20, 1000),
        ];
        let coming = |sessions: &[i32], now| coming(&all, 20, &sessions.iter().copied().collect(), now);
        assert_eq!(coming(&[22], Some(100_000)), 1);
        assert_eq!(coming(&[22, 31], Some(100_000)), 0);
        assert_eq!(coming(&[22], Some(99_500 + 6000)), 0, "sshd has given up by then");
        assert_eq!(coming(&[22], None), 2, "what is not known counts");
        assert_eq!(coming(&[], Some(100_000)), 2);
    }

    #[test]
    fn the_uptime_is_read() {
        assert_eq!(ticks("351735.47 2001216.90\n"), Some(35_173_547));
        assert_eq!(ticks(""), None);
    }
}
