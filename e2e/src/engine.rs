//! What only the engine can do: look at, and break, what the client has made.

use std::path::Path;

use crate::call::Call;
use crate::output::Output;

/// The unprivileged user of the rootless engine.
pub const ROOTLESS_USER: &str = "trampoline-test";

/// An engine that can run builders on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// podman of whoever runs the scenarios.
    Podman,
    /// podman of [`ROOTLESS_USER`].
    PodmanRootless,
}

impl Engine {
    /// By its name in the environment.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "podman" => Some(Self::Podman),
            "podman-rootless" => Some(Self::PodmanRootless),
            _ => None,
        }
    }

    /// A program, run by the user whose engine it is.
    #[must_use]
    pub fn as_its_user(self, program: &Path) -> Call {
        match self {
            Self::Podman => Call::new(program),
            // Replaces itself by the program, so signals to its process id reach that.
            Self::PodmanRootless => {
                let call = Call::new("setpriv").args(["--reuid", ROOTLESS_USER, "--regid", ROOTLESS_USER]);
                let data = format!("/home/{ROOTLESS_USER}/.local/share");
                // Images live there; the rest of a person's home is their own.
                call.args(["--init-groups", "--"]).arg(program).env("XDG_DATA_HOME", data)
            }
        }
    }

    /// Makes that user the owner of a folder and of all that is in it.
    pub fn hand_over(self, folder: &Path) {
        if self == Self::PodmanRootless {
            let owner = format!("{ROOTLESS_USER}:{ROOTLESS_USER}");
            Call::new("chown").args(["-R", &owner]).arg(folder).run().ok();
        }
    }

    fn podman(self) -> Call {
        self.as_its_user(Path::new("podman")).in_dir("/")
    }

    /// Waits until all containers of a builder have ended, by the engine's own event.
    ///
    /// # Panics
    /// If they do not in that many seconds.
    pub fn wait_stopped(self, builder: &str, seconds: u64) {
        let containers = ["daemon", "user", "maintenance", "shutdown-monitor"];
        let containers = containers.map(|container| container_name(builder, container));
        self.podman().arg("wait").args(containers).within(seconds).run().ok();
    }

    /// Takes the pod away behind the client's back, as a prune of the engine does to a stopped one.
    pub fn vanish(self, builder: &str) {
        self.podman().args(["pod", "rm", "-f", &pod_name(builder)]).run().ok();
    }

    /// Kills the first process of a container as the kernel does when memory runs out: the engine knows nothing of it.
    pub fn crash(self, builder: &str, container: &str) {
        let inspect = ["inspect", "--format", "{{.State.Pid}}", &container_name(builder, container)];
        let pid = self.podman().args(inspect).run().ok();
        Call::new("kill").args(["-9", pid.text()]).run().ok();
    }

    /// Kills a container by a command of the engine's, which takes that for a wish.
    pub fn kill(self, builder: &str, container: &str) {
        self.podman().args(["kill", "-s", "KILL", &container_name(builder, container)]).run().ok();
    }

    /// Asks the whole pod to end, all containers at once, as a node that drains does.
    pub fn terminate(self, builder: &str) {
        let containers = ["daemon", "user", "maintenance", "shutdown-monitor"];
        let containers = containers.map(|container| container_name(builder, container));
        self.podman().args(["kill", "-s", "TERM"]).args(containers).run().ok();
    }

    /// Runs a shell line as root in a container, where the store is in place.
    #[must_use]
    pub fn as_root(self, builder: &str, container: &str, line: &str) -> Output {
        let path = "PATH=/nix/var/nix/profiles/default/bin:/bin";
        let call = self.podman().args(["exec", "-u", "0", "-e", path, &container_name(builder, container)]);
        call.args(["/bin/sh", "-c", line]).run()
    }

    /// Makes the store volume of a builder that is yet to be set up, and runs a shell line with it at `/volume`, as
    /// root. `options` go to the engine's way of making a volume.
    pub fn make_store(self, builder: &str, options: &[&str], line: &str) {
        let volume = store_volume(builder);
        let create = self.podman().args(["volume", "create", "-o", "nocopy"]);
        let label = format!("io.trampoline.builder={builder}");
        let create = create.args(options.iter().flat_map(|option| ["-o", *option]));
        create.args(["--label", &label, &volume]).run().ok();
        if !line.is_empty() {
            self.with_store(builder, line).ok();
        }
    }

    /// Runs a shell line as root with the store volume of a stopped builder at `/volume`.
    #[must_use]
    pub fn with_store(self, builder: &str, line: &str) -> Output {
        let mount = format!("{}:/volume", store_volume(builder));
        let image = &crate::setting::setting().image;
        let call = self.podman().args(["run", "--rm", "--net=none", "-v", &mount, "--entrypoint", "/bin/sh"]);
        call.args([image, "-c", line]).run()
    }

    /// Folder of this machine that is the store volume of a builder.
    #[must_use]
    pub fn store_folder(self, builder: &str) -> String {
        let format = ["volume", "inspect", "--format", "{{.Mountpoint}}", &store_volume(builder)];
        self.podman().args(format).run().ok().text().to_owned()
    }

    /// An image like that of the builders, with the output of a shell line committed.
    pub fn derive_image(self, name: &str, from: &str, line: &str) {
        let maker = format!("t-derive-{}", std::process::id());
        let run = self.podman().args(["run", "--name", &maker, "--net=none", "--entrypoint", "/bin/sh"]);
        run.args(["--user", "0", from, "-c", line]).run().ok();
        self.podman().args(["commit", "-q", "--change", "ENTRYPOINT []", &maker, name]).run().ok();
        self.podman().args(["rm", "-f", &maker]).run().ok();
    }

    /// Removes an image made by [`Self::derive_image`].
    pub fn remove_image(self, name: &str) {
        self.podman().args(["rmi", "-f", name]).run().ok();
    }

    /// What the engine still holds of a builder: pods, containers, volumes by name.
    #[must_use]
    pub fn left(self, builder: &str) -> Vec<String> {
        let of = |args: &[&str]| self.podman().args(args).run().ok().stdout;
        let mut names = of(&["pod", "ps", "--format", "{{.Name}}"]);
        names += &of(&["ps", "-a", "--format", "{{.Names}}"]);
        names += &of(&["volume", "ls", "--format", "{{.Name}}"]);
        let prefix = pod_name(builder);
        let of_it = |name: &&str| {
            name.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        names.lines().filter(of_it).map(str::to_owned).collect()
    }

    /// Removes a volume that was made by hand.
    pub fn remove_store(self, builder: &str) {
        let _ = self.podman().args(["volume", "rm", "-f", &store_volume(builder)]).run();
    }
}

fn pod_name(builder: &str) -> String {
    format!("trampoline-{builder}")
}

fn container_name(builder: &str, container: &str) -> String {
    format!("trampoline-{builder}-{container}")
}

fn store_volume(builder: &str) -> String {
    format!("trampoline-{builder}-store")
}
