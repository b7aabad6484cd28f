//! What is to be no root any more is given up before a collection of ours: old generations of profiles by user-init, forgotten links
//! by daemon-init. Where one of them cannot, the collection goes by the roots that there are.

use std::time::Duration;

use agent::paths::Paths;
use agent::status::chain;
use agent::{control, tidy};
use contract::control::{Reply, Request};
use contract::handshake::Life;

/// Both look through a few folders.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has them do it, or only say what they would; what that is, for a person.
pub(crate) fn let_go(paths: &Paths, life: &Life, dry_run: bool, say: &mut dyn FnMut(&str)) {
    let would = if dry_run { "would be" } else { "is" };
    match tidy::ask(paths, life, dry_run, PATIENCE) {
        Ok(tidied) => tidied.into_iter().flat_map(|tidied| tidied.generations).for_each(|link| {
            say(&format!("{link} {would} removed: an old generation (profiles-older-than)"))
        }),
        Err(error) => say(&format!("old generations of profiles stay: {}", chain(&error))),
    }
    let asked =
        control::ask(&paths.daemon_control_socket(), &Request::LetGo { dry_run }, PATIENCE, |reply| {
            if let Reply::Root(root) = reply {
                let path = root.path.unwrap_or_default();
                say(&format!(
                    "{path} {would} no longer kept by {}: an old link (auto-roots-max-age)",
                    root.name
                ));
            }
            Ok(())
        });
    if let Err(error) = asked {
        say(&format!("old links keep what they keep: {}", chain(&error)));
    }
}
