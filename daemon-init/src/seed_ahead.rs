//! `prepare --seed`: seeding before the daemon container starts, for one that may not mount. It has the volume at `/nix`, over the
//! image's store; here, in an init container, both are there. It is root without any capability, to which Pod Security's "restricted" has
//! no objection: what it makes is its own, and what is another's waits for the daemon container.

use agent::entry;
use agent::paths::Paths;
use contract::exit::Exit;
use contract::places::Container;

use crate::serve::{self, Error};
use crate::{home, store};

/// Takes the run volume and brings the image's store onto the store volume. Speaks, refuses and ends as
/// `serve` does, whose container this stands in for until it ends.
#[must_use]
pub fn seed(paths: &Paths, adopt: bool) -> Exit {
    let mut seeded = false;
    let exit =
        entry::serve(paths, Container::Daemon, env!("CARGO_PKG_VERSION"), |_life, signals, reporter| {
            let config = serve::configured(paths, reporter)?;
            let threads = config.config().daemon.copy_threads;
            let home = home::known(paths);
            store::open(paths, threads, adopt, home.as_deref(), signals, reporter).map_err(Error::Store)?;
            seeded = true;
            Ok("the store is on the volume".to_owned())
        });
    // The cluster takes 0 for done and goes on to the daemon. What was asked to leave is not done.
    if exit == Exit::Ok && !seeded { Exit::Stopping } else { exit }
}
