//! What of the user's own goes before a collection, asked for and waited for.

use std::time::Duration;

use contract::handshake::Life;
use contract::places::Container;
use contract::tidy::{TIDIED, TIDY, Tidied, Tidy};

use crate::in_use::{self, Error, ask_user_init};
use crate::paths::Paths;

/// Has user-init remove what the configuration says is old, or only say what that is, and waits for `patience` at most. `None` where
/// it does not serve. For maintenance-agent, to whom it listens.
///
/// # Errors
/// See [`Error`].
pub fn ask(paths: &Paths, life: &Life, dry_run: bool, patience: Duration) -> Result<Option<Tidied>, Error> {
    let asked = in_use::now()?;
    let tidy = Tidy { life: life.clone(), asked, dry_run };
    let ours = (Container::Maintenance, TIDY);
    ask_user_init(paths, life, ours, &tidy, TIDIED, patience, |tidied: &Tidied| tidied.asked == asked)
}
