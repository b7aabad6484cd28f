//! What is in use of the store, told to whoever asks.

use agent::status::chain;
use agent::{files, in_use, published};
use contract::in_use::{IN_USE, InUse, LOOK, Look};
use contract::places::Container;

use super::CONTAINER;
use super::server::Server;
use crate::error::{Result, io_error};

impl Server<'_> {
    /// For whoever is about to collect. Nobody else needs it, so that nothing is looked at meanwhile.
    pub(super) fn show_what_is_in_use(&mut self) {
        let asked = [Container::Daemon, Container::Maintenance].into_iter();
        let asked = asked.filter_map(|by| published::read::<Look>(self.paths(), self.life, by, LOOK));
        if asked.map(|look| look.asked).max().is_none_or(|asked| asked <= self.looked) {
            return;
        }
        if let Err(error) = self.publish_in_use() {
            tracing::error!(error = %chain(&error), "what is in use is not published: collections wait in vain");
        }
    }

    fn publish_in_use(&mut self) -> Result<()> {
        let paths = self.paths();
        let looked = in_use::now().map_err(io_error("read the clock for", &paths.run))?;
        let names = crate::in_use::look(paths).map_err(io_error("look at", &paths.proc))?;
        let seen = InUse { life: self.life.clone(), looked, names };
        files::write_json(&paths.run_dir(CONTAINER), IN_USE, &seen)?;
        self.looked = looked;
        Ok(())
    }
}
