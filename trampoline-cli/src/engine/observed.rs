//! A builder as the engine sees it.

use contract::handshake::{BuilderStatus, Isolation, LastStop};
use contract::places::Container;

use super::Volume;

/// What the engine knows of a builder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    /// Its name.
    pub(crate) builder: String,
    /// `user@host` of whoever made it.
    pub(crate) owner: Option<String>,
    /// Digest of the rendering that its pod was made from.
    pub(crate) digest: Option<String>,
    /// Name of its image.
    pub(crate) image: Option<String>,
    /// And its id, where it can be compared with [`super::Engine::image_id`].
    pub(crate) image_id: Option<String>,
    /// Port of sshd on this machine.
    pub(crate) ssh_port: Option<u16>,
    /// Empty: there is no pod.
    pub(crate) containers: Vec<ContainerState>,
    /// Those that exist.
    pub(crate) volumes: Vec<Volume>,
    /// Where the pod stands, from an engine that knows more than what each container does.
    pub(crate) told: Option<PodPhase>,
    /// Where it is; on this machine there is one place only.
    pub(crate) place: Option<Place>,
    /// What its agents publish.
    pub(crate) published: Published,
    /// Why it last stopped, if the engine keeps that.
    pub(crate) last_stop: Option<LastStop>,
    /// What is under way, or stands against something, while it runs; each for a person.
    pub(crate) pending: Vec<String>,
    /// What keeps its builds apart from the machine, by what makes its pod.
    pub(crate) isolation: Option<Isolation>,
    /// The engine could not be asked, and need not be.
    pub(crate) unseen: bool,
    /// All of its containers have ended, and its pod has not: what joins it now may lose its network.
    pub(crate) lingers: bool,
}

/// Where in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of all of its objects.
    pub(crate) namespace: String,
    /// Of the pod, once it has one.
    pub(crate) node: Option<String>,
    /// Version of the cluster, from [`super::Engine::look`].
    pub(crate) server: Option<String>,
}

/// What a builder's agents say of it.
#[derive(Debug, Clone, Default)]
pub(crate) enum Published {
    /// To be asked for in the pod.
    #[default]
    InPod,
    /// Read with the rest; nothing of a pod that has said nothing yet.
    Read(Option<Box<BuilderStatus>>),
    /// Long since it would have said something: whatever writes it down is not there, or may not.
    Silent,
}

/// One of the pod's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerState {
    /// Name in the pod.
    pub(crate) name: String,
    /// It runs.
    pub(crate) running: bool,
    /// Made, but never started.
    pub(crate) created: bool,
    /// Of its last end.
    pub(crate) exit_code: i32,
    /// Its first process, where the engine tells: another one is another run of it.
    pub(crate) pid: Option<u32>,
}

/// Where a pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PodPhase {
    /// There is none.
    Absent,
    /// Made, but something kept it from starting.
    Broken,
    /// Asked for, and on its way: it needs nothing but time, or something keeps it (see `Engine::trouble`).
    Starting,
    /// Those that serve run.
    Running,
    /// Some of those have ended.
    Stopping,
    /// None runs.
    Stopped,
}

impl Observed {
    /// Where the pod stands.
    pub(crate) fn phase(&self) -> PodPhase {
        if let Some(phase) = self.told {
            return phase;
        }
        let running = self.containers.iter().filter(|container| container.running).count();
        // The other two serve nobody: a builder without them works.
        let serves = |agent: Container| self.containers.iter().any(|c| c.running && c.name == agent.name());
        if self.containers.is_empty() {
            PodPhase::Absent
        } else if self.containers.iter().any(|container| container.created) {
            PodPhase::Broken
        } else if serves(Container::Daemon) && serves(Container::User) {
            PodPhase::Running
        } else if running == 0 {
            PodPhase::Stopped
        } else {
            PodPhase::Stopping
        }
    }

    /// Whether there is anything of it.
    pub(crate) fn exists(&self) -> bool {
        !self.containers.is_empty() || self.has_store()
    }

