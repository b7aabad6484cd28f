//! What only an engine can do: look at, and break, what the client has made.

mod kubernetes;
mod podman;

use std::fmt::Debug;
use std::path::Path;

pub use podman::ROOTLESS_USER;

use crate::call::Call;
use crate::output::Output;

/// What a scenario may need of where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An engine that runs builders.
    Any,
    /// One that is not an ordinary user's: the rest is tried where nothing is in the way.
    Root,
    /// podman as root: volumes that are folders of this machine, or the machine itself.
    Podman,
    /// A cluster, and its administrator.
    Cluster,
    /// A cluster of the tests' own, of which parts may be stopped.
    Lab,
}

/// What is unmounted when it is dropped: before the volume on it is removed, and when no builder starts on it any more.
pub type Held = Box<dyn Debug + Send + Sync>;

/// An engine that can run builders.
pub trait Engine: Debug + Sync {
    /// Whether a scenario can run here.
    fn meets(&self, need: Need) -> bool;

    /// Options, as dotted keys with their values as TOML, that choose it.
    fn options(&self) -> Vec<(String, String)>;

    /// A program, run by the user whose engine it is.
    fn as_its_user(&self, program: &Path) -> Call {
        Call::new(program)
    }

    /// Makes that user the owner of a folder and of all that is in it.
    fn hand_over(&self, _folder: &Path) {}

    /// Waits until all containers of a builder have ended, by the engine's own event; panics if they do not in that
    /// many seconds.
    fn wait_stopped(&self, builder: &str, seconds: u64);

    /// Takes the pod away behind the client's back, with what would make another, as a prune does.
    fn vanish(&self, builder: &str);

    /// Kills the first process of a container as the kernel does when memory runs out: the engine knows nothing of it.
    fn crash(&self, builder: &str, container: &str) {
        self.signal(builder, container, "KILL");
    }

    /// Sends a signal to the first process of a container behind the engine's back.
    fn signal(&self, builder: &str, container: &str, signal: &str);

    /// Kills a container by a command of the engine's, where it has one that it takes for a wish.
    fn kill(&self, builder: &str, container: &str);

    /// Starts an ended container again, as podman does by itself to one that has failed; podman's alone.
    fn revive(&self, builder: &str, container: &str);

    /// Asks the whole pod to end, all containers at once, as a node that drains does.
    fn terminate(&self, builder: &str);

    /// Runs a shell line as root in the daemon container, where the store is in place.
    fn as_root(&self, builder: &str, line: &str) -> Output {
        self.inside(builder, "daemon", line)
    }

    /// Runs a shell line in a container as whoever its agent is, by the engine's own means.
    fn inside(&self, builder: &str, container: &str, line: &str) -> Output;

    /// Makes the store volume of a builder that is yet to be set up, and runs a shell line with it at `/volume`, as
    /// root. `options` go to the engine's way of making a volume.
    fn make_store(&self, builder: &str, options: &[String], line: &str);

    /// Makes another volume of a builder that is yet to be set up; podman's alone.
    fn make_volume(&self, builder: &str, which: &str, options: &[String]);

    /// Makes a volume of a builder that is yet to be set up, on a file system in memory with these options of `mount`.
    fn make_small(&self, builder: &str, which: &str, options: &str) -> Held;

    /// Runs a shell line as root with the store volume of a stopped builder at `/volume`.
    fn with_store(&self, builder: &str, line: &str) -> Output;

    /// Folder of this machine that is the store volume of a builder; podman's alone.
    fn store_folder(&self, builder: &str) -> String;

    /// An image like `from`, with the output of a shell line committed.
    fn derive_image(&self, name: &str, from: &str, line: &str);

    /// Removes an image made by [`Self::derive_image`].
    fn remove_image(&self, name: &str);

    /// What the engine still holds of a builder: pods, containers, volumes, by name.
    fn left(&self, builder: &str) -> Vec<String>;

    /// What all containers of a builder's pod have said, as far as the engine has it, by one command.
    fn logs(&self, builder: &str) -> Output;

    /// Whether all that a command in the pod says arrives.
    fn loses_nothing(&self) -> bool {
        true
    }

    /// Whether the logs of a stopped builder can still be read.
    fn keeps_logs(&self) -> bool {
        true
    }

    /// How many pods a builder has.
    fn pods(&self, builder: &str) -> usize;

    /// Removes a store that was made by hand.
    fn remove_store(&self, builder: &str);

    /// Removes a volume that [`Self::make_volume`] or [`Self::make_small`] has made.
    fn remove_volume(&self, builder: &str, which: &str);
}

/// By its name in the environment: `podman`, `podman-rootless`, `podman-remote` or `kubernetes`.
///
/// # Errors
/// Which names there are, or what else has to be set.
pub fn named(name: &str) -> Result<&'static dyn Engine, String> {
    match name {
        "podman" => Ok(&podman::Podman::Own),
        "podman-rootless" => Ok(&podman::Podman::Rootless),
        "podman-remote" => podman::Podman::remote(),
        "kubernetes" => kubernetes::Cluster::from_environment(),
        _ => Err(format!("{name} is none of podman, podman-rootless, podman-remote and kubernetes")),
    }
}

fn pod_name(builder: &str) -> String {
    format!("trampoline-{builder}")
}

fn store_volume(builder: &str) -> String {
    volume(builder, "store")
}

fn volume(builder: &str, which: &str) -> String {
    format!("trampoline-{builder}-{which}")
}
