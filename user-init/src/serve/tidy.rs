//! What goes before a collection.

use agent::status::chain;
use agent::{files, published};
use contract::places::Container;
use contract::tidy::{MOST, TIDIED, TIDY, Tidied, Tidy};

use super::CONTAINER;
use super::server::Server;
use crate::profiles;

impl Server<'_> {
    /// Does what was asked for since the last time.
    pub(super) fn tidy(&mut self) {
        let paths = self.paths();
        let asked: Option<Tidy> = published::read(paths, self.life, Container::Maintenance, TIDY);
        let Some(Tidy { asked, dry_run, .. }) = asked.filter(|tidy| tidy.asked > self.tidied) else { return };
        let age = self.config.config().maintenance.profiles_older_than;
        let gone = age.map(|age| profiles::prune(paths, age, agent::unix_now(), dry_run)).unwrap_or_default();
        if !dry_run && !gone.is_empty() {
            tracing::info!(generations = gone.len(), "old generations of profiles removed");
        }
        let generations = gone.iter().map(|link| link.to_string_lossy().into_owned()).take(MOST).collect();
        let tidied = Tidied { life: self.life.clone(), asked, generations };
        self.tidied = asked;
        if let Err(error) = files::write_json(&paths.run_dir(CONTAINER), TIDIED, &tidied) {
            tracing::error!("what was removed of old profiles is not told: {}", chain(&error));
        }
    }
}
