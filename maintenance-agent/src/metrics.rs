//! What monitoring reads, on request (`[metrics] listen`): an endpoint for each agent of the pod, `/metrics/AGENT`, and one for all. They
//! share its network, so one port is what can be asked for; each of them publishes what it knows on the run volume anyway; and the
//! one that answers strangers is neither root nor holds a token.
//!
//! Counters begin with the agent that counts, but for those of whole lives, which daemon-init keeps on the store volume.

mod http;
mod tally;
mod text;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use agent::paths::Paths;
use agent::published;
use contract::handshake::{BuilderStatus, Life, Lives, StopAck, file};
use contract::places::Container;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use tally::{Acks, Tally};

/// Answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Endpoint {
    paths: Paths,
    life: Life,
    tally: Arc<Mutex<Tally>>,
    serving: JoinHandle<()>,
}

impl Endpoint {
    /// Begins to answer, where that is asked for. Within the runtime. Where it cannot, it says so; the store is kept small all the same.
    pub(crate) async fn open(paths: &Paths, life: &Life, listen: Option<&str>) -> Option<Self> {
        let at: SocketAddr = contract::config::listen(listen?)?;
        let listener = match TcpListener::bind(at).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, listen = %at, "nobody can read metrics; another container of the pod may use the port");
                return None;
            }
        };
        tracing::info!(listen = %at, "metrics can be read");
        let tally = Arc::new(Mutex::new(Tally::begin(agent::unix_now())));
        let (p, l, t) = (paths.clone(), life.clone(), Arc::clone(&tally));
        let serving = tokio::spawn(http::serve(listener, move |of| page(of, &p, &l, &t)));
        let endpoint = Self { paths: paths.clone(), life: life.clone(), tally, serving };
        endpoint.look();
        Some(endpoint)
    }

    /// Something that is published has changed.
    pub(crate) fn look(&self) {
        look(&self.paths, &self.life, &mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn look(paths: &Paths, life: &Life, tally: &mut Tally) -> BuilderStatus {
    let status = published::status(paths, life, None);
    let ack = |of| published::read::<StopAck>(paths, life, of, file::ACK);
    tally.see(&status, &Acks { daemon: ack(Container::Daemon), user: ack(Container::User) });
    status
}

fn page(of: Option<Container>, paths: &Paths, life: &Life, tally: &Mutex<Tally>) -> String {
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let status = look(paths, life, &mut tally);
    let lives = published::read::<Lives>(paths, life, Container::Daemon, file::LIVES);
    let began = agent::life::began(paths, life);
    text::page(of, &status, &tally, lives.as_ref(), began, agent::unix_now())
}
