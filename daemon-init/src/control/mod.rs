//! The control socket: whoever may, by the id that the kernel names, asks for what needs root on the store volume. The list of what may be
//! asked is closed ([`contract::control::Request`]).
//!
//! The supervisor's loop reads questions and never waits for anybody; each is answered in a thread of its own.

mod answer;
pub mod ask;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use agent::control::{Got, Incoming, listen};
use agent::files;
use agent::paths::Paths;
use agent::status::chain;
use contract::config::Config;
use contract::control::{ASKERS, LINE_MAX, Reply, Request};
use contract::exit::Exit;

/// A question is a line, and is sent at once.
const ASK: Duration = Duration::from_secs(10);
/// For each line of an answer, of whoever does not read.
const READ: Duration = Duration::from_secs(30);
/// Questions of one user at a time, heard or answered: one who asks without end keeps no other from asking.
const EACH: usize = 8;
/// Of those who wait to connect, before whoever has connected is heard.
const ACCEPTED: usize = 32;

/// What answers work on.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    /// Places.
    pub(crate) paths: Paths,
    /// The configuration in force when it was asked.
    pub(crate) config: Config,
}

/// A user's questions: counted by who holds it.
type Share = Arc<()>;

/// Who has connected, and has not asked yet.
#[derive(Debug)]
struct Waiting {
    incoming: Incoming,
    until: Instant,
    share: Share,
}

/// Listens as long as it lives.
#[derive(Debug)]
pub struct Control {
    paths: Paths,
    socket: PathBuf,
    listener: UnixListener,
    waiting: Vec<Waiting>,
    shares: BTreeMap<u32, Share>,
}

impl Control {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(paths: &Paths) -> io::Result<Self> {
        let socket = paths.daemon_control_socket();
        // Everybody may connect: who it is decides.
        let listener = listen(&socket, 0o666)?;
        let shares = ASKERS.into_iter().map(|uid| (uid, Share::default())).collect();
        Ok(Self { paths: paths.clone(), socket, listener, waiting: Vec::new(), shares })
    }

    /// What to wait for; one of them being readable is a reason for [`Self::hear`].
    #[must_use]
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let waiting = self.waiting.iter().map(|waiting| waiting.incoming.as_fd());
        std::iter::once(self.listener.as_fd()).chain(waiting).collect()
    }

    /// When [`Self::hear`] is due though nothing can be read.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Lets in who waits, takes what was asked, and gives up on who has not asked in time. All of them: none is heard before others
    /// because of when it came.
    pub fn hear(&mut self, config: &Config) {
        let now = Instant::now();
        for mut waiting in std::mem::take(&mut self.waiting) {
            match waiting.incoming.read() {
                Got::Nothing if now >= waiting.until => {
                    let message = format!("no question came within {} s", ASK.as_secs());
                    waiting.incoming.say(&Reply::Refused { exit: Exit::Deadline, message });
                }
                Got::Nothing => self.waiting.push(waiting),
                Got::Request(request) => self.decide(waiting, request, config),
                Got::Nonsense(error) => {
                    let message =
                        format!("daemon-init of this image does not know what is asked for: {error}");
                    waiting.incoming.say(&Reply::Refused { exit: Exit::Usage, message });
                }
                Got::End => {}
            }
        }
        self.accept(now + ASK);
    }

    fn accept(&mut self, until: Instant) {
        for _ in 0..ACCEPTED {
            let Ok((stream, _)) = self.listener.accept() else { return };
            match Incoming::new(stream, LINE_MAX) {
                Ok(incoming) => match self.shares.get(&incoming.uid) {
                    Some(share) if Arc::strong_count(share) <= EACH => {
                        let share = Arc::clone(share);
                        self.waiting.push(Waiting { incoming, until, share });
                    }
                    Some(_) => {
                        let message = format!("{EACH} questions of this user are being answered; ask again");
                        incoming.say(&Reply::Refused { exit: Exit::InUse, message });
                    }
                    None => refuse(&incoming),
                },
                Err(error) => tracing::debug!(%error, "a client went before it was heard"),
            }
        }
    }

    fn decide(&self, waiting: Waiting, request: Request, config: &Config) {
        let Waiting { incoming, share, .. } = waiting;
        if !request.admitted().contains(&incoming.uid) {
            tracing::warn!(uid = incoming.uid, pid = incoming.pid, ?request, "refused");
            return refuse(&incoming);
        }
        tracing::debug!(uid = incoming.uid, pid = incoming.pid, ?request, "asked");
        let desk = Desk { paths: self.paths.clone(), config: config.clone() };
        let answered = thread::Builder::new().name("answer".into()).spawn(move || {
            let _share = share;
            match incoming.into_answer(READ) {
                Ok(to) => answer::answer(&desk, request, &to),
                Err(error) => tracing::debug!(%error, "nobody is there to be answered"),
            }
        });
        if let Err(error) = answered {
            tracing::error!(%error, "no thread to answer in: a question is not answered");
        }
    }
}

/// By its id alone.
fn refuse(incoming: &Incoming) {
    let message = format!("user id {} may not ask for that", incoming.uid);
    incoming.say(&Reply::Refused { exit: Exit::NoPermission, message });
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = files::withdraw(&self.socket) {
            tracing::warn!("{}", chain(&error));
        }
    }
}

#[cfg(test)]
mod tests;