    /// Whether its store is there.
    pub(crate) fn has_store(&self) -> bool {
        self.volumes.contains(&Volume::Store)
    }

    /// A container that serves and was killed while others go on, and that the engine has not started again: podman takes
    /// `podman kill` and `podman stop` for somebody's wish. Nobody is stopping the builder then: one that stops ends with 0.
    pub(crate) fn killed(&self) -> Option<&ContainerState> {
        let ended = |c: &&ContainerState| !c.running && !c.created && c.exit_code != 0;
        let serves =
            |c: &&ContainerState| [Container::Daemon, Container::User].iter().any(|s| s.name() == c.name);
        // An engine that knows more starts it again itself.
        let kept = self.told.is_none() && self.phase() == PodPhase::Stopping;
        self.containers.iter().find(|c| ended(c) && serves(c)).filter(|_| kept)
    }

    /// Whether it ends because somebody has asked it to, whether it was ready or not.
    pub(crate) fn was_asked_to_leave(&self) -> bool {
        match self.told {
            Some(phase) => matches!(phase, PodPhase::Stopping | PodPhase::Stopped),
            None => {
                matches!(self.phase(), PodPhase::Stopping | PodPhase::Stopped)
                    && self.containers.iter().all(|c| c.running || c.exit_code == 0)
            }
        }
    }

    /// The first container that ended in failure. A signal from outside (a reboot, `podman kill`) is none.
    pub(crate) fn failed(&self) -> Option<&ContainerState> {
        self.containers
            .iter()
            .find(|c| !c.running && !c.created && c.exit_code != 0 && !killed_from_outside(c.exit_code))
    }
}

/// A signal from outside that nobody withstands, or that asks to leave.
pub(super) fn killed_from_outside(exit_code: i32) -> bool {
    matches!(exit_code, 137 | 143)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, running: bool, created: bool, exit_code: i32) -> ContainerState {
        ContainerState { name: name.to_owned(), running, created, exit_code, pid: None }
    }

    #[test]
    fn phases() {
        let up = container("daemon", true, false, 0);
        let user = container("user", true, false, 0);
        let user_up = user.clone();
        let left = container("user", false, false, 0);
        let done = container("maintenance", false, false, 0);
        let killed = container("daemon", false, false, 137);
        let failed = container("daemon", false, false, 78);
        let fresh = container("user", false, true, 0);
        for (containers, phase, fails, asked) in [
            (vec![], PodPhase::Absent, false, false),
            (vec![up.clone(), user.clone()], PodPhase::Running, false, false),
            (vec![up.clone(), user, done], PodPhase::Running, false, false),
            (vec![up.clone(), left.clone()], PodPhase::Stopping, false, true),
            (vec![user_up.clone(), killed.clone()], PodPhase::Stopping, false, false),
            (vec![left.clone(), killed], PodPhase::Stopped, false, false),
            (vec![left], PodPhase::Stopped, false, true),
            (vec![failed], PodPhase::Stopped, true, false),
            (vec![up, fresh], PodPhase::Broken, false, false),
        ] {
            let observed = Observed { containers, ..Observed::default() };
            assert_eq!(observed.phase(), phase);
            assert_eq!(observed.failed().is_some(), fails);
            assert_eq!(observed.was_asked_to_leave(), asked);
        }
    }

    #[test]
    fn a_killed_container_among_living_ones_is_no_stop() {
        let user = container("user", true, false, 0);
        for (daemon, killed) in [(137, true), (143, true), (0, false)] {
            let containers = vec![user.clone(), container("daemon", false, false, daemon)];
            let observed = Observed { containers, ..Observed::default() };
            assert_eq!(observed.killed().is_some(), killed, "{daemon}");
        }
        let containers = vec![container("user", false, false, 0), container("daemon", false, false, 137)];
        assert!(Observed { containers, ..Observed::default() }.killed().is_none(), "all have ended");
    }
}
