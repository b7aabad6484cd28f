//! podman, of whoever runs the scenarios or of an ordinary user.

use std::path::Path;

use super::{Engine, Held, Need, pod_name, store_volume, volume};
use crate::call::Call;
use crate::output::Output;
use crate::setting::variable;
use crate::volume::Mount;

/// The unprivileged user of the rootless engine.
pub const ROOTLESS_USER: &str = "trampoline-test";

/// As often in a row nobody removes something just then.
const LISTINGS: u32 = 9;

const CONTAINERS: [&str; 4] = ["daemon", "user", "maintenance", "shutdown-monitor"];

/// Address of a podman that serves, as CONTAINER_HOST has it.
const SERVICE: &str = "TRAMPOLINE_TEST_PODMAN";

/// podman on this machine.
#[derive(Debug)]
pub(super) enum Podman {
    /// Of whoever runs the scenarios.
    Own,
    /// Of [`ROOTLESS_USER`].
    Rootless,
    /// The own one, to which the client speaks as to that of another machine.
    Remote {
        /// See [`SERVICE`].
        address: String,
    },
}

impl Podman {
    pub(super) fn remote() -> Result<&'static dyn Engine, String> {
        Ok(Box::leak(Box::new(Self::Remote { address: variable(SERVICE)? })))
    }

    /// What it lists. podman fails as a whole if another scenario removes something between its reading of the names and its look at each.
    fn listed(&self, args: &[&str]) -> String {
        let list = || self.podman().args(args).run();
        let goes = |output: &Output| output.code != 0 && output.stderr.contains("no such");
        let again = (0..LISTINGS).map(|_| list()).find(|output| !goes(output));
        again.unwrap_or_else(list).ok().stdout
    }

    fn podman(&self) -> Call {
        let podman = Path::new("podman");
        let call = if let Self::Remote { .. } = self { Call::new(podman) } else { self.as_its_user(podman) };
        call.in_dir("/")
    }

    fn folder(&self, volume: &str) -> String {
        let format = ["volume", "inspect", "--format", "{{.Mountpoint}}", volume];
        self.podman().args(format).run().ok().text().to_owned()
    }
}

impl Engine for Podman {
    fn meets(&self, need: Need) -> bool {
        match need {
            Need::Any => true,
            Need::Root => !matches!(self, Self::Rootless),
            Need::Podman => matches!(self, Self::Own),
            Need::Cluster | Need::Lab => false,
        }
    }

    fn options(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn loses_nothing(&self) -> bool {
        // Of 360 commands that ended at once, on a machine with much else to do, one's words did not arrive.
        !matches!(self, Self::Remote { .. })
    }

    fn as_its_user(&self, program: &Path) -> Call {
        match self {
            Self::Own => return Call::new(program),
            Self::Remote { address } => return Call::new(program).env("CONTAINER_HOST", address),
            Self::Rootless => {}
        }
        // Replaces itself by the program, so signals to its process id reach that.
        let call = Call::new("setpriv").args(["--reuid", ROOTLESS_USER, "--regid", ROOTLESS_USER]);
        let data = format!("/home/{ROOTLESS_USER}/.local/share");
        // Images live there; the rest of a person's home is their own.
        call.args(["--init-groups", "--"]).arg(program).env("XDG_DATA_HOME", data)
    }

    fn hand_over(&self, folder: &Path) {
        if let Self::Rootless = self {
            let owner = format!("{ROOTLESS_USER}:{ROOTLESS_USER}");
            Call::new("chown").args(["-R", &owner]).arg(folder).run().ok();
        }
    }

    fn wait_stopped(&self, builder: &str, seconds: u64) {
        let containers = CONTAINERS.map(|container| container_name(builder, container));
        self.podman().arg("wait").args(containers).within(seconds).run().ok();
    }

    fn vanish(&self, builder: &str) {
        self.podman().args(["pod", "rm", "-f", &pod_name(builder)]).run().ok();
    }

    fn signal(&self, builder: &str, container: &str, signal: &str) {
        let inspect = ["inspect", "--format", "{{.State.Pid}}", &container_name(builder, container)];
        let pid = self.podman().args(inspect).run().ok();
        Call::new("kill").args(["-s", signal, pid.text()]).run().ok();
    }

    fn kill(&self, builder: &str, container: &str) {
        self.podman().args(["kill", "-s", "KILL", &container_name(builder, container)]).run().ok();
    }

    fn revive(&self, builder: &str, container: &str) {
        self.podman().args(["start", &container_name(builder, container)]).run().ok();
    }

    fn terminate(&self, builder: &str) {
        let containers = CONTAINERS.map(|container| container_name(builder, container));
        self.podman().args(["kill", "-s", "TERM"]).args(containers).run().ok();
    }

    fn inside(&self, builder: &str, container: &str, line: &str) -> Output {
        let path = "PATH=/nix/var/nix/profiles/default/bin:/bin";
        let call = self.podman().args(["exec", "-e", path, &container_name(builder, container)]);
        call.args(["/bin/sh", "-c", line]).run()
    }

    fn make_store(&self, builder: &str, options: &[String], line: &str) {
        self.make_volume(builder, "store", options);
        if !line.is_empty() {
            self.with_store(builder, line).ok();
        }
    }

    fn make_volume(&self, builder: &str, which: &str, options: &[String]) {
        let create = self.podman().args(["volume", "create", "-o", "nocopy"]);
        let label = format!("io.trampoline.builder={builder}");
        let create = create.args(options.iter().flat_map(|option| ["-o", option]));
        create.args(["--label", &label, &volume(builder, which)]).run().ok();
    }

    fn make_small(&self, builder: &str, which: &str, options: &str) -> Held {
        if !matches!(self, Self::Rootless) {
            let mount = Mount::new(options);
            self.make_volume(builder, which, &mount.options());
            return Box::new(mount);
        }
        // Their podman mounts no volume, but they may mount in podman's own namespaces.
        self.make_volume(builder, which, &[]);
        let folder = self.folder(&volume(builder, which));
        self.podman()
            .args(["unshare", "mount", "-t", "tmpfs", "-o", options, "t-volume", &folder])
            .run()
            .ok();
        Box::new(Unshared(folder))
    }

    fn with_store(&self, builder: &str, line: &str) -> Output {
        let mount = format!("{}:/volume", store_volume(builder));
        let image = &crate::setting::setting().image;
        let call = self.podman().args(["run", "--rm", "--net=none", "-v", &mount, "--entrypoint", "/bin/sh"]);
        call.args([image, "-c", line]).run()
    }

    fn store_folder(&self, builder: &str) -> String {
        self.folder(&store_volume(builder))
    }

    fn derive_image(&self, name: &str, from: &str, line: &str) {
        let maker = format!("t-derive-{}", std::process::id());
        let run = self.podman().args(["run", "--name", &maker, "--net=none", "--entrypoint", "/bin/sh"]);
        run.args(["--user", "0", from, "-c", line]).run().ok();
        self.podman().args(["commit", "-q", "--change", "ENTRYPOINT []", &maker, name]).run().ok();
        self.podman().args(["rm", "-f", &maker]).run().ok();
    }

    fn remove_image(&self, name: &str) {
        self.podman().args(["rmi", "-f", name]).run().ok();
    }

    fn left(&self, builder: &str) -> Vec<String> {
        let of = |args: &[&str]| self.listed(args);
        let mut names = of(&["pod", "ps", "--format", "{{.Name}}"]);
        names += &of(&["ps", "-a", "--format", "{{.Names}}"]);
        names += &of(&["volume", "ls", "--format", "{{.Name}}"]);
        let prefix = pod_name(builder);
        let of_it = |name: &&str| {
            name.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        names.lines().filter(of_it).map(str::to_owned).collect()
    }

    fn logs(&self, builder: &str) -> Output {
        self.podman().args(["pod", "logs", &pod_name(builder)]).run()
    }

    fn pods(&self, builder: &str) -> usize {
        // One that was made halfway has not all of its containers, and one that was made twice has more.
        self.left(builder).iter().filter(|name| name.ends_with("-daemon")).count()
    }

    fn remove_store(&self, builder: &str) {
        self.remove_volume(builder, "store");
    }

    fn remove_volume(&self, builder: &str, which: &str) {
        let _ = self.podman().args(["volume", "rm", "-f", &volume(builder, which)]).run();
    }
}

/// A folder that is a mount in the namespaces of an ordinary user's podman.
#[derive(Debug)]
struct Unshared(String);

impl Drop for Unshared {
    fn drop(&mut self) {
        let podman = Podman::Rootless.podman();
        let _ = podman.args(["unshare", "umount", "-l", &self.0]).run();
    }
}

fn container_name(builder: &str, container: &str) -> String {
    format!("trampoline-{builder}-{container}")
}
